"""The check of the RabbitMQ that serves the feed."""

import asyncio
from collections.abc import Iterator
from urllib.parse import urlsplit

import aiormq
from aiormq.exceptions import AuthenticationError, ProbableAuthenticationError

from heliometer.config import Settings
from heliometer.core.errors import HeliometerError
from heliometer.core.finding import FAIL, OK, WARN, Finding
from heliometer.core.server_status import ServerStatus
from heliometer.feed.amqp_greeting import TIMEOUT_S, greeting
from heliometer.feed.rabbitmq_management import Management

OLDEST = (3, 8)
"""The oldest version of RabbitMQ that has all that is needed."""


def feed(settings: Settings, _: ServerStatus) -> Iterator[Finding]:
    """Whether RabbitMQ answers, its version, the user of ``amqp.url`` and the management API."""
    if settings.amqp.backend != "rabbitmq":
        return
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
    """Why the user of ``amqp.url`` is refused; empty: it is not, or nothing answers."""
    try:
        connection = await asyncio.wait_for(aiormq.connect(settings.amqp.url), TIMEOUT_S)
    except (AuthenticationError, ProbableAuthenticationError):
        return "wrong user or password"
    except Exception:  # no vhost / for this user, or nothing there: others report that
        return ""
    await connection.close()
    return ""


async def _management(settings: Settings) -> list[Finding]:
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
                    f"user {me.get('name')} is not an administrator of RabbitMQ",
                    f"rabbitmqctl set_user_tags {me.get('name')} administrator",
                )
            ]
        alarms = [
            Finding(
                "feed",
                FAIL,
                f"RabbitMQ's node {node.get('name')} has a {what} alarm and takes no messages",
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
