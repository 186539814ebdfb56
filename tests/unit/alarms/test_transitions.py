"""Which transitions of an outcome are recorded, given the alarms as they are stored."""

from heliometer.alarms.model import Alarm, State, Transition
from heliometer.alarms.transitions import applicable, is_change

U, OK, ALARM, FLAPPING = State.UNDETERMINED, State.OK, State.ALARM, State.FLAPPING


def stored(state: State, since_ms: int = 0, alarm_id: str = "a") -> Alarm:
    return Alarm(alarm_id, "p", "n", "ns > 1", "max(ns) > 1", 1, 1, state, since_ms)


def change(old: State, new: State, at: int, alarm_id: str = "a") -> Transition:
    return Transition(alarm_id, at, at, old, new, False, ())


def test_a_chain_of_changes_applies_as_a_whole() -> None:
    chain = [change(U, ALARM, 1000), change(ALARM, OK, 2000)]
    found = applicable(chain, [stored(U)])
    assert [t for t, _ in found.transitions] == chain
    assert found.final() == {"a": chain[-1]}
    assert found.rejected == []


def test_the_alarms_of_what_does_not_apply_are_told() -> None:
    lost = [change(OK, ALARM, 1000, "gone"), change(OK, ALARM, 1000)]
    found = applicable(lost, [stored(U)])
    assert (list(found.transitions), list(found.rejected)) == ([], ["gone", "a"])


def test_what_was_recorded_before_is_neither_recorded_again_nor_rejected() -> None:
    chain = [change(OK, ALARM, 1000), change(ALARM, OK, 2000), change(OK, ALARM, 3000)]
    found = applicable(chain, [stored(OK, since_ms=2000)])
    assert [t for t, _ in found.transitions] == chain[2:]
    assert found.rejected == []


def test_the_same_state_at_another_time_is_another_transition() -> None:
    found = applicable([change(U, ALARM, 2000)], [stored(ALARM, since_ms=1000)])
    assert list(found.rejected) == ["a"]


def test_calming_down_is_no_change() -> None:
    assert not is_change(FLAPPING, ALARM)
    assert is_change(FLAPPING, OK)
    assert is_change(OK, ALARM)
