"""An evaluator over real stores."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from alarms.evaluator_world import PROJECT, FailingMeasurements, FailingStore, World
from heliometer.config import MetricSettings, ServerSettings, Settings
from heliometer.identity.accounts import Project
from heliometer.metrics.series_index import SeriesIndex
from heliometer.storage.sql.accounts import SqlAccountStore
from heliometer.storage.sql.database import Database


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    database = await Database.open(Settings(server=ServerSettings(data_dir=str(tmp_path))))
    await SqlAccountStore(database).add_project(Project(PROJECT, "shop"), 0, "test")
    store = FailingMeasurements(tmp_path / "metrics", MetricSettings(min_free_bytes=0))
    store.answering = asyncio.Event()
    store.answering.set()
    (tmp_path / "metrics").mkdir()
    store.open()
    series_index = SeriesIndex([], 1000)
    made = World(store, series_index, FailingStore(database))
    yield made
    if made.running is not None:
        await made.stop()
    await store.close()
    await database.close()
