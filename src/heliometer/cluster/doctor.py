"""The check of RabbitMQ, of its queues and of every process in the cluster."""

import asyncio
from collections.abc import Iterator
from contextlib import suppress
from urllib.parse import urlsplit

import aiormq
from aiormq.abc import AbstractConnection

from heliometer.cluster.connection import FEED, WORK, queue_name
from heliometer.cluster.event_bus import EventBus
from heliometer.cluster.health import ClusterHealth
from heliometer.cluster.membership import Membership
from heliometer.config import Settings
from heliometer.core.finding import FAIL, OK, WARN, Finding
from heliometer.core.server_status import ServerStatus

TIMEOUT_S = 5.0
LISTEN_S = 3.5
"""Each process reports itself every two seconds."""
START = "start one: heliometer serve --roles …"
BEHIND = 100
"""Most messages in all queues together without a warning."""


def cluster(settings: Settings, server: ServerStatus) -> Iterator[Finding]:
    """Checks RabbitMQ, its backlog, and every process."""
    if settings.clustered:
        yield from asyncio.run(_look(settings))


async def _look(settings: Settings) -> list[Finding]:
    parts = urlsplit(settings.bus.url)
    place = f"{parts.hostname}:{parts.port or (5671 if parts.scheme == 'amqps' else 5672)}"
    try:
        connection = await asyncio.wait_for(aiormq.connect(settings.bus.url), TIMEOUT_S)
    except Exception as error:
        reason = str(error).replace(settings.bus.url, place) or type(error).__name__
        return [
            Finding(
                "bus", FAIL, f"RabbitMQ at {place} refuses the connection: {reason}",
                "start it, or correct bus.url; posts are answered with 503 meanwhile",
            )
        ]  # fmt: skip
    try:
        version = connection.server_properties.get("version", "")
        if isinstance(version, bytes):
            version = version.decode()
        found = [Finding("bus", OK, f"RabbitMQ {version} at {place} accepts the connection")]
        members = await _heard(connection)
        found += await _queues(connection, settings, any_process=bool(members.all()))
        return found + processes(members, settings)
    finally:
        with suppress(Exception):
            await asyncio.wait_for(connection.close(), TIMEOUT_S)


async def _queues(
    connection: AbstractConnection, settings: Settings, *, any_process: bool
) -> list[Finding]:
    waiting, idle = 0, []
    for exchange in (WORK, FEED):
        for shard in range(settings.bus.partitions):
            channel = await connection.channel()
            try:
                declared = await channel.queue_declare(
                    queue=queue_name(exchange, shard), passive=True, timeout=TIMEOUT_S
                )
            except Exception:  # it does not exist: the broker has closed the channel
                if not any_process:
                    what = "its queues do not exist yet; the first process to connect creates them"
                    return [Finding("bus", OK, what)]
                return [
                    Finding(
                        "bus", WARN, "some of its queues do not exist",
                        "restart a process: the first to connect creates them; bus.partitions must "
                        "be the same everywhere",
                    )
                ]  # fmt: skip
            waiting += declared.message_count or 0
            if not declared.consumer_count:
                idle.append(queue_name(exchange, shard))
            await channel.close()
    found = []
    if idle and any_process:
        found.append(
            Finding(
                "bus", FAIL, f"{len(idle)} queues have no consumer, such as {idle[0]}",
                "start processes with the roles evaluator and feed",
            )
        )  # fmt: skip
    if waiting > BEHIND:
        found.append(
            Finding(
                "bus", WARN, f"{waiting} messages wait in its queues",
                "check that ClickHouse keeps up; add evaluator processes",
            )
        )  # fmt: skip
    return found or [Finding("bus", OK, f"{waiting} messages wait in its queues")]


async def _heard(connection: AbstractConnection) -> Membership:
    """Listen for a moment to the reports that processes send to each other."""
    bus = EventBus("doctor")
    members = Membership(bus)
    listening = asyncio.create_task(bus.serve(connection))
    await asyncio.sleep(LISTEN_S)
    listening.cancel()
    with suppress(asyncio.CancelledError, Exception):
        await listening
    return members


def processes(members: Membership, settings: Settings) -> list[Finding]:
    """What is to be said of the processes that were heard of, and of those that were not."""
    if not members.all():
        return [Finding("process", WARN, "no process of the cluster runs", START)]
    health = ClusterHealth(members, settings.bus.partitions, settings.expected_processes)
    found = []
    for member in members.all():
        what = f"{','.join(member.roles)} on {member.host} (process {member.pid}, {member.url})"
        if member.failed:
            trouble = "; ".join(f"{name}: {why}" for name, why in member.failed.items())
            found.append(Finding("process", FAIL, f"{what}: {trouble}", "see that process's log"))
        else:
            owns = f", owns {len(member.parts)} parts" if member.parts else ""
            late = f", {member.lag_s:.0f} s behind" if member.lag_s > 5 else ""
            found.append(Finding("process", WARN if late else OK, f"{what}{owns}{late}"))
    return found + [Finding("process", FAIL, what, START) for what in health.missing()]
