"""Validation codes: who may use which, how often one may guess, and what is kept of them."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from heliometer.core.errors import Code, HeliometerError
from heliometer.identity.model import ROLES, Caller
from heliometer.notifications.code_budgets import TRIES, TRIES_OVERALL
from heliometer.notifications.model import IN_PROGRESS, TIMED_OUT, VERIFIED
from heliometer.notifications.verification import FAILURES, Validation
from notification_world import CLIENT, World, running

DONE, MISSING = "done", Code.NOT_FOUND.value
LIMITED = "limited, and for how long"


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with running(tmp_path) as built:
        yield built


async def tried(
    validation: Validation, caller: Caller | None, code: str, client: str = CLIENT
) -> str:
    """How a try ends: DONE, LIMITED or the code of the refusal."""
    try:
        await validation.validate(caller, client, code)
    except HeliometerError as error:
        limited = error.code is Code.RATE_LIMITED
        return LIMITED if limited and error.retry_after else error.code.value
    return DONE


def wrong(code: str) -> str:
    """Another code of the same form."""
    return code[:-1] + ("1" if code[-1] != "1" else "2")


async def test_the_short_code_is_good_once_and_with_a_token_of_its_project_only(
    world: World,
) -> None:
    short, _ = await world.code()
    assert len(short) == 10
    assert short.isdecimal()
    assert await tried(world.validation, None, short) == MISSING
    assert await tried(world.validation, world.stock, short) == MISSING
    assert await world.state() == IN_PROGRESS
    assert await tried(world.validation, world.shop, short) == DONE
    assert await world.state() == VERIFIED
    assert await tried(world.validation, world.shop, short) == MISSING


@pytest.mark.parametrize("who", ["nobody", "shop", "stock"])
async def test_the_long_code_is_good_once_whoever_has_it(world: World, who: str) -> None:
    _, long = await world.code()
    assert len(long) * 6 >= 128
    caller = getattr(world, who, None)
    assert await tried(world.validation, caller, long) == DONE
    assert await world.state() == VERIFIED
    assert await tried(world.validation, caller, long) == MISSING


async def test_blanks_around_a_code_are_nothing(world: World) -> None:
    short, _ = await world.code()
    assert await tried(world.validation, world.shop, f" {short}\n") == DONE


@pytest.mark.parametrize("role", ["reader", "agent"])
async def test_who_may_not_change_the_project_may_not_try_codes(world: World, role: str) -> None:
    short, long = await world.code()
    caller = replace(world.shop, permissions=ROLES[role])
    for code in (short, long, wrong(short)):
        assert await tried(world.validation, caller, code) == Code.FORBIDDEN.value
    assert await tried(world.validation, world.shop, short) == DONE


@pytest.mark.parametrize(("type_", "address", "life_s"), [
    ("SMS", "+12063823454", 600), ("EMAIL", "joe@mail.com", 86_400),
])  # fmt: skip
@pytest.mark.reliability(18)
async def test_a_code_expires(world: World, type_: str, address: str, life_s: int) -> None:
    short, long = await world.code(address, type_)
    world.now += life_s - 1
    assert len(await world.stores.codes.valid(world.shop.project_id, int(world.now * 1000))) == 1
    world.now += 1
    assert await tried(world.validation, world.shop, short) == MISSING
    assert not long or await tried(world.validation, None, long) == MISSING
    assert await world.state(address) == TIMED_OUT


async def test_nobody_knows_the_long_code_of_an_sms(world: World) -> None:
    await world.code("+12063823454", "SMS")
    (kept,) = await world.stores.codes.valid(world.shop.project_id, int(world.now * 1000))
    assert kept.long_digest == b""


async def test_no_code_is_kept(world: World, tmp_path: Path) -> None:
    short, long = await world.code()
    files = [f for f in tmp_path.iterdir() if f.is_file()]
    kept = b"".join(f.read_bytes() for f in files)
    assert b"joe@mail.com" in kept, "this looks into the right files"
    assert short.encode() not in kept
    assert long.encode() not in kept


@pytest.mark.reliability(18)
async def test_five_wrong_tries_void_a_project_s_codes_and_no_other_s(world: World) -> None:
    short, long = await world.code()
    await world.ask("bob@mail.com", caller=world.stock)
    ((others, _),) = await world.codes()
    for _ in range(FAILURES - 1):
        assert await tried(world.validation, world.shop, wrong(short)) == MISSING
    assert len(await world.stores.codes.valid(world.shop.project_id, int(world.now * 1000))) == 1
    assert await tried(world.validation, world.shop, wrong(short)) == MISSING
    assert await tried(world.validation, world.shop, short) == MISSING
    assert await tried(world.validation, None, long) == MISSING
    assert await tried(world.validation, world.stock, others) == DONE


async def test_a_restart_does_not_forget_wrong_tries(world: World) -> None:
    short, _ = await world.code()
    for _ in range(FAILURES):
        assert await tried(world.restarted(), world.shop, wrong(short)) == MISSING
    assert await tried(world.restarted(), world.shop, short) == MISSING


@pytest.mark.reliability(18)
async def test_guesses_at_the_same_time_are_no_more_than_five(world: World) -> None:
    short, _ = await world.code()
    guesses = [f"{int(wrong(short)) + 10 * i:010d}"[-10:] for i in range(12)]
    ends = await asyncio.gather(
        *(tried(world.validation, world.shop, g) for g in [*guesses, short])
    )
    assert set(ends) == {MISSING}, "the right one came after five wrong ones"
    assert await world.state() == IN_PROGRESS


@pytest.mark.parametrize("which", ["short", "long"])
@pytest.mark.reliability(18)
async def test_of_a_hundred_with_the_right_code_one_succeeds(world: World, which: str) -> None:
    short, long = await world.code()
    caller, code = (world.shop, short) if which == "short" else (None, long)
    ends = await asyncio.gather(*(tried(world.validation, caller, code) for _ in range(100)))
    assert sorted(ends) == [DONE, *[MISSING] * 99]
    # Having been right once is no guess: nobody is kept from the next code.
    next_one, _ = await world.code("ann@mail.com")
    assert await tried(world.validation, world.shop, next_one) == DONE


async def test_wrong_tries_of_a_project_are_limited_and_the_limit_passes(world: World) -> None:
    for i in range(TRIES):
        assert await tried(world.validation, world.shop, f"{i:010d}", f"192.0.2.{i}") == MISSING
    assert await tried(world.validation, world.shop, "9999999999", "198.51.100.1") == LIMITED
    short, long = await world.code()
    assert await tried(world.validation, world.shop, short, "198.51.100.1") == LIMITED
    assert await tried(world.validation, world.stock, "9999999999", "198.51.100.1") == MISSING
    world.now += 60
    assert await tried(world.validation, world.shop, short, "198.51.100.1") == DONE
    assert await tried(world.validation, None, long) == MISSING


@pytest.mark.reliability(18)
async def test_wrong_tries_of_a_client_are_limited_whatever_it_calls_itself(world: World) -> None:
    clients = [f"2001:db8:0:7::{i:x}" for i in range(TRIES)]
    for i, client in enumerate(clients):
        assert await tried(world.validation, None, f"guess-{i}", client) == MISSING
    assert await tried(world.validation, None, "guess", "2001:db8:0:7::ffff") == LIMITED
    assert await tried(world.validation, world.shop, "guess", "2001:db8:0:7::ffff") == LIMITED
    assert await tried(world.validation, None, "guess", "2001:db8:0:8::1") == MISSING


@pytest.mark.reliability(18)
async def test_strangers_wrong_tries_keep_nobody_from_using_a_right_code(world: World) -> None:
    short, long = await world.code()
    ends = [
        await tried(world.validation, None, f"guess-{i}", f"198.51.{i // 200}.{i % 200}")
        for i in range(TRIES_OVERALL + 1)
    ]
    assert ends == [*[MISSING] * TRIES_OVERALL, LIMITED]
    second, _ = await world.code("ann@mail.com")
    assert await tried(world.validation, world.shop, second) == DONE
    # No number of guesses finds the long code, so it is good even for the client that guessed.
    assert await tried(world.validation, None, long, "198.51.0.0") == DONE
    assert await tried(world.validation, world.shop, short) == MISSING


@pytest.mark.parametrize("code", ["", "   ", "12 34", "1234567890\n1", "é", "1" * 201, "1\x00"])
async def test_what_can_be_no_code_is_malformed_and_counts_for_nothing(
    world: World, code: str
) -> None:
    short, _ = await world.code()
    for _ in range(FAILURES):
        assert await tried(world.validation, world.shop, code) == Code.MALFORMED.value
    assert await tried(world.validation, world.shop, short) == DONE


async def test_the_newest_three_codes_of_an_address_are_good(world: World) -> None:
    made = []
    (address,) = [await world.ask()]
    for _ in range(4):  # as when the mail server takes long
        code = await world.validation.make_code(address.id)
        assert code is not None
        made.append(code)
    assert await tried(world.validation, None, made[0][1]) == MISSING
    assert await tried(world.validation, None, made[1][1]) == DONE
    assert await tried(world.validation, None, made[3][1]) == MISSING, "verified: all are used up"


async def test_no_code_is_made_for_an_address_that_is_verified_or_gone(world: World) -> None:
    address = await world.ask()
    assert await world.validation.make_code("nobody") is None
    ((short, _),) = await world.codes()
    assert await tried(world.validation, world.shop, short) == DONE
    assert await world.validation.make_code(address.id) is None
    await world.notifications.delete_address(world.shop, address.id)
    assert await world.validation.make_code(address.id) is None


async def test_deleting_an_address_takes_its_codes(world: World) -> None:
    address = await world.ask()
    ((short, long),) = await world.codes()
    await world.notifications.delete_address(world.shop, address.id)
    assert await tried(world.validation, None, long) == MISSING
    assert await tried(world.validation, world.shop, short) == MISSING
