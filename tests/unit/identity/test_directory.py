"""Users, projects, their names, and the first start."""

import pytest

from heliometer.model.errors import Code, HeliometerError
from heliometer.model.identity import ROLES
from identity.conftest import World


@pytest.mark.parametrize(
    "name",
    ["", "x" * 65, " shop", "shop ", "a\nb", "a\x00b", "\u200b", "0123456789abcdef" * 2],
)
async def test_names_that_are_none(world: World, name: str) -> None:
    for attempt in (
        world.identity.create_project(name),
        world.identity.create_user(name, "secret", "shop"),
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
        world.identity.create_user("ann", "secret", "stock"),
    ):
        with pytest.raises(HeliometerError) as caught:
            await attempt
        assert caught.value.code is Code.CONFLICT


async def test_a_failed_user_leaves_nothing(world: World) -> None:
    with pytest.raises(HeliometerError):
        await world.identity.create_user("ann", "secret", "stock", "admin")
    assert [(m.project.name, m.role) for m in await world.identity.list_memberships("ann")] == [
        ("shop", "member")
    ]


async def test_unknown_role_project_and_user(world: World) -> None:
    with pytest.raises(HeliometerError) as caught:
        await world.identity.create_user("bob", "secret", "shop", "owner")
    assert all(role in caught.value.message for role in ROLES)
    with pytest.raises(HeliometerError) as caught:
        await world.identity.create_user("bob", "secret", "nowhere")
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
    for password in ("x" * 1024, "pass\x00word", "пароль 🔑", "\ud800"):
        await world.identity.set_password("ann", password)
        await world.identity.authenticate_password("ann", password, None)
        with pytest.raises(HeliometerError):
            await world.identity.authenticate_password("ann", password[:-1] + "?", None)


async def test_no_password_is_shown(world: World) -> None:
    assert "argon2" not in repr(await world.identity.list_users())


async def test_the_first_start_happens_once(world: World) -> None:
    assert await world.identity.bootstrap("secret") is None
