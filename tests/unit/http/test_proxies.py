"""Whose word about the client counts, and what is believed."""

from typing import Any

import pytest

from heliometer.config import parse_networks
from heliometer.http.proxies import TrustedProxies

NEAR = "10.0.0.9"
"""A proxy that is trusted."""


def seen(
    headers: list[tuple[str, str]], peer: str | None = NEAR, trusted: str = "10.0.0.0/8,::1"
) -> tuple[str | None, str, list[str]]:
    """Client, scheme and Host after a request with these headers."""
    scope: dict[str, Any] = {
        "client": (peer, 4711) if peer else None,
        "scheme": "http",
        "headers": [(b"host", b"inner:8779")]
        + [(name.lower().encode(), value.encode("latin-1")) for name, value in headers],
    }
    TrustedProxies(parse_networks(trusted)).apply(scope)
    hosts = [value.decode() for name, value in scope["headers"] if name == b"host"]
    return scope["client"] and scope["client"][0], scope["scheme"], hosts


FOR = "X-Forwarded-For"


@pytest.mark.parametrize(
    ("headers", "client"),
    [
        ([], NEAR),
        ([(FOR, "198.51.100.7")], "198.51.100.7"),
        ([(FOR, "1.1.1.1, 198.51.100.7")], "198.51.100.7"),
        ([(FOR, "1.1.1.1, 198.51.100.7, 10.0.0.3")], "198.51.100.7"),
        ([(FOR, "1.1.1.1"), (FOR, "198.51.100.7"), (FOR, "10.0.0.3,10.0.0.4")], "198.51.100.7"),
        ([(FOR, "10.0.0.2, 10.0.0.3")], "10.0.0.2"),
        ([(FOR, "198.51.100.7, unknown")], NEAR),
        ([(FOR, "198.51.100.7, <script>, 10.0.0.3")], "10.0.0.3"),
        ([(FOR, "198.51.100.7:4711")], "198.51.100.7"),
        ([(FOR, "[2001:db8::7]:4711")], "2001:db8::7"),
        ([(FOR, "2001:db8::7")], "2001:db8::7"),
        ([(FOR, "::ffff:198.51.100.7")], "198.51.100.7"),
        ([(FOR, "")], NEAR),
        ([(FOR, "\xe9, 198.51.100.7\xe9")], NEAR),
    ],
)
def test_the_client_is_the_last_that_is_no_proxy(
    headers: list[tuple[str, str]], client: str
) -> None:
    assert seen(headers)[0] == client


def test_others_are_not_believed() -> None:
    lies = [(FOR, "1.1.1.1"), ("X-Forwarded-Proto", "https"), ("X-Forwarded-Host", "evil")]
    for peer in ("198.51.100.7", "11.0.0.1", "::2", None):
        assert seen(lies, peer) == (peer, "http", ["inner:8779"])
    assert seen(lies, trusted="") == (NEAR, "http", ["inner:8779"])


@pytest.mark.parametrize("peer", ["10.1.2.3", "::ffff:10.1.2.3", "::1"])
def test_a_peer_is_trusted_by_network_and_address(peer: str) -> None:
    assert seen([(FOR, "198.51.100.7")], peer)[0] == "198.51.100.7"


@pytest.mark.parametrize(
    ("headers", "scheme", "host"),
    [
        ([("X-Forwarded-Proto", "https")], "https", "inner:8779"),
        ([("X-Forwarded-Proto", "http, HTTPS")], "https", "inner:8779"),
        ([("X-Forwarded-Proto", "gopher")], "http", "inner:8779"),
        ([("X-Forwarded-Host", "m.example.org")], "http", "m.example.org"),
        ([("X-Forwarded-Host", "evil, [2001:db8::7]:443")], "http", "[2001:db8::7]:443"),
        ([("X-Forwarded-Host", "m.example.org/x")], "http", "inner:8779"),
        ([("X-Forwarded-Host", "a\r\nb")], "http", "inner:8779"),
        ([("X-Forwarded-Host", "")], "http", "inner:8779"),
    ],
)
def test_scheme_and_host(headers: list[tuple[str, str]], scheme: str, host: str) -> None:
    assert seen(headers) == (NEAR, scheme, [host])
