"""What keeps transactions of many processes right, on a database that several may write at once.

On SQLite nothing of it has an effect: there, one transaction writes at a time.
"""

import asyncio
import logging
import random
from collections.abc import Callable, Coroutine, Mapping
from functools import wraps
from typing import Any, ParamSpec, TypeVar

from sqlalchemy import Select, func, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection

from heliometer.core.errors import Code, HeliometerError
from heliometer.storage.sql.tables import Base, ProjectRow

log = logging.getLogger(__name__)

P = ParamSpec("P")
T = TypeVar("T")
TRIES = 8
PAUSE_S = 0.005
"""At most, before the second try; twice that before each further one."""
RACES = frozenset(("40001", "40P01", "23505", "23503"))
"""SQLSTATEs of what another transaction can be the cause of: serialisation failure, deadlock, a
row that has come or gone since it was looked for."""


class LostRace(HeliometerError):
    """Another transaction was quicker; nothing was changed. UNAVAILABLE to the caller."""


def rerun(method: Callable[P, Coroutine[Any, Any, T]]) -> Callable[P, Coroutine[Any, Any, T]]:
    """Do a whole transaction again when it lost a race: it then sees who won, and says so."""

    @wraps(method)
    async def run(*args: P.args, **kwargs: P.kwargs) -> T:
        for attempt in range(TRIES):
            try:
                return await method(*args, **kwargs)
            except LostRace as error:
                if attempt == TRIES - 1:
                    log.error("the resource database refused it %d times: %s", TRIES,
                              error.__cause__)  # fmt: skip
                    raise
                await asyncio.sleep(random.uniform(0, PAUSE_S * 2**attempt))  # noqa: S311
        raise AssertionError

    return run


async def lock_project(connection: AsyncConnection, project_id: str) -> None:
    """Until the transaction ends, nobody else counts or adds what the project has. Raises NOT_FOUND
    when there is no such project."""
    wanted = locked(select(ProjectRow.id).where(ProjectRow.id == project_id))
    if (await connection.execute(wanted)).first() is None:
        raise HeliometerError(Code.NOT_FOUND, f"There is no project {project_id[:40]}.")


def locked(wanted: Select[Any], *, skip: bool = False) -> Select[Any]:
    """The same rows, which are ours to change until the transaction ends; ``skip`` those that
    another has. Rows are locked in the order that the query names: the same one everywhere, so
    that nobody waits for each other."""
    return wanted.with_for_update(key_share=True, skip_locked=skip)


async def lock_service(connection: AsyncConnection, number: int) -> None:
    """Until the transaction ends, no other process does what has this number."""
    if connection.dialect.name == "postgresql":
        await connection.execute(select(func.pg_advisory_xact_lock(number)))


def upsert(
    connection: AsyncConnection,
    row: type[Base],
    keys: Mapping[str, Any],
    values: Mapping[str, Any],
    new: Mapping[str, Any] | None = None,
) -> postgresql.Insert | sqlite.Insert:
    """Change the row with these keys, or add one, with the values of ``new`` if those differ."""
    make = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
    put = make(row).values(**keys, **(values if new is None else new))
    return put.on_conflict_do_update(index_elements=list(keys), set_=values)
