"""The check of measurements in ClickHouse. It only reads."""

# The names in the SQL below are those of the settings, checked before.
# ruff: noqa: S608

import asyncio
from collections.abc import Iterator

from heliometer.config import MetricSettings, Settings
from heliometer.core.finding import FAIL, OK, WARN, Finding, size
from heliometer.core.server_status import ServerStatus
from heliometer.storage.clickhouse.http import Address, Client, Trouble
from heliometer.storage.clickhouse.schema import (
    UNAUTHENTICATED,
    Server,
    learn,
    missing_tables,
)

NAME = "measurements"
DEADLINE_S = 10.0
LATE_S = 300
"""Seconds that a replica may lag behind without a warning."""


def measurements(settings: Settings, _: ServerStatus) -> Iterator[Finding]:
    """Checks whether ClickHouse answers, and its version, tables, free space and replicas."""
    if not settings.metrics.url:
        return
    try:
        address = Address.parse(settings.metrics.url)
    except ValueError as error:
        yield Finding(NAME, FAIL, f"metrics.url is {error}", "correct the setting")
        return

    async def look() -> list[Finding]:
        client = Client(address)
        try:
            return await _look(client, settings.metrics)
        finally:
            await client.close()

    try:
        yield from asyncio.run(look())
    except Trouble as error:
        advice = "start it, or correct metrics.url and metrics.cluster"
        if error.code in UNAUTHENTICATED:
            advice = "correct the user and password in metrics.url"
        yield Finding(
            NAME, FAIL, f"ClickHouse at {address.url} cannot be used: {error}", advice
        )  # fmt: skip


async def _look(client: Client, settings: MetricSettings) -> list[Finding]:
    server = await learn(client, settings)
    where = f"ClickHouse {server.version} at {client.address.url}"
    found = [Finding(NAME, OK, f"{where} answers")]
    found += [
        Finding(NAME, WARN, f"this version lacks {what}", "upgrade ClickHouse")
        for what in server.lacks
    ]
    missing = await missing_tables(client)
    database = client.address.database
    if missing:
        level = OK if len(missing) > 1 else WARN
        names = ", ".join(missing)
        summary = f"database {database} has no table {names} yet; the next start creates it"
        found.append(Finding(NAME, level, summary))
    else:
        found.append(Finding(NAME, OK, f"database {database} has its tables"))
    if server.has_disks:
        found += await _space(client, settings.min_free_bytes)
    if settings.cluster:
        found += await _cluster(client, settings, server)
    return found


async def _space(client: Client, least: int) -> list[Finding]:
    rows = await _rows(client, "SELECT name, toString(free_space) FROM system.disks")
    found = []
    for name, free in rows:
        summary = f"{size(int(free))} free on its disk {name}"
        level = FAIL if int(free) < least else WARN if int(free) < 4 * least else OK
        advice = "" if level == OK else "free space, or keep less (metrics.retention_days)"
        found.append(Finding(NAME, level, summary, advice))
    return found


async def _cluster(client: Client, settings: MetricSettings, server: Server) -> list[Finding]:
    rows = await _rows(
        client,
        "SELECT toString(shard_num), toString(count()) FROM system.clusters "
        f"WHERE cluster = '{settings.cluster}' GROUP BY shard_num ORDER BY shard_num",
    )
    fewest = min(int(replicas) for _, replicas in rows)
    quorum = settings.insert_quorum
    summary = f"cluster {settings.cluster} has {len(rows)} shards of at least {fewest} replicas"
    found = [Finding(NAME, OK, f"{summary}; metrics.insert_quorum is {quorum}")]
    if quorum > fewest:
        found = [
            Finding(
                NAME, FAIL,
                f"{summary}, but metrics.insert_quorum is {quorum}: nothing can be stored",
                "lower it, or add replicas",
            )
        ]  # fmt: skip
    elif fewest > 1 and quorum < 2:
        found.append(
            Finding(
                NAME, WARN, "measurements count as stored with one replica, and are lost with it",
                "set metrics.insert_quorum to 2",
            )
        )  # fmt: skip
    replicas = await _rows(
        client,
        "SELECT table, toString(is_readonly), toString(absolute_delay) FROM system.replicas "
        f"WHERE database = '{client.address.database}'",
    )
    for table, read_only, delay in replicas:
        if read_only != "0":
            what = f"table {table} is read-only: this server has lost its Keeper or ZooKeeper"
            found.append(Finding(NAME, FAIL, what, "start it, and see ClickHouse's log"))
        elif int(delay) > LATE_S:
            what = f"table {table} of this replica is {delay} s behind"
            found.append(Finding(NAME, WARN, what, "see ClickHouse's log"))
    if quorum > 1 and "insert_quorum_parallel" not in server.settings:
        found.append(
            Finding(
                NAME, WARN, "this version stores one batch at a time with a quorum (20.10), and "
                "refuses others meanwhile",
                "upgrade ClickHouse, or set bus.partitions to the number of its shards",
            )
        )  # fmt: skip
    if not server.sees_all_replicas:
        found.append(
            Finding(
                NAME, WARN, "this version cannot ask all replicas whether they have a batch (20.1)",
                "upgrade ClickHouse",
            )
        )  # fmt: skip
    return found


async def _rows(client: Client, text: str) -> list[list[str]]:
    body = await client.ask(f"{text} FORMAT TabSeparated", deadline_s=DEADLINE_S, database=False)
    return [line.split("\t") for line in body.decode().splitlines()]
