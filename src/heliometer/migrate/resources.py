"""Copying the resources: all or nothing, as often as one likes."""

from collections.abc import Callable
from dataclasses import dataclass

from heliometer.core.errors import Code, HeliometerError
from heliometer.migrate.journal import JournalFile
from heliometer.migrate.ports import Content, Contents, ResourceCopy


@dataclass(frozen=True, slots=True)
class ComparedTable:
    """A table, as it is on both sides."""

    name: str
    here: Content
    there: Content


async def copy_resources(
    tables: ResourceCopy, file: JournalFile, copied: Callable[[int], None], *, force: bool
) -> None:
    """Replace what the target has by what the source has.

    Raises CONFLICT, unless ``force``, when the target has something that did not come from here;
    UNAVAILABLE, and INVALID for a row that the target refuses. Nothing has changed then.
    """
    wanted = await tables.source_contents()
    ours = [_read(known) for known in file.journal.tables]

    def may_replace(found: Contents) -> None:
        is_empty = not any(content.rows for content in found.values())
        if not force and not is_empty and found not in ours:
            raise HeliometerError(
                Code.CONFLICT,
                f"The database {file.journal.target} "
                + (
                    "was changed since the last pass; is a service running on it already?"
                    if ours
                    else "is not empty, and its content did not come from here."
                ),
                details="Name an empty database, or use --force to replace its content.",
            )
        file.journal.tables = [_plain(found), _plain(wanted)]
        file.save()

    await tables.replace(may_replace, copied)
    file.journal.tables = [_plain(wanted)]
    file.save()


async def compare_resources(tables: ResourceCopy) -> list[ComparedTable]:
    """Every table on both sides, read whole. Raises UNAVAILABLE."""
    here = await tables.source_contents()
    there = await tables.target_contents()
    return [ComparedTable(name, here[name], there[name]) for name in here]


def _plain(found: Contents) -> dict[str, tuple[int, str]]:
    return {name: (content.rows, content.digest) for name, content in found.items()}


def _read(known: dict[str, tuple[int, str]]) -> dict[str, Content]:
    return {name: Content(*content) for name, content in known.items()}
