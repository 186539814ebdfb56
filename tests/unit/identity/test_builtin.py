"""Signing in, tokens and revocation."""

import asyncio

import pytest

from heliometer.core.errors import Code, HeliometerError
from heliometer.identity.builtin.service import BuiltinIdentity
from heliometer.identity.model import Permission
from identity.conftest import World

HOUR = 3600.0


async def refused(identity: BuiltinIdentity, token: str, code: Code = Code.UNAUTHENTICATED) -> None:
    with pytest.raises(HeliometerError) as caught:
        await identity.authenticate(token)
    assert caught.value.code is code


async def sign_in(world: World, project: str | None = "shop", password: str = "secret") -> str:
    issued = await world.identity.authenticate_password("ann", password, "192.0.2.1", project)
    return issued.secret


async def test_a_token_says_who_and_where(world: World) -> None:
    caller = await world.identity.authenticate(await sign_in(world))
    assert (caller.user_name, caller.project_name) == ("ann", "shop")
    assert Permission.POST_METRICS in caller.permissions
    assert Permission.ADMINISTER not in caller.permissions


async def test_an_unscoped_token_allows_nothing(world: World) -> None:
    caller = await world.identity.authenticate(await sign_in(world, None))
    assert (caller.project_id, caller.permissions) == ("", frozenset())


@pytest.mark.parametrize(
    ("user", "password", "project"),
    [
        ("ann", "wrong", "shop"),
        ("bob", "secret", "shop"),
        ("ann", "secret", "stock"),
        ("ann", "secret", "nowhere"),
        ("ANN", "secret", "shop"),
    ],
)
async def test_wrong_credentials_and_foreign_projects(
    world: World, user: str, password: str, project: str
) -> None:
    with pytest.raises(HeliometerError) as caught:
        await world.identity.authenticate_password(user, password, "192.0.2.1", project)
    assert caught.value.code is Code.UNAUTHENTICATED


@pytest.mark.reliability(16)
async def test_a_foreign_project_looks_like_a_missing_one(world: World) -> None:
    messages = []
    for project in ("stock", "missg"):
        with pytest.raises(HeliometerError) as caught:
            await sign_in(world, project)
        messages.append(caught.value.message.replace(project, "…"))
    assert messages[0] == messages[1]


async def test_users_and_projects_go_by_id_too(world: World) -> None:
    user = (await world.identity.list_users())[0]
    project = await world.identity.project_id("shop")
    issued = await world.identity.authenticate_password(user.id, "secret", None, project)
    assert issued.owner.user == user


@pytest.mark.parametrize("token", ["", "x", "x" * 43, "é" * 43, "x" * 1_000_000, "\x00" * 43])
async def test_garbage_is_no_token(world: World, token: str) -> None:
    await refused(world.identity, token)


async def test_known_tokens_are_not_looked_up_again(world: World) -> None:
    token = await sign_in(world)
    for _ in range(100):
        await world.identity.authenticate(token)
    assert world.tokens.finds == 1
    world.pass_time(31)
    await world.identity.authenticate(token)
    assert world.tokens.finds == 2


async def test_known_tokens_outlive_a_short_outage_and_then_get_503(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Never a 401, upon which clients would sign in again; and nobody gets in unchecked."""

    asked = 0

    async def fail(_: bytes) -> None:
        nonlocal asked
        asked += 1
        raise HeliometerError(Code.UNAVAILABLE, "away")

    token, unknown = await sign_in(world), await sign_in(world)
    await world.identity.authenticate(token)
    find = world.tokens.find
    monkeypatch.setattr(world.tokens, "find", fail)
    for _ in range(18):
        world.pass_time(3)
        assert (await world.identity.authenticate(token)).user_name == "ann"
        assert (await world.identity.authenticate(token)).user_name == "ann"
        assert asked <= 10
    world.pass_time(1)  # 55 s after the answer
    for secret in (token, unknown):
        with pytest.raises(HeliometerError) as caught:
            await world.identity.authenticate(secret)
        assert caught.value.code is Code.UNAVAILABLE
    monkeypatch.setattr(world.tokens, "find", find)
    await world.identity.authenticate(token)


async def test_one_that_is_revoked_does_not_outlive_it(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(_: bytes) -> None:
        raise HeliometerError(Code.UNAVAILABLE, "away")

    token = await sign_in(world)
    await world.identity.authenticate(token)
    monkeypatch.setattr(world.tokens, "find", fail)
    world.pass_time(31)
    await world.identity.authenticate(token)
    await world.identity.revoke(token)
    with pytest.raises(HeliometerError) as caught:
        await world.identity.authenticate(token)
    assert caught.value.code is Code.UNAVAILABLE


async def test_bad_tokens_are_remembered_too(world: World) -> None:
    for _ in range(10):
        await refused(world.identity, "x" * 43)
    assert world.tokens.finds == 1


async def test_many_who_ask_at_once_look_up_once(world: World) -> None:
    token = await sign_in(world)
    await asyncio.gather(*(world.identity.authenticate(token) for _ in range(50)))
    assert world.tokens.finds == 1


async def test_tokens_expire_while_remembered(world: World) -> None:
    token = await sign_in(world)
    world.clock.now += 24 * HOUR - 1
    await world.identity.authenticate(token)
    world.clock.now += 1
    await refused(world.identity, token)


async def test_revocation_is_immediate_here_and_within_a_minute_elsewhere(world: World) -> None:
    other = world.another()
    token = await sign_in(world)
    await other.authenticate(token)
    await world.identity.authenticate(token)
    await other.revoke(token)
    await refused(other, token)
    await world.identity.authenticate(token)  # Not known here yet.
    world.clock.now -= HOUR  # Setting the clock back does not prolong that.
    world.monotonic.now += 30
    await refused(world.identity, token)


async def test_a_revocation_during_a_look_up_wins(world: World) -> None:
    token = await sign_in(world)
    real = world.tokens.store.find
    found = asyncio.Event()
    go_on = asyncio.Event()

    async def slow(digest: bytes) -> object:
        owner = await real(digest)
        found.set()
        await go_on.wait()
        return owner

    world.tokens.store.find = slow  # type: ignore[method-assign, assignment]
    asking = asyncio.create_task(refused(world.identity, token))
    await found.wait()
    await world.identity.revoke(token)
    go_on.set()
    await asking
    await refused(world.identity, token)


@pytest.mark.parametrize("way", ["disable", "password"])
async def test_what_ends_all_tokens_of_a_user(world: World, way: str) -> None:
    token = await sign_in(world)
    await world.identity.authenticate(token)
    if way == "disable":
        await world.identity.disable_user("ann")
    else:
        await world.identity.set_password("ann", "a new one")
    await refused(world.identity, token)
    with pytest.raises(HeliometerError):
        await sign_in(world)
    await world.identity.enable_user("ann")
    await refused(world.identity, token)
    await world.identity.authenticate(
        await sign_in(world, password="secret" if way == "disable" else "a new one")
    )


async def test_a_password_changed_during_a_sign_in_earns_no_token(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    verify = world.passwords.verify

    async def verify_slowly(password_hash: str | None, password: str) -> bool:
        right = await verify(password_hash, password)
        await world.identity.set_password("ann", "a new one")
        return right

    monkeypatch.setattr(world.passwords, "verify", verify_slowly)
    with pytest.raises(HeliometerError) as caught:
        await sign_in(world)
    assert caught.value.code is Code.UNAUTHENTICATED


async def test_a_failing_database_lets_nobody_in(world: World) -> None:
    token = await sign_in(world)
    world.tokens.broken = True
    await refused(world.identity, token, Code.UNAVAILABLE)
    world.tokens.broken = False
    await world.identity.authenticate(token)


async def test_exchanged_tokens_end_with_the_first(world: World) -> None:
    first = await world.identity.authenticate_password("ann", "secret", None)
    world.pass_time(HOUR)
    second = await world.identity.authenticate_token(first.secret, "shop")
    third = await world.identity.authenticate_token(second.secret)
    assert third.owner.token.expires_at == first.owner.token.expires_at
    assert second.owner.token.methods == ("password", "token")
    assert third.owner.membership is None
    assert third.owner.token.audit_ids[1] == first.owner.token.audit_ids[0]
    world.pass_time(23 * HOUR)
    with pytest.raises(HeliometerError):
        await world.identity.authenticate_token(third.secret)


async def test_expired_tokens_are_purged(world: World) -> None:
    old = await sign_in(world)
    world.pass_time(12 * HOUR)
    young = await sign_in(world)
    world.pass_time(12 * HOUR)
    assert await world.identity.purge_expired() == 1
    await refused(world.identity, old)
    await world.identity.authenticate(young)


async def test_a_changed_role_counts_at_once(world: World) -> None:
    token = await sign_in(world)
    await world.identity.authenticate(token)
    await world.identity.grant("ann", "shop", "reader")
    caller = await world.identity.authenticate(token)
    assert Permission.POST_METRICS not in caller.permissions


async def test_guessing_is_slowed_but_not_the_user_elsewhere(world: World) -> None:
    for _ in range(5):
        with pytest.raises(HeliometerError):
            await sign_in(world, password="wrong")
    with pytest.raises(HeliometerError) as caught:
        await sign_in(world)
    assert caught.value.code is Code.RATE_LIMITED
    assert caught.value.retry_after == 60
    await world.identity.authenticate_password("ann", "secret", "198.51.100.7", "shop")
    world.pass_time(60)
    await sign_in(world)


async def test_guesses_at_once_are_no_more_than_in_a_row(world: World) -> None:
    outcomes = await asyncio.gather(
        *(sign_in(world, password=f"guess {i}") for i in range(100)), return_exceptions=True
    )
    codes = [o.code for o in outcomes if isinstance(o, HeliometerError)]
    assert codes.count(Code.UNAUTHENTICATED) == 5
    assert codes.count(Code.RATE_LIMITED) == 95


async def test_right_passwords_at_once_all_get_in(world: World) -> None:
    tokens = await asyncio.gather(*(sign_in(world) for _ in range(50)))
    assert len(set(tokens)) == 50


async def test_a_database_down_is_no_failed_guess(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(password_hash: str | None, password: str) -> bool:
        raise HeliometerError(Code.UNAVAILABLE, "busy")

    monkeypatch.setattr(world.passwords, "verify", broken)
    for _ in range(20):
        with pytest.raises(HeliometerError) as caught:
            await sign_in(world)
        assert caught.value.code is Code.UNAVAILABLE
    monkeypatch.undo()
    await sign_in(world)


async def test_tokens_can_stand_on_a_command_line(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = iter(["-" + "a" * 42, "b" * 43, "audit"])
    monkeypatch.setattr(
        "heliometer.identity.builtin.service.secrets.token_urlsafe", lambda _: next(made, "more")
    )
    assert await sign_in(world) == "b" * 43


async def test_a_password_with_each_request_is_hashed_once(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def caller(password: str = "secret", project: str | None = "shop") -> str:
        found = await world.identity.authenticate_basic("ann", password, "192.0.2.1", project)
        return found.project_name

    hashed = 0
    verify = world.passwords.verify

    async def counted(password_hash: str | None, password: str) -> bool:
        nonlocal hashed
        hashed += 1
        return await verify(password_hash, password)

    monkeypatch.setattr(world.passwords, "verify", counted)
    assert set(await asyncio.gather(*(caller() for _ in range(20)))) == {"shop"}
    assert hashed == 1
    with pytest.raises(HeliometerError) as caught:
        await caller("wrong")
    assert caught.value.code is Code.UNAUTHENTICATED

    await world.identity.set_password("ann", "another one")
    with pytest.raises(HeliometerError):
        await caller()
    assert await caller("another one") == "shop"


async def test_a_password_alone_is_good_for_the_only_project(world: World) -> None:
    async def caller() -> str:
        found = await world.identity.authenticate_basic("ann", "secret", None, None)
        return found.project_name

    await world.identity.grant("ann", "stock", "member")
    with pytest.raises(HeliometerError, match=r"\?project=NAME"):
        await caller()
    await world.identity.create_user("bob", "two secrets", "shop", "agent")
    found = await world.identity.authenticate_basic("bob", "two secrets", None, None)
    assert found.project_name == "shop"
