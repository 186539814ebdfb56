"""A notifier over a real database, with a clock that tests turn."""

import uuid
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from heliometer.alarms.model import (
    Alarm,
    Finding,
    Outcome,
    SeriesValue,
    State,
    Transition,
    WindowValue,
)
from heliometer.config import NotifySettings, ServerSettings, Settings
from heliometer.identity.accounts import Project
from heliometer.notifications.channels.channel import Sender
from heliometer.notifications.composer import Composer
from heliometer.notifications.dispatcher import Notifier
from heliometer.notifications.model import (
    IN_PROGRESS,
    TEST_MESSAGE,
    Delivery,
    NotificationAddress,
    NotificationMethod,
)
from heliometer.notifications.ports import NotificationStores
from heliometer.storage.sql.accounts import SqlAccountStore
from heliometer.storage.sql.alarms import SqlAlarmStore
from heliometer.storage.sql.database import Database
from heliometer.storage.sql.notification_stores import notification_stores

START_MS = 1_795_000_020_000
PROJECT = "a" * 32


@dataclass
class Office:
    """A project with alarms and methods, and what is told about them."""

    database: Database
    stores: NotificationStores
    alarms: SqlAlarmStore
    now_ms: int = START_MS
    steady_s: float = 0.0
    codes: dict[str, tuple[str, str]] = field(default_factory=dict)

    def notifier(self, senders: Mapping[str, Sender], **settings: Any) -> Notifier:
        """A notifier with these senders."""

        async def make_code(address_id: str) -> tuple[str, str] | None:
            return self.codes.get(address_id)

        return Notifier(
            self.stores.outbox,
            self.stores.methods,
            senders,
            Composer("https://monitoring.example.org", make_code=make_code),
            NotifySettings(**settings),
            lambda: self.now_ms / 1000,
            steady=lambda: self.steady_s,
        )

    def wait(self, seconds: float) -> None:
        """Turn the clock."""
        self.now_ms += int(seconds * 1000)
        self.steady_s += seconds

    async def method(self, type_: str, address: str, *, verified: bool = True) -> str:
        """A notification method's id."""
        method = NotificationMethod(
            str(uuid.uuid4()), PROJECT, "Joe", type_, address, self.now_ms, "key"
        )
        await self.stores.methods.create(method, "joe", 10_000)
        if verified and type_ in ("EMAIL", "SMS"):
            wanted = NotificationAddress(
                str(uuid.uuid4()), PROJECT, type_, address, "Joe", IN_PROGRESS, self.now_ms,
                self.now_ms + 1000,
            )  # fmt: skip
            kept = await self.stores.addresses.put(wanted, "joe", 10_000)
            await self.stores.addresses.verify(kept.id, self.now_ms, "joe")
        return method.id

    async def alarm(self, name: str, *actions: str) -> str:
        """An alarm's id; it tells the methods of ALARM and of OK."""
        alarm = Alarm(
            str(uuid.uuid4()), PROJECT, name, "ns > 1", name, self.now_ms, self.now_ms,
            alarm_actions=actions, ok_actions=actions,
        )  # fmt: skip
        await self.alarms.create(alarm, "joe", 10_000)
        return alarm.id

    async def change(self, alarm_id: str, old: State, new: State) -> None:
        """A transition, with what it queues."""
        window = WindowValue(self.now_ms - 60_000, self.now_ms, 5.0)
        finding = Finding(
            "ns > 1", new is State.ALARM, "max", ">", 1.0, (window,), 1,
            (SeriesValue({"host": "a"}, 5.0),),
        )  # fmt: skip
        change = Transition(alarm_id, self.now_ms, self.now_ms, old, new, False, (finding,))
        assert await self.alarms.commit(Outcome([change])) == []

    async def test_message(self, type_: str, address: str, method_id: str) -> str:
        """A queued test message's id."""
        delivery = Delivery.new(
            TEST_MESSAGE, PROJECT, type_, address, self.now_ms, method_id=method_id,
            payload={"method_name": "Joe", "user_name": "joe", "project_name": "shop"},
        )  # fmt: skip
        await self.stores.outbox.enqueue([delivery])
        return delivery.id

    async def fate(self, delivery_id: str) -> Delivery:
        """What became of a delivery."""
        return await self.stores.log.get(PROJECT, delivery_id)


@pytest.fixture
async def office(tmp_path: Path) -> AsyncIterator[Office]:
    database = await Database.open(Settings(server=ServerSettings(data_dir=str(tmp_path))))
    await SqlAccountStore(database).add_project(Project(PROJECT, "shop"), 0, "test")
    yield Office(database, notification_stores(database), SqlAlarmStore(database))
    await database.close()
