"""What processes tell each other, judged without a broker: who is there, who is missing, what is
looked at again."""

import asyncio
import time
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from heliometer.cluster import events as module
from heliometer.cluster import health as roll_module
from heliometer.cluster import stall_detector as pulse_module
from heliometer.cluster.events import Changes, Member, Membership, _until_done
from heliometer.cluster.health import NEEDED, ClusterHealth
from heliometer.cluster.stall_detector import StallDetector
from heliometer.core.errors import Code, HeliometerError


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

    for each in (module, roll_module, pulse_module):
        monkeypatch.setattr(each.time, "monotonic", lambda: real() + passed)
    return add


@pytest.fixture
def members() -> Membership:
    return Membership(Changes("me"), lambda: member("me"))


def tell(members: Membership, *found: Member) -> None:
    for each in found:
        members._heard(msgspec.to_builtins(each))


def test_nobody_is_missing_when_all_roles_and_parts_are_taken(members: Membership) -> None:
    roll = ClusterHealth(members, 2)
    tell(members, member("a", *NEEDED, parts=[0, 1], of=2))
    assert roll.missing() == []
    assert roll.is_punctual()


def test_a_role_that_nobody_has_is_missing(members: Membership) -> None:
    tell(members, member("a", "api", "feed", "notifier"), member("b", "collector"))
    roll = ClusterHealth(members, 1)
    assert roll.missing() == ["no process has the role evaluator"]
    assert not roll.is_punctual()


def test_a_part_is_missed_only_after_a_while(
    members: Membership, now: Callable[[float], None]
) -> None:
    roll = ClusterHealth(members, 3)
    tell(members, member("a", *NEEDED, parts=[0]))
    assert roll.missing() == []
    now(roll_module.ORPHANED_S - 1)
    tell(members, member("a", *NEEDED, parts=[0, 2]))
    assert roll.missing() == []
    now(2)
    tell(members, member("a", *NEEDED, parts=[0]))
    assert roll.missing() == ["1 of 3 parts have no owner"]


def test_a_process_that_is_silent_is_gone(
    members: Membership, now: Callable[[float], None]
) -> None:
    tell(members, member("a", "api"), member("b", "api"))
    now(module.GONE_S - 1)
    tell(members, member("b", "api"))
    now(2)
    assert members.names("api") == {"b"}
    members._left("b")
    assert members.all() == []


def test_who_has_another_number_of_parts_is_told(members: Membership) -> None:
    roll = ClusterHealth(members, 2)
    tell(members, member("a", *NEEDED, parts=[0, 1], of=2), member("b", "api", of=4, parts=[3]))
    assert roll.missing() == ["bus.partitions is 2 here, and 4 for process 1 on host"]
    assert roll.missing() == roll.missing()  # part 3 is none of ours


def test_what_is_late_is_told(members: Membership) -> None:
    tell(members, member("a", *NEEDED, parts=[0], lag_s=roll_module.LATE_S + 1))
    assert ClusterHealth(members, 1).missing() == ["measurements are stored 61 s late"]


def test_a_process_that_stood_still_doubts(now: Callable[[float], None]) -> None:
    pulse = StallDetector()
    now(pulse_module.FROZEN_S - 1)
    assert not pulse.is_doubtful
    now(pulse_module.FROZEN_S + 1)
    assert pulse.is_doubtful
    assert pulse.is_doubtful  # for a while: the connection's end is not noticed at once
    now(pulse_module.FROZEN_S - 1)
    assert pulse.is_doubtful
    now(pulse_module.FROZEN_S - 1)
    assert not pulse.is_doubtful


def test_it_is_looked_again_while_something_does_not_answer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "FIRST_RETRY_S", 0.001)
    looks: list[Any] = []

    async def look(content: Any) -> None:
        looks.append(content)
        if len(looks) < 3:
            raise HeliometerError(Code.UNAVAILABLE, "Not now.")

    asyncio.run(_until_done("a change", look, "what"))
    assert looks == ["what"] * 3


@pytest.mark.parametrize(
    "error", [HeliometerError(Code.NOT_FOUND, "Gone."), TypeError(), KeyError("x"), ValueError()]
)
def test_what_cannot_be_looked_at_ends_nothing(error: Exception) -> None:
    def look(_: Any) -> None:
        raise error

    asyncio.run(_until_done("a change", look, "what"))


@pytest.mark.parametrize("error", [HeliometerError(Code.INTERNAL, "Odd."), TypeError()])
def test_what_others_wait_for_is_looked_at_until_it_is(
    monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    monkeypatch.setattr(module, "FIRST_RETRY_S", 0.001)
    errors = [error, error]

    def look() -> None:
        if errors:
            raise errors.pop()

    asyncio.run(_until_done("what was changed meanwhile", look, insist=True))
    assert not errors
