"""Moving house to real engines: all of it arrives, once, whatever happens on the way."""

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import httpx
import numpy as np
import pytest
from test_clickhouse import Proxy

from conftest import RunningServer
from engine_servers import (
    OwnEngines,
    clickhouse,
    clickhouse_database,
    postgresql_database,
    psql,
    rabbitmq_vhost,
)
from eventually import eventually
from heliometer.alarms.model import Outcome
from heliometer.config import Settings, load
from heliometer.identity.accounts import Project
from heliometer.metrics.model import Batch, Series
from heliometer.metrics.receipts import Receipt
from heliometer.metrics.series_ids import shared_id
from heliometer.storage.duckdb.store import DuckDBStore
from heliometer.storage.sql.accounts import SqlAccountStore
from heliometer.storage.sql.alarms import SqlAlarmStore
from heliometer.storage.sql.database import Database

pytestmark = pytest.mark.engines

DAY_MS = 86_400_000
TODAY = int(time.time() * 1000) // DAY_MS
PROJECT = "0" * 31 + "1"
SERIES = [
    Series(i + 1, PROJECT, f"shop{i % 2}", (("host", f"h{i}"), ("unit", "°C"))) for i in range(100)
]


class House:
    """A data directory without a server, and the file that names where it moves to."""

    def __init__(self, folder: Path, resources: str, metrics: str, more: str = "") -> None:
        self.data_dir = folder / "var"
        self.metrics = metrics
        self.resources = resources
        self.config = folder / "to.toml"
        self.config.write_text(
            f'[resources]\nurl = "{resources}"\n[metrics]\nurl = "{metrics}"\n{more}'
        )
        self.rows: list[Batch] = []

    @property
    def settings(self) -> Settings:
        return load(None, {}, {"server.data_dir": str(self.data_dir)})

    async def furnish(self, batches: Sequence[Batch], *, first: bool = True) -> None:
        """Store something, as a server would have, and seal the days that are over."""
        store = DuckDBStore(self.data_dir / "metrics", self.settings.metrics)
        self.data_dir.mkdir(exist_ok=True)
        database = await Database.open(self.settings)
        if first:
            await SqlAccountStore(database).add_project(Project(PROJECT, "shop"), 1, "test")
        await database.close()
        store.open()
        for batch in batches:
            receipts = [Receipt(PROJECT, "key", b"\1" * 16, TODAY * DAY_MS)] if first else []
            await store.append(batch, SERIES if first else [], receipts)
            first = False
            self.rows.append(batch)
        await store.maintain(int(time.time() * 1000))
        await store.close()

    def command(self, *arguments: str) -> list[str]:
        return [
            sys.executable, "-m", "heliometer", "migrate", "--to", str(self.config),
            "--data-dir", str(self.data_dir), *arguments,
        ]  # fmt: skip

    def start(self, *arguments: str) -> "subprocess.Popen[str]":
        environment = {k: v for k, v in os.environ.items() if not k.startswith("HELIOM")}
        return subprocess.Popen(
            self.command(*arguments), text=True, env=environment,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            # A shell has what it starts in the background ignore SIGINT, and all their children.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )  # fmt: skip

    def migrate(self, *arguments: str, status: int = 0) -> str:
        """Run it to its end; what it printed."""
        process = self.start(*arguments)
        output, _ = process.communicate(timeout=300)
        assert process.returncode == status, output
        return output

    def stored(self) -> int:
        return int(clickhouse("SELECT count() FROM measurements WHERE series > 0", self.metrics))

    def stored_or_0(self) -> int:
        try:
            return self.stored()
        except (RuntimeError, httpx.HTTPError):
            return 0

    def wait_for_more(self, process: "subprocess.Popen[str]", than: int) -> None:
        """Until the process has stored something, or has ended."""
        eventually(lambda: process.poll() is not None or self.stored_or_0() > than, pause_s=0.02)

    def check(self) -> None:
        """Compare everything with what was furnished, without the code that is tested."""
        rows = Batch.concatenate(self.rows)
        ids = np.array([0] + [shared_id(s) for s in SERIES], np.int64)
        answer = clickhouse(
            "SELECT series, ts, value FROM measurements WHERE series > 0 "
            "ORDER BY series, ts, value FORMAT TSV",
            self.metrics,
        )
        found = [tuple(line.split("\t")) for line in answer.splitlines()]
        order = np.lexsort((rows.value, rows.timestamp, ids[rows.series]))
        expected = zip(
            ids[rows.series][order].tolist(),
            rows.timestamp[order].tolist(),
            rows.value[order].tolist(),
            strict=True,
        )
        assert [(int(s), int(t), float(v)) for s, t, v in found] == list(expected)


def batch(day: int, count: int, *, series: Sequence[int] = range(1, 101), seed: int = 0) -> Batch:
    """So many measurements of each series on a day, counted back from today; some are equal."""
    random = np.random.default_rng(seed)
    ids = np.repeat(np.array(series, np.int64), count)
    start = (TODAY - day) * DAY_MS
    at = start + np.sort(random.integers(0, DAY_MS // 1000, len(ids))) * 1000
    return Batch(ids, at, np.round(random.normal(20, 5, len(ids)), 1))


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    with postgresql_database(icu="en-US") as resources, clickhouse_database() as metrics:
        yield House(tmp_path, resources, metrics)


async def test_it_arrives_whole_and_what_came_since_is_added_once(house: House) -> None:
    await house.furnish([batch(d, 100, seed=d) for d in (3, 2, 1, 0)])
    output = house.migrate()
    assert "40,000  40,000  equal" in output
    assert "no server runs here: start the new service" in output
    house.check()
    assert psql("select id, name from projects", house.resources) == f"{PROJECT}|shop"
    receipts = clickhouse("SELECT project_id, key, hex(fingerprint) FROM receipts", house.metrics)
    assert receipts == f"{PROJECT}\tkey\t{'01' * 16}"

    assert "copied 0 measurements" in house.migrate()
    house.check()

    # Late ones for series that moved already, among them the very same measurements once more.
    again = Batch(*(column[:50] for column in vars_of(house.rows[0])))
    late = batch(2, 7, series=range(1, 31), seed=99)
    await house.furnish([again, late, batch(0, 20, seed=7)], first=False)
    output = house.migrate()
    assert "copied 2,260 measurements" in output
    assert "an earlier run found equal" in output
    house.check()
    output = house.migrate("--verify")
    assert "42,260  42,260  equal" in output
    assert "an earlier run found equal" not in output
    assert not (house.data_dir / "moving" / "snapshot").exists()


def vars_of(rows: Batch) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return rows.series, rows.timestamp, rows.value


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
async def test_it_goes_on_after_it_was_killed(house: House, number: int) -> None:
    # Many days: a fast machine copies several before the signal arrives.
    await house.furnish([batch(d, 1000, seed=d) for d in range(24)])
    interrupted = 0
    for _ in range(4):
        before = house.stored_or_0()
        process = house.start()
        house.wait_for_more(process, before)
        process.send_signal(number)
        process.communicate(timeout=60)
        interrupted += process.returncode in (-signal.SIGKILL, 130)
    assert interrupted >= 2
    house.migrate()
    assert house.stored() == 2_400_000
    total = float(clickhouse("SELECT sum(value) FROM measurements", house.metrics))
    assert total == pytest.approx(sum(b.value.sum() for b in house.rows), rel=1e-12)
    assert "2,400,000  2,400,000  equal" in house.migrate("--verify")


async def test_the_target_may_die_meanwhile(tmp_path: Path) -> None:
    with OwnEngines("clickhouse", "postgresql") as own:
        house = House(tmp_path, own.urls.postgresql, own.urls.clickhouse)
        await house.furnish([batch(d, 8000, seed=d) for d in (3, 2, 1, 0)])
        process = house.start()
        eventually(lambda: house.stored_or_0() > 600_000 or process.poll() is not None)
        assert process.poll() is None
        own.kill("clickhouse")
        own.start("clickhouse")
        output, _ = process.communicate(timeout=200)
        assert process.returncode == 0, output
        assert "3,200,000  3,200,000  equal" in output
        assert house.stored() == 3_200_000

        own.stop("postgresql")
        assert "start PostgreSQL" in house.migrate(status=1)
        own.start("postgresql")
        house.migrate()


async def test_a_lost_reply_doubles_nothing(house: House) -> None:
    await house.furnish([batch(d, 6000, seed=d) for d in (2, 1)])
    proxy = Proxy(house.metrics)
    async with proxy.running() as through:
        proxy.lose_reply_to = 2
        house.config.write_text(house.config.read_text().replace(house.metrics, through))
        output = await asyncio.to_thread(house.migrate)
    assert "does not store measurements" in output  # it was lost, and is told of
    assert house.stored() == 1_200_000


async def test_other_data_is_not_touched(house: House) -> None:
    await house.furnish([batch(1, 10)])
    (house.data_dir.parent / "other").mkdir()
    other = House(house.data_dir.parent / "other", house.resources, house.metrics)
    await other.furnish([batch(2, 10, seed=5)])
    other.migrate()
    output = house.migrate(status=1)
    assert "is not empty" in output
    assert house.stored() == 1000

    # The resources alone, which came from elsewhere as well.
    psql("update projects set name = 'theirs'", house.resources)
    house.config.write_text(f'[resources]\nurl = "{house.resources}"\n')
    assert "did not come from here" in house.migrate(status=1)
    assert psql("select name from projects", house.resources) == "theirs"
    output = house.migrate("--force")
    assert "The measurements stay" in output
    assert psql("select name from projects", house.resources) == "shop"


async def test_what_differs_is_found(house: House) -> None:
    await house.furnish([batch(d, 10, seed=d) for d in (2, 1)])
    house.migrate()
    psql("update projects set name = 'changed'", house.resources)
    output = house.migrate("--verify", status=1)
    assert "source and target differ" in output
    assert next(line.split() for line in output.splitlines() if "differ" in line) == [
        "projects", "1", "1", "differ",
    ]  # fmt: skip
    # A service may have done that: its work is not thrown away.
    assert "was changed since the last pass" in house.migrate(status=1)
    psql("update projects set name = 'shop'", house.resources)
    house.migrate("--verify")

    series = shared_id(SERIES[0])
    at = (TODAY - 1) * DAY_MS
    clickhouse(f"INSERT INTO measurements VALUES ({series}, {at}, 1)", house.metrics)
    output = house.migrate("--verify", status=1)
    assert "1 series-days differ" in output
    assert "2,000   2,001" in output
    clickhouse(
        f"ALTER TABLE measurements DELETE WHERE series = {series} AND ts >= {at}", house.metrics
    )
    eventually(lambda: clickhouse("SELECT count() FROM system.mutations WHERE NOT is_done") == "0")
    assert "2,000   1,990" in house.migrate("--verify", status=1)
    assert "copied 10 measurements" in house.migrate()
    house.check()
    clickhouse(
        f"ALTER TABLE measurements UPDATE value = value + 1 WHERE series = {series} AND "
        f"ts = {int(house.rows[1].timestamp[0])}",
        house.metrics,
    )
    eventually(lambda: clickhouse("SELECT count() FROM system.mutations WHERE NOT is_done") == "0")
    assert "1 series-days differ" in house.migrate("--verify", status=1)


async def test_two_at_once_are_refused(house: House) -> None:
    await house.furnish([batch(1, 30_000)])
    process = house.start()
    eventually(lambda: house.stored_or_0() > 0 or process.poll() is not None)
    assert process.poll() is None
    os.kill(process.pid, signal.SIGSTOP)
    assert "another migrate is under way" in house.migrate(status=1)
    os.kill(process.pid, signal.SIGCONT)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 0, output


async def test_each_part_of_a_cluster_goes_on_with_the_alarms(house: House) -> None:
    await house.furnish([batch(1, 1)])
    database = await Database.open(house.settings)
    alarms = SqlAlarmStore(database)
    await alarms.commit(Outcome([], b"checkpoint", 60_000))
    await database.close()
    with rabbitmq_vhost() as bus:
        text = house.config.read_text()
        house.config.write_text(f'{text}[bus]\nurl = "{bus}"\npartitions = 3\n')
        house.migrate()
    found = psql("select id, evaluated_at, checkpoint from evaluation order by id", house.resources)
    assert found == "\n".join(f"{i}|60000|\\x{b'checkpoint'.hex()}" for i in (1, 2, 3))


def test_a_server_is_moved_while_it_serves(house: House, tmp_path: Path) -> None:
    quiet = {"HELIOMETER_COLLECTOR_ENABLED": "false"}
    server = RunningServer(house.data_dir, quiet).start()
    now = time.time()

    def post(client: httpx.Client, value: float, at: float, key: str = "") -> None:
        metric = {"namespace": "till", "dimensions": {"city": "Lund"}, "timestamp": int(at),
                  "value": value}  # fmt: skip
        reply = client.post("/v1.1/metrics", json=metric, headers={"Idempotency-Key": key or "-"})
        assert reply.status_code == 204, reply.text

    def total(client: httpx.Client) -> object:
        start = time.strftime("%FT%TZ", time.gmtime(now - 3 * 86400))
        asked = {
            "namespace": "till",
            "statistics": "count,sum",
            "period": "86400",
            "start_time": start,
        }
        reply = client.get("/v1.1/metrics", params=asked)
        assert reply.status_code == 200, reply.text
        return reply.json()

    with server.client() as client:
        token = client.headers["X-Auth-Token"]
        for day in (2, 1):
            post(client, 10.0 + day, now - day * 86400, f"day{day}")
        alarm = client.post(
            "/v1.1/alarms", json={"alarm": {"name": "hot", "expression": "max(till) > 90"}}
        )
        assert alarm.status_code == 201, alarm.text
        answered: list[int] = []
        ended = threading.Event()

        def read() -> None:
            with server.client() as reader:
                while not ended.is_set():
                    answered.append(reader.get("/v1.1/alarms").status_code)

        reading = threading.Thread(target=read)
        reading.start()
        try:
            output = house.migrate()
        finally:
            ended.set()
            reading.join()
        assert set(answered) == {200}
        assert "the server here keeps receiving measurements" in output
        post(client, 13.0, now - 86400 + 1, "late")
        post(client, 14.0, now, "new")
        before = total(client)
        assert str(before).count("14.0") == 1, before
    assert server.stop() == 0
    assert "no server runs here" in house.migrate()

    moved = RunningServer(
        tmp_path / "new",
        {
            **quiet,
            "HELIOMETER_RESOURCES_URL": house.resources,
            "HELIOMETER_METRICS_URL": house.metrics,
        },
    ).start()
    with moved.client(token) as client:  # signed in before the move
        assert total(client) == before
        post(client, 14.0, now, "new")  # a retry whose first reply was lost
        assert total(client) == before
        listed = client.get("/v1.1/alarms").json()["alarms"]
        assert [(a["id"], a["name"]) for a in listed] == [(alarm.json()["alarm"]["id"], "hot")]
        post(client, 95.0, time.time())  # a transition, whose number must be new
        eventually(
            lambda: (
                client.get(f"/v1.1/alarms/{listed[0]['id']}").json()["alarm"]["state"] == "ALARM"
            )
        )
    assert moved.stop() == 0
    # What the new service did since is safe from another pass.
    assert "was changed since the last pass" in house.migrate(status=1)


def test_nothing_to_move_is_said(tmp_path: Path) -> None:
    (tmp_path / "var").mkdir()
    assert "there is nothing to move" in House(tmp_path, "", "").migrate(status=2)
