"""Files of the embedded store are damaged in every way: what is served is never wrong, nothing is
deleted, and a repair loses no more than the damaged part (RELIABILITY 5)."""

import asyncio
import os
import random
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from effort import effort
from heliometer.config import MetricSettings
from heliometer.core.errors import HeliometerError
from heliometer.metrics.model import Batch, Series
from heliometer.storage.duckdb.repair import repair_store
from heliometer.storage.duckdb.store import DuckDBStore
from heliometer.storage.errors import StoreUnusable

DAY = 86_400_000
NOW = 1_795_000_000_000
SERIES = [Series(i, "p", "ns", (("host", f"h{i}"),)) for i in range(1, 11)]
SEALED, RECENT = 2000, 100
Row = tuple[int, int, float]


def sealed(day: int) -> Batch:
    i = np.arange(SEALED)
    values = np.random.default_rng(day).random(SEALED)
    return Batch(i % 10 + 1, NOW - day * DAY + i, values)


def recent(number: int) -> Batch:
    i = np.arange(RECENT)
    return Batch(i % 10 + 1, NOW + number * RECENT + i, number + i / 7)


def opened(folder: Path) -> DuckDBStore:
    store = DuckDBStore(folder, MetricSettings(min_free_bytes=0))
    store.open()
    return store


async def fill(folder: Path) -> None:
    """Two sealed days, five batches in the file of the database and five in its log; then the
    process is gone."""
    store = opened(folder)
    for day in (2, 1):
        await store.append(sealed(day), SERIES if day == 2 else [], [])
        await store.maintain(NOW, seal_all=True)
    for number in range(5):
        await store.append(recent(number), [], [])
    await store.close()
    store = opened(folder)
    for number in range(5, 10):
        await store.append(recent(number), [], [])
    os._exit(0)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole") / "metrics"
    tests = str(Path(__file__).parents[2])
    subprocess.run(
        [sys.executable, __file__, str(folder)],
        check=True, timeout=120, env={**os.environ, "PYTHONPATH": tests},
    )  # fmt: skip
    return folder


def rows(batch: Batch) -> list[Row]:
    columns = (batch.series.tolist(), batch.timestamp.tolist(), batch.value.tolist())
    return list(zip(*columns, strict=True))


STORED = [row for b in [sealed(2), sealed(1), *map(recent, range(10))] for row in rows(b)]


async def read(folder: Path) -> list[Row] | None:
    """What the store serves; ``None``: it does not start, or refuses to answer."""
    try:
        store = opened(folder)
    except StoreUnusable as error:
        if "heliometer repair" not in str(error):
            raise
        return None
    try:
        return rows(await store.read([s.id for s in SERIES], 0, NOW + DAY))
    except HeliometerError:
        return None
    finally:
        await store.close()


def harm(path: Path, kind: str, at: int) -> None:
    raw = bytearray(path.read_bytes())
    if kind == "flip":
        raw[at] ^= 1 << at % 8
    elif kind == "zeros":
        raw[at : at + 512] = bytes(len(raw[at : at + 512]))
    elif kind == "cut":
        del raw[at:]
    path.write_bytes(raw)
    if kind == "gone":
        path.unlink()


def cases(whole: Path) -> list[tuple[Path, str, int]]:
    rng = random.Random(7)
    found = []
    for path in sorted(p for p in whole.rglob("*") if p.is_file()):
        size, name = path.stat().st_size, path.relative_to(whole)
        places = [rng.randrange(size) for _ in range(effort(2, 100))]
        found += [(name, kind, at) for kind in ("flip", "zeros") for at in (0, *places, size - 1)]
        found += [(name, "cut", at) for at in (0, *places[:1], size - 1)] + [(name, "gone", 0)]
    return rng.sample(found, min(len(found), effort(14, len(found))))


def test_damage_is_found_and_costs_no_more_than_what_is_damaged(
    whole: Path, tmp_path: Path
) -> None:
    stored = set(STORED)
    for number, (name, kind, at) in enumerate(cases(whole)):
        case = f"{name}: {kind} at {at}"
        folder = tmp_path / str(number)
        shutil.copytree(whole, folder)
        harm(folder / name, kind, at)
        kept = {p.stat().st_ino for p in folder.rglob("*.parquet")}

        served = asyncio.run(read(folder))
        assert served is None or stored.issuperset(served), case
        report = repair_store(folder, 256 << 20, apply=True)
        served = asyncio.run(read(folder))
        assert served is not None, case
        assert len(set(served)) == len(served), case
        assert stored.issuperset(served), case
        assert kept <= {p.stat().st_ino for p in folder.rglob("*") if p.is_file()}, case
        most = SEALED if name.suffix == ".parquet" else 10 * RECENT
        assert len(served) >= len(STORED) - most, f"{case}: {report}"
        if len(served) < len(STORED):
            assert report.lost, case


async def test_a_swapped_partition_is_not_taken_for_another(whole: Path, tmp_path: Path) -> None:
    folder = tmp_path / "metrics"
    shutil.copytree(whole, folder)
    first, second = sorted((folder / "partitions").iterdir())
    shutil.copyfile(first, second)
    served = await read(folder)
    assert served is not None
    assert len(served) == len(STORED) - SEALED
    assert (folder / "quarantine" / second.name).exists()


async def test_an_older_catalogue_gets_back_what_it_does_not_name(tmp_path: Path) -> None:
    folder = tmp_path / "metrics"
    store = opened(folder)
    await store.append(sealed(2), SERIES, [])
    await store.maintain(NOW, seal_all=True)
    await store.close()
    older = (folder / "recent.duckdb").read_bytes()
    store = opened(folder)
    new = Series(11, "p", "ns", (("host", "new"),))
    await store.append(Batch(np.array([11]), np.array([NOW]), np.array([7.0])), [new], [])
    await store.maintain(NOW, seal_all=True)
    await store.close()
    (folder / "recent.duckdb").write_bytes(older)

    store = opened(folder)
    assert [p.rows for p in store.sources.partitions] == [SEALED]
    # Its number is given to another series meanwhile.
    other = Series(11, "p", "ns", (("host", "other"),))
    await store.append(Batch(np.array([11]), np.array([NOW]), np.array([9.0])), [other], [])
    await store.close()
    assert not repair_store(folder, 256 << 20, apply=True).lost
    store = opened(folder)
    ids = {dict(s.dimensions)["host"]: s.id for s in await store.load_series()}
    for host, value in (("new", 7.0), ("other", 9.0)):
        found = await store.read([ids[host]], 0, NOW + DAY)
        assert found.value.tolist() == [value]
    assert len(await store.read(range(1, 11), 0, NOW + DAY)) == SEALED
    await store.close()
    assert not repair_store(folder, 256 << 20, apply=False).problems


if __name__ == "__main__":
    asyncio.run(fill(Path(sys.argv[1])))
