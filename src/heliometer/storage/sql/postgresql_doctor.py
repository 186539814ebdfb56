"""The check of resources in PostgreSQL. It only reads, and never shows the password."""

import asyncio
from collections.abc import Iterator
from typing import Any

from asyncpg import PostgresError

from heliometer.config import Settings, WrongSetting
from heliometer.core.finding import FAIL, OK, WARN, Finding
from heliometer.core.server_status import ServerStatus
from heliometer.storage.sql.migrate import advice, reason
from heliometer.storage.sql.postgresql import connect
from heliometer.storage.sql.postgresql_url import is_postgresql, parse
from heliometer.storage.sql.revisions import known_revisions

NAME = "resources"
OLDEST = 130000
"""The oldest version that is still maintained."""
_FACTS = """
SELECT current_setting('server_version_num')::int AS number,
       current_setting('server_version') AS version,
       current_setting('server_encoding') AS encoding,
       pg_is_in_recovery() OR current_setting('default_transaction_read_only') = 'on' AS read_only,
       current_setting('fsync') = 'on' AS fsync,
       current_setting('full_page_writes') = 'on' AS full_page_writes,
       (SELECT reset_val FROM pg_settings WHERE name = 'synchronous_commit') AS commits,
       current_setting('max_connections')::int
         - current_setting('superuser_reserved_connections')::int AS connections,
       (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend')::int AS taken,
       (SELECT rolconnlimit FROM pg_roles WHERE rolname = current_user) AS of_user,
       to_regclass('alembic_version') IS NOT NULL AS made,
       EXISTS (SELECT FROM pg_collation WHERE collname = 'und-x-icu') AS folding
"""


def postgresql(settings: Settings, _: ServerStatus) -> Iterator[Finding]:
    """Checks whether the database answers, keeps what it acknowledges, has enough connections, and
    has the tables of this version."""
    if not is_postgresql(settings.resources.url):
        return
    try:
        address = parse(settings.resources.url)
    except WrongSetting as error:
        yield Finding(NAME, FAIL, str(error), "correct resources.url")
        return
    try:
        facts, revisions = asyncio.run(_look(address))
    except (PostgresError, OSError, ValueError) as error:
        yield Finding(NAME, FAIL, f"{address.shown} cannot be used: {reason(error)}", advice(error))
        return
    found = [
        *_server(facts),
        *_connections(facts, settings.resources.connections),
        *_tables(facts, revisions, known_revisions()),
    ]
    for level, message, what in found:
        yield Finding(NAME, level, f"{address.shown}: {message}", what)
    if not any(level == FAIL for level, *_ in found):
        yield Finding(
            NAME, OK, f"{address.shown} answers (PostgreSQL {facts['version']}); "
            f"{settings.resources.connections} connections a process, "
            f"{facts['connections'] - facts['taken']} of {facts['connections']} free"
        )  # fmt: skip


async def _look(address: Any) -> tuple[Any, set[str]]:
    connection = await connect(address)
    try:
        facts = await connection.fetchrow(_FACTS)
        rows = await connection.fetch("SELECT version_num FROM alembic_version") if (
            facts["made"]
        ) else []  # fmt: skip
        return facts, {row["version_num"] for row in rows}
    finally:
        connection.terminate()


def _server(facts: Any) -> Iterator[tuple[str, str, str]]:
    if facts["number"] < OLDEST:
        yield WARN, f"PostgreSQL {facts['version']} is old", "upgrade it"
    if facts["encoding"] != "UTF8":
        yield FAIL, f"its encoding is {facts['encoding']}", "make a database in UTF8"
    if facts["read_only"]:
        yield FAIL, "it takes no writes", "name the primary in resources.url"
    for name in ("fsync", "full_page_writes"):
        if not facts[name]:
            yield WARN, f"{name} is off: a power cut damages it", f"set {name} = on"
    if facts["commits"] == "off":
        yield (
            OK,
            "synchronous_commit is off there; ours is durable all the same",
            "",
        )
    if not facts["folding"]:
        yield (
            WARN, "it has no ICU collations: searches ignore case by the database's locale",
            "use a PostgreSQL built with ICU",
        )  # fmt: skip


def _connections(facts: Any, wanted: int) -> Iterator[tuple[str, str, str]]:
    most = facts["connections"]
    if facts["of_user"] >= 0:
        most = min(most, facts["of_user"])
    if wanted > most:
        yield (
            FAIL, f"it allows {most} connections, and resources.connections is {wanted}",
            "raise max_connections or the user's limit, or lower resources.connections",
        )  # fmt: skip
    elif wanted * 4 > most:
        yield (
            WARN, f"it allows {most} connections, enough for {most // wanted} processes with "
            f"{wanted} each (resources.connections)",
            "with more processes, raise max_connections or lower resources.connections",
        )  # fmt: skip


def _tables(facts: Any, revisions: set[str], known: list[str]) -> Iterator[tuple[str, str, str]]:
    if not revisions:
        yield OK, "it has no tables yet; the first start creates them", ""
    elif revisions - set(known):
        names = ", ".join(sorted(revisions))
        yield FAIL, f"it was written by a newer version ({names})", "upgrade heliometer"
    elif revisions != {known[0]}:
        yield (
            WARN, "it has the tables of an older version",
            "the next start of the server upgrades it; processes of that version keep running",
        )  # fmt: skip
    else:
        yield OK, f"its tables are up to date (revision {known[0]})", ""
