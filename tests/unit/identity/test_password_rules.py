"""What a new password must be, and that old ones go on working."""

import logging
from pathlib import Path

import pytest

from heliometer.config import ServerSettings, Settings
from heliometer.core.errors import Code, HeliometerError, Invalid
from heliometer.identity.builtin.password_rules import SHORTEST, check_new_password
from heliometer.identity.builtin.passwords import Passwords
from heliometer.identity.builtin.service import BuiltinIdentity
from heliometer.storage.sql.accounts import SqlAccountStore
from heliometer.storage.sql.database import Database
from heliometer.storage.sql.tokens import SqlTokenStore
from identity.conftest import CHEAP, World


@pytest.mark.parametrize(
    ("password", "reason"),
    [
        ("seven77", f"at least {SHORTEST} characters, not 7"),
        ("пароль1", "at least"),
        ("password", "leaked"),
        ("PassWord1", "leaked"),
        ("qwertyuiop", "leaked"),
        ("1234567890", "leaked"),
        ("ÄÄÄÄÄÄÄÄÄÄ", "one character"),
        ("Wilhelmina", "name"),
        ("animlehliw", "name"),
        ("Heliometer", "name"),
        ("x" * 1025, "1024 bytes"),
    ],
)
def test_what_may_not_be_chosen(password: str, reason: str) -> None:
    with pytest.raises(Invalid) as caught:
        check_new_password(password, "wilhelmina")
    assert caught.value.message.startswith("password: ")
    assert reason in caught.value.message


@pytest.mark.parametrize(
    "password", ["eightch8", "парольпароль", "all lower case words", "🔑🗝️🔐🔏🔒🔓🗄️🧰", "xy" * 512]
)
def test_no_kind_of_character_is_demanded(password: str) -> None:
    check_new_password(password, "ann")


async def test_every_way_to_set_a_password_has_the_rules(world: World) -> None:
    for attempt in (
        world.identity.create_user("bob", "password", "shop"),
        world.identity.set_password("ann", "password"),
        world.identity.change_password("ann", "secret", "password", None),
    ):
        with pytest.raises(Invalid):
            await attempt
    assert [user.name for user in await world.identity.list_users()] == ["ann"]
    await world.identity.authenticate_password("ann", "secret", None)


async def test_ones_own_password_needs_the_old_one_and_ends_all_tokens(world: World) -> None:
    issued = await world.identity.authenticate_password("ann", "secret", None, "shop")
    for user, original in (("ann", "wrong"), ("nobody", "secret")):
        with pytest.raises(HeliometerError) as caught:
            await world.identity.change_password(user, original, "a better one", None)
        assert caught.value.code is Code.UNAUTHENTICATED
    with pytest.raises(Invalid):
        await world.identity.change_password("ann", "secret", "secret", None)
    await world.identity.authenticate(issued.secret)
    await world.identity.change_password("ann", "secret", "a better one", None)
    with pytest.raises(HeliometerError):
        await world.identity.authenticate(issued.secret)
    with pytest.raises(HeliometerError):
        await world.identity.authenticate_password("ann", "secret", None)
    await world.identity.authenticate_password("ann", "a better one", None)


@pytest.mark.parametrize("given", ["demo", "password"])
async def test_a_weak_first_password_starts_the_service_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, given: str
) -> None:
    settings = Settings(server=ServerSettings(data_dir=str(tmp_path)))
    database = await Database.open(settings)
    identity = BuiltinIdentity(
        SqlAccountStore(database), SqlTokenStore(database), settings, passwords=Passwords(CHEAP)
    )
    with caplog.at_level(logging.WARNING):
        assert await identity.bootstrap(given) == given
    assert "password is weak" in caplog.text
    assert "heliometer user password demo" in caplog.text
    await identity.authenticate_password("demo", given, None)
    identity.close()
    await database.close()
