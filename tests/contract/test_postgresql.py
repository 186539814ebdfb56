"""What several processes on one PostgreSQL may do to each other, and what becomes of them when it
stops, restarts or goes away."""

import asyncio
import re
import time
import uuid
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import text

from engine_servers import OwnEngines, postgresql_database, psql
from heliometer.alarms.model import Alarm, Outcome, State, Transition
from heliometer.alarms.ports import Superseded
from heliometer.config import ResourceSettings, Settings, WrongSetting
from heliometer.core.errors import Code, HeliometerError
from heliometer.core.server_status import ServerStatus
from heliometer.feed.model import Endpoint, Subscription
from heliometer.identity.accounts import Project, Token, User
from heliometer.meters.model import CustomMeter, Put, Quota
from heliometer.notifications.model import (
    EMAIL,
    IN_PROGRESS,
    PENDING,
    TEST_MESSAGE,
    Delivery,
    NotificationAddress,
    NotificationMethod,
    Settlement,
    ValidationCode,
)
from heliometer.notifications.ports import Outbox
from heliometer.storage.sql import postgresql_doctor
from heliometer.storage.sql.accounts import SqlAccountStore
from heliometer.storage.sql.alarms import SqlAlarmStore
from heliometer.storage.sql.database import Database
from heliometer.storage.sql.feed import SqlFeedStore
from heliometer.storage.sql.meters import SqlMeterStore
from heliometer.storage.sql.migrate import UnusableDatabase
from heliometer.storage.sql.notification_stores import notification_stores
from heliometer.storage.sql.tokens import SqlTokenStore

pytestmark = pytest.mark.engines
SHOP = "a" * 32
U, OK, ALARM = State.UNDETERMINED, State.OK, State.ALARM
NOBODY = ServerStatus("http://127.0.0.1:1", has_data_dir=False)
JOE = User("b" * 32, "joe", "hash 1")


def settings_at(url: str, connections: int = 10) -> Settings:
    return Settings(resources=ResourceSettings(url=url, connections=connections))


@pytest.fixture(scope="module")
def database_url() -> Iterator[str]:
    with postgresql_database() as url:
        yield url


@pytest.fixture
def url(database_url: str) -> str:
    """A database with nothing in it; its tables are made once."""
    psql("DROP SCHEMA public CASCADE; CREATE SCHEMA public", database_url)
    return database_url


@asynccontextmanager
async def two_ways(url: str) -> AsyncIterator[tuple[Database, Database]]:
    """Two processes' ways to one database, with a project in it."""
    opened = [await Database.open(settings_at(url)) for _ in range(2)]
    await SqlAccountStore(opened[0]).add_first(Project(SHOP, "shop"), JOE, "admin", 1)
    yield opened[0], opened[1]
    for database in opened:
        await database.close()


@pytest.fixture
async def two(url: str) -> AsyncIterator[tuple[Database, Database]]:
    async with two_ways(url) as opened:
        yield opened


def delivery(number: int, alarm: str | None = None, transition: int | None = None) -> Delivery:
    made = Delivery.new(TEST_MESSAGE, SHOP, "WEBHOOK", "https://x.se/", number, method_id="m")
    return replace(made, alarm_id=alarm, transition_id=transition)


def alarm(name: str = "n") -> Alarm:
    return Alarm(str(uuid.uuid4()), SHOP, name, "ns > 1", "max(ns) > 1", 1, 1)


def refusals(results: Sequence[object]) -> list[Code]:
    """The codes of those that were refused; what else was raised is raised."""
    for result in results:
        if isinstance(result, BaseException) and not isinstance(result, HeliometerError):
            raise result
    return [result.code for result in results if isinstance(result, HeliometerError)]


# -- work that is claimed -------------------------------------------------------------------------


async def test_no_message_is_claimed_twice(two: tuple[Database, Database]) -> None:
    stores = [notification_stores(database).outbox for database in two]
    queued = [delivery(i) for i in range(300)]
    await stores[0].enqueue(queued)

    async def claim_all(store: Outbox) -> list[str]:
        mine: list[str] = []
        while taken := await store.claim(1000, 60_000, 7):
            mine += [d.id for d in taken]
            await asyncio.sleep(0)
        return mine

    claimed = await asyncio.gather(*(claim_all(stores[i % 2]) for i in range(8)))
    ids = [i for mine in claimed for i in mine]
    assert len(ids) == len(set(ids))
    # What was skipped because another was at it is still due for whoever asks next.
    ids += await claim_all(stores[0])
    assert sorted(ids) == sorted(d.id for d in queued)
    assert len([mine for mine in claimed if mine]) > 1
    await stores[1].release_claims()
    assert await stores[1].claim(1000, 60_000, 10) == []
    assert len(await stores[1].claim(70_000, 60_000, 1000)) == 300


async def test_messages_of_an_alarm_keep_their_order(two: tuple[Database, Database]) -> None:
    stores = [notification_stores(database).outbox for database in two]
    await stores[0].enqueue([delivery(0, f"alarm {i % 5}", i) for i in range(60)])
    seen: list[Delivery] = []

    async def work(store: Outbox) -> None:
        while len(seen) < 60:
            for taken in await store.claim(1000, 60_000, 3):
                seen.append(taken)
                await asyncio.sleep(0.001)
                await store.settle([Settlement(taken.id, "delivered", "")], 1000)

    async with asyncio.timeout(60):
        await asyncio.gather(*(work(stores[i % 2]) for i in range(6)))
    for i in range(5):
        order = [d.transition_id for d in seen if d.alarm_id == f"alarm {i}"]
        assert order == sorted(set(order), key=lambda n: n or 0)
        assert len(order) == 12


async def test_who_claims_does_not_wait_for_others(two: tuple[Database, Database]) -> None:
    store = notification_stores(two[1]).outbox
    queued = [delivery(i) for i in range(3)]
    await store.enqueue(queued)
    async with two[0].write() as connection:
        held = text("SELECT id FROM deliveries WHERE id = :id FOR UPDATE")
        await connection.execute(held, {"id": queued[1].id})
        async with asyncio.timeout(20):
            taken = await store.claim(1000, 60_000, 10)
    assert [d.id for d in taken] == [queued[0].id, queued[2].id]


async def test_settling_while_methods_and_alarms_go_is_no_deadlock(url: str) -> None:
    # A deadlock is broken up, and what lost is tried again: so late that it cannot be overlooked.
    psql(f"ALTER DATABASE {url.rpartition('/')[2]} SET deadlock_timeout = '60s'", url)
    async with two_ways(url) as two:
        await settle_while_methods_and_alarms_go(two)


async def settle_while_methods_and_alarms_go(two: tuple[Database, Database]) -> None:
    first, second = (notification_stores(database).outbox for database in two)
    alarms = SqlAlarmStore(two[1])
    for turn in range(5):
        made = [alarm(f"{turn} {i}") for i in range(10)]
        for each in made:
            await alarms.create(each, "joe", 1000)
        queued = [replace(delivery(0), alarm_id=made[i % 10].id) for i in range(200)]
        await first.enqueue(queued)
        settling = asyncio.gather(
            first.settle([Settlement(d.id, "delivered", "") for d in queued], 1),
            first.defer([d.id for d in reversed(queued)], 5),
            second.settle([Settlement(d.id, PENDING, "later", 7) for d in reversed(queued)], 1),
            *(alarms.delete(SHOP, each.id, "joe") for each in made),
        )
        await asyncio.wait_for(settling, 30)


# -- who comes second -----------------------------------------------------------------------------


async def test_an_alarm_is_made_once_and_limits_hold(two: tuple[Database, Database]) -> None:
    stores = [SqlAlarmStore(database) for database in two]
    same = await asyncio.gather(
        *(stores[i % 2].create(alarm("same"), "joe", 100) for i in range(20)),
        return_exceptions=True,
    )
    assert refusals(same) == [Code.CONFLICT] * 19
    many = await asyncio.gather(
        *(stores[i % 2].create(alarm(f"other {i}"), "joe", 8) for i in range(20)),
        return_exceptions=True,
    )
    assert refusals(many) == [Code.RATE_LIMITED] * 13


async def test_who_loses_a_race_is_told_so(two: tuple[Database, Database]) -> None:
    """Even to one who does not lock as we do: the unique index decides, after our own look."""
    made, store = alarm("same"), SqlAlarmStore(two[1])
    await store.create(made, "joe", 100)
    async with two[0].write() as connection:
        await connection.execute(text("UPDATE alarms SET name = 'other'"))
        await connection.execute(text("UPDATE alarms SET name = 'new'"))
        racing = asyncio.create_task(store.create(alarm("new"), "joe", 100))
        await asyncio.sleep(0.3)
        assert not racing.done()
    with pytest.raises(HeliometerError) as caught:
        await racing
    assert caught.value.code is Code.CONFLICT


async def test_renaming_two_alarms_to_one_name_is_a_conflict(
    two: tuple[Database, Database],
) -> None:
    stores = [SqlAlarmStore(database) for database in two]
    made = [alarm(f"{i}") for i in range(10)]
    for each in made:
        await stores[0].create(each, "joe", 100)
    renamed = await asyncio.gather(
        *(stores[i % 2].update(replace(a, name="same"), "joe") for i, a in enumerate(made)),
        return_exceptions=True,
    )
    assert refusals(renamed) == [Code.CONFLICT] * 9


async def test_methods_and_addresses_are_counted(two: tuple[Database, Database]) -> None:
    stores = [notification_stores(database) for database in two]

    def method() -> NotificationMethod:
        return NotificationMethod(str(uuid.uuid4()), SHOP, "m", "WEBHOOK", "https://x.se/", 1, "")

    def address(name: str) -> NotificationAddress:
        return NotificationAddress(str(uuid.uuid4()), SHOP, EMAIL, name, "a", IN_PROGRESS, 1, 2)

    made = await asyncio.gather(
        *(stores[i % 2].methods.create(method(), "joe", 5) for i in range(20)),
        return_exceptions=True,
    )
    assert refusals(made) == [Code.RATE_LIMITED] * 15
    same = await asyncio.gather(
        *(stores[i % 2].addresses.put(address("a@x.se"), "joe", 5) for i in range(20))
    )
    assert len({a.id for a in same}) == 1
    many = await asyncio.gather(
        *(stores[i % 2].addresses.put(address(f"{i}@x.se"), "joe", 5) for i in range(20)),
        return_exceptions=True,
    )
    assert refusals(many) == [Code.RATE_LIMITED] * 16


async def test_one_endpoint_and_one_subscription_of_a_kind(two: tuple[Database, Database]) -> None:
    stores = [SqlFeedStore(database) for database in two]
    endpoints = [Endpoint(str(uuid.uuid4()), SHOP, "x", 1) for _ in range(20)]
    made = await asyncio.gather(
        *(stores[i % 2].create_endpoint(e, "joe") for i, e in enumerate(endpoints)),
        return_exceptions=True,
    )
    assert refusals(made) == [Code.CONFLICT] * 19
    (endpoint,) = await stores[0].list_endpoints(SHOP)

    def subscription(namespace: str) -> Subscription:
        return Subscription(str(uuid.uuid4()), endpoint.id, SHOP, namespace, (("a", "b"),), 1)

    same = await asyncio.gather(
        *(stores[i % 2].create_subscription(subscription("n"), "joe", 5) for i in range(20)),
        return_exceptions=True,
    )
    assert refusals(same) == [Code.CONFLICT] * 19
    many = await asyncio.gather(
        *(stores[i % 2].create_subscription(subscription(f"n{i}"), "joe", 5) for i in range(20)),
        return_exceptions=True,
    )
    assert refusals(many) == [Code.RATE_LIMITED] * 16
    gone = await asyncio.gather(
        *(stores[i % 2].create_subscription(subscription(f"m{i}"), "joe", 99) for i in range(9)),
        stores[0].delete_endpoint(SHOP, endpoint.id, "joe"),
        return_exceptions=True,
    )
    assert set(refusals(gone)) <= {Code.MALFORMED}
    assert await stores[1].list_subscriptions(SHOP) == []


async def test_samples_of_a_meter_are_counted_once_each(two: tuple[Database, Database]) -> None:
    stores = [SqlMeterStore(database) for database in two]
    quota = Quota(meters=3, active=30, samples=10)
    day = 86_400_000 * 20_000

    def meter(name: str) -> CustomMeter:
        return CustomMeter(str(uuid.uuid4()), SHOP, "n", "r", name, "gauge", "", "", day)

    made = [meter(f"{i}") for i in range(20)]
    taken = await asyncio.gather(
        *(stores[i % 2].take(SHOP, [m], [], quota, day, "joe") for i, m in enumerate(made)),
        return_exceptions=True,
    )
    assert refusals(taken) == [Code.MALFORMED] * 17
    (first, *_) = await stores[0].list_meters(SHOP)
    put = await asyncio.gather(
        *(stores[i % 2].take(SHOP, [], [Put(first.id, 1)], quota, day, "joe") for i in range(20)),
        return_exceptions=True,
    )
    assert refusals(put) == [Code.MALFORMED] * 10
    await stores[0].give_back([], [Put(first.id, 99)])
    await stores[1].take(SHOP, [], [Put(first.id, 10)], quota, day, "joe")


async def test_a_hundred_racers_use_a_code_once(two: tuple[Database, Database]) -> None:
    stores = [notification_stores(database) for database in two]
    made = NotificationAddress(str(uuid.uuid4()), SHOP, EMAIL, "a@x.se", "a", IN_PROGRESS, 1, 2)
    address = await stores[0].addresses.put(made, "joe", 5)
    assert await stores[0].codes.add(ValidationCode(address.id, "s", b"long", 99), 3)
    won = await asyncio.gather(
        *(stores[i % 2].addresses.verify(address.id, 5, "joe") for i in range(100))
    )
    assert sorted(won) == [False] * 99 + [True]


async def test_wrong_codes_are_all_counted(two: tuple[Database, Database]) -> None:
    stores = [notification_stores(database) for database in two]
    for name in ("a", "b"):
        made = NotificationAddress(
            str(uuid.uuid4()), SHOP, EMAIL, f"{name}@x.se", "a", IN_PROGRESS, 1, 2
        )
        address = await stores[0].addresses.put(made, "joe", 5)
        for i in range(3):
            await stores[0].codes.add(ValidationCode(address.id, f"{i}", b"", 99), 3)
    await asyncio.gather(*(stores[i % 2].codes.count_failure(SHOP, 100) for i in range(30)))
    assert {code.failures for code in await stores[0].codes.valid(SHOP, 5)} == {30}
    await asyncio.gather(*(stores[i % 2].codes.count_failure(SHOP, 31) for i in range(3)))
    assert await stores[1].codes.valid(SHOP, 5) == []


async def test_no_token_outlives_what_it_was_earned_with(two: tuple[Database, Database]) -> None:
    """While passwords change, sign-ins with the old one leave no token behind."""
    accounts = SqlAccountStore(two[0])
    tokens = SqlTokenStore(two[1])
    for turn in range(20):
        old, new = f"hash {turn + 1}", f"hash {turn + 2}"
        made = [
            Token(uuid.uuid4().bytes, JOE.id, None, ("password",), 1, 9_000, ("x",))
            for _ in range(10)
        ]
        await asyncio.gather(
            *(tokens.add(token, password_hash=old, parent=None) for token in made[:5]),
            accounts.set_password_hash(JOE, new, 1, "joe"),
            *(tokens.add(token, password_hash=old, parent=None) for token in made[5:]),
        )
        assert [t for t in made if await tokens.find(t.digest) is not None] == []


async def test_no_token_outlives_its_parent_and_all_others(two: tuple[Database, Database]) -> None:
    first, second = (SqlTokenStore(database) for database in two)

    def token() -> Token:
        return Token(uuid.uuid4().bytes, JOE.id, None, ("token",), 1, 9_000, ("x",))

    for _ in range(20):
        parent, children = token(), [token() for _ in range(10)]
        assert await first.add(parent, password_hash=None, parent=None)
        await asyncio.gather(
            *(first.add(c, password_hash=None, parent=parent.digest) for c in children[:5]),
            second.remove_all(JOE.id),
            *(first.add(c, password_hash=None, parent=parent.digest) for c in children[5:]),
        )
        assert [c for c in children if await second.find(c.digest) is not None] == []


# -- evaluators -----------------------------------------------------------------------------------


def change(of: Alarm, old: State, new: State, at: int = 1000) -> Transition:
    return Transition(of.id, at, at, old, new, False, ())


async def test_a_transition_of_many_evaluators_is_recorded_once(
    two: tuple[Database, Database],
) -> None:
    stores = [SqlAlarmStore(database) for database in two]
    made = [alarm(f"{i}") for i in range(50)]
    for each in made:
        await stores[0].create(each, "joe", 100)
    outcomes = [Outcome([change(each, U, ALARM, at=1000 + i) for each in made]) for i in range(8)]
    backwards = [Outcome(list(reversed(outcome.transitions))) for outcome in outcomes]
    left_out = await asyncio.gather(
        *(stores[i % 2].commit((outcomes if i % 2 else backwards)[i]) for i in range(8))
    )
    assert sorted(map(len, left_out)) == [0] + [50] * 7
    assert len(await stores[0].history(SHOP, None, None, 1000)) == 50


async def test_the_old_owner_is_fenced_off(two: tuple[Database, Database]) -> None:
    """While one commits as fast as it can, another takes over: from its first word on nothing of
    the old one is recorded, and what was, it knows."""
    old, new = (SqlAlarmStore(database) for database in two)
    made = alarm()
    await old.create(made, "joe", 100)
    token = (await old.resume(0)).fencing_token
    committed = 0

    async def work() -> None:
        nonlocal committed
        state = U
        while True:
            following = OK if state is ALARM else ALARM
            await old.commit(
                Outcome([change(made, state, following)], b"%d" % (committed + 1)),
                fencing_token=token,
            )
            committed += 1
            state = following

    working = asyncio.create_task(work())
    await asyncio.sleep(0.3)
    resumed = await new.resume(0)
    with pytest.raises(Superseded):
        await working
    assert committed > 5
    assert resumed.checkpoint == b"%d" % committed
    assert len(resumed.changes[made.id]) == min(committed, 101)
    assert [a.state for a in resumed.alarms] == [ALARM if committed % 2 else OK]
    assert len(await new.history(SHOP, None, None, 10_000)) == committed


async def test_every_take_over_has_a_fencing_token_of_its_own(
    two: tuple[Database, Database],
) -> None:
    stores = [SqlAlarmStore(database) for database in two]
    resumed = await asyncio.gather(*(stores[i % 2].resume(0) for i in range(20)))
    assert sorted(r.fencing_token for r in resumed) == list(range(1, 21))


async def test_what_is_queued_while_its_method_goes_is_withheld(
    two: tuple[Database, Database],
) -> None:
    alarms, notifications = SqlAlarmStore(two[0]), notification_stores(two[1])
    for turn in range(20):
        method = NotificationMethod(str(uuid.uuid4()), SHOP, "m", "WEBHOOK", "https://x.se/", 1, "")
        await notifications.methods.create(method, "joe", 100)
        made = replace(alarm(f"{turn}"), alarm_actions=(method.id,))
        await alarms.create(made, "joe", 100)
        await asyncio.gather(
            alarms.commit(Outcome([change(made, U, ALARM)])),
            notifications.methods.delete(SHOP, method.id, "joe", "gone"),
        )
    assert await notifications.outbox.next_due_ms() is None


# -- the server -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ("postgresql://joe:s3cret@host", "names no database"),
        ("postgresql://joe:s3cret@host/", "names no database"),
        ("postgresql://joe:s3/cret@host/db", "percent-encoded"),
        ("postgresql://joe:s3#cret@host/db", "percent-encoded"),
        ("postgresql://joe:s3?cret@host/db", "percent-encoded"),
        ("postgresql://joe:s3@cret@host/db", "percent-encoded"),
        ("postgresql://joe:s3cret@host:x/db", "a port must be"),
        ("postgresql://joe:s3cret@[::1/db", "host cannot be read"),
        ("postgresql://joe:s3cret@host/db?sslmode=maybe", "sslmode must be one of"),
        ("postgresql://joe:s3cret@host/db?pool_size=5", "'pool_size' is no option"),
        ("postgresql:joe:s3cret@host/db", "does not begin with"),
        ("postgresql", "does not begin with"),
    ],
)
async def test_wrong_urls_are_told_without_the_password(wrong: str, why: str) -> None:
    with pytest.raises(WrongSetting, match=why) as caught:
        await Database.open(settings_at(wrong))
    assert "resources.url" in str(caught.value)
    assert not any(part in str(caught.value) for part in ("s3", "cret", "\n"))


@pytest.mark.parametrize(
    "spelling", ["postgresql+asyncpg://", "postgresql+psycopg://", "postgresql://"]
)
@pytest.mark.parametrize("options", ["?ssl=disable", "?sslmode=prefer", ""])
async def test_urls_for_other_drivers_are_understood(url: str, spelling: str, options: str) -> None:
    database = await Database.open(settings_at(url.replace("postgresql://", spelling, 1) + options))
    await database.ping()
    await database.close()


async def test_what_cannot_be_reached_is_told_without_the_password(url: str) -> None:
    user, _, rest = url.partition("@")
    at = user.rindex(":")
    password = user[at + 1 :]
    for wrong, why in (
        (f"{user[:at]}:wr0ng@{rest}", "password authentication failed.*createuser"),
        (f"{user}@{rest.rpartition('/')[0]}/nowhere", "does not exist.*createdb"),
        (f"{user}@127.0.0.1:1/db", "(refused|failed).*start PostgreSQL"),
        (f"{user}@nowhere.invalid/db", "start PostgreSQL"),
        (f"{user}@{rest}?sslmode=require", "start PostgreSQL"),
    ):
        with pytest.raises(UnusableDatabase, match=why) as caught:
            await Database.open(settings_at(wrong))
        message = str(caught.value)
        assert message.startswith("cannot use the resource database postgresql://")
        assert password not in message
        assert "wr0ng" not in message
        assert "\n" not in message


async def test_a_database_of_another_encoding_is_refused() -> None:
    psql("CREATE DATABASE test_latin TEMPLATE template0 ENCODING 'LATIN1' LOCALE 'C'")
    try:
        with postgresql_database() as other:
            wrong = f"{other.rpartition('/')[0]}/test_latin"
            with pytest.raises(UnusableDatabase, match="encoding is LATIN1"):
                await Database.open(settings_at(wrong))
    finally:
        psql("DROP DATABASE test_latin WITH (FORCE)")


async def test_who_migrates_at_once_takes_turns(url: str) -> None:
    """One waits while another migrates, and sees what that did."""
    database = await Database.open(settings_at(url))
    async with database.write() as connection:
        await connection.execute(text("SELECT pg_advisory_xact_lock(x'68656c696f'::bigint)"))
        waiting = asyncio.create_task(Database.open(settings_at(url)))
        await asyncio.sleep(0.5)
        assert not waiting.done()
        await connection.execute(text("UPDATE alembic_version SET version_num = 'future'"))
    with pytest.raises(UnusableDatabase, match="newer version"):
        await waiting
    await database.close()


async def test_the_version_before_goes_on_while_the_tables_are_upgraded(url: str) -> None:
    """What 0.x wrote without the columns of later migrations can be read, and it may go on."""
    database = await Database.open(settings_at(url))
    async with database.write() as connection:
        await connection.execute(text("ALTER TABLE evaluation DROP COLUMN epoch"))
        for table in ("uses", "secret_key", "invitations"):
            await connection.execute(text(f"DROP TABLE {table}"))
        await connection.execute(text("ALTER TABLE users DROP COLUMN is_operator"))
        await connection.execute(text("DROP INDEX ix_audit_at"))
        await connection.execute(text("UPDATE alembic_version SET version_num = '0005'"))
        await connection.execute(text("INSERT INTO evaluation VALUES (1, 60000, 'kept')"))
    newer = await Database.open(settings_at(url))
    async with database.write() as connection:
        old = "UPDATE evaluation SET evaluated_at = 120000"
        await connection.execute(text(old))
    resumed = await SqlAlarmStore(newer).resume(0)
    assert (resumed.checkpoint, resumed.evaluated_ms, resumed.fencing_token) == (
        b"kept",
        120_000,
        1,
    )
    await database.close()
    await newer.close()


async def test_commits_are_durable_even_where_that_is_switched_off(url: str) -> None:
    name = url.rpartition("/")[2]
    psql(f"ALTER DATABASE {name} SET synchronous_commit = off", url)
    try:
        database = await Database.open(settings_at(url))
        async with database.write() as connection:
            found = await connection.execute(text("SHOW synchronous_commit"))
            assert found.scalar_one() == "on"
        await database.close()
    finally:
        psql(f"ALTER DATABASE {name} RESET synchronous_commit", url)


async def test_backup_is_the_operators(two: tuple[Database, Database], tmp_path: Path) -> None:
    with pytest.raises(HeliometerError, match="PostgreSQL") as caught:
        await two[0].backup(tmp_path / "copy")
    assert caught.value.code is Code.CONFLICT
    assert "pg_dump" in caught.value.details


def test_the_doctor_knows_the_database(url: str) -> None:
    def told(settings: Settings) -> str:
        return "\n".join(f.line() for f in postgresql_doctor.postgresql(settings, NOBODY))

    password = url.rpartition("@")[0].rpartition(":")[2]
    assert "no tables yet" in told(settings_at(url))
    asyncio.run(opened_and_closed(url))
    assert "up to date" in told(settings_at(url))
    name = url.rpartition("/")[2]
    for change, expected in (
        ("synchronous_commit = off", "durable all the same"),
        ("default_transaction_read_only = on", "FAIL.*takes no writes"),
    ):
        psql(f"ALTER DATABASE {name} SET {change}", url)
        found = told(settings_at(url))
        assert re.search(expected, found), found
        psql(f"ALTER DATABASE {name} RESET ALL")
    psql("UPDATE alembic_version SET version_num = '0001'", url)
    assert "warn  resources" in told(settings_at(url))
    psql("UPDATE alembic_version SET version_num = '9999'", url)
    assert re.search("FAIL.*newer version", told(settings_at(url)))
    assert re.search("FAIL.*allows [0-9]+ connections", told(settings_at(url, 1000)))
    wrong = (
        url.replace(password, "wr0ng"),
        url.replace(":15432", ":1"),
        f"postgresql://joe:{password}/x@host/db",
    )
    for each in (url, *wrong):
        assert "wr0ng" not in told(settings_at(each))
        assert password not in told(settings_at(each))
        assert each == url or told(settings_at(each)).startswith("FAIL")


async def opened_and_closed(url: str) -> None:
    await (await Database.open(settings_at(url))).close()


async def test_what_is_too_long_is_refused_and_not_tried_again(
    two: tuple[Database, Database],
) -> None:
    with pytest.raises(HeliometerError) as caught:
        await SqlAlarmStore(two[0]).create(alarm("x" * 251), "joe", 100)
    assert caught.value.code is Code.INVALID
    with pytest.raises(HeliometerError) as caught:
        await SqlAlarmStore(two[0]).history(SHOP, None, 2**70, 10)
    assert caught.value.code is Code.INVALID


async def test_connections_that_the_server_closed_are_made_anew(url: str) -> None:
    database = await Database.open(settings_at(url, 4))
    await asyncio.gather(*(database.ping() for _ in range(20)))
    psql(
        "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity "
        f"WHERE datname = '{url.rpartition('/')[2]}' AND pid <> pg_backend_pid()"
    )
    await asyncio.sleep(0.2)
    await asyncio.gather(*(database.ping() for _ in range(20)))
    await database.close()


async def test_who_is_cancelled_leaves_no_connection_behind(url: str) -> None:
    database = await Database.open(settings_at(url, 2))
    for delay in (0.0, 0.001, 0.005, 0.02) * 5:

        async def dawdle() -> None:
            async with database.write() as connection:
                await connection.execute(text("SELECT pg_sleep(60)"))

        tasks = [asyncio.create_task(dawdle()) for _ in range(3)]
        await asyncio.sleep(delay)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    async with asyncio.timeout(5):
        await database.ping()
    await database.close()


@asynccontextmanager
async def within(seconds: float) -> AsyncIterator[None]:
    started = time.monotonic()
    yield
    assert time.monotonic() - started < seconds


async def test_a_frozen_server_is_unavailable_and_then_works_again() -> None:
    with OwnEngines("postgresql") as own:
        database = await Database.open(settings_at(own.urls.postgresql, 3))
        await asyncio.gather(*(database.ping() for _ in range(3)))
        await asyncio.to_thread(own.pause, "postgresql")
        try:
            async with within(10):
                frozen = await asyncio.gather(
                    *(database.ping() for _ in range(12)), return_exceptions=True
                )
            assert refusals(frozen) == [Code.UNAVAILABLE] * 12
            async with within(10):
                with pytest.raises(HeliometerError):
                    await database.ping()
            async with within(10):
                with pytest.raises(UnusableDatabase, match="no answer in time"):
                    await Database.open(settings_at(own.urls.postgresql))
        finally:
            await asyncio.to_thread(own.resume, "postgresql")
        async with within(5):
            await database.ping()

        await asyncio.to_thread(own.kill, "postgresql")
        async with within(3):
            with pytest.raises(HeliometerError) as gone:
                await database.ping()
        assert gone.value.code is Code.UNAVAILABLE
        await asyncio.to_thread(own.start, "postgresql")
        await database.ping()
        await asyncio.to_thread(own.restart, "postgresql")
        await asyncio.gather(*(database.ping() for _ in range(10)))
        await database.close()
