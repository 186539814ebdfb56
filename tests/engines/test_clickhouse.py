"""What may happen to a ClickHouse while measurements go into it: nothing is lost or doubled."""

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

import numpy as np
import pytest

from engine_servers import MIB, OwnEngines, clickhouse, clickhouse_database
from heliometer.config import MetricSettings, Settings
from heliometer.core.errors import Code, HeliometerError
from heliometer.core.finding import FAIL
from heliometer.core.server_status import ServerStatus
from heliometer.metrics.model import Aggregation, Batch, Series
from heliometer.metrics.receipts import Receipt, ReceiptKind
from heliometer.storage.clickhouse import inserting
from heliometer.storage.clickhouse import store as module
from heliometer.storage.clickhouse.doctor import measurements
from heliometer.storage.clickhouse.store import ClickHouseStore
from heliometer.storage.errors import StoreUnusable

pytestmark = pytest.mark.engines

DAY = 86_400_000
NOW = 1_795_000_000_000
MEASUREMENTS = (
    "CREATE TABLE measurements (series Int64, ts Int64, value Float64) ENGINE = MergeTree() "
    f"PARTITION BY intDiv(ts, {DAY}) ORDER BY (series, ts) SETTINGS index_granularity = 2048"
)


@pytest.fixture
def url() -> Iterator[str]:
    with clickhouse_database() as url:
        yield url


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[ClickHouseStore]:
    store = ClickHouseStore(MetricSettings(url=url, min_free_bytes=0))
    await store.open()
    try:
        yield store
    finally:
        await store.close()


def batch(series: int, *days: int, count: int = 10) -> Batch:
    """So many measurements of a series on each of some days before the last."""
    at = np.concatenate([NOW - day * DAY + np.arange(count) for day in days])
    return Batch(np.full(len(at), series), at, np.ones(len(at)))


def receipt(key: str) -> Receipt:
    return Receipt("p", key, b"", NOW, ReceiptKind.HANDOVER)


def stop_merges(url: str, verb: str = "STOP") -> str:
    return f"SYSTEM {verb} MERGES {urlsplit(url).path.strip('/')}.measurements"


async def counts(store: ClickHouseStore, *series: int) -> dict[int, int]:
    found = await store.aggregate(Aggregation(series, 0, NOW + DAY, DAY, ["count"]))
    total: Counter[int] = Counter()
    for i, n in zip(found.series.tolist(), found.columns["count"].tolist(), strict=True):
        total[i] += n
    return dict(total)


def check(error: HeliometerError) -> None:
    assert error.code is Code.UNAVAILABLE
    assert error.retry_after


async def insist(store: ClickHouseStore, *arguments: object, maybe_duplicate: bool = False) -> int:
    """Append again and again until it succeeds; how often it did not."""
    for failures in range(200):
        try:
            again = maybe_duplicate or failures > 0
            await store.append(*arguments, maybe_duplicate=again)  # type: ignore[arg-type]
            return failures
        except HeliometerError as error:
            check(error)
            await asyncio.sleep(0.1)
    raise AssertionError("it never recovered")


class Proxy:
    """Stands before the server; loses what it is told to lose."""

    def __init__(self, target: str) -> None:
        self._target = urlsplit(target)
        self.lose_reply_to = 0
        """Which insert of measurements, from 1, is executed without its reply coming back."""
        self.cut_request_after: int | None = None
        """Bytes of an insert after which its connection ends."""
        self._inserts = 0

    @asynccontextmanager
    async def running(self) -> AsyncIterator[str]:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        t = self._target
        try:
            yield f"clickhouse://{t.username}:{t.password or ''}@127.0.0.1:{port}{t.path}"
        finally:
            server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, to = await asyncio.open_connection(self._target.hostname, self._target.port)
        loses = False

        async def requests() -> None:
            nonlocal loses
            passed = 0
            while data := await reader.read(1 << 16):
                if b"INSERT+INTO+measurements" in data or b"INSERT%20INTO%20measurements" in data:
                    self._inserts += 1
                    loses = self._inserts == self.lose_reply_to
                    passed = 1
                if passed and self.cut_request_after is not None:
                    data = data[: self.cut_request_after]
                    to.write(data)
                    await to.drain()
                    break
                to.write(data)
                await to.drain()
            to.close()

        async def replies() -> None:
            while data := await there.read(1 << 16):
                if loses:
                    break
                writer.write(data)
                await writer.drain()

        tasks = [asyncio.create_task(requests()), asyncio.create_task(replies())]
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            task.cancel()
        for each in (writer, to):
            each.close()


@pytest.mark.parametrize("lost", [1, 2, 3])
async def test_a_batch_whose_reply_was_lost_is_stored_once(url: str, lost: int) -> None:
    proxy = Proxy(url)
    async with proxy.running() as through, opened(through) as store:
        proxy.lose_reply_to = lost
        three_days = batch(1, 0, 1, 2)
        with pytest.raises(HeliometerError) as refused:
            await store.append(three_days, [], [receipt("a")])
        assert refused.value.code is Code.UNAVAILABLE
        # The days before the lost reply, and that of it, are stored: the rest is not.
        assert await counts(store, 1) == {1: 10 * lost}
        await store.append(three_days, [], [receipt("a")], maybe_duplicate=True)
        assert await counts(store, 1) == {1: 30}
        await store.append(three_days, [], [receipt("a")], maybe_duplicate=True)
        assert await counts(store, 1) == {1: 30}
        # The same measurements with another receipt are others.
        await store.append(three_days, [], [receipt("b")], maybe_duplicate=True)
        assert await counts(store, 1) == {1: 60}


async def test_batches_that_were_handed_over_together_may_come_again_alone(url: str) -> None:
    proxy = Proxy(url)
    async with proxy.running() as through, opened(through) as store:
        proxy.lose_reply_to = 1
        parts = [(batch(i, i, i + 1), receipt(f"m{i}")) for i in range(1, 5)]
        together = Batch.concatenate([b for b, _ in parts])
        with pytest.raises(HeliometerError):
            await store.append(together, [], [r for _, r in parts])
        for part, its in reversed(parts):
            await store.append(part, [], [its], maybe_duplicate=True)
        assert await counts(store, 1, 2, 3, 4) == {1: 20, 2: 20, 3: 20, 4: 20}


@pytest.mark.parametrize("cut", [0, 10, 500, 1500])
async def test_half_a_request_stores_nothing(url: str, cut: int) -> None:
    proxy = Proxy(url)
    async with proxy.running() as through, opened(through) as store:
        proxy.cut_request_after = cut
        with pytest.raises(HeliometerError):
            await store.append(batch(1, 0, count=1000), [], [receipt("a")])
        proxy.cut_request_after = None
        assert await counts(store, 1) == {}
        await store.append(batch(1, 0, count=1000), [], [receipt("a")], maybe_duplicate=True)
        assert await counts(store, 1) == {1: 1000}


async def test_an_insert_that_still_runs_is_waited_for(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The server itself holds inserts up while the table has several parts.
    clickhouse(
        f"{MEASUREMENTS}, parts_to_delay_insert = 1, max_delay_to_insert = 3, "
        "parts_to_throw_insert = 3",
        url,
    )
    clickhouse(stop_merges(url), url)
    try:
        async with opened(url) as store:
            await store.append(batch(1, 0), [], [receipt("first")])
            await store.append(batch(1, 0), [], [receipt("second")])
            monkeypatch.setattr(inserting, "INSERT_S", 0.3)
            with pytest.raises(HeliometerError) as refused:
                await store.append(batch(2, 0), [], [receipt("a")])
            assert refused.value.code is Code.UNAVAILABLE
            assert await counts(store, 2) == {}
            monkeypatch.setattr(inserting, "INSERT_S", 30)
            await store.append(batch(2, 0), [], [receipt("a")], maybe_duplicate=True)
            assert await counts(store, 2) == {2: 10}
    finally:
        clickhouse(stop_merges(url, "START"), url)


async def test_too_many_parts_are_a_refusal_that_passes(url: str) -> None:
    clickhouse(
        f"{MEASUREMENTS}, parts_to_delay_insert = 5, max_delay_to_insert = 1, "
        "parts_to_throw_insert = 5",
        url,
    )
    clickhouse(stop_merges(url), url)
    try:
        async with opened(url) as store:
            stored = 0
            with pytest.raises(HeliometerError) as refused:
                for _ in range(10):
                    await store.append(batch(1, 0), [], [])
                    stored += 10
            assert refused.value.code is Code.UNAVAILABLE
            assert await counts(store, 1) == {1: stored}
            clickhouse(stop_merges(url, "START"), url)
            await insist(store, batch(1, 0), [], [])
            assert await counts(store, 1) == {1: stored + 10}
    finally:
        clickhouse(stop_merges(url, "START"), url)


async def test_a_day_of_a_batch_is_one_part_however_large(url: str) -> None:
    async with opened(url) as store:
        database = urlsplit(url).path.strip("/")
        clickhouse(stop_merges(url), url)
        try:
            large = batch(1, 0, 1, count=1_200_000)
            await store.append(large, [], [receipt("a"), receipt("b")])
            parts = clickhouse(
                "SELECT rows FROM system.parts WHERE active AND table = 'measurements' "
                f"AND database = '{database}'",
                url,
            )
        finally:
            clickhouse(stop_merges(url, "START"), url)
        assert parts.split() == ["1200002"] * 2
        assert await counts(store, 1) == {1: 2_400_000}


async def test_processes_that_start_and_append_at_once_share_everything(url: str) -> None:
    stores = [ClickHouseStore(MetricSettings(url=url, min_free_bytes=0)) for _ in range(4)]
    await asyncio.gather(*(store.open() for store in stores))
    one = [Series(1, "p", "ns", (("host", "a"),))]
    kept = Receipt("p", "k", b"x", NOW)
    await asyncio.gather(*(store.append(batch(1, 0), one, [kept]) for store in stores))
    await stores[0].append(batch(1, 0), [Series(2, "p", "ns", ())], [receipt("hidden")])
    for store in stores:
        assert await counts(store, 1) == {1: 50}
        assert [s.id for s in await store.load_series()] == [1, 2]
        assert [s.id for s in await store.series_since(NOW)] == [1, 2]
        assert await store.series_since(1 << 50) == []
        assert await store.load_receipts(0) == [kept]
        await store.ping()
        await store.close()


async def test_old_receipts_are_forgotten(url: str) -> None:
    async with opened(url) as store:
        for at in (NOW - 3 * DAY, NOW - DAY + 1, NOW):
            await store.append(batch(1, 0), [], [Receipt("p", str(at), b"", at)])
        await store.maintain(NOW)
        assert [r.at_ms for r in await store.load_receipts(0)] == [NOW - DAY + 1, NOW]


async def test_an_outage_is_told_once_without_the_password_and_ends_by_itself(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with OwnEngines("clickhouse") as own:
        parts = urlsplit(own.urls.clickhouse)
        url = own.urls.clickhouse.rpartition("/")[0] + "/some_database"
        async with opened(url) as store:
            await store.append(batch(1, 0), [Series(1, "p", "ns", ())], [])
            own.kill("clickhouse")
            with caplog.at_level(logging.WARNING):
                for _ in range(3):
                    for work in (
                        store.append(batch(1, 0), [], []),
                        store.read([1], 0, NOW),
                        store.latest([1], 0, NOW, 1),
                        store.aggregate(Aggregation([1], 0, NOW, DAY, ["avg"])),
                        store.load_series(),
                        store.ping(),
                        store.maintain(NOW),
                        store.delete_before(NOW),
                    ):
                        with pytest.raises(HeliometerError) as refused:
                            await work
                        assert refused.value.code is Code.UNAVAILABLE
                        assert refused.value.retry_after
            assert len(caplog.records) == 2
            assert parts.password
            assert parts.password not in caplog.text
            own.start("clickhouse")
            assert await counts(store, 1) == {1: 10}
            await store.append(batch(1, 0), [], [])
            assert await counts(store, 1) == {1: 20}


async def test_a_server_killed_in_the_middle_loses_and_doubles_nothing() -> None:
    with OwnEngines("clickhouse") as own:
        async with opened(own.urls.clickhouse.rpartition("/")[0] + "/killed") as store:
            failures = stored = 0

            async def post(series: int) -> None:
                nonlocal failures, stored
                for k in range(12):
                    large = batch(series, 0, 1, count=20_000)
                    failures += await insist(store, large, [], [receipt(f"{series}-{k}")])
                    stored += 1

            async def kill() -> None:
                for _ in range(3):
                    seen = stored
                    while stored < min(seen + 5, 36):
                        await asyncio.sleep(0.003)
                    await asyncio.to_thread(own.kill, "clickhouse")
                    await asyncio.to_thread(own.start, "clickhouse")

            await asyncio.gather(post(1), post(2), post(3), kill())
            assert failures
            assert await counts(store, 1, 2, 3) == dict.fromkeys((1, 2, 3), 12 * 40_000)


async def test_a_server_that_stood_still_stores_once(monkeypatch: pytest.MonkeyPatch) -> None:
    with OwnEngines("clickhouse") as own:
        async with opened(own.urls.clickhouse.rpartition("/")[0] + "/still") as store:
            monkeypatch.setattr(inserting, "INSERT_S", 0.5)
            for round_ in range(5):
                own.pause("clickhouse")
                large = batch(1, 0, count=100_000)
                with pytest.raises(HeliometerError):
                    await store.append(large, [], [receipt(f"{round_}")])
                again = insist(store, large, [], [receipt(f"{round_}")], maybe_duplicate=True)
                retry = asyncio.create_task(again)
                await asyncio.sleep(0.1)
                # From here the first try and its repetition are executed side by side.
                own.resume("clickhouse")
                monkeypatch.setattr(inserting, "INSERT_S", 30)
                await retry
                monkeypatch.setattr(inserting, "INSERT_S", 0.5)
            assert await counts(store, 1) == {1: 500_000}


async def test_a_full_disk_refuses_and_loses_nothing() -> None:
    with OwnEngines(small={"clickhouse": 64 * MIB}) as own:
        async with opened(own.urls.clickhouse.rpartition("/")[0] + "/full") as store:
            stored = 0
            await store.append(batch(1, 0), [], [])
            own.fill("clickhouse")
            random = np.random.default_rng(1)
            for _ in range(5):
                large = batch(1, 0, count=50_000)
                noise = Batch(large.series, large.timestamp, random.random(len(large)))
                try:
                    await store.append(noise, [], [])
                    stored += len(noise)
                except HeliometerError as error:
                    check(error)
            assert await counts(store, 1) == {1: 10 + stored}
            assert stored < 250_000
            own.relieve("clickhouse")
            await insist(store, batch(1, 0), [], [])
            assert await counts(store, 1) == {1: 20 + stored}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda url: url.replace("@", "x@"), "Wrong password"),
        (lambda url: url.replace("://", "://nobody-", 1), "Unknown user"),
        (lambda url: url.rpartition("/")[0] + "/a.b", "database's name"),
        (lambda url: "clickhouse://", "not clickhouse://"),
    ],
)
async def test_what_cannot_be_opened_says_why(url: str, change: object, said: str) -> None:
    assert callable(change)
    secret = urlsplit(url).password or "-"
    with pytest.raises(StoreUnusable, match=said) as refused:
        await ClickHouseStore(MetricSettings(url=change(url))).open()
    assert len(str(refused.value).splitlines()) == 1
    assert secret not in str(refused.value)


async def test_an_unknown_cluster_and_an_absent_server_are_refused(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(StoreUnusable, match="no cluster nowhere"):
        await ClickHouseStore(MetricSettings(url=url, cluster="nowhere")).open()
    monkeypatch.setattr(module, "START_S", 1.5)
    with pytest.raises(StoreUnusable, match=r"127\.0\.0\.1:9, database heliometer"):
        await ClickHouseStore(MetricSettings(url="clickhouse://127.0.0.1:9")).open()


async def test_the_doctor_tells_how_it_is(url: str) -> None:
    def told(url: str) -> dict[str, str]:
        metrics = MetricSettings(url=url)
        found = measurements(
            Settings(metrics=metrics), ServerStatus("http://127.0.0.1:9", has_data_dir=False)
        )
        return {finding.message: finding.level for finding in found}

    before = await asyncio.to_thread(told, url)
    assert any("answers" in message for message in before)
    assert any("the next start creates it" in message for message in before)
    async with opened(url):
        after = await asyncio.to_thread(told, url)
    assert any("has its tables" in message for message in after)
    assert FAIL not in {*before.values(), *after.values()}
    wrong = await asyncio.to_thread(told, url.replace("@", "x@"))
    assert list(wrong.values()) == [FAIL]
    assert str(urlsplit(url).password) not in str(wrong)
