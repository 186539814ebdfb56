"""Nothing is lost and nothing is blocked, whatever the relays do."""

import asyncio
from collections.abc import Iterator
from dataclasses import replace

import pytest

from eventually import eventually_async
from heliometer.alarms.model import State
from heliometer.config import EmailSettings, Settings
from heliometer.core.errors import Code, HeliometerError
from heliometer.notifications.backlog import BacklogWatch
from heliometer.notifications.channels.channel import Rejected, Sender, TryLater
from heliometer.notifications.channels.email.mail import html
from heliometer.notifications.channels.email.smtp import SmtpSender
from heliometer.notifications.messages import Message
from heliometer.notifications.model import DELIVERED, FAILED, PENDING, WITHHELD, Delivery
from mail_server import MailServer, text_of
from notifications.conftest import PROJECT, Office

U, OK, ALARM, FLAPPING = State.UNDETERMINED, State.OK, State.ALARM, State.FLAPPING


class Relay:
    """A sender that does what the test says, and remembers what it took."""

    def __init__(self) -> None:
        self.taken: list[Message] = []
        self.took = asyncio.Event()
        self.error: Exception | None = None
        self.hangs = False

    async def send(self, message: Message, delivery: Delivery, secret: str) -> str:
        if self.hangs:
            await asyncio.sleep(3600)
        if self.error is not None:
            raise self.error
        self.taken.append(message)
        self.took.set()
        return "taken"

    async def close(self) -> None:
        pass


class SlowRelay(Relay):
    """One that takes messages when it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.may_end = asyncio.Event()

    async def send(self, message: Message, delivery: Delivery, secret: str) -> str:
        await self.may_end.wait()
        return await super().send(message, delivery, secret)


@pytest.fixture
def mail_server() -> Iterator[MailServer]:
    running = MailServer().start()
    yield running
    running.stop()


def smtp(server: MailServer) -> Sender:
    return SmtpSender(EmailSettings(url=server.url, starttls="never"))


async def test_a_change_is_told_by_mail_and_the_ledger_knows(
    office: Office, mail_server: MailServer
) -> None:
    method = await office.method("EMAIL", "joe@mail.com")
    alarm = await office.alarm("Lund is hot", method)
    await office.change(alarm, U, ALARM)
    notifier = office.notifier({"EMAIL": smtp(mail_server)})
    await notifier.idle()
    (mail,) = mail_server.mails
    assert mail["Subject"] == "[ALARM] Lund is hot"
    assert mail["X-Envelope-To"] == "joe@mail.com"
    assert "ns > 1" in text_of(mail)
    (entry,) = await office.alarms.history(PROJECT, alarm, None, 10)
    (fate,) = entry.deliveries
    assert (fate.status, fate.reason, fate.attempts) == (DELIVERED, "taken", 1)
    assert fate.id == mail["X-Heliometer-Notification-Id"]
    await notifier.idle()
    assert len(mail_server.mails) == 1


async def test_a_refused_recipient_is_given_up_and_its_neighbour_is_told(
    office: Office, mail_server: MailServer
) -> None:
    mail_server.answer = lambda to: "550 no such user" if to.startswith("gone") else "250 OK"
    gone = await office.test_message("EMAIL", "gone@mail.com", "m1")
    there = await office.test_message("EMAIL", "there@mail.com", "m2")
    await office.notifier({"EMAIL": smtp(mail_server)}).idle()
    fate = await office.fate(gone)
    assert (fate.status, fate.reason) == (FAILED, "550 no such user")
    assert (await office.fate(there)).status == DELIVERED
    assert [m["X-Envelope-To"] for m in mail_server.mails] == ["there@mail.com"]


@pytest.mark.reliability(8)
async def test_a_relay_that_is_busy_or_away_gets_it_later(
    office: Office, mail_server: MailServer
) -> None:
    mail_server.answer = lambda _: "451 come back later"
    sent = await office.test_message("EMAIL", "joe@mail.com", "m")
    notifier = office.notifier({"EMAIL": smtp(mail_server)})
    await notifier.idle()
    first = await office.fate(sent)
    assert (first.status, first.attempts) == (PENDING, 1)
    assert "451 come back later" in first.reason
    assert 2_500 <= first.next_attempt_ms - office.now_ms <= 5_000
    mail_server.stop()
    office.wait(5)
    await notifier.idle()
    second = await office.fate(sent)
    assert (second.status, second.attempts) == (PENDING, 2)
    mail_server.answer = lambda _: "250 OK"
    mail_server.start()
    office.wait(10)
    await notifier.idle()
    assert (await office.fate(sent)).status == DELIVERED
    assert len(mail_server.mails) == 1


@pytest.mark.reliability(8)
async def test_after_the_retry_period_it_is_a_dead_letter_that_can_be_replayed(
    office: Office,
) -> None:
    relay = Relay()
    relay.error = ConnectionError("refused")
    sent = await office.test_message("EMAIL", "joe@mail.com", "m")
    notifier = office.notifier({"EMAIL": relay}, retry_period=3600)
    for _ in range(40):
        await notifier.idle()
        office.wait(300)
    fate = await office.fate(sent)
    assert (fate.status, fate.reason) == (FAILED, "refused")
    assert fate.attempts >= 8
    relay.error = None
    assert await office.stores.log.retry(PROJECT, sent, office.now_ms, "joe")
    await notifier.idle()
    assert (await office.fate(sent)).status == DELIVERED


@pytest.mark.reliability(8)
async def test_one_that_hangs_holds_up_nobody_else(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("heliometer.notifications.dispatcher.DEADLINE_S", 0.3)
    hanging, healthy = Relay(), Relay()
    hanging.hangs = True
    stuck = [await office.test_message("SMS", f"+4670{i:07}", "m") for i in range(100)]
    told = [await office.test_message("EMAIL", f"joe{i}@mail.com", "m") for i in range(100)]
    notifier = office.notifier({"SMS": hanging, "EMAIL": healthy})
    running = asyncio.create_task(notifier.run())
    async with asyncio.timeout(10):
        while len(healthy.taken) < 100:
            office.wait(0.1)
            notifier.wake()
            await asyncio.sleep(0.02)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    await notifier.close()
    assert {(await office.fate(i)).status for i in told} == {DELIVERED}
    assert {(await office.fate(i)).status for i in stuck} == {PENDING}


async def test_a_destination_is_left_alone_for_as_long_as_it_asks(office: Office) -> None:
    relay = Relay()
    relay.error = TryLater("HTTP 429", 60)
    sent = [await office.test_message("SMS", "+46700000000", "m") for _ in "12"]
    notifier = office.notifier({"SMS": relay})
    await notifier.idle()
    relay.error = None
    for _ in range(5):
        office.wait(11)
        await notifier.idle()
    assert relay.taken == []
    other = await office.test_message("SMS", "+46700000001", "m")
    await notifier.idle()
    assert [m.id for m in relay.taken] == [other]
    office.wait(6)
    await notifier.idle()
    assert {m.id for m in relay.taken} == {*sent, other}


async def test_recipients_that_are_not_taken_now_hold_up_no_other(
    office: Office, mail_server: MailServer
) -> None:
    mail_server.answer = lambda to: "451 greylisted" if to.startswith("grey") else "250 OK"
    grey = [await office.test_message("EMAIL", f"grey{i}@mail.com", "m") for i in range(8)]
    notifier = office.notifier({"EMAIL": smtp(mail_server)})
    await notifier.idle()
    assert {(await office.fate(each)).reason for each in grey} == {"451 greylisted"}
    good = await office.test_message("EMAIL", "joe@mail.com", "m")
    await notifier.idle()
    assert (await office.fate(good)).status == DELIVERED


async def test_a_retry_is_not_held_up_by_one_that_is_under_way(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("heliometer.notifications.outcomes.FIRST_RETRY_S", 0.1)
    slow, other = SlowRelay(), Relay()
    await office.test_message("EMAIL", "joe@mail.com", "m")
    late = await office.test_message("SMS", "+46700000000", "m")
    other.error = ConnectionError("HTTP 503")
    notifier = office.notifier({"EMAIL": slow, "SMS": other})
    running = asyncio.create_task(notifier.run())
    while not (await office.fate(late)).attempts:
        await asyncio.sleep(0.01)
    other.error = None
    office.wait(5)  # its retry is due now; nothing wakes the notifier but time
    async with asyncio.timeout(20):
        await other.took.wait()
    slow.may_end.set()
    running.cancel()
    await asyncio.wait({running})


async def test_of_one_alarm_messages_arrive_in_order(office: Office) -> None:
    relay = Relay()
    method = await office.method("EMAIL", "joe@mail.com")
    alarm = await office.alarm("n", method)
    relay.error = ConnectionError("away")
    notifier = office.notifier({"EMAIL": relay})
    old = U
    for new in (ALARM, OK, ALARM, OK):
        await office.change(alarm, old, new)
        old = new
        await notifier.idle()
        office.wait(1)
    relay.error = None
    for _ in range(5):
        office.wait(900)
        await notifier.idle()
    assert [m.subject for m in relay.taken] == ["[ALARM] n", "[OK] n", "[ALARM] n", "[OK] n"]


@pytest.mark.reliability(9)
async def test_a_crash_after_sending_sends_it_again_with_the_same_id(office: Office) -> None:
    relay = Relay()
    sent = await office.test_message("EMAIL", "joe@mail.com", "m")
    crashed = office.notifier({"EMAIL": relay})
    await crashed.step()  # claims and begins
    await relay.took.wait()  # sent, and never settled
    assert [m.id for m in relay.taken] == [sent]
    again = office.notifier({"EMAIL": relay})
    await again.idle()
    assert len(relay.taken) == 1, "the claim still holds"
    office.wait(121)
    await again.idle()
    assert [m.id for m in relay.taken] == [sent, sent]
    assert (await office.fate(sent)).status == DELIVERED


async def test_what_ends_while_another_message_is_under_way_is_settled(office: Office) -> None:
    slow, quick = SlowRelay(), Relay()
    notifier = office.notifier({"EMAIL": slow, "SMS": quick})
    sent = [await office.test_message("EMAIL", "joe@mail.com", "m")]
    for i in range(2):  # the first is settled before the second ends
        quick.took.clear()
        sent.append(await office.test_message("SMS", f"+4670000000{i}", "m"))
        await notifier.step()
        await quick.took.wait()
        if i == 0:
            while (await office.fate(sent[-1])).status == PENDING:
                await notifier.step()
    await asyncio.sleep(0.01)
    slow.may_end.set()
    await notifier.idle()
    fates = [await office.fate(each) for each in sent]
    assert [(f.status, f.attempts) for f in fates] == [(DELIVERED, 1)] * 3
    assert notifier.counts[DELIVERED] == 3


@pytest.mark.reliability(8)
async def test_an_outbox_that_cannot_be_read_for_a_while_ends_nothing(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("heliometer.notifications.dispatcher.RETRY_S", 0.001)
    relay, failures = Relay(), 0

    async def fail(*_: object) -> None:
        nonlocal failures
        failures += 1
        raise HeliometerError(Code.UNAVAILABLE, "The resource database does not answer.")

    sent = await office.test_message("EMAIL", "joe@mail.com", "m")
    with monkeypatch.context() as away:
        for read in ("claim", "next_due_ms"):
            away.setattr(office.stores.outbox, read, fail)
        notifier = office.notifier({"EMAIL": relay})
        running = asyncio.create_task(notifier.run())
        await eventually_async(lambda: failures > 3 or running.done(), pause_s=0.001)
    assert not running.done()
    await asyncio.wait_for(relay.took.wait(), 60)
    running.cancel()
    await asyncio.wait({running})
    await notifier.close()
    assert (await office.fate(sent)).status == DELIVERED


async def test_two_notifiers_never_send_the_same(office: Office) -> None:
    relay = Relay()
    for i in range(50):
        await office.test_message("EMAIL", f"joe{i}@mail.com", "m")
    one, other = office.notifier({"EMAIL": relay}), office.notifier({"EMAIL": relay})
    await asyncio.gather(one.step(), other.step())
    await asyncio.gather(one.idle(), other.idle())
    office.wait(5)
    await asyncio.gather(one.idle(), other.idle())
    assert len(relay.taken) == len({m.id for m in relay.taken}) == 50


async def test_who_gets_too_much_gets_a_digest(office: Office) -> None:
    relay = Relay()
    method = await office.method("EMAIL", "joe@mail.com")
    alarms = [await office.alarm(f"alarm {i}", method) for i in range(10)]
    notifier = office.notifier({"EMAIL": relay}, per_address_per_hour=3, digest_interval=600)
    for alarm in alarms[:3]:
        await office.change(alarm, U, ALARM)
        await notifier.idle()
    for alarm in alarms[3:]:
        await office.change(alarm, U, ALARM)
    await office.change(alarms[3], ALARM, OK)
    await notifier.idle()
    assert [m.subject for m in relay.taken] == [f"[ALARM] alarm {i}" for i in range(3)]
    office.wait(601)
    await notifier.idle()
    assert relay.taken[3].subject == "[digest] 8 changes of 7 alarms"
    assert relay.taken[3].text.index("alarm 3") < relay.taken[3].text.index("alarm 9")
    (entry, *_) = await office.alarms.history(PROJECT, alarms[9], None, 10)
    assert entry.deliveries[0].status == DELIVERED
    assert entry.deliveries[0].reason.startswith("in digest ")
    office.wait(3601)
    await office.change(alarms[9], ALARM, OK)
    await notifier.idle()
    assert relay.taken[4].subject == "[OK] alarm 9"


async def test_flapping_tells_nobody_until_it_calms_down(office: Office) -> None:
    relay = Relay()
    method = await office.method("EMAIL", "joe@mail.com")
    alarm = await office.alarm("n", method)
    notifier = office.notifier({"EMAIL": relay})
    for old, new in ((U, FLAPPING), (FLAPPING, OK), (OK, FLAPPING), (FLAPPING, ALARM)):
        await office.change(alarm, old, new)
        await notifier.idle()
    assert [m.subject for m in relay.taken] == ["[ALARM] n"]
    history = await office.alarms.history(PROJECT, alarm, None, 10)
    withheld = [d.reason for e in history for d in e.deliveries if d.status == WITHHELD]
    assert withheld == ["the alarm is flapping"]


async def test_a_code_is_made_when_it_is_sent(office: Office) -> None:
    relay = Relay()
    office.codes["a1"] = ("0123456789", "long-code")
    message = await office.test_message("EMAIL", "joe@mail.com", "m")
    fate = await office.fate(message)
    for address_id in ("a1", "gone"):
        code = Delivery.new(
            "code", PROJECT, "EMAIL", "joe@mail.com", fate.created_ms,
            payload={"address_id": address_id, "project_name": "shop"},
        )  # fmt: skip
        await office.stores.outbox.enqueue([replace(code, id=address_id)])
    await office.notifier({"EMAIL": relay}).idle()
    (mail,) = [m for m in relay.taken if m.kind == "code"]
    assert "0123456789" in mail.text
    assert "long-code" in html(mail)
    assert "0123456789" in mail.short
    assert (await office.fate("gone")).status == WITHHELD
    kept = await office.fate("a1")
    assert "0123456789" not in str(kept)


async def test_a_type_that_is_not_served_is_given_up(office: Office) -> None:
    sent = await office.test_message("APPRISE", "slack://x", "m")
    await office.notifier({}).idle()
    assert (await office.fate(sent)).status == FAILED


async def test_a_hopeless_refusal_is_not_repeated(office: Office) -> None:
    relay = Relay()
    relay.error = Rejected("HTTP 410")
    sent = await office.test_message("EMAIL", "joe@mail.com", "m")
    await office.notifier({"EMAIL": relay}).idle()
    fate = await office.fate(sent)
    assert (fate.status, fate.reason, fate.attempts) == (FAILED, "HTTP 410", 1)


def test_the_default_ways_write_into_the_data_directory(tmp_path: object) -> None:
    settings = Settings()
    assert settings.email.url == "maildir:"
    assert settings.sms.url == "folder:"


async def test_what_waits_can_be_alarmed_on(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    watch = BacklogWatch(office.stores.log, lambda: office.now_ms / 1000)
    await watch.look()
    assert (watch.waiting(), watch.age_s()) == (0, 0)
    await office.test_message("EMAIL", "joe@mail.com", "m")
    office.wait(100)
    await office.test_message("EMAIL", "jane@mail.com", "m")
    await watch.look()
    assert (watch.waiting(), watch.age_s()) == (2, 100)

    async def fail() -> None:
        raise HeliometerError(Code.UNAVAILABLE, "The resource database does not answer.")

    with monkeypatch.context() as away:
        away.setattr(office.stores.log, "backlog", fail)
        office.wait(50)
        await watch.look()
        assert (watch.waiting(), watch.age_s()) == (2, 150)
    await office.notifier({"EMAIL": Relay()}).idle()
    await watch.look()
    assert (watch.waiting(), watch.age_s()) == (0, 0)
