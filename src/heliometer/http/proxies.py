"""The client's address, scheme and host behind a reverse proxy."""

import re
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address

from starlette.types import Scope

from heliometer.config import Network

Address = IPv4Address | IPv6Address

_HOST = re.compile(rb"([A-Za-z0-9._-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])(:[0-9]{1,5})?")
_WITH_PORT = re.compile(r"(?:\[([^\]]*)\]|([0-9.]*))(?::[0-9]+)?")


class TrustedProxies:
    """Honours X-Forwarded-* headers of the configured proxies only."""

    def __init__(self, networks: Sequence[Network]) -> None:
        self._networks = networks

    def apply(self, scope: Scope) -> None:
        """Replace the proxy's address, scheme and Host with the client's.

        The client is the last address in X-Forwarded-For that is not a trusted proxy: everything
        before it may be forged. An unreadable entry ends the search at the proxy that sent it.
        """
        if not self._networks or scope["client"] is None:
            return
        peer = _address(scope["client"][0])
        if peer is None or not self._trusts(peer):
            return
        given: dict[bytes, list[bytes]] = {}
        for name, value in scope["headers"]:
            if name.startswith(b"x-forwarded-"):
                given.setdefault(name[12:], []).extend(value.split(b","))
        for text in reversed(given.get(b"for", [])):
            address = _address(text.decode("latin-1").strip())
            if address is None:
                break
            peer = address
            if not self._trusts(peer):
                break
        scope["client"] = (str(peer), 0)
        scheme = given.get(b"proto", [b""])[-1].strip().lower()
        if scheme in (b"http", b"https"):
            scope["scheme"] = scheme.decode("ascii")
        host = given.get(b"host", [b""])[-1].strip()
        if _HOST.fullmatch(host):
            others = [pair for pair in scope["headers"] if pair[0] != b"host"]
            scope["headers"] = [*others, (b"host", host)]

    def _trusts(self, address: Address) -> bool:
        return any(address in network for network in self._networks)


def _address(text: str) -> Address | None:
    """The address in a text, with or without a port; ``None`` if there is none."""
    match = _WITH_PORT.fullmatch(text)
    try:
        address = ip_address((match[1] or match[2]) if match else text)
    except ValueError:
        return None
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped  # IPv4 on a dual-stack listener
    return address
