"""A ClickHouse server's capabilities, and its tables, which are created where missing at each
start."""

# The names in the SQL below are those of the settings, checked before.
# ruff: noqa: S608

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from heliometer.config import MetricSettings
from heliometer.storage.clickhouse import sql
from heliometer.storage.clickhouse.http import Client, Trouble

DEADLINE_S = 30.0
DDL_S = 200.0
"""Slightly longer than a cluster waits for its servers, which is 180 s by default."""
QUERY_S = 15
"""The longest that a query may take, in seconds."""
OLDEST = (18, 16)
UNAUTHENTICATED = {192, 193, 194, 516}
_NO_CODECS = {6, 36, 62, 432, 433}
"""Error codes of versions that lack codecs, or some of them."""
_SAME_REPLICA = {"load_balancing": "in_order"}
"""Settings that make a server of a cluster read from where it stored."""
BILLION = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Server:
    """The capabilities of the server that the store is connected to."""

    version: str = ""
    settings: frozenset[str] = frozenset()
    """The query settings that this version has; naming any other is an error."""
    table_settings: frozenset[str] = frozenset()
    has_codecs: bool = False
    has_disks: bool = False
    """Whether it reports free disk space."""
    sees_all_replicas: bool = False
    """Whether a query can ask every replica of a cluster."""
    slots: int = 1
    """Slots that a cluster divides rows into: the sum of its shards' weights."""
    processes: str = "system.processes"
    marked: str = "measurements"
    """The settings for queries of markers."""
    inserting: Mapping[str, Any] = field(default_factory=dict)
    asking: Mapping[str, Any] = field(default_factory=dict)
    newest: Mapping[str, Any] = field(default_factory=dict)
    """Settings that make a query see what another replica has acknowledged."""

    def only_known(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        """The subset of the settings that this version has."""
        return {k: v for k, v in settings.items() if k in self.settings}

    @property
    def has_tokens(self) -> bool:
        """Whether inserts can have a token by which duplicates are recognised."""
        return "insert_deduplication_token" in self.settings

    @property
    def lacks(self) -> list[str]:
        """The features that this version lacks, and the consequences, in words."""
        missing = {
            "codecs of columns (19.1): measurements take more space": self.has_codecs,
            "fsync of inserts (20.10): a power cut may lose the last seconds":
                "fsync_after_insert" in self.table_settings,
            "tokens of inserts (22.2): only markers keep retries from doubling": self.has_tokens,
            "free space in system.disks (19.15): watch the disk yourself": self.has_disks,
        }  # fmt: skip
        return [what for what, present in missing.items() if not present]


async def learn(client: Client, settings: MetricSettings) -> Server:
    """Ask the server for its capabilities. Raises Trouble."""
    version = (await _names(client, "SELECT version()"))[0]
    if _numbers(version) < OLDEST:
        raise Trouble(f"it is version {version}; 18.16 or newer is needed", 1)
    known = frozenset(await _names(client, "SELECT name FROM system.settings"))
    of_tables = frozenset(await _names(client, "SELECT name FROM system.merge_tree_settings"))
    functions = await _names(client, "SELECT name FROM system.table_functions")
    tables = await _names(client, "SELECT name FROM system.tables WHERE database = 'system'")
    cluster, database = settings.cluster, client.address.database
    slots, everywhere = 1, False
    if cluster:
        weights = await _names(
            client,
            "SELECT toString(max(shard_weight)) FROM system.clusters "
            f"WHERE cluster = '{cluster}' GROUP BY shard_num",
        )
        if not weights:
            raise Trouble(f"it knows no cluster {cluster} (metrics.cluster)", 1)
        slots = sum(map(int, weights))
        everywhere = "clusterAllReplicas" in functions
    replicas = f"clusterAllReplicas('{cluster}', "
    inserting: dict[str, Any] = {
        "async_insert": 0,
        # One block stays one block, and thus one part of a partition.
        "max_insert_block_size": BILLION,
        "min_insert_block_size_rows": 0,
        "min_insert_block_size_bytes": 0,
    }
    if cluster:
        inserting |= {
            "insert_distributed_sync": 1,
            "insert_quorum": settings.insert_quorum,
            "insert_quorum_timeout": 30_000,
            **_SAME_REPLICA,
        }
    return Server(
        version,
        known,
        of_tables,
        has_codecs=_numbers(version) >= (19, 1),
        has_disks="disks" in tables,
        sees_all_replicas=everywhere,
        slots=slots,
        processes=f"{replicas}system.processes)" if everywhere else "system.processes",
        marked=f"{replicas}{database}.measurements_local)" if everywhere else "measurements",
        inserting=inserting,
        asking={
            "max_execution_time": QUERY_S,
            # Queries may name thousands of series.
            "max_query_size": 64 << 20,
            "max_ast_elements": 10_000_000,
            "max_expanded_ast_elements": 10_000_000,
            "output_format_json_quote_64bit_integers": 0,
            "cancel_http_readonly_queries_on_client_close": 1,
            **(_SAME_REPLICA if cluster else {}),
        },
        newest={"skip_unavailable_shards": 1}
        if everywhere
        else {"select_sequential_consistency": int(settings.insert_quorum > 1)},
    )


async def prepare(client: Client, settings: MetricSettings) -> Server:
    """Detect the server's capabilities, and create missing databases and tables."""
    server = await learn(client, settings)
    database, cluster = client.address.database, settings.cluster
    text = f"SELECT name FROM system.databases WHERE name = '{database}'"
    if not await _names(client, text):
        await client.ask(
            f"CREATE DATABASE IF NOT EXISTS {database}{sql.on(cluster)}",
            deadline_s=DDL_S,
            database=False,
        )
    missing = await missing_tables(client)
    for table in sql.TABLES:
        if table.name in missing:
            await _create(client, table, cluster, server)
    return server


async def missing_tables(client: Client) -> list[str]:
    """Names of the missing tables."""
    text = f"SELECT name FROM system.tables WHERE database = '{client.address.database}'"
    present = await _names(client, text)
    return [table.name for table in sql.TABLES if table.name not in present]


async def _create(client: Client, table: sql.Table, cluster: str, server: Server) -> None:
    for codecs in (True, False) if server.has_codecs else (False,):
        try:
            for text in sql.create(
                table,
                client.address.database,
                cluster,
                server.table_settings,
                codecs=codecs,
                tokens=server.has_tokens,
            ):
                await client.ask(text, deadline_s=DDL_S)
            return
        except Trouble as error:
            if not codecs or error.code not in _NO_CODECS:
                raise


async def _names(client: Client, text: str) -> list[str]:
    body = await client.ask(f"{text} FORMAT TabSeparated", deadline_s=DEADLINE_S, database=False)
    return body.decode().splitlines()


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if part.isdigit())
