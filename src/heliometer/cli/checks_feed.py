"""Checks of the feed: the built-in listener, or RabbitMQ."""

import asyncio
import socket
from collections.abc import Iterator
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

from heliometer.cli.certificate import validity
from heliometer.cli.server_probe import EVERYWHERE, Probe
from heliometer.config import Settings, parse_address
from heliometer.core.errors import HeliometerError
from heliometer.core.finding import FAIL, OK, WARN, Finding

TIMEOUT_S = 3.0
LOCAL = ("127.0.0.1", "::1", "localhost")
OURS = "Heliometer"
OLDEST = (3, 8)
"""RabbitMQ from which on everything that is needed is there."""


def feed(settings: Settings, server: Probe) -> Iterator[Finding]:
    """Whether consumers can connect."""
    if settings.amqp.backend == "rabbitmq":
        yield from _rabbitmq(settings)
    elif not settings.amqp.listen:
        yield Finding("feed", OK, "off: amqp.listen is empty")
    else:
        yield from _builtin(settings, server)


def _builtin(settings: Settings, server: Probe) -> Iterator[Finding]:
    listen = settings.amqp.listen
    host, port = parse_address(listen)
    yield from _tls(settings)
    if settings.amqp.tls_cert and server.controls:
        # Who is behind TLS does not matter: the server says itself whether it listens.
        off = '"feed"' in server.health_body
        yield (
            _off(settings, "the server could not listen there")
            if off
            else Finding("feed", OK, f"listens on {listen}, with TLS")
        )
        return
    who = greeting(EVERYWHERE.get(host, host), port)
    reach = ", for this machine only" if host in LOCAL else ""
    if server.controls and port == 0:
        yield Finding("feed", OK, "listens on a port that the system chose")
    elif server.controls and who == OURS:
        yield Finding("feed", OK, f"listens on {listen}{reach}")
    elif who is not None:
        owner = "another Heliometer" if who == OURS else (who or "another program")
        yield _off(settings, f"{owner} has the port")
    elif server.controls:
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
        if host not in LOCAL:
            yield Finding(
                "feed", WARN, f"no TLS, though {settings.amqp.listen} is not this machine alone",
                "set amqp.tls_cert and amqp.tls_key: passwords go over the network",
            )  # fmt: skip
        return
    yield validity("feed", "amqp", certificate, settings.amqp.tls_key)


def greeting(host: str, port: int) -> str | None:
    """The product that answers there in AMQP; empty: something else; ``None``: nothing."""
    try:
        connection = socket.create_connection((host, port), TIMEOUT_S)
    except OSError:
        return None
    data = b""
    with connection, suppress(OSError):
        connection.sendall(b"AMQP\x00\x00\x09\x01")
        while len(data) < 7 or len(data) < int.from_bytes(data[3:7], "big") + 8:
            part = connection.recv(4096)
            if not part:
                break
            data += part
    from pamqp import commands, frame

    try:
        _, _, start = frame.unmarshal(data)
    except Exception:  # whatever another program answers
        return ""
    if not isinstance(start, commands.Connection.Start):
        return ""
    properties: Any = start.server_properties
    name, version = str(properties.get("product", "")), str(properties.get("version", ""))
    return name if name == OURS else f"{name} {version}".strip()


def _rabbitmq(settings: Settings) -> Iterator[Finding]:
    where = urlsplit(settings.amqp.url)
    port = where.port or (5671 if where.scheme == "amqps" else 5672)
    place = f"{where.hostname}:{port}"
    if where.scheme == "amqp":
        who = greeting(where.hostname or "", port)
        if who is None:
            yield Finding(
                "feed", FAIL, f"RabbitMQ does not answer at {place}",
                "start it, or correct amqp.url; posted messages wait meanwhile",
            )  # fmt: skip
        elif not who.startswith("RabbitMQ"):
            yield Finding(
                "feed", FAIL, f"{who or 'something that does not speak AMQP'} answers at {place}",
                "correct amqp.url",
            )  # fmt: skip
        else:
            yield _version(who, place)
    refused = asyncio.run(_sign_in(settings))
    if refused:
        yield Finding(
            "feed", FAIL, f"RabbitMQ at {place} refuses the user of amqp.url: {refused}",
            "correct user and password in amqp.url, or add the user: rabbitmqctl add_user",
        )  # fmt: skip
    yield from asyncio.run(_management(settings))


def _version(who: str, place: str) -> Finding:
    digits = who.removeprefix("RabbitMQ").strip().split(".")
    known = tuple(int(d) for d in digits[:2] if d.isdigit())
    if len(known) == 2 and known < OLDEST:
        return Finding("feed", WARN, f"{who} at {place} is old", "upgrade to 3.8 or newer")
    return Finding("feed", OK, f"{who} answers at {place}")


async def _sign_in(settings: Settings) -> str:
    """Why the user of ``amqp.url`` may not come in; empty: it may, or nobody answers."""
    import aiormq
    from aiormq.exceptions import AuthenticationError, ProbableAuthenticationError

    try:
        connection = await asyncio.wait_for(aiormq.connect(settings.amqp.url), TIMEOUT_S)
    except (AuthenticationError, ProbableAuthenticationError):
        return "wrong user or password"
    except Exception:  # no vhost / for this user, or nobody there: other checks tell
        return ""
    await connection.close()
    return ""


async def _management(settings: Settings) -> list[Finding]:
    from heliometer.feed.rabbitmq_management import Management

    management = Management(settings.amqp)
    try:
        me = await management.whoami()
        tags = me.get("tags", [])
        tags = tags.split(",") if isinstance(tags, str) else tags
        if "administrator" not in tags:
            return [
                Finding(
                    "feed",
                    FAIL,
                    f"user {me.get('name')} is no administrator of RabbitMQ",
                    f"rabbitmqctl set_user_tags {me.get('name')} administrator",
                )
            ]
        alarms = [
            Finding(
                "feed",
                FAIL,
                f"RabbitMQ's node {node.get('name')} has a {what} alarm: it takes no messages",
                advice,
            )
            for node in await management.nodes()
            for key, what, advice in (
                ("mem_alarm", "memory", "give it more memory, or raise vm_memory_high_watermark"),
                ("disk_free_alarm", "disk", "make room on its disk"),
            )
            if node.get(key)
        ]
        return alarms or [Finding("feed", OK, f"its management API answers at {management.url}")]
    except HeliometerError as error:
        return [
            Finding(
                "feed",
                FAIL,
                str(error.__cause__ or error.message),
                "enable it (rabbitmq-plugins enable rabbitmq_management), or correct "
                "amqp.management_url and the user in amqp.url",
            )
        ]
    finally:
        await management.close()
