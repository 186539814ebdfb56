"""Notification methods and addresses: what is accepted, how often one is asked, what is queued."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from heliometer.config import LimitSettings, WebhookSettings
from heliometer.core.errors import Code, HeliometerError, Invalid
from heliometer.identity.model import Caller
from heliometer.notifications.channels.email.address import email_address
from heliometer.notifications.channels.sms.address import phone_number
from heliometer.notifications.model import (
    CODE_MESSAGE,
    DELIVERED,
    FAILED,
    IN_PROGRESS,
    PENDING,
    TEST_MESSAGE,
    TIMED_OUT,
    VERIFIED,
    WITHHELD,
    Settlement,
)
from heliometer.notifications.service import Wanted
from notification_world import CLIENT, World, running


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with running(tmp_path, schemes="slack, json") as built:
        yield built


# -- addresses ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("given", "sent_to"), [
    ("joe@mail.com", "joe@mail.com"),
    ("Joe.Doe+alarms@MAIL.Com", "Joe.Doe+alarms@mail.com"),
    ("joe@bücher.example.org", "joe@xn--bcher-kva.example.org"),
    ("joe@host.internal.example", "joe@host.internal.example"),
])  # fmt: skip
def test_an_e_mail_address_is_kept_as_it_is_sent_to(given: str, sent_to: str) -> None:
    assert email_address(given) == sent_to


@pytest.mark.parametrize("text", [
    "joe", "@mail.com", "joe@", "joe@mail..com", "a@b@c.com", "joe@mail.com, ann@mail.com",
    "Joe <joe@mail.com>", "joe@mail.com>", '"a b"@mail.com', "joe@[127.0.0.1]", "jöe@mail.com",
    "joe mail@mail.com", f"joe@{'ü' * 20}.{'ö' * 20}.{'ä' * 20}.{'å' * 20}.example.org",
])  # fmt: skip
def test_what_is_no_e_mail_address_is_refused(text: str) -> None:
    with pytest.raises(Invalid, match=r"^address: "):
        email_address(text)


@pytest.mark.parametrize(("given", "region", "sent_to"), [
    ("+12063823454", None, "+12063823454"),
    ("+442079460958", None, "+442079460958"),
    ("12063823454", "US", "+12063823454"),
    ("(206) 382-3454", "US", "+12063823454"),
    ("+12063823454", "US", "+12063823454"),
])  # fmt: skip
def test_a_number_is_kept_in_e_164(given: str, region: str | None, sent_to: str) -> None:
    assert phone_number(given, region) == sent_to


@pytest.mark.parametrize(("text", "region"), [
    ("12063823454", None), ("(206) 382-3454", None), ("+1 206 382 3454", None), ("+1206", None),
    ("+10000000000", None), ("+999123456789", None), ("tel:+12063823454", None), ("+", None),
    ("+1206382345٤", None), ("+12063823454x7", "US"), ("206", "US"), ("joe", "US"),
])  # fmt: skip
def test_what_is_no_number_is_refused(text: str, region: str | None) -> None:
    with pytest.raises(Invalid, match=r"^address: "):
        phone_number(text, region)


@pytest.mark.parametrize(("type_", "address"), [
    ("WEBHOOK", "ftp://hooks.example.org/"),
    ("WEBHOOK", "https://"),
    ("WEBHOOK", "https://joe:secret@hooks.example.org/"),
    ("WEBHOOK", "https://hooks.example.org:99999/"),
    ("WEBHOOK", "https://hooks.example.org:0/"),
    ("WEBHOOK", "https://[::1/"),
    ("WEBHOOK", "https://hooks.example.org/a b"),
    ("WEBHOOK", "https://hooks.example.org/\r\nX-Evil: 1"),
    ("WEBHOOK", "https://hooks.example.org/" + "x" * 1000),
    ("APPRISE", "file:///etc/passwd"), ("APPRISE", "slack"), ("APPRISE", "mailto://a:b@c.de"),
    ("email", "joe@mail.com"), ("PAGER", "1"), ("", "joe@mail.com"),
])  # fmt: skip
async def test_what_is_no_destination_is_refused(world: World, type_: str, address: str) -> None:
    with pytest.raises(Invalid, match=r"^(address|type): "):
        await world.notifications.create_method(world.shop, Wanted("n", type_, address))
    assert await world.notifications.list_methods(world.shop) == []


@pytest.mark.parametrize(("type_", "address"), [
    ("WEBHOOK", "https://hooks.example.org:8443/a?b=c"), ("WEBHOOK", "http://10.0.0.1/"),
    ("APPRISE", "slack://a/b/c"), ("APPRISE", "JSON://host/"),
])  # fmt: skip
async def test_other_destinations_are_kept_as_given(world: World, type_: str, address: str) -> None:
    made = await world.notifications.create_method(world.shop, Wanted("n", type_, address))
    assert made.address == address
    assert bool(made.secret) == (type_ == "WEBHOOK")


async def test_the_operator_can_demand_https_of_webhooks(world: World) -> None:
    strict = msgspec.structs.replace(world.settings, webhook=WebhookSettings(require_https=True))
    notifications = world.notifications_with(strict)
    await notifications.create_method(world.shop, Wanted("n", "WEBHOOK", "https://x.se/"))
    with pytest.raises(Invalid, match="https://"):
        await notifications.create_method(world.shop, Wanted("n", "WEBHOOK", "http://x.se/"))


@pytest.mark.parametrize(
    "name", ["", " ", "a\nb", "a\r\nBcc: x@y.se", "a\x00", "\u202egnp", "n" * 251]
)
@pytest.mark.reliability(22)
async def test_a_name_is_one_printable_line(world: World, name: str) -> None:
    with pytest.raises(Invalid, match=r"^name: "):
        await world.notifications.create_method(world.shop, Wanted(name, "EMAIL", "joe@mail.com"))


async def test_a_project_has_as_many_methods_and_addresses_as_its_limit(world: World) -> None:
    few = msgspec.structs.replace(world.settings, limits=LimitSettings(methods_per_project=2))
    notifications = world.notifications_with(few)
    for i in range(2):
        await notifications.create_method(world.shop, Wanted("n", "EMAIL", f"{i}@mail.com"))
        await notifications.create_address(world.shop, Wanted("n", "EMAIL", f"{i}@mail.com"))
    for create in (notifications.create_method, notifications.create_address):
        with pytest.raises(HeliometerError, match="may have 2") as refused:
            await create(world.shop, Wanted("n", "EMAIL", "one@mail.com"))
        assert refused.value.code is Code.RATE_LIMITED
        await create(world.stock, Wanted("n", "EMAIL", "one@mail.com"))
    again = await notifications.create_address(world.shop, Wanted("n", "EMAIL", "1@mail.com"))
    assert again.address == "1@mail.com", "the limit is no reason to refuse another code"


@pytest.mark.parametrize(("type_", "address", "life_s"), [
    ("SMS", "+12063823454", 600), ("EMAIL", "joe@mail.com", 86_400),
])  # fmt: skip
async def test_an_address_times_out_with_its_code_and_may_be_asked_again(
    world: World, type_: str, address: str, life_s: int
) -> None:
    asked = await world.ask(address, type_)
    await world.codes()
    world.now += life_s - 1
    assert await world.state(address) == IN_PROGRESS
    world.now += 1
    assert await world.state(address) == TIMED_OUT
    assert (await world.notifications.get_address(world.shop, asked.id)).state == TIMED_OUT
    assert (await world.ask(address, type_)).state == IN_PROGRESS
    ((short, _),) = await world.codes()
    await world.validation.validate(world.shop, CLIENT, short)
    world.now += 10 * life_s
    assert await world.state(address) == VERIFIED, "for good"


# -- asking for codes -----------------------------------------------------------------------------


async def test_a_code_is_queued_without_the_code(world: World) -> None:
    address = await world.ask()
    assert world.woken == 1
    (queued,) = await world.take()
    assert (queued.kind, queued.address, queued.status) == (CODE_MESSAGE, "joe@mail.com", PENDING)
    assert queued.payload == {"address_id": address.id, "project_name": "shop"}


async def test_asking_again_is_the_same_address_with_another_code(world: World) -> None:
    first = await world.ask("joe@mail.com")
    again = await world.ask("joe@MAIL.com")
    assert again.id == first.id
    assert len(await world.codes()) == 2
    assert len(await world.notifications.list_addresses(world.shop)) == 1


async def test_an_address_that_is_verified_stays_so_and_gets_no_code(world: World) -> None:
    short, _ = await world.code()
    await world.validation.validate(world.shop, CLIENT, short)
    for _ in range(5):  # nor does asking count
        assert (await world.ask()).state == VERIFIED
    assert await world.take() == []


@pytest.mark.reliability(18)
async def test_a_destination_gets_three_codes_an_hour_over_all_projects(world: World) -> None:
    await world.ask()
    await world.ask(caller=world.stock)
    gone = await world.ask()
    for caller in (world.shop, world.stock):
        with pytest.raises(HeliometerError) as refused:
            if caller is world.shop:  # deleting the address does not reset the count
                await world.notifications.delete_address(caller, gone.id)
            await world.ask(caller=caller)
        assert refused.value.code is Code.RATE_LIMITED
        assert refused.value.retry_after == 3600
    await world.ask("ann@mail.com")
    world.now += 3600
    assert (await world.ask()).state == IN_PROGRESS


async def test_asking_many_times_at_once_gets_no_more_codes(world: World) -> None:
    asked = [world.ask(caller=c) for c in (world.shop, world.stock) for _ in range(10)]
    ends = await asyncio.gather(*asked, return_exceptions=True)
    refused = [e for e in ends if isinstance(e, HeliometerError)]
    assert {e.code for e in refused} == {Code.RATE_LIMITED}
    assert len(refused) == 17
    assert len(await world.take()) == 3


async def test_capitals_and_tags_are_one_destination_at_a_mailbox(world: World) -> None:
    for address in ("joe+a@mail.com", "Joe@mail.com", "joe+b@mail.com"):
        await world.ask(address)
    with pytest.raises(HeliometerError, match="3 codes") as refused:
        await world.ask("JOE+c@mail.com", caller=world.stock)
    assert refused.value.retry_after == 3600
    for address in ("j.oe@gmail.com", "jo.e@googlemail.com", "joe@gmail.com"):
        await world.ask(address)
    with pytest.raises(HeliometerError, match="3 codes"):
        await world.ask("j.o.e@gmail.com")
    await world.ask("j.oe@mail.com")  # dots tell apart elsewhere
    assert len(await world.take()) == 7


async def test_sixty_numbers_in_a_row_cost_what_a_project_may_spend(world: World) -> None:
    numbers = [f"+1206382{3000 + i}" for i in range(60)]
    refused: list[HeliometerError] = []
    waits: list[int | None] = []
    for at, number in enumerate(numbers):
        try:
            await world.ask(number, "SMS", world.shop)
        except HeliometerError as error:
            refused.append(error)
            waits.append((error.retry_after or 0) + at)
        world.now += 1
    limits = world.settings.limits
    assert waits == [3600] * (60 - limits.codes_per_hour), "until the first one is an hour old"
    assert {error.code for error in refused} == {Code.RATE_LIMITED}
    assert world.quotas.refused["code_project_hour"] == len(refused)
    await world.ask(numbers[0], "SMS", world.stock)
    world.now += 3600
    await world.ask(numbers[0], "SMS", world.shop)
    assert len(await world.take()) == limits.codes_per_hour + 2


async def test_a_project_has_its_codes_a_day_and_all_have_theirs_together(world: World) -> None:
    few = msgspec.structs.replace(
        world.settings, limits=LimitSettings(codes_per_day=3, codes_per_day_overall=5)
    )
    notifications = world.notifications_with(few)

    async def ask(i: int, caller: Caller) -> int:
        """The seconds to wait; 0: a code was sent."""
        try:
            await notifications.create_address(caller, Wanted("n", "EMAIL", f"{i}@mail.com"))
        except HeliometerError as error:
            return error.retry_after or -1
        return 0

    assert [await ask(i, world.shop) for i in range(4)] == [0, 0, 0, 86_400]
    world.now += 7200
    assert [await ask(i, world.shop) for i in range(4)] == [79_200] * 4
    assert [await ask(i, world.stock) for i in range(3)] == [0, 0, 79_200]
    world.now += 79_200
    assert await ask(3, world.stock) == 0


async def test_test_messages_are_limited_by_destination_and_project(world: World) -> None:
    methods = [
        await world.notifications.create_method(
            caller, Wanted("n", "WEBHOOK", f"https://{i}.example.org/")
        )
        for i in range(6)
        for caller in (world.shop, world.stock)
    ]

    async def send(i: int, caller: Caller, times: int = 1) -> int:
        """How many are sent."""
        mine = methods[2 * i + (caller is world.stock)]
        sent = 0
        for _ in range(times):
            try:
                await world.notifications.test_method(caller, mine.id)
                sent += 1
            except HeliometerError as error:
                refused.append((error.code, error.retry_after))
        return sent

    refused: list[tuple[Code, int | None]] = []
    assert await send(0, world.shop, 6) == 6
    assert await send(0, world.stock, 6) == 4, "ten to one destination"
    assert sum([await send(i, world.shop, 9) for i in range(1, 6)]) == 24, "thirty of a project"
    world.now += 3600
    assert await send(1, world.shop) == 1
    assert set(refused) == {(Code.RATE_LIMITED, 3600)}


async def test_a_failed_code_cannot_be_replayed_past_the_count(world: World) -> None:
    await world.ask()
    (queued,) = await world.take()
    await world.stores.outbox.settle(
        [Settlement(queued.id, FAILED, "no such user")], int(world.now * 1000)
    )
    with pytest.raises(HeliometerError, match="code") as refused:
        await world.notifications.replay(world.shop, queued.id)
    assert refused.value.code is Code.CONFLICT


# -- test messages and the ledger -----------------------------------------------------------------


async def test_a_test_message_goes_to_a_verified_address_only(world: World) -> None:
    wanted = Wanted("Joe's mail", "EMAIL", "joe@mail.com")
    method = await world.notifications.create_method(world.shop, wanted)
    withheld = await world.notifications.test_method(world.shop, method.id)
    assert (withheld.status, withheld.reason) == (WITHHELD, "the address is not verified")
    assert await world.take() == []

    short, _ = await world.code("joe@mail.com")
    await world.validation.validate(world.shop, CLIENT, short)
    sent = await world.notifications.test_method(world.shop, method.id)
    (queued,) = await world.take()
    assert (queued.id, queued.kind, queued.status) == (sent.id, TEST_MESSAGE, PENDING)
    assert queued.method_id == method.id
    assert json.loads(json.dumps(queued.payload)) == {
        "method_name": "Joe's mail", "user_name": "ann", "project_name": "shop",
    }  # fmt: skip


async def test_another_project_s_proof_is_none(world: World) -> None:
    await world.ask(caller=world.stock)
    ((short, _),) = await world.codes()
    await world.validation.validate(world.stock, CLIENT, short)
    method = await world.notifications.create_method(
        world.shop, Wanted("n", "EMAIL", "joe@mail.com")
    )
    assert (await world.notifications.test_method(world.shop, method.id)).status == WITHHELD


async def test_a_webhook_needs_no_proof(world: World) -> None:
    method = await world.notifications.create_method(
        world.shop, Wanted("n", "WEBHOOK", "https://x.se/")
    )
    assert (await world.notifications.test_method(world.shop, method.id)).status == PENDING


async def test_a_failed_notification_can_be_replayed_by_its_project(world: World) -> None:
    method = await world.notifications.create_method(
        world.shop, Wanted("n", "WEBHOOK", "https://x.se/")
    )
    sent = await world.notifications.test_method(world.shop, method.id)
    for status in (FAILED, DELIVERED):
        (queued,) = await world.take()
        await world.stores.outbox.settle([Settlement(queued.id, status, "")], int(world.now * 1000))
        with pytest.raises(HeliometerError) as missing:
            await world.notifications.replay(world.stock, sent.id)
        assert missing.value.code is Code.NOT_FOUND
        if status == FAILED:
            woken = world.woken
            assert (await world.notifications.replay(world.shop, sent.id)).status == PENDING
            assert world.woken == woken + 1
    with pytest.raises(HeliometerError, match="delivered") as settled:
        await world.notifications.replay(world.shop, sent.id)
    assert settled.value.code is Code.CONFLICT


async def test_a_replay_that_another_overtakes_and_that_fails_again_is_one(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    method = await world.notifications.create_method(
        world.shop, Wanted("n", "WEBHOOK", "https://x.se/")
    )
    sent = await world.notifications.test_method(world.shop, method.id)
    (queued,) = await world.take()
    failed = [Settlement(queued.id, FAILED, "")]
    await world.stores.outbox.settle(failed, int(world.now * 1000))
    retry, overtaken = world.stores.log.retry, False

    async def overtake(project_id: str, delivery_id: str, now_ms: int, by: str) -> bool:
        nonlocal overtaken
        if not overtaken:
            overtaken = True
            return False
        return await retry(project_id, delivery_id, now_ms, by)

    monkeypatch.setattr(world.stores.log, "retry", overtake)
    assert (await world.notifications.replay(world.shop, sent.id)).status == PENDING
