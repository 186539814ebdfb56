"""What the resource store promises of alarms: states, history and outbox change together or not at
all, once, and only what still applies."""

import sqlite3
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event

from heliometer.alarms.model import (
    Alarm,
    AlarmFilter,
    Finding,
    Outcome,
    State,
    Transition,
)
from heliometer.alarms.ports import Superseded
from heliometer.config import ServerSettings, Settings
from heliometer.core.errors import Code, HeliometerError
from heliometer.identity.accounts import Project
from heliometer.notifications.checks import METHOD_DELETED
from heliometer.notifications.model import DeliveryFilter, NotificationMethod
from heliometer.projects.model import ProjectShard, shard_of
from heliometer.storage.sql.accounts import SqlAccountStore
from heliometer.storage.sql.alarms import SqlAlarmStore
from heliometer.storage.sql.database import Database
from heliometer.storage.sql.notification_stores import notification_stores
from resource_databases import KINDS, new_database

U, OK, ALARM = State.UNDETERMINED, State.OK, State.ALARM
SHOP, STOCK = "a" * 32, "b" * 32


class Stores:
    def __init__(self, database: Database) -> None:
        self.database = database
        self.alarms = SqlAlarmStore(database)
        self.notifications = notification_stores(database)

    async def method(self, project: str = SHOP) -> str:
        made = NotificationMethod(
            str(uuid.uuid4()), project, "hook", "WEBHOOK", "https://x.se/", 1, "key"
        )
        await self.notifications.methods.create(made, "joe", 100)
        return made.id

    async def alarm(self, name: str = "n", project: str = SHOP, **fields: Any) -> Alarm:
        made = Alarm(str(uuid.uuid4()), project, name, "ns > 1", "max(ns) > 1", 1, 1, **fields)
        await self.alarms.create(made, "joe", 100)
        return made

    async def state(self, alarm: Alarm) -> State:
        return (await self.alarms.get(alarm.project_id, alarm.id)).state


def change(alarm: Alarm, old: State, new: State, at: int = 1000) -> Transition:
    finding = Finding("ns > 1", True, "max", ">", 1.0, (), 1)
    return Transition(alarm.id, at, at, old, new, False, (finding,))


@pytest.fixture(params=KINDS)
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Settings]:
    with new_database(request.param, tmp_path) as made:
        yield made


@pytest.fixture
async def stores(settings: Settings) -> AsyncIterator[Stores]:
    database = await Database.open(settings)
    accounts = SqlAccountStore(database)
    for project, name in ((SHOP, "shop"), (STOCK, "stock")):
        await accounts.add_project(Project(project, name), 0, "test")
    yield Stores(database)
    await database.close()


async def test_state_history_outbox_and_checkpoint_are_one_commit(stores: Stores) -> None:
    method = await stores.method()
    alarm = await stores.alarm(alarm_actions=(method,))
    assert await stores.alarms.commit(Outcome([change(alarm, U, ALARM)], b"kept", 60_000)) == []
    assert await stores.state(alarm) is ALARM
    (entry,) = await stores.alarms.history(SHOP, alarm.id, None, 10)
    assert entry.transition == change(alarm, U, ALARM)
    assert [d.status for d in entry.deliveries] == ["pending"]
    resumed = await stores.alarms.resume(0)
    assert (resumed.checkpoint, resumed.evaluated_ms) == (b"kept", 60_000)
    assert resumed.changes == {alarm.id: (1000,)}
    assert [a.state for a in resumed.alarms] == [ALARM]


async def test_a_commit_that_fails_leaves_nothing(stores: Stores) -> None:
    alarm = await stores.alarm(alarm_actions=(await stores.method(),))

    def fail(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if "INSERT INTO deliveries" in statement:
            raise sqlite3.OperationalError("disk I/O error")

    engine = stores.database.engine.sync_engine
    event.listen(engine, "before_cursor_execute", fail)
    with pytest.raises(HeliometerError):
        await stores.alarms.commit(Outcome([change(alarm, U, ALARM)], b"new", 60_000))
    event.remove(engine, "before_cursor_execute", fail)
    assert await stores.state(alarm) is U
    assert await stores.alarms.history(SHOP, None, None, 10) == []
    assert (await stores.alarms.resume(0)).evaluated_ms == 0


async def test_what_was_committed_is_not_committed_again(stores: Stores) -> None:
    alarm = await stores.alarm(alarm_actions=(await stores.method(),))
    outcome = Outcome([change(alarm, U, ALARM)])
    assert await stores.alarms.commit(outcome) == []
    assert await stores.alarms.commit(outcome) == [], "it is done: the first answer was lost"
    assert len(await stores.alarms.history(SHOP, None, None, 10)) == 1
    assert len(await stores.notifications.log.list(SHOP, DeliveryFilter(), None, 10)) == 1


async def test_of_what_is_committed_again_the_rest_counts(stores: Stores) -> None:
    """Also where an alarm is back in the state that it came from."""
    method = await stores.method()
    back, on = [
        await stores.alarm(name, state=OK, alarm_actions=(method,)) for name in ("back", "on")
    ]
    first = [
        change(back, OK, ALARM),
        change(back, ALARM, OK, 2000),
        change(on, U, ALARM),
        change(on, OK, ALARM, 2000),
    ]
    assert await stores.alarms.commit(Outcome(first)) == [on.id]
    again = Outcome([*first, change(on, ALARM, OK, 3000)], b"kept", 60_000)
    assert await stores.alarms.commit(again) == []
    for alarm, times in ((back, [2000, 1000]), (on, [3000, 2000])):
        found = await stores.alarms.history(SHOP, alarm.id, None, 10)
        assert [e.transition.at_ms for e in found] == times
    assert len(await stores.notifications.log.list(SHOP, DeliveryFilter(), None, 10)) == 2
    assert (await stores.alarms.resume(0)).checkpoint == b"kept"


async def test_another_transition_to_the_same_state_is_left_out(stores: Stores) -> None:
    alarm = await stores.alarm()
    await stores.alarms.commit(Outcome([change(alarm, U, ALARM)]))
    assert await stores.alarms.commit(Outcome([change(alarm, U, ALARM, 2000)])) == [alarm.id]
    assert len(await stores.alarms.history(SHOP, None, None, 10)) == 1


async def test_two_changes_of_one_alarm_in_one_outcome(stores: Stores) -> None:
    alarm = await stores.alarm()
    changes = [change(alarm, U, ALARM), change(alarm, ALARM, OK, 2000)]
    assert await stores.alarms.commit(Outcome(changes)) == []
    found = await stores.alarms.history(SHOP, alarm.id, None, 10)
    assert [e.transition.new for e in found] == [OK, ALARM]
    assert (await stores.alarms.get(SHOP, alarm.id)).state_since_ms == 2000


async def test_what_does_not_apply_any_more_is_left_out(stores: Stores) -> None:
    gone, off, other = [await stores.alarm(name) for name in ("gone", "off", "other")]
    await stores.alarms.delete(SHOP, gone.id, "joe")
    await stores.alarms.update(replace(off, enabled=False), "joe")
    changes = [change(gone, U, ALARM), change(off, U, ALARM), change(other, OK, ALARM)]
    left_out = await stores.alarms.commit(Outcome(changes))
    assert set(left_out) == {gone.id, off.id, other.id}
    assert await stores.alarms.history(SHOP, None, None, 10) == []
    assert {a.id for a in (await stores.alarms.resume(0)).alarms} == {other.id}


async def test_an_update_keeps_the_state(stores: Stores) -> None:
    alarm = await stores.alarm()
    await stores.alarms.commit(Outcome([change(alarm, U, ALARM)]))
    await stores.alarms.update(replace(alarm, name="other", updated_ms=5), "joe")
    found = await stores.alarms.get(SHOP, alarm.id)
    assert (found.name, found.state, found.state_since_ms) == ("other", ALARM, 1000)


async def test_deleting_a_method_takes_it_out_of_actions_and_what_waits(stores: Stores) -> None:
    method = await stores.method()
    alarm = await stores.alarm(alarm_actions=(method,), ok_actions=(method,))
    await stores.alarms.commit(Outcome([change(alarm, U, ALARM)]))
    await stores.notifications.methods.delete(SHOP, method, "joe", METHOD_DELETED)
    found = await stores.alarms.get(SHOP, alarm.id)
    assert (found.alarm_actions, found.ok_actions) == ((), ())
    (fate,) = (await stores.alarms.history(SHOP, alarm.id, None, 10))[0].deliveries
    assert (fate.status, fate.reason) == ("withheld", "the notification method was deleted")


@pytest.mark.parametrize("field", ["alarm_actions", "ok_actions", "undetermined_actions"])
async def test_actions_must_be_methods_of_the_project(stores: Stores, field: str) -> None:
    mine, theirs = await stores.method(), await stores.method(STOCK)
    fields: dict[str, Any] = {field: (mine, theirs)}
    with pytest.raises(HeliometerError) as refused:
        await stores.alarm(**fields)
    assert refused.value.code is Code.MALFORMED
    assert refused.value.message.startswith(f"{field}[1]: there is no notification method")
    assert await stores.alarms.find(SHOP, AlarmFilter(), None, 10) == []


async def test_projects_do_not_see_each_other(stores: Stores) -> None:
    alarm = await stores.alarm()
    for attempt in (
        stores.alarms.get(STOCK, alarm.id),
        stores.alarms.delete(STOCK, alarm.id, "eve"),
        stores.alarms.update(replace(alarm, project_id=STOCK), "eve"),
        stores.alarms.history(STOCK, alarm.id, None, 10),
        stores.alarms.find(STOCK, AlarmFilter(), alarm.id, 10),
    ):
        with pytest.raises(HeliometerError) as refused:
            await attempt
        assert refused.value.code is Code.NOT_FOUND
    assert await stores.alarms.history(STOCK, None, None, 10) == []


async def test_pages_follow_each_other_and_filters_hold(stores: Stores) -> None:
    made = [await stores.alarm(f"alarm {i}%_", severity=("low", "high")[i % 2]) for i in range(5)]
    ids = sorted(a.id for a in made)  # all of one time: then by id
    seen: list[str] = []
    after = None
    while page := await stores.alarms.find(SHOP, AlarmFilter(), after, 2):
        seen += [a.id for a in page]
        after = page[-1].id
    assert seen == ids
    assert len(await stores.alarms.find(SHOP, AlarmFilter(name="ALARM 3%_"), None, 10)) == 1
    high = AlarmFilter(severities=frozenset({"high"}))
    assert len(await stores.alarms.find(SHOP, high, None, 10)) == 2


async def test_too_many_alarms_are_refused(stores: Stores) -> None:
    alarm = await stores.alarm()
    with pytest.raises(HeliometerError) as refused:
        await stores.alarms.create(replace(alarm, id="x", name="y"), "joe", 1)
    assert refused.value.code is Code.RATE_LIMITED


async def test_names_are_found_whatever_their_case(stores: Stores) -> None:
    for name in ("Größe ÄÖ 100%", "ΟΔΟΣ", "plain_"):
        await stores.alarm(name)
    for part, number in (("GRÖSSE", 0), ("größe äö 100%", 1), ("ÄÖ", 1), ("οδο", 1), ("n_", 1)):
        found = await stores.alarms.find(SHOP, AlarmFilter(name=part), None, 10)
        assert len(found) == number, part


async def test_what_a_lookup_names_may_be_any_text(stores: Stores) -> None:
    alarm = await stores.alarm()
    for wrong in (alarm.id + "\0", "\0", "x" * 5000):
        with pytest.raises(HeliometerError) as refused:
            await stores.alarms.get(SHOP, wrong)
        assert refused.value.code is Code.NOT_FOUND
        await stores.alarms.find(SHOP, AlarmFilter(name=wrong), None, 10)


async def test_who_takes_over_is_the_only_one_to_commit(stores: Stores) -> None:
    alarm = await stores.alarm(alarm_actions=(await stores.method(),))
    first = await stores.alarms.resume(0)
    await stores.alarms.commit(Outcome([], b"first", 60_000), fencing_token=first.fencing_token)
    second = await stores.alarms.resume(0)
    assert second.fencing_token > first.fencing_token
    assert (second.checkpoint, second.evaluated_ms) == (b"first", 60_000)
    for outcome in (Outcome([change(alarm, U, ALARM)], b"late", 120_000), Outcome([])):
        with pytest.raises(Superseded):
            await stores.alarms.commit(outcome, fencing_token=first.fencing_token)
    assert await stores.state(alarm) is U
    assert await stores.alarms.history(SHOP, None, None, 10) == []
    await stores.alarms.commit(
        Outcome([change(alarm, U, OK)], b"second"), fencing_token=second.fencing_token
    )
    assert await stores.state(alarm) is OK
    assert (await stores.alarms.resume(0)).checkpoint == b"second"


async def test_a_share_has_its_own_alarms_and_checkpoint(stores: Stores) -> None:
    parts = 5
    mine, theirs = (
        ProjectShard(shard_of(SHOP, parts), parts),
        ProjectShard(shard_of(STOCK, parts), parts),
    )
    assert mine != theirs
    shop, stock = await stores.alarm(), await stores.alarm(project=STOCK)
    await stores.alarms.commit(Outcome([change(shop, U, OK), change(stock, U, OK, 2000)]))
    owners = [await stores.alarms.resume(0, share) for share in (mine, theirs)]
    assert [[a.id for a in owner.alarms] for owner in owners] == [[shop.id], [stock.id]]
    assert [o.changes for o in owners] == [{shop.id: (1000,)}, {stock.id: (2000,)}]
    await stores.alarms.commit(Outcome([], b"mine", 60_000), mine, owners[0].fencing_token)
    await stores.alarms.commit(Outcome([], b"theirs", 120_000), theirs, owners[1].fencing_token)
    again = [await stores.alarms.resume(0, share) for share in (mine, theirs)]
    assert [(o.checkpoint, o.evaluated_ms) for o in again] == [
        (b"mine", 60_000),
        (b"theirs", 120_000),
    ]
    nobody = next(
        ProjectShard(i, parts) for i in range(parts) if ProjectShard(i, parts) not in (mine, theirs)
    )
    assert (await stores.alarms.resume(0, nobody)).alarms == []


async def test_a_commit_of_an_unknown_owner_is_refused(stores: Stores) -> None:
    with pytest.raises(Superseded):
        await stores.alarms.commit(Outcome([]), ProjectShard(3, 8), fencing_token=1)


async def test_a_database_of_the_version_before_is_upgraded(tmp_path: Path) -> None:
    settings = Settings(server=ServerSettings(data_dir=str(tmp_path)))
    database = await Database.open(settings)
    await SqlAccountStore(database).add_project(Project(SHOP, "shop"), 0, "test")
    await database.close()
    with closing(sqlite3.connect(tmp_path / "resources.sqlite")) as old, old:
        old.execute("PRAGMA foreign_keys = OFF")
        for table in (
            "custom_meters", "subscriptions", "endpoints", "deliveries", "validation_codes",
            "notification_addresses",
            "alarm_actions", "notification_methods", "transitions", "alarms",
            "evaluation", "uses", "secret_key", "invitations",
        ):  # fmt: skip
            old.execute(f"DROP TABLE {table}")
        old.execute("DROP INDEX ix_audit_at")
        old.execute("ALTER TABLE users DROP COLUMN is_operator")
        old.execute("UPDATE alembic_version SET version_num = '0001'")
    database = await Database.open(settings)
    assert await SqlAccountStore(database).find_project("shop") is not None
    await Stores(database).alarm()
    await database.close()
