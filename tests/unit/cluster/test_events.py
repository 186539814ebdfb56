"""What processes tell each other, judged without a broker: who is there, who is missing, what is
looked at again."""

import asyncio
import time
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from heliometer.cluster import event_bus as module
from heliometer.cluster import health as health_module
from heliometer.cluster import membership as membership_module
from heliometer.cluster import stall_detector as stall_module
from heliometer.cluster.doctor import processes
from heliometer.cluster.event_bus import EventBus, until_handled
from heliometer.cluster.events import (
    AlarmChanged,
    AlarmName,
    AnyEvent,
    EndpointChanged,
    Event,
    Handled,
    Member,
    MemberHere,
    MemberLeft,
    MessagesStored,
    MessageStored,
    MetersChanged,
    OutboxFilled,
    ProjectUsage,
    SeriesStored,
    SubscriptionsChanged,
    UsageAnswered,
    UsageAsked,
    UsageQuestion,
    decode,
    encode,
)
from heliometer.cluster.health import NEEDED, ClusterHealth
from heliometer.cluster.membership import Membership
from heliometer.cluster.stall_detector import StallDetector
from heliometer.config import ClusterSettings, Settings
from heliometer.core.errors import Code, HeliometerError
from heliometer.core.finding import FAIL, OK, WARN
from heliometer.feed.model import Usage
from heliometer.metrics.model import Series


def member(name: str, *roles: str, **more: Any) -> Member:
    return Member(name, list(roles), "host", 1, "0", "http://host", **more)


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Lets seconds pass."""
    passed = 0.0
    real = time.monotonic

    def add(seconds: float) -> None:
        nonlocal passed
        passed += seconds

    for each in (membership_module, health_module, stall_module):
        monkeypatch.setattr(each.time, "monotonic", lambda: real() + passed)
    return add


@pytest.fixture
def members() -> Membership:
    return Membership(EventBus("me"), lambda: member("me"))


def tell(members: Membership, *found: Member) -> None:
    for each in found:
        members.heard_of(MemberHere(each))


def test_nobody_is_missing_when_all_roles_and_parts_are_taken(
    members: Membership, now: Callable[[float], None]
) -> None:
    health = ClusterHealth(members, 2)
    tell(members, member("a", *NEEDED, parts=[0, 1], of=2))
    assert health.missing() == []
    members.connected()
    assert not health.is_punctual()  # others may have been silent
    now(membership_module.KNOWN_S + 1)
    tell(members, member("a", *NEEDED, parts=[0, 1], of=2))
    assert health.is_punctual()


def test_a_role_that_nobody_has_is_missing(members: Membership) -> None:
    tell(members, member("a", "api", "feed", "notifier"), member("b", "collector"))
    health = ClusterHealth(members, 1)
    assert health.missing() == ["no process has the role evaluator"]
    assert not health.is_punctual()


async def test_without_a_connection_it_is_unknown_who_is_there(
    members: Membership, now: Callable[[float], None]
) -> None:
    health = ClusterHealth(members, 1)
    members.connected()
    with pytest.raises(HeliometerError, match="not known which processes run"):
        await health.ping()
    now(membership_module.KNOWN_S + 1)
    with pytest.raises(HeliometerError, match="no process has the role api"):
        await health.ping()
    all_roles = member("a", *NEEDED, parts=[0], failed={"email": "down"})
    tell(members, all_roles)
    await health.ping()
    assert health.running() == dict.fromkeys(NEEDED, 1)
    assert list(members.failed_elsewhere()) == ["email"]

    members.disconnected()
    now(10 * membership_module.GONE_S)
    with pytest.raises(HeliometerError, match="not known which processes run"):
        await health.ping()
    assert health.running() == {}
    assert not health.is_punctual()
    assert members.failed_elsewhere() == {}
    # Changes are acknowledged by those that were there, once they can be told again.
    assert members.names("evaluator") == {"a"}

    members.connected()
    now(membership_module.KNOWN_S + 1)
    tell(members, all_roles)
    await health.ping()
    now(membership_module.GONE_S + 1)
    with pytest.raises(HeliometerError, match="no process has the role api"):
        await health.ping()


def test_a_lost_second_evaluator_is_missed_if_it_is_expected(members: Membership) -> None:
    tell(members, member("a", *NEEDED, parts=[0]))
    assert ClusterHealth(members, 1).missing() == []
    health = ClusterHealth(members, 1, {"evaluator": 2, "collector": 1, "feed": 0})
    assert health.missing() == [
        "1 of 2 processes with the role evaluator are there", "no process has the role collector",
    ]  # fmt: skip
    tell(members, member("b", "evaluator", "collector"))
    assert health.missing() == []
    members.left(MemberLeft("a"))
    assert "no process has the role feed" not in health.missing()


def test_a_part_is_missed_only_after_a_while(
    members: Membership, now: Callable[[float], None]
) -> None:
    health = ClusterHealth(members, 3)
    tell(members, member("a", *NEEDED, parts=[0]))
    assert health.missing() == []
    now(health_module.ORPHANED_S - 1)
    tell(members, member("a", *NEEDED, parts=[0, 2]))
    assert health.missing() == []
    now(2)
    tell(members, member("a", *NEEDED, parts=[0]))
    assert health.missing() == ["1 of 3 shards have no owner"]


def test_a_process_that_is_silent_is_gone(
    members: Membership, now: Callable[[float], None]
) -> None:
    tell(members, member("a", "api"), member("b", "api"))
    now(membership_module.GONE_S - 1)
    tell(members, member("b", "api"))
    now(2)
    assert members.names("api") == {"b"}
    members.left(MemberLeft("b"))
    assert members.all() == []


def test_who_has_another_number_of_parts_is_told(members: Membership) -> None:
    health = ClusterHealth(members, 2)
    tell(members, member("a", *NEEDED, parts=[0, 1], of=2), member("b", "api", of=4, parts=[3]))
    assert health.missing() == ["bus.partitions is 2 here, and 4 for process 1 on host"]
    assert health.missing() == health.missing()  # part 3 is none of ours


def test_what_is_late_is_told(members: Membership) -> None:
    tell(members, member("a", *NEEDED, parts=[0], lag_s=health_module.LATE_S + 1))
    assert ClusterHealth(members, 1).missing() == ["measurements are stored 61 s late"]


def test_a_process_that_stood_still_doubts(now: Callable[[float], None]) -> None:
    stalled = StallDetector()
    now(stall_module.FROZEN_S - 1)
    assert not stalled.is_doubtful
    now(stall_module.FROZEN_S + 1)
    assert stalled.is_doubtful
    assert stalled.is_doubtful  # for a while: the connection's end is not noticed at once
    now(stall_module.FROZEN_S - 1)
    assert stalled.is_doubtful
    now(stall_module.FROZEN_S - 1)
    assert not stalled.is_doubtful


def test_it_is_looked_again_while_something_does_not_answer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "FIRST_RETRY_S", 0.001)
    looks: list[Event] = []
    event = SubscriptionsChanged("p")

    async def look(event: SubscriptionsChanged) -> None:
        looks.append(event)
        if len(looks) < 3:
            raise HeliometerError(Code.UNAVAILABLE, "Not now.")

    asyncio.run(until_handled("an event", look, event))
    assert looks == [event] * 3


@pytest.mark.parametrize(
    "error", [HeliometerError(Code.NOT_FOUND, "Gone."), TypeError(), KeyError("x"), ValueError()]
)
def test_what_cannot_be_looked_at_ends_nothing(error: Exception) -> None:
    def look(_: Event) -> None:
        raise error

    asyncio.run(until_handled("an event", look, SubscriptionsChanged("p")))


@pytest.mark.parametrize("error", [HeliometerError(Code.INTERNAL, "Odd."), TypeError()])
def test_what_others_wait_for_is_looked_at_until_it_is(
    monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    monkeypatch.setattr(module, "FIRST_RETRY_S", 0.001)
    errors = [error, error]

    def look() -> None:
        if errors:
            raise errors.pop()

    asyncio.run(until_handled("what changed meanwhile", look, insist=True))
    assert not errors


@pytest.mark.parametrize(
    ("event", "wire"),
    [
        (Handled(("t", "me")), ["heard", ["t", "me"], "", ""]),
        (SubscriptionsChanged("p", reply_to="q", token="t"), ["subscriptions", "p", "q", "t"]),
        (AlarmChanged(AlarmName("p", "a")), ["alarm", {"project": "p", "alarm": "a"}, "", ""]),
        (OutboxFilled(), ["outbox", None, "", ""]),
        (
            MemberHere(Member("me", ["api"], "host", 1, "0", "url", [3], 1.5, {"a": "b"}, 8)),
            [
                "here",
                {
                    "name": "me",
                    "roles": ["api"],
                    "host": "host",
                    "pid": 1,
                    "version": "0",
                    "url": "url",
                    "parts": [3],
                    "lag_s": 1.5,
                    "failed": {"a": "b"},
                    "of": 8,
                },
                "",
                "",
            ],
        ),
        (MemberLeft("me"), ["gone", "me", "", ""]),
        (EndpointChanged("p"), ["endpoint", "p", "", ""]),
        (MetersChanged("p"), ["meters", "p", "", ""]),
        (UsageAsked(UsageQuestion("p", "q")), ["ask usage", ["p", "q"], "", ""]),
        (
            SeriesStored([Series(7, "p", "ns", (("host", "a"),))]),
            ["series", [[7, "p", "ns", [["host", "a"]]]], "", ""],
        ),
        (
            MessagesStored([MessageStored("m", {"key": "why"})]),
            ["stored", [["m", {"key": "why"}]], "", ""],
        ),
        (
            UsageAnswered(ProjectUsage("p", Usage(5, 1, 2, 2, 0))),
            ["usage", ["p", [5, 1, 2, 2, 0]], "", ""],
        ),
    ],
)
def test_events_keep_their_encoded_form(event: AnyEvent, wire: list[object]) -> None:
    """Processes of two versions understand each other while a cluster is upgraded."""
    assert msgspec.msgpack.decode(encode(event)) == wire
    assert decode(msgspec.msgpack.encode([*wire, "what a later version adds"])) == event


@pytest.mark.parametrize("wire", [["unheard of", 1, "", ""], ["alarm", "a", "", ""], "gone", {}])
def test_events_of_another_version_are_refused(wire: object) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        decode(msgspec.msgpack.encode(wire))


def test_the_doctor_names_processes_by_their_own_addresses(members: Membership) -> None:
    settings = Settings(cluster=ClusterSettings(expected="evaluator=2"))
    assert [(f.level, f.message) for f in processes(members, settings)] == [
        (WARN, "no process of the cluster runs")
    ]
    every = list(range(settings.bus.partitions))
    tell(members, member("a", *NEEDED, parts=every), member("b", "api", failed={"tasks": "x"}))
    found = processes(members, settings)
    assert [f.level for f in found] == [OK, FAIL, FAIL]
    assert "http://host" in found[0].message
    assert "tasks: x" in found[1].message
    assert found[2].message == "1 of 2 processes with the role evaluator are there"
