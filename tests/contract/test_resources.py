"""The resource database: durability settings, migrations, transactions, backup, the ports."""

import asyncio
import multiprocessing
import sqlite3
import stat
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection, select, text

from heliometer.config import ResourceSettings, ServerSettings, Settings, WrongSetting
from heliometer.core.errors import Code, HeliometerError, Invalid
from heliometer.identity.accounts import Project, User
from heliometer.storage.sql.accounts import SqlAccountStore
from heliometer.storage.sql.database import Database
from heliometer.storage.sql.migrate import UnusableDatabase
from heliometer.storage.sql.projects import SqlProjectStore
from heliometer.storage.sql.tables import AuditRow, Base
from resource_databases import KINDS, new_database

SHOP = Project("0" * 31 + "1", "shop")


def settings_at(path: Path) -> Settings:
    return Settings(server=ServerSettings(data_dir=str(path)))


def file_at(path: Path) -> Path:
    return path / "resources.sqlite"


@pytest.fixture(params=KINDS)
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Settings]:
    with new_database(request.param, tmp_path) as made:
        yield made


@pytest.fixture
async def database(settings: Settings) -> AsyncIterator[Database]:
    opened = await Database.open(settings)
    await SqlAccountStore(opened).add_project(SHOP, 1, "test")
    yield opened
    await opened.close()


@pytest.fixture
async def in_file(tmp_path: Path) -> AsyncIterator[Database]:
    """An SQLite database."""
    opened = await Database.open(settings_at(tmp_path))
    await SqlAccountStore(opened).add_project(SHOP, 1, "test")
    yield opened
    await opened.close()


async def test_every_connection_is_durable(in_file: Database) -> None:
    expected = {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1, "busy_timeout": 5000}
    async with in_file.read() as first, in_file.read() as second:
        for connection in (first, second):
            for name, value in expected.items():
                found = await connection.execute(text(f"PRAGMA {name}"))
                assert found.scalar_one() == value, name


async def test_the_migrations_make_the_tables(database: Database) -> None:
    def differences(connection: Connection) -> list[object]:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        found: list[object] = compare_metadata(context, Base.metadata)
        return found

    async with database.read() as connection:
        assert await connection.run_sync(differences) == []


async def test_nobody_else_can_read_it(in_file: Database, tmp_path: Path) -> None:
    await in_file.ping()
    files = list(tmp_path.glob("resources.sqlite*"))
    assert len(files) == 3
    for path in files:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


async def test_ping_writes(database: Database) -> None:
    await database.ping()
    await database.ping()
    async with database.read() as connection:
        assert (await connection.execute(text("SELECT count(*) FROM probe"))).scalar_one() == 1


async def test_ping_fails_when_nothing_can_be_written(database: Database) -> None:
    triggers = {
        "sqlite": "CREATE TRIGGER full_up BEFORE UPDATE ON probe "
        "BEGIN SELECT RAISE(ABORT, 'disk full'); END",
        "postgresql": "CREATE FUNCTION full_up() RETURNS trigger LANGUAGE plpgsql AS "
        "'BEGIN RAISE ''disk full''; END'; "
        "CREATE TRIGGER full_up BEFORE UPDATE ON probe EXECUTE FUNCTION full_up()",
    }
    async with database.write() as connection:
        for statement in triggers[database.engine.dialect.name].split("; CREATE"):
            made = statement if statement.startswith("CREATE") else f"CREATE{statement}"
            await connection.execute(text(made))
        await connection.execute(text("INSERT INTO probe VALUES (1, 0)"))
    with pytest.raises(HeliometerError) as caught:
        await database.ping()
    assert caught.value.code is Code.UNAVAILABLE
    assert caught.value.retry_after
    assert "disk full" not in caught.value.message


async def test_a_reader_sees_one_state(database: Database) -> None:
    wanted = text("SELECT count(*) FROM probe")
    async with database.read() as connection:
        before = (await connection.execute(wanted)).scalar_one()
        await database.ping()
        assert (await connection.execute(wanted)).scalar_one() == before == 0


async def test_a_failed_block_leaves_nothing(database: Database) -> None:
    async def fail() -> None:
        async with database.write() as connection:
            await connection.execute(text("INSERT INTO probe VALUES (7, 0)"))
            raise ValueError

    with pytest.raises(ValueError):
        await fail()
    async with database.read() as connection:
        assert (await connection.execute(text("SELECT * FROM probe"))).first() is None


async def test_a_cancelled_block_leaves_nothing_and_blocks_nobody(database: Database) -> None:
    async def dawdle() -> None:
        async with database.write() as connection:
            await connection.execute(text("INSERT INTO probe VALUES (7, 0)"))
            await asyncio.sleep(60)

    for _ in range(20):
        task = asyncio.create_task(dawdle())
        await asyncio.sleep(0.005)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    await asyncio.wait_for(database.ping(), 30)
    async with database.read() as connection:
        assert (await connection.execute(text("SELECT id FROM probe"))).scalars().all() == [1]


def ping_often(settings: Settings, count: int) -> None:
    async def run() -> None:
        database = await Database.open(settings)
        for _ in range(count):
            await database.ping()
        await database.close()

    asyncio.run(run())


def test_processes_may_start_and_write_at_once(settings: Settings) -> None:
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=ping_often, args=(settings, 20)) for _ in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0] * 4


async def test_reopening_keeps_everything(settings: Settings) -> None:
    for expected in ([], [SHOP]):
        database = await Database.open(settings)
        accounts = SqlAccountStore(database)
        assert await accounts.list_projects() == expected
        if not expected:
            await accounts.add_project(SHOP, 1, "test")
        await database.close()


async def test_a_newer_database_is_refused_in_one_line(settings: Settings) -> None:
    database = await Database.open(settings)
    async with database.write() as connection:
        await connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    await database.close()
    with pytest.raises(UnusableDatabase, match=r"newer version of heliometer.*9999") as caught:
        await Database.open(settings)
    assert "\n" not in str(caught.value)


async def test_a_file_that_is_no_database_is_refused_and_kept(tmp_path: Path) -> None:
    file_at(tmp_path).write_bytes(b"no database at all" * 100)
    with pytest.raises(UnusableDatabase, match="not a database") as caught:
        await Database.open(settings_at(tmp_path))
    assert "\n" not in str(caught.value)
    assert file_at(tmp_path).read_bytes().startswith(b"no database")


async def test_a_place_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UnusableDatabase, match="cannot open"):
        await Database.open(settings_at(tmp_path / "file"))


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///:memory:", "sqlite", "sqlite:///a?x=1"])
async def test_urls_that_name_no_file(url: str) -> None:
    with pytest.raises(WrongSetting, match=r"resources\.url"):
        await Database.open(Settings(resources=ResourceSettings(url=url)))


async def test_a_url_names_another_file(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'elsewhere.sqlite'}"
    database = await Database.open(Settings(resources=ResourceSettings(url=url)))
    await database.ping()
    await database.close()
    assert (tmp_path / "elsewhere.sqlite").exists()


@pytest.mark.reliability(7)
async def test_backup_is_whole_while_others_write(in_file: Database, tmp_path: Path) -> None:
    """Each transaction adds two users; a copy has an even number of them."""
    database = in_file
    accounts = SqlAccountStore(database)
    busy = True

    async def write() -> None:
        number = 0
        while busy:
            async with database.write() as connection:
                for _ in range(2):
                    number += 1
                    await connection.execute(
                        text("INSERT INTO users VALUES (:id, :id, 'x', 1, 0, 0)"),
                        {"id": f"{number}"},
                    )

    writing = asyncio.create_task(write())
    counts = []
    for i in range(3):
        await asyncio.sleep(0.05)
        target = tmp_path / f"backup{i}.sqlite"
        await database.backup(target)
        with sqlite3.connect(target) as copy:
            assert copy.execute("PRAGMA integrity_check").fetchone() == ("ok",)
            counts.append(copy.execute("SELECT count(*) FROM users").fetchone()[0])
        assert stat.S_IMODE(target.stat().st_mode) == 0o600
    busy = False
    await writing
    assert all(count % 2 == 0 for count in counts)
    assert counts == sorted(counts)
    assert 0 < counts[-1] <= len(await accounts.list_users())


async def test_backup_never_overwrites(in_file: Database, tmp_path: Path) -> None:
    database = in_file
    target = tmp_path / "backup"
    target.write_text("precious")
    with pytest.raises(HeliometerError) as caught:
        await database.backup(target)
    assert caught.value.code is Code.CONFLICT
    assert target.read_text() == "precious"
    with pytest.raises(HeliometerError) as caught:
        await database.backup(tmp_path / "missing" / "backup")
    assert caught.value.code is Code.UNAVAILABLE


async def test_the_monitoring_level(database: Database) -> None:
    projects = SqlProjectStore(database)
    assert await projects.project_exists(SHOP.id)
    assert not await projects.project_exists("f" * 32)
    assert await projects.monitoring_level(SHOP.id) == "basic"
    await projects.set_monitoring_level(SHOP.id, "premium", "ann")
    assert await projects.monitoring_level(SHOP.id) == "premium"
    with pytest.raises(Invalid):
        await projects.set_monitoring_level(SHOP.id, "golden", "ann")
    with pytest.raises(HeliometerError) as caught:
        await projects.set_monitoring_level("f" * 32, "basic", "ann")
    assert caught.value.code is Code.NOT_FOUND
    columns = (AuditRow.actor, AuditRow.project_id, AuditRow.details)
    wanted = select(*columns).where(AuditRow.action == "set monitoring level")
    async with database.read() as connection:
        rows = (await connection.execute(wanted)).all()
    assert [tuple(row) for row in rows] == [("ann", SHOP.id, "premium")]


async def test_lists_are_in_the_order_of_code_points(database: Database) -> None:
    accounts = SqlAccountStore(database)
    names = ["a-b", "ab", "a_c", "B", "é", "Zoo", "zoo", "10", "9"]
    for i, name in enumerate(names, 10):
        await accounts.add_project(Project(f"{i:032}", name), 1, "test")
    found = [project.name for project in await accounts.list_projects()]
    assert found == sorted([*names, SHOP.name])


async def test_a_name_is_taken_once(database: Database) -> None:
    accounts = SqlAccountStore(database)

    made = await asyncio.gather(
        *(accounts.add_project(Project(f"{i:032}", "same"), 1, "test") for i in range(10)),
        return_exceptions=True,
    )
    refused = [error for error in made if isinstance(error, HeliometerError)]
    assert [error.code for error in refused] == [Code.CONFLICT] * 9


async def test_many_names_are_resolved_at_once(database: Database) -> None:
    references = [f"{i:032}" for i in range(40_000)]
    found = await SqlProjectStore(database).resolve([*references, SHOP.id, SHOP.name, "\0"])
    assert set(found) == {SHOP.id, SHOP.name}


async def test_the_first_start_is_won_once(settings: Settings) -> None:
    database = await Database.open(settings)
    accounts = SqlAccountStore(database)
    won = await asyncio.gather(
        *(
            accounts.add_first(Project(f"p{i}", "demo"), User(f"u{i}", "demo", "x"), "admin", 1)
            for i in range(5)
        )
    )
    assert sorted(won) == [False] * 4 + [True]
    assert len(await accounts.list_users()) == 1
    await database.close()
