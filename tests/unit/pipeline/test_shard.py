"""What a shard stores, tells and hands to the feed, in which order, and what it leaves out."""

import asyncio
from collections.abc import Sequence

import numpy as np
import pytest

from heliometer.core.errors import Code, HeliometerError
from heliometer.metrics.idempotency import Receipts
from heliometer.metrics.model import Batch, Series
from heliometer.metrics.receipts import Receipt, ReceiptKind
from heliometer.metrics.series_index import Name, SeriesIndex
from heliometer.pipeline.shard import Shard, Unit


class World:
    """A shard, and everything that happens to its surroundings, in order."""

    def __init__(self) -> None:
        self.events: list[str] = []
        self.failures: list[HeliometerError] = []
        self.feed_answers = asyncio.Event()
        self.feed_answers.set()
        self.index = SeriesIndex([], 10_000)
        self.shard = Shard(
            3, store=self, series_index=self.index, receipts=Receipts(()), feed=self,
            series_stored=lambda series: self.events.append(f"has {_ids(series)}"),
        )  # fmt: skip
        self.shard.listen(
            lambda batch, new: self.events.append(f"tell {_values(batch)} {_ids(new)}")
        )

    async def append(
        self,
        batch: Batch,
        series: Sequence[Series],
        receipts: Sequence[Receipt],
        *,
        maybe_duplicate: bool = False,
    ) -> None:
        if self.failures:
            raise self.failures.pop()
        again = " again" if maybe_duplicate else ""
        self.events.append(f"store {_values(batch)} {[r.key for r in receipts]}{again}")

    async def prepare(self, shard: int, batch: Batch) -> str:
        assert shard == 3
        self.events.append(f"prepare {_values(batch)}")
        return _values(batch)

    async def commit(self, prepared: str) -> None:
        await self.feed_answers.wait()
        self.events.append(f"commit {prepared}")

    async def abort(self, prepared: str) -> None:
        self.events.append(f"abort {prepared}")

    def happened(self) -> list[str]:
        """Since the last call."""
        found, self.events = self.events, []
        return found


@pytest.fixture
def world() -> World:
    return World()


def _ids(series: Sequence[Series]) -> list[int]:
    return [s.id for s in series]


def _values(batch: Batch) -> str:
    return str(batch.value.astype(int).tolist())


def unit(value: float, key: str = "", *, body: bytes = b"", series: int = 1) -> Unit:
    batch = Batch(np.array([series]), np.array([0]), np.array([value]))
    return Unit(batch, Receipt("p", key, body, 0) if key else None)


def handover(value: float, key: str) -> Unit:
    receipt = Receipt("", key, b"", 0, ReceiptKind.HANDOVER)
    return unit(value)._replace(handover=[receipt])


def make_series(world: World, count: int) -> list[Series]:
    world.index.intern("p", [Name("ns", (("host", str(i)),)) for i in range(count)])
    return world.index.unsaved()


async def test_units_are_stored_together_between_prepare_and_commit(world: World) -> None:
    (series,) = make_series(world, 1)
    refusals = await world.shard.store([unit(1), unit(2, "k"), handover(3, "m")], [series])
    assert refusals == [None, None, None]
    assert world.happened() == [
        "prepare [1, 2, 3]", "store [1, 2, 3] ['k', 'm']", "has [1]", "tell [1, 2, 3] [1]",
        "commit [1, 2, 3]",
    ]  # fmt: skip


async def test_what_cannot_be_stored_is_told_to_nobody_and_may_come_again(world: World) -> None:
    make_series(world, 1)
    world.failures.append(HeliometerError(Code.UNAVAILABLE, "no"))
    with pytest.raises(HeliometerError, match="no"):
        await world.shard.store([unit(1, "k")])
    assert world.happened() == ["prepare [1]", "abort [1]"]
    assert await world.shard.store([unit(1, "k")]) == [None]
    assert "tell [1] [1]" in world.happened()


async def test_a_unit_whose_receipt_is_known_is_not_stored(world: World) -> None:
    make_series(world, 1)
    twice = [unit(1, "k", body=b"1"), unit(1, "k", body=b"1"), unit(2, "k", body=b"2"), unit(3)]
    stored, repeated, refused, plain = await world.shard.store(twice)
    assert (stored, repeated, plain) == (None, None, None)
    assert refused is not None
    assert refused.code is Code.INVALID
    assert world.happened()[1] == "store [1, 3] ['k']"
    assert await world.shard.store([unit(1, "k", body=b"1")]) == [None]
    assert world.happened() == []


async def test_series_are_stored_whatever_becomes_of_the_units(world: World) -> None:
    (series,) = make_series(world, 1)
    await world.shard.store([unit(1, "k")])
    world.happened()
    await world.shard.store([unit(1, "k")], [series])
    assert world.happened()[1:3] == ["store [] []", "has [1]"]


async def test_what_may_be_a_duplicate_is_stored_unit_by_unit_and_always_reaches_the_feed(
    world: World,
) -> None:
    (series,) = make_series(world, 1)
    await world.shard.store([unit(1, "a")])
    world.happened()
    units = [unit(1, "a"), unit(2, "b"), handover(3, "m")]
    assert await world.shard.store(units, [series], maybe_duplicate=True) == [None] * 3
    happened = world.happened()
    assert happened[:2] == ["store [] []", "has [1]"]
    assert sorted(happened[2:4]) == ["store [2] ['b'] again", "store [3] ['m'] again"]
    assert [e for e in happened if e.startswith("commit")] == [
        "commit [2]", "commit [3]", "commit [1]",
    ]  # fmt: skip


async def test_listeners_are_told_of_each_series_once(world: World) -> None:
    make_series(world, 3000)
    await world.shard.store([unit(1, series=7)])
    await world.shard.store([unit(2, series=2500), unit(3, series=7)])
    await world.shard.store([unit(4, series=7)])
    told = [e for e in world.happened() if e.startswith("tell")]
    assert told == ["tell [1] [7]", "tell [2, 3] [2500]", "tell [4] []"]


async def test_those_who_listen_later_know_the_series_that_there_were(world: World) -> None:
    make_series(world, 2)
    world.shard.reset()
    told: list[list[int]] = []
    world.shard.listen(lambda _, new: told.append(_ids(new)))
    world.index.intern("p", [Name("other", ())])
    await world.shard.store([unit(1, series=1), unit(2, series=3)])
    assert told == [[3]]


async def test_what_did_not_reach_the_feed_is_taken_again(world: World) -> None:
    """An owner that loses its shard while it publishes is cancelled."""
    make_series(world, 1)
    world.feed_answers.clear()
    storing = asyncio.create_task(world.shard.store([unit(1, "k")]))
    await asyncio.sleep(0)
    storing.cancel()
    await asyncio.wait({storing})
    assert world.happened() == ["prepare [1]", "store [1] ['k']", "tell [1] [1]"]
    world.feed_answers.set()
    world.shard.reset()
    assert await world.shard.store([unit(1, "k")], maybe_duplicate=True) == [None]
    assert world.happened() == ["store [1] ['k'] again", "prepare [1]", "commit [1]"]


async def test_nothing_is_stored_while_it_is_to_be_quiet(world: World) -> None:
    make_series(world, 1)
    async with world.shard.quiet():
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0):
                await world.shard.store([unit(1)])
    assert world.happened() == []
