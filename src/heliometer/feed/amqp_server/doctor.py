"""The check of the built-in AMQP listener."""

from collections.abc import Iterator

from heliometer.config import Settings, parse_address
from heliometer.core.certificate import validity
from heliometer.core.finding import FAIL, OK, WARN, Finding
from heliometer.core.loopback import LOOPBACK, reachable
from heliometer.core.server_status import ServerStatus
from heliometer.feed.amqp_greeting import OURS, greeting


def feed(settings: Settings, server: ServerStatus) -> Iterator[Finding]:
    """Whether consumers can connect to the built-in listener."""
    if settings.amqp.backend != "builtin":
        return
    if not settings.amqp.listen:
        yield Finding("feed", OK, "off: amqp.listen is empty")
        return
    listen = settings.amqp.listen
    host, port = parse_address(listen)
    yield from _tls(settings)
    if settings.amqp.tls_cert and server.has_data_dir:
        # No need to ask behind TLS: the server itself reports whether it listens.
        off = '"feed"' in server.health_body
        yield (
            _off(settings, "the server could not listen there")
            if off
            else Finding("feed", OK, f"listens on {listen}, with TLS")
        )
        return
    who = greeting(reachable(host), port)
    reach = ", for this machine only" if host in LOOPBACK else ""
    if server.has_data_dir and port == 0:
        yield Finding("feed", OK, "listens on a port that the system chose")
    elif server.has_data_dir and who == OURS:
        yield Finding("feed", OK, f"listens on {listen}{reach}")
    elif who is not None:
        owner = "another Heliometer" if who == OURS else (who or "another program")
        yield _off(settings, f"{owner} has the port")
    elif server.has_data_dir:
        yield Finding(
            "feed", FAIL, f"nothing answers on {listen}",
            "restart the server; its log says why the feed is off",
        )  # fmt: skip
    else:
        yield Finding("feed", OK, f"does not run; {listen} is free{reach}")


def _off(settings: Settings, why: str) -> Finding:
    return Finding(
        "feed", FAIL, f"cannot listen on {settings.amqp.listen}: {why}",
        'set amqp.listen to another address, or amqp.backend = "rabbitmq" to use that broker',
    )  # fmt: skip


def _tls(settings: Settings) -> Iterator[Finding]:
    certificate = settings.amqp.tls_cert
    host, _ = parse_address(settings.amqp.listen)
    if not certificate:
        if host not in LOOPBACK:
            yield Finding(
                "feed", WARN, f"no TLS, though other machines can reach {settings.amqp.listen}",
                "set amqp.tls_cert and amqp.tls_key: passwords cross the network",
            )  # fmt: skip
        return
    yield validity("feed", "amqp", certificate, settings.amqp.tls_key)
