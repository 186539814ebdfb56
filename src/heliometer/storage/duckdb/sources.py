"""Tables and partitions: where the embedded store has its measurements.

Recent measurements are in arrival order in one table for each UTC day. A finished day, or one that
grew large, is *sealed*: its table becomes a partition, a Parquet file sorted by (series,
timestamp). The database's ``partitions`` table says which files count, so that a file replaces a
table in one transaction; files that it does not name are ignored.
"""

from collections.abc import Sequence
from dataclasses import dataclass

DAY_MS = 86_400_000


@dataclass(frozen=True, slots=True)
class Table:
    """A table of one day's measurements in arrival order; ``number`` counts the day's tables."""

    day: int
    number: int

    @property
    def name(self) -> str:
        return f"recent_{self.day}_{self.number}"


@dataclass(frozen=True, slots=True)
class Partition:
    """A file of one day's measurements, sorted by (series, timestamp)."""

    day: int
    file: str
    """``DATE.NUMBER.parquet``. The tables and partitions of a day never reuse a number."""
    rows: int
    bytes: int
    sha256: str

    @property
    def number(self) -> int:
        return int(self.file.split(".")[1])


@dataclass(frozen=True, slots=True)
class Sources:
    """All tables and partitions at one moment. A query works with one such value."""

    tables: tuple[Table, ...] = ()
    partitions: tuple[Partition, ...] = ()
    closed: frozenset[Table] = frozenset()
    """Tables that are being sealed: nothing is appended to them any more."""

    def within(self, start_ms: int, end_ms: int) -> "Sources":
        """The tables and partitions that may hold measurements of [start, end)."""
        first, last = start_ms // DAY_MS, (end_ms - 1) // DAY_MS
        return Sources(
            tuple(t for t in self.tables if first <= t.day <= last),
            tuple(p for p in self.partitions if first <= p.day <= last),
        )

    def open_table(self, day: int) -> Table | None:
        """The table that the day's measurements are appended to, if there is one."""
        return next((t for t in self.tables if t.day == day and t not in self.closed), None)

    def next_table(self, day: int) -> Table:
        """A table for the day with an unused number: a reader may still look for an earlier one."""
        numbers = [t.number for t in self.tables if t.day == day]
        numbers += [p.number for p in self.partitions if p.day == day]
        return Table(day, max(numbers, default=0) + 1)

    def with_tables(self, tables: Sequence[Table]) -> "Sources":
        """The sources with some tables added."""
        every = sorted({*self.tables, *tables}, key=lambda t: (t.day, t.number))
        return Sources(tuple(every), self.partitions, self.closed)

    def close_tables(self, tables: Sequence[Table]) -> "Sources":
        """The sources with some tables closed."""
        return Sources(self.tables, self.partitions, self.closed | set(tables))

    def replace(
        self,
        tables: Sequence[Table],
        partitions: Sequence[Partition],
        new: Sequence[Partition] = (),
    ) -> "Sources":
        """The sources with some tables and partitions replaced by new partitions."""
        kept = {*(p for p in self.partitions if p not in partitions), *new}
        return Sources(
            tuple(t for t in self.tables if t not in tables),
            tuple(sorted(kept, key=lambda p: (p.day, p.file))),
            self.closed - set(tables),
        )
