"""Users, projects, their names, and the first start."""

from pathlib import Path

import pytest
from sqlalchemy import text

from heliometer.config import ServerSettings, Settings
from heliometer.core.errors import Code, HeliometerError
from heliometer.identity.builtin.passwords import Passwords
from heliometer.identity.builtin.service import BuiltinIdentity
from heliometer.identity.model import ROLES, Permission
from heliometer.storage.sql.accounts import SqlAccountStore
from heliometer.storage.sql.database import Database
from heliometer.storage.sql.tokens import SqlTokenStore
from identity.conftest import CHEAP, World


@pytest.mark.parametrize(
    "name",
    ["", "x" * 65, " shop", "shop ", "a\nb", "a\x00b", "\u200b", "0123456789abcdef" * 2],
)
async def test_names_that_are_none(world: World, name: str) -> None:
    for attempt in (
        world.identity.create_project(name),
        world.identity.create_user(name, "two secrets", "shop"),
    ):
        with pytest.raises(HeliometerError) as caught:
            await attempt
        assert caught.value.code is Code.INVALID


async def test_names_that_look_the_same_are_the_same(world: World) -> None:
    await world.identity.create_project("cafe\u0301")
    assert await world.identity.project_id("caf\u00e9")


async def test_duplicates(world: World) -> None:
    for attempt in (
        world.identity.create_project("shop"),
        world.identity.create_user("ann", "two secrets", "stock"),
    ):
        with pytest.raises(HeliometerError) as caught:
            await attempt
        assert caught.value.code is Code.CONFLICT


async def test_a_failed_user_leaves_nothing(world: World) -> None:
    with pytest.raises(HeliometerError):
        await world.identity.create_user("ann", "two secrets", "stock", "admin")
    assert [(m.project.name, m.role) for m in await world.identity.list_memberships("ann")] == [
        ("shop", "member")
    ]


async def test_unknown_role_project_and_user(world: World) -> None:
    with pytest.raises(HeliometerError) as caught:
        await world.identity.create_user("bob", "two secrets", "shop", "owner")
    assert all(role in caught.value.message for role in ROLES)
    with pytest.raises(HeliometerError) as caught:
        await world.identity.create_user("bob", "two secrets", "nowhere")
    assert caught.value.code is Code.NOT_FOUND
    with pytest.raises(HeliometerError) as caught:
        await world.identity.grant("bob", "shop", "member")
    assert caught.value.code is Code.NOT_FOUND


@pytest.mark.parametrize("password", ["", "x" * 1025, "é" * 513])
async def test_passwords_are_bounded(world: World, password: str) -> None:
    with pytest.raises(HeliometerError) as caught:
        await world.identity.set_password("ann", password)
    assert caught.value.code is Code.INVALID


async def test_any_text_is_a_password(world: World) -> None:
    for password in ("xy" * 512, "pass\x00word", "пароль 🔑", "\ud800" + "abcdefg"):
        await world.identity.set_password("ann", password)
        await world.identity.authenticate_password("ann", password, None)
        with pytest.raises(HeliometerError):
            await world.identity.authenticate_password("ann", password[:-1] + "?", None)


async def test_no_password_is_shown(world: World) -> None:
    assert "argon2" not in repr(await world.identity.list_users())


async def test_the_first_start_happens_once(world: World) -> None:
    assert await world.identity.bootstrap("secret") is None


@pytest.mark.parametrize("given", ["secret", "", None])
async def test_the_first_start(tmp_path: Path, given: str | None) -> None:
    settings = Settings(server=ServerSettings(data_dir=str(tmp_path)))
    database = await Database.open(settings)
    accounts, tokens = SqlAccountStore(database), SqlTokenStore(database)
    identity = BuiltinIdentity(accounts, tokens, settings, passwords=Passwords(CHEAP))
    password = await identity.bootstrap(given)
    assert password
    assert password == given or not given
    issued = await identity.authenticate_password("demo", password, None, "demo")
    caller = await identity.authenticate(issued.secret)
    assert Permission.ADMINISTER in caller.permissions
    assert await identity.bootstrap(given) is None
    identity.close()
    await database.close()


@pytest.mark.reliability(7, 23)
async def test_neither_database_nor_backup_holds_a_secret(world: World, tmp_path: Path) -> None:
    await world.identity.set_password("ann", "canary-password")
    token = (await world.identity.authenticate_password("ann", "canary-password", None)).secret
    await world.database.backup(tmp_path / "copy")
    for path in (tmp_path / "copy", *tmp_path.glob("resources.sqlite*")):
        content = path.read_bytes()
        assert b"canary-password" not in content
        assert token.encode() not in content


async def test_changes_are_recorded_with_who_made_them(world: World) -> None:
    await world.identity.set_password("ann", "a new one", by="eve")
    await world.identity.disable_user("ann", by="eve")
    async with world.database.read() as connection:
        found = await connection.execute(
            text("SELECT action, details FROM audit WHERE actor='eve'")
        )
    assert found.all() == [("set password", "ann"), ("disable user", "ann")]
