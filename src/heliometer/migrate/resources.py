"""Moving the resources: all or nothing, as often as one likes."""

from collections.abc import Callable
from dataclasses import dataclass

from heliometer.core.errors import Code, HeliometerError
from heliometer.migrate.journal import JournalFile
from heliometer.storage.sql import table_copy as moving
from heliometer.storage.sql.database import Database
from heliometer.storage.sql.table_copy import Content, Contents


@dataclass(frozen=True, slots=True)
class ComparedTable:
    """A table, as it is on both sides."""

    name: str
    here: Content
    there: Content


async def move_resources(
    source: Database,
    target: Database,
    shares: int,
    file: JournalFile,
    done: Callable[[int], None],
    *,
    force: bool,
) -> None:
    """Replace what the target has by what the source has.

    Raises CONFLICT, unless ``force``, when the target has something that did not come from here;
    UNAVAILABLE, and INVALID for a row that the target does not take. Nothing has changed then.
    """
    wanted = await moving.contents(source, shares)
    ours = [_read(known) for known in file.journal.tables]

    def may_replace(found: Contents) -> None:
        if not force and not moving.is_empty(found) and found not in ours:
            raise HeliometerError(
                Code.CONFLICT,
                f"The database {file.journal.target} "
                + (
                    "was changed since the last pass; is a service running on it already?"
                    if ours
                    else "is not empty, and what it has did not come from here."
                ),
                details="Name an empty database, or say --force to replace what it has.",
            )
        file.journal.tables = [_plain(found), _plain(wanted)]
        file.save()

    await moving.move(source, target, shares, may_replace, done)
    file.journal.tables = [_plain(wanted)]
    file.save()


async def compare_resources(source: Database, target: Database, shares: int) -> list[ComparedTable]:
    """Every table on both sides, read whole. Raises UNAVAILABLE."""
    here = await moving.contents(source, shares)
    there = await moving.contents(target)
    return [ComparedTable(name, here[name], there[name]) for name in here]


def _plain(found: Contents) -> dict[str, tuple[int, str]]:
    return {name: (content.rows, content.digest) for name, content in found.items()}


def _read(known: dict[str, tuple[int, str]]) -> dict[str, Content]:
    return {name: Content(*content) for name, content in known.items()}
