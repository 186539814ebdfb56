"""What the stores of notifications share: counting rows, and the error for missing ones."""

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.orm import InstrumentedAttribute

from heliometer.core.errors import Code, HeliometerError


async def count_of(
    connection: AsyncConnection, owner: InstrumentedAttribute[str], project_id: str
) -> int:
    """The number of a project's rows, by the column that names their project."""
    wanted = select(func.count()).where(owner == project_id)
    return (await connection.execute(wanted)).scalar_one()


def missing(what: str, given: str) -> HeliometerError:
    """A NOT_FOUND error with the id as it was given."""
    return HeliometerError(Code.NOT_FOUND, f"There is no {what} {given[:60]!r}.")
