"""Takes partitions back into a catalogue: those that it names and that are damaged, and those that
it does not name, from the folder of partitions and from quarantine.

Of a damaged one, the row groups with the right checksum are saved. Of an unknown one, only what the
store does not have already is taken, so that nothing is there twice.
"""

# Names in the SQL below come from this program alone, never from a request.
# ruff: noqa: S608

import hashlib
import json
import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

import duckdb

from heliometer.storage.duckdb import catalog, content, sql
from heliometer.storage.duckdb.content import Content, Examined, NoContent, SeriesEntry
from heliometer.storage.duckdb.partition_files import file_name
from heliometer.storage.duckdb.partition_writing import write_partition
from heliometer.storage.duckdb.quarantine import FOLDER, TAKEN_BACK, Quarantine
from heliometer.storage.duckdb.sources import Partition

log = logging.getLogger(__name__)

_NAME = re.compile(r"(\d{4}-\d{2}-\d{2})\.(\d+)\.parquet")
UNKNOWN = "unknown"
"""Namespace of series that measurements name and nothing describes; they belong to no project."""


class Findings(Protocol):
    """Where a repair notes what it found; a sentence each."""

    problems: list[str]
    saved: list[str]
    lost: list[str]
    kept: list[str]


@dataclass(slots=True)
class Adoption:
    """One repair's work on partitions. ``connection`` is the repaired catalogue, a copy."""

    store: Path
    scratch: Path
    connection: duckdb.DuckDBPyConnection
    report: Findings
    changed: bool = False
    _moves: list[tuple[Path, str]] = field(default_factory=list)
    """Files that get a place among the partitions, under a name."""
    _done: list[Path] = field(default_factory=list)
    """Files of which everything is in the store, or nothing more can be saved."""
    _where: dict[str, Path] = field(default_factory=dict)
    """Where the file of each partition of the catalogue is at present."""

    def run(self) -> None:
        """Bring the catalogue up to the files. Raises ``duckdb.Error`` and OSError."""
        unknown = self._unknown_files()
        contents = catalog.read_contents(self.connection)
        rows = self.connection.execute(
            "SELECT day, file, rows, bytes, sha256 FROM partitions ORDER BY day, file"
        ).fetchall()
        for row in rows:
            partition = Partition(*row)
            candidates = [p for p in unknown if _plain(p) == partition.file]
            whole = next((p for p in candidates if _sha256(p) == partition.sha256), None)
            if whole is not None:
                unknown.remove(whole)
                self._keep(whole, partition.file)
                continue
            for path in candidates:
                unknown.remove(path)
            self._save(partition, candidates, contents.get(partition.file))
        for path in unknown:
            self._adopt(path)
        self._describe()

    def commit(self, quarantine: Quarantine) -> None:
        """Move the files to their places. Raises OSError."""
        for path in self._done:
            if path.parent != quarantine.folder:
                path = quarantine.take(path, "damaged, or not known: repaired")
            quarantine.taken_back(path)
        for path, name in self._moves:
            path.rename(self.store / "partitions" / name)

    def _unknown_files(self) -> list[Path]:
        folders = (self.store / "partitions", self.store / FOLDER)
        found = [p for folder in folders if folder.exists() for p in folder.iterdir()]
        return sorted(
            (p for p in found if _NAME.match(p.name) and p.suffix != ".why"
             and TAKEN_BACK not in p.name and not p.name.endswith(".tmp")),
            key=lambda p: (_plain(p), p.parent.name == FOLDER, p.name),
        )  # fmt: skip

    def _keep(self, path: Path, name: str) -> None:
        """A whole file of the catalogue."""
        self._where[name] = path
        if path.parent.name == FOLDER or path.name != name:
            self._moves.append((path, name))
            self._changed(f"{name} was set aside", f"{name}, which is whole")

    def _save(self, partition: Partition, files: Sequence[Path], packed: bytes | None) -> None:
        """What is whole of a damaged partition that the catalogue names."""
        catalog.delete_partitions(self.connection, [partition.file])
        best: tuple[Path, Examined] | None = None
        for path in files:
            try:
                found = content.examine(path, content.unpack(packed) if packed else None)
            except NoContent:
                continue
            if best is None or found.rows > best[1].rows:
                best = (path, found)
        saved = 0
        if best is not None and best[1].rows:
            saved = self._write(partition.day, self._rows(*best), best[1].content)
        name = partition.file
        state = "is damaged" if files else "is gone"
        self._changed(f"{name} {state}", f"{saved} of {partition.rows} measurements of {name}")
        if saved < partition.rows:
            self.report.lost.append(f"{partition.rows - saved} measurements of {name}")
        self._done += files

    def _adopt(self, path: Path) -> None:
        """What the store lacks of a file that the catalogue does not name."""
        day = _day(path)
        try:
            found = content.examine(path)
        except NoContent as error:
            self._adopt_plain(path, day, str(error))
            return
        day = found.content.day
        mapping = self._map(found.series or ())
        if found.series is None:
            self.report.kept.append(f"{path}: what it says of its series is damaged")
        lost = found.content.rows - found.rows
        if not lost and found.footer and not mapping and found.series and not self._has(day):
            self._take_as_it_is(path, found.content)
            return
        query = self._rows(path, found)
        if mapping:
            query = (
                f"SELECT coalesce(n.new, f.series) AS series, ts, value FROM ({query}) AS f "
                "LEFT JOIN new_ids AS n ON n.old = f.series"
            )
        self._take(path, day, query, found.content, lost)

    def _adopt_plain(self, path: Path, day: int, reason: str) -> None:
        """A file of a former version, which carries no names of series."""
        query = f"SELECT series, ts, value FROM read_parquet({sql.quoted(str(path))})"
        try:
            unknown = self._one(
                f"SELECT count(*) FROM ({query}) WHERE series NOT IN (SELECT id FROM series)"
            )
            total = self._one(f"SELECT count(*) FROM ({query})")
        except duckdb.Error:
            self.report.kept.append(f"{path}: {reason}, and it cannot be read")
            return
        if unknown == total:
            self.report.kept.append(
                f"{path}: {reason}, and nothing describes its series; a backup may"
            )
            return
        if not unknown and not self._has(day):
            self._take_as_it_is(path, Content(day=day, file=_plain(path), rows=total))
            return
        query += " WHERE series IN (SELECT id FROM series)"
        self._take(path, day, query, Content(day=day, file=path.name), unknown)

    def _has(self, day: int) -> bool:
        if self._tables(day):
            return True
        return bool(self._one(f"SELECT count(*) FROM partitions WHERE day = {day}"))

    def _take_as_it_is(self, path: Path, about: Content) -> None:
        name = _plain(path)
        partition = Partition(about.day, name, about.rows, path.stat().st_size, _sha256(path))
        packed = content.pack(about) if about.groups else None
        catalog.insert_partition(self.connection, partition, packed)
        self._where[name] = path
        if path.parent.name == FOLDER or path.name != name:
            self._moves.append((path, name))
        self._changed(f"the catalogue does not name {name}", f"{about.rows} measurements of {name}")

    def _take(self, path: Path, day: int, query: str, about: Content, lost: int) -> None:
        missing = f"({query}) EXCEPT ALL ({self._sources(day)})"
        saved = self._write(day, f"SELECT * FROM ({missing})", about)
        problem = f"the catalogue does not name {path.name}"
        what = f"{saved} measurements" if saved else "nothing, since the store has it all,"
        self._changed(problem, f"{what} of {path.name}")
        if lost:
            self.report.lost.append(f"{lost} measurements of {path.name}")
        self._done.append(path)

    def _write(self, day: int, query: str, about: Content) -> int:
        """Write a query's rows as a new partition; how many there are."""
        name = file_name(day, self._free_number(day))
        target = self.scratch / "partitions" / name
        made = Content(day=day, file=name, tables=about.tables, replaces=(about.file,))
        made = write_partition(self.connection, query, target, made)
        if not made.rows:
            target.unlink()
            return 0
        partition = Partition(day, name, made.rows, target.stat().st_size, _sha256(target))
        catalog.insert_partition(self.connection, partition, content.pack(made))
        self._where[name] = target
        self._moves.append((target, name))
        return made.rows

    def _rows(self, path: Path, found: Examined) -> str:
        """The measurements of the row groups that are whole."""
        readable = path
        if not found.footer:
            readable = self.scratch / f"readable-{path.name}"
            content.write_readable(path, found.content, readable)
        whole = " OR ".join(
            f"file_row_number BETWEEN {g.first_row} AND {g.first_row + g.rows - 1}"
            for g in found.whole
        )
        return (
            f"SELECT series, ts, value FROM read_parquet({sql.quoted(str(readable))}, "
            f"file_row_number = true) WHERE {whole or 'false'}"
        )

    def _map(self, entries: Sequence[SeriesEntry]) -> bool:
        """Add unknown series; whether some have other ids here, which ``new_ids`` then has."""
        known = {
            (p, n, d): i
            for i, p, n, d in self.connection.execute(
                "SELECT id, project_id, namespace, dimensions FROM series"
            ).fetchall()
        }
        used = set(known.values())
        following = max(used, default=0) + 1
        following = max([following, *(e.id + 1 for e in entries)])
        new_ids, added = [], []
        for entry in entries:
            name = (entry.project_id, entry.namespace, entry.dimensions)
            here = known.get(name)
            if here is None:
                here = entry.id
                if here in used:
                    here, following = following, following + 1
                added.append((here, *name))
                used.add(here)
            if here != entry.id:
                new_ids.append((entry.id, here))
        if added:
            self._add_series(added)
            self._changed("the catalogue lacks series", f"the names of {len(added)} series")
        if new_ids:
            self.connection.execute("CREATE OR REPLACE TEMP TABLE new_ids (old BIGINT, new BIGINT)")
            self.connection.execute(
                "INSERT INTO new_ids SELECT unnest($1::BIGINT[]), unnest($2::BIGINT[])",
                [list(column) for column in zip(*new_ids, strict=True)],
            )
        return bool(new_ids)

    def _describe(self) -> None:
        """Give series that measurements name a description: another must not get their ids."""
        for path in self._where.values():
            try:
                found = content.read_series(path)
            except NoContent:
                continue
            self._map_missing(found)
        tables = self._tables()
        if not tables:
            return
        ids = " UNION ".join(f"SELECT series FROM {t}" for t in tables)
        missing = [
            i
            for (i,) in self.connection.execute(
                f"SELECT DISTINCT series FROM ({ids}) WHERE series NOT IN (SELECT id FROM series)"
            ).fetchall()
        ]
        if missing:
            rows = [(i, "", UNKNOWN, json.dumps([["series", str(i)]])) for i in missing]
            self._add_series(rows)
            self.report.lost.append(f"the names of {len(missing)} series; their values are kept")

    def _map_missing(self, entries: Sequence[SeriesEntry]) -> None:
        known = {i for (i,) in self.connection.execute("SELECT id FROM series").fetchall()}
        missing = [(e.id, e.project_id, e.namespace, e.dimensions)
                   for e in entries if e.id not in known]  # fmt: skip
        if missing:
            self._add_series(missing)
            self._changed("the catalogue lacks series", f"the names of {len(missing)} series")

    def _add_series(self, rows: Sequence[tuple[int, str, str, str]]) -> None:
        columns = [list(column) for column in zip(*rows, strict=True)]
        self.connection.execute(
            "INSERT INTO series SELECT unnest($1::BIGINT[]), unnest($2::VARCHAR[]), "
            "unnest($3::VARCHAR[]), unnest($4::VARCHAR[]), NULL",
            columns,
        )

    def _sources(self, day: int) -> str:
        """All measurements of a day that the store has."""
        parts = [f"SELECT series, ts, value FROM {t}" for t in self._tables(day)]
        parts += [
            f"SELECT series, ts, value FROM read_parquet({sql.quoted(str(self._where[file]))})"
            for (file,) in self.connection.execute(
                "SELECT file FROM partitions WHERE day = $1", [day]
            ).fetchall()
        ]
        nothing = "SELECT 0::BIGINT AS series, 0::BIGINT AS ts, 0.0::DOUBLE AS value WHERE false"
        return " UNION ALL ".join(parts or [nothing])

    def _tables(self, day: int | None = None) -> list[str]:
        found = catalog.read_sources(self.connection).tables
        return [t.name for t in found if day in (None, t.day)]

    def _free_number(self, day: int) -> int:
        taken = [t.number for t in catalog.read_sources(self.connection).tables if t.day == day]
        names = [p.name for p in self._unknown_files()] + list(self._where)
        for name in names:
            match = _NAME.match(name)
            if match and _day(Path(name)) == day:
                taken.append(int(match[2]))
        return max(taken, default=0) + 1

    def _changed(self, problem: str, saved: str) -> None:
        self.changed = True
        self.report.problems.append(problem)
        self.report.saved.append(saved)

    def _one(self, text: str) -> int:
        return int(self.connection.execute(text).fetchall()[0][0])


def _plain(path: Path) -> str:
    """The name that a file had among the partitions."""
    match = _NAME.match(path.name)
    return match[0] if match else path.name


def _day(path: Path) -> int:
    moment = datetime.strptime(path.name[:10], "%Y-%m-%d").replace(tzinfo=UTC)
    return int(moment.timestamp()) // 86_400


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
