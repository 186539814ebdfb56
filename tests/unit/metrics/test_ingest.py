"""Series registry, group commit, idempotency keys."""

import asyncio
from collections.abc import Sequence

import numpy as np
import pytest

from heliometer.core.errors import Code, HeliometerError
from heliometer.metrics.idempotency import Receipts
from heliometer.metrics.model import Aggregation, Batch, Datapoints, Series
from heliometer.metrics.receipts import RECEIPT_LIFE_MS, Receipt
from heliometer.metrics.series_index import Name, SeriesIndex
from local_pipeline import local_writer


def name(**dimensions: str) -> Name:
    return Name("ns", tuple(sorted(dimensions.items())))


class RecordingStore:
    """Takes what it is given, or fails; ``gate`` holds commits back until it is set."""

    def __init__(self) -> None:
        self.commits: list[list[float]] = []
        self.series: list[int] = []
        self.receipts: list[Receipt] = []
        self.error: Exception | None = None
        self.gate = asyncio.Event()
        self.gate.set()

    async def append(
        self,
        batch: Batch,
        series: Sequence[Series],
        receipts: Sequence[Receipt],
        *,
        maybe_duplicate: bool = False,
    ) -> None:
        await self.gate.wait()
        if self.error is not None:
            raise self.error
        self.commits.append(batch.value.tolist())
        self.series += [s.id for s in series]
        self.receipts += receipts

    async def aggregate(self, aggregation: Aggregation) -> Datapoints:
        raise NotImplementedError

    async def latest(self, series: Sequence[int], start_ms: int, end_ms: int, limit: int) -> Batch:
        raise NotImplementedError

    async def read(self, series: Sequence[int], start_ms: int, end_ms: int) -> Batch:
        raise NotImplementedError

    async def load_series(self) -> list[Series]:
        return []

    async def load_receipts(self, since_ms: int) -> list[Receipt]:
        return []

    async def delete_before(self, timestamp_ms: int) -> None: ...

    async def ping(self) -> None: ...


def one(value: float, rows: int = 1) -> Batch:
    return Batch(np.ones(rows, np.int64), np.ones(rows, np.int64), np.full(rows, value, np.float64))


# -- registry ---------------------------------------------------------------------------------


def test_a_series_has_one_id_and_ids_go_on_after_those_that_are_stored() -> None:
    series_index = SeriesIndex([Series(7, "p", "ns", (("a", "1"),))], limit=10)
    ids = series_index.intern("p", [name(a="1"), name(a="2"), name(a="2")])
    assert ids == {name(a="1"): 7, name(a="2"): 8}
    assert series_index.intern("q", [name(a="1")]) == {name(a="1"): 9}
    assert [s.id for s in series_index.unsaved()] == [8, 9]
    series_index.saved(series_index.unsaved()[:1])
    assert [s.id for s in series_index.unsaved()] == [9]


def test_dimensions_select_every_series_that_has_at_least_them_in_order() -> None:
    series_index = SeriesIndex([], limit=10)
    series_index.intern("p", [name(b="2", a="1"), name(a="1"), name(a="2"), Name("other", ())])
    selected = series_index.select("p", "ns", {"a": "1"})
    assert [dict(s.dimensions) for s in selected] == [{"a": "1"}, {"a": "1", "b": "2"}]
    assert len(series_index.select("p", "ns", {})) == 3
    assert series_index.select("p", "ns", {"a": "1", "b": "3"}) == []
    assert series_index.select("q", "ns", {}) == []


@pytest.mark.reliability(20)
def test_over_its_limit_a_project_gets_no_new_series_but_keeps_the_old() -> None:
    series_index = SeriesIndex([], limit=2)
    series_index.intern("p", [name(a="1"), name(a="2")])
    with pytest.raises(HeliometerError, match="may have 2") as refused:
        series_index.intern("p", [name(a="1"), name(a="3")])
    assert refused.value.code is Code.RATE_LIMITED
    assert series_index.intern("p", [name(a="1")])
    assert len(series_index) == 2
    assert series_index.intern("q", [name(a="3")]), "another project is not concerned"


def test_a_project_over_a_limit_that_was_lowered_keeps_the_series_it_has() -> None:
    stored = [Series(i, "p", "ns", (("a", str(i)),)) for i in (1, 2, 3)]
    series_index = SeriesIndex(stored, limit=2)
    assert series_index.intern("p", [name(a="1"), name(a="3")]) == {name(a="1"): 1, name(a="3"): 3}
    with pytest.raises(HeliometerError, match="has 3 series and may have 2"):
        series_index.intern("p", [name(a="4")])


def test_spellings_are_remembered_by_namespace_and_within_bounds(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    project = SeriesIndex([], limit=10).project("p")
    project.learn("a", b"x", 1)
    project.learn("b", b"x", 2)
    assert (project.spellings("a"), project.spellings("b")) == ({b"x": 1}, {b"x": 2})
    monkeypatch.setattr("heliometer.metrics.series_index.SPELLING_BYTES", 10_000)
    for k in range(1000):
        project.learn("a", b"the same", 1)
        project.learn("a", b"padded" + b" " * k, 1)
        assert sum(map(len, project.spellings("a"))) <= 10_000
    assert len(project.spellings("a")) > 1


# -- writer -----------------------------------------------------------------------------------


async def test_posts_that_arrive_during_a_commit_share_the_next() -> None:
    store = RecordingStore()
    writer = local_writer(store, SeriesIndex([], 10), limit=1000)
    store.gate.clear()
    tasks = [asyncio.create_task(writer.write(one(0)))]
    await asyncio.sleep(0.02)
    tasks += [asyncio.create_task(writer.write(one(v))) for v in (1, 2, 3)]
    await asyncio.sleep(0)
    assert writer.pending == 4
    store.gate.set()
    await asyncio.gather(*tasks)
    assert store.commits == [[0], [1, 2, 3]]
    assert writer.pending == 0


async def test_a_failed_commit_fails_each_of_its_posts_and_the_series_wait_for_the_next() -> None:
    store, series_index = RecordingStore(), SeriesIndex([], 10)
    writer = local_writer(store, series_index, limit=1000)
    (series_id,) = series_index.intern("p", [name(a="1")]).values()
    store.error = HeliometerError(Code.UNAVAILABLE, "no")
    outcomes = await asyncio.gather(*(writer.write(one(v)) for v in (1, 2)), return_exceptions=True)
    assert [type(o) for o in outcomes] == [HeliometerError, HeliometerError]
    assert outcomes[0] is not outcomes[1]
    store.error = None
    await writer.write(one(3))
    assert store.commits == [[3]]
    assert store.series == [series_id]


async def test_more_than_may_wait_is_refused_and_nothing_of_it_stored() -> None:
    store = RecordingStore()
    writer = local_writer(store, SeriesIndex([], 10), limit=10)
    store.gate.clear()
    first = asyncio.create_task(writer.write(one(1, 8)))
    await asyncio.sleep(0)
    with pytest.raises(HeliometerError) as refused:
        await writer.write(one(2, 3))
    assert refused.value.code is Code.UNAVAILABLE
    store.gate.set()
    await first
    assert store.commits == [[1] * 8]


async def test_a_client_that_hangs_up_does_not_take_its_neighbours_along() -> None:
    store = RecordingStore()
    writer = local_writer(store, SeriesIndex([], 10), limit=100)
    store.gate.clear()
    gone, stays = (asyncio.create_task(writer.write(one(v))) for v in (1, 2))
    await asyncio.sleep(0)
    gone.cancel()
    await asyncio.sleep(0)
    store.gate.set()
    await stays
    await writer.drain()
    assert sorted(value for commit in store.commits for value in commit) == [1, 2]


async def test_a_store_that_breaks_does_not_leave_anybody_waiting() -> None:
    store, series_index = RecordingStore(), SeriesIndex([], 10)
    writer = local_writer(store, series_index, limit=1000)
    store.error = ValueError("a mistake of ours")
    outcomes = await asyncio.gather(*(writer.write(one(v)) for v in (1, 2)), return_exceptions=True)
    assert [type(o) for o in outcomes] == [ValueError, ValueError]
    assert writer.pending == 0
    store.error = None
    await writer.write(one(3))
    assert store.commits == [[3]]


async def test_a_receipt_is_stored_with_its_batch() -> None:
    store = RecordingStore()
    writer = local_writer(store, SeriesIndex([], 10), limit=1000)
    store.gate.clear()
    given = [receipt("a"), None, receipt("b")]
    tasks = [asyncio.create_task(writer.write(one(0), r)) for r in given]
    store.gate.set()
    await asyncio.gather(*tasks)
    assert [r.key for r in store.receipts] == ["a", "b"]


async def test_drain_waits_for_all_that_was_given() -> None:
    store = RecordingStore()
    writer = local_writer(store, SeriesIndex([], 10), limit=1000)
    store.gate.clear()
    tasks = [asyncio.create_task(writer.write(one(v))) for v in range(5)]
    await asyncio.sleep(0)
    draining = asyncio.create_task(writer.drain())
    await asyncio.sleep(0.02)
    assert not draining.done()
    store.gate.set()
    await draining
    assert sum(map(len, store.commits)) == 5
    await asyncio.gather(*tasks)


# -- receipts ---------------------------------------------------------------------------------


def receipt(key: str = "k", body: bytes = b"x", at: int = 0) -> Receipt:
    return Receipt("p", key, body, at)


async def test_a_key_stores_once_for_a_day_also_after_a_restart() -> None:
    stored: list[int] = []

    async def store(given: Receipt) -> None:
        stored.append(given.at_ms)

    receipts = Receipts([])
    for at in (0, 1, RECEIPT_LIFE_MS - 1):
        await receipts.once(receipt(at=at), store)
    assert stored == [0]
    await Receipts([receipt(at=0)]).once(receipt(at=5), store)
    assert stored == [0]
    await receipts.once(receipt(at=RECEIPT_LIFE_MS), store)
    assert stored == [0, RECEIPT_LIFE_MS]
    receipts.forget(2 * RECEIPT_LIFE_MS)
    await receipts.once(Receipt("q", "k", b"y", 0), store)


async def test_a_key_belongs_to_one_body_and_one_project() -> None:
    async def store(_: Receipt) -> None: ...

    receipts = Receipts([receipt()])
    with pytest.raises(HeliometerError, match="another body") as refused:
        await receipts.once(receipt(body=b"other"), store)
    assert refused.value.code is Code.INVALID
    await receipts.once(Receipt("q", "k", b"other", 0), store)
    for bad in ("", "x" * 256, "a\nb"):
        with pytest.raises(HeliometerError, match="Idempotency-Key"):
            await receipts.once(receipt(bad), store)


async def test_requests_with_one_key_at_once_share_one_outcome() -> None:
    gate = asyncio.Event()
    calls = 0

    async def store(_: Receipt) -> None:
        nonlocal calls
        calls += 1
        await gate.wait()

    receipts = Receipts([])
    tasks = [asyncio.create_task(receipts.once(receipt(), store)) for _ in range(5)]
    await asyncio.sleep(0)
    tasks[0].cancel()  # the first client hangs up
    await asyncio.sleep(0)
    gate.set()
    await asyncio.gather(*tasks[1:])
    assert calls == 1


async def test_a_key_whose_post_failed_may_be_used_again() -> None:
    outcomes = [RuntimeError("disk"), None]

    async def store(_: Receipt) -> None:
        error = outcomes.pop(0)
        if error:
            raise error

    receipts = Receipts([])
    with pytest.raises(RuntimeError):
        await receipts.once(receipt(), store)
    await receipts.once(receipt(), store)
    assert outcomes == []


async def test_when_the_first_of_several_fails_one_of_the_others_tries() -> None:
    gate = asyncio.Event()
    outcomes: list[Exception | None] = [RuntimeError("disk"), None]

    async def store(_: Receipt) -> None:
        await gate.wait()
        error = outcomes.pop(0)
        if error:
            raise error

    receipts = Receipts([])
    tasks = [asyncio.create_task(receipts.once(receipt(), store)) for _ in range(5)]
    await asyncio.sleep(0)
    gate.set()
    found = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(f) for f in found].count(RuntimeError) == 1
    assert outcomes == []


async def test_a_client_that_hangs_up_does_not_undo_its_key() -> None:
    gate = asyncio.Event()
    stored = 0

    async def store(_: Receipt) -> None:
        nonlocal stored
        await gate.wait()
        stored += 1

    receipts = Receipts([])
    task = asyncio.create_task(receipts.once(receipt(), store))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.sleep(0)
    retry = asyncio.create_task(receipts.once(receipt(at=1), store))
    await asyncio.sleep(0)
    receipts.forget(2 * RECEIPT_LIFE_MS)
    gate.set()
    await retry
    assert stored == 1
