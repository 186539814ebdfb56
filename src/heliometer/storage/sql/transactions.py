"""Keeps transactions correct on a database that several processes may write to at once. It has no
effect on SQLite, where one transaction writes at a time."""

import logging
from collections.abc import Callable, Coroutine, Mapping
from functools import wraps
from typing import Any, ParamSpec, TypeVar

from sqlalchemy import BigInteger, Select, func, literal, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection

from heliometer.core.errors import Code, HeliometerError
from heliometer.core.retry import Backoff
from heliometer.storage.sql.tables import Base, ProjectRow

log = logging.getLogger(__name__)

P = ParamSpec("P")
T = TypeVar("T")
TRIES = 8
PAUSE_S = 0.0025
"""Average pause before the second try; it doubles before each further one."""
LONGEST_PAUSE_S = 0.32
RACES = frozenset(("40001", "40P01", "23505", "23503"))
"""SQLSTATEs that another transaction can cause: serialization failure, deadlock, or a row that was
added or removed in between."""


class LostRace(HeliometerError):
    """Another transaction was faster; nothing was changed. Becomes UNAVAILABLE for the caller."""


def rerun(method: Callable[P, Coroutine[Any, Any, T]]) -> Callable[P, Coroutine[Any, Any, T]]:
    """Repeat a whole transaction that lost a race; it then sees what the other one has changed."""

    @wraps(method)
    async def run(*args: P.args, **kwargs: P.kwargs) -> T:
        # From no pause to twice the average, so that transactions that collided do not collide
        # again.
        backoff = Backoff(PAUSE_S, LONGEST_PAUSE_S, spread=1)
        for attempt in range(TRIES):
            try:
                return await method(*args, **kwargs)
            except LostRace as error:
                if attempt == TRIES - 1:
                    log.error("the resource database refused it %d times: %s", TRIES,
                              error.__cause__)  # fmt: skip
                    raise
                await backoff.pause()
        raise AssertionError

    return run


async def lock_project(connection: AsyncConnection, project_id: str) -> None:
    """Lock the project until the transaction ends, so that nothing else counts or adds to what it
    has. Raises NOT_FOUND."""
    wanted = locked(select(ProjectRow.id).where(ProjectRow.id == project_id))
    if (await connection.execute(wanted)).first() is None:
        raise HeliometerError(Code.NOT_FOUND, f"There is no project {project_id[:40]}.")


def locked(wanted: Select[Any], *, skip: bool = False) -> Select[Any]:
    """The query, locking its rows until the transaction ends; ``skip`` leaves out rows that another
    transaction has locked. Rows are locked in the order of the query, which is the same
    everywhere, so that there are no deadlocks."""
    return wanted.with_for_update(key_share=True, skip_locked=skip)


async def lock_service(connection: AsyncConnection, number: int) -> None:
    """Hold the lock with this number, across all processes, until the transaction ends."""
    if connection.dialect.name == "postgresql":
        wide = literal(number, BigInteger)  # a plain number would have 32 bits
        await connection.execute(select(func.pg_advisory_xact_lock(wide)))


def upsert(
    connection: AsyncConnection,
    row: type[Base],
    keys: Mapping[str, Any],
    values: Mapping[str, Any],
    new: Mapping[str, Any] | None = None,
) -> postgresql.Insert | sqlite.Insert:
    """Update the row with these keys, or insert one, with the values of ``new`` if given."""
    make = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
    put = make(row).values(**keys, **(values if new is None else new))
    return put.on_conflict_do_update(index_elements=list(keys), set_=values)
