"""The states of all watched alarms, and when they change."""

from collections import deque
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from heliometer.alarms.engine.model import Rules
from heliometer.alarms.engine.truth import FALSE, TRUE, UNKNOWN, Truths
from heliometer.alarms.model import State
from heliometer.alarms.transitions import is_change
from heliometer.metrics.model import Int64s

STATES = (State.UNDETERMINED, State.OK, State.ALARM, State.FLAPPING)
NUMBER = {state: i for i, state in enumerate(STATES)}
UNDETERMINED, OK, ALARM, FLAPPING = range(4)
"""States as the arrays hold them: positions in ``STATES``. An alarm is on from ALARM upwards."""


class States:
    """The states of alarms and the counts that decide their changes, by the alarm's number."""

    def __init__(self, rules: Rules) -> None:
        self._rules = rules
        self._state = np.zeros(0, np.int8)
        self._unknown = np.zeros(0, np.int64)
        """Consecutive evaluations in which the expression was unknown."""
        self._patience = np.zeros(0, np.int64)
        """How many of them make the alarm UNDETERMINED."""
        self._ahead = np.zeros(0, np.int64)
        """The minute for which an alarm went off at once; it is not judged again before then."""
        self._flapping: set[int] = set()
        self._changes: dict[int, deque[int]] = {}
        """Times of the latest changes in milliseconds, oldest first."""

    def add(self, number: int, state: State, patience: int, changes: Iterable[int]) -> None:
        """Start with an alarm; the number of a removed alarm may be reused."""
        if number >= len(self._state):
            more = (0, max(64, len(self._state)))
            self._state = np.pad(self._state, more)
            self._unknown = np.pad(self._unknown, more)
            self._patience = np.pad(self._patience, more)
            self._ahead = np.pad(self._ahead, more)
        self._changes[number] = deque(changes)
        self._set(number, NUMBER[state])
        self._unknown[number] = self._ahead[number] = 0
        self._patience[number] = patience

    def remove(self, number: int) -> None:
        """Forget an alarm; its number may be reused."""
        self._flapping.discard(number)
        del self._changes[number]

    def put(self, number: int, state: State) -> None:
        """Take over a state that was decided elsewhere."""
        if self._state[number] != NUMBER[state]:
            self._unknown[number] = 0
            self._set(number, NUMBER[state])

    def state(self, number: int) -> State:
        """The state that an alarm is in."""
        return STATES[self._state[number]]

    def not_in_alarm(self, numbers: set[int]) -> set[int]:
        """Those of the alarms that are neither in ALARM nor in FLAPPING."""
        at = np.fromiter(numbers, np.int64, len(numbers))
        return set(at[self._state[at] < ALARM].tolist())

    def unknown(self, number: int) -> int:
        """Consecutive evaluations in which the expression was unknown."""
        return int(self._unknown[number])

    def patience(self, number: int) -> int:
        """How many of them make the alarm UNDETERMINED."""
        return int(self._patience[number])

    def changes(self, number: int) -> tuple[int, ...]:
        """Times of the latest changes in milliseconds, oldest first."""
        return tuple(self._changes[number])

    # -- deciding -----------------------------------------------------------------------------

    def step(
        self, numbers: Int64s, truth: Truths, minute: int, *, excused: NDArray[np.bool_]
    ) -> list[tuple[int, int]]:
        """Count unknown evaluations, unless they are ``excused``; returns the alarms that are to
        change, with their new states."""
        behind = self._ahead[numbers] > minute
        if behind.any():
            numbers, truth, excused = numbers[~behind], truth[~behind], excused[~behind]
        state = self._state[numbers]
        is_unknown = truth == UNKNOWN
        unknown = np.where(is_unknown, self._unknown[numbers] + ~excused, 0)
        self._unknown[numbers] = unknown
        new = np.full(len(numbers), -1, np.int8)
        new[(truth == TRUE) & (state != ALARM) & (state != FLAPPING)] = ALARM
        new[(truth == FALSE) & (state != OK)] = OK
        new[is_unknown & (unknown >= self._patience[numbers]) & (state != UNDETERMINED)] = (
            UNDETERMINED
        )
        at = np.flatnonzero(new >= 0)
        return list(zip(numbers[at].tolist(), new[at].tolist(), strict=True))

    def calmed(self, now_ms: int) -> list[int]:
        """Flapping alarms that have changed rarely enough lately."""
        return [number for number in self._flapping if self._is_calm(number, now_ms)]

    def change(self, number: int, new: int, now_ms: int) -> tuple[State, State]:
        """Change a state; returns the old and the new one, which is FLAPPING instead of ALARM where
        the alarm has changed too often lately."""
        old = int(self._state[number])
        if is_change(STATES[old], STATES[new]):
            self._changes[number].append(now_ms)
            if new == ALARM and not self._is_calm(number, now_ms):
                new = FLAPPING
        self._set(number, new)
        return STATES[old], STATES[new]

    def went_off(self, number: int, minute: int) -> None:
        """An alarm went off at once: do not judge it again before ``minute``."""
        self._unknown[number] = 0
        self._ahead[number] = minute

    def _set(self, number: int, state: int) -> None:
        self._state[number] = state
        if state == FLAPPING:
            self._flapping.add(number)
        else:
            self._flapping.discard(number)

    def _is_calm(self, number: int, now_ms: int) -> bool:
        changes = self._changes[number]
        while changes and changes[0] <= now_ms - self._rules.flapping_span_s * 1000:
            changes.popleft()
        return len(changes) <= self._rules.flapping_changes

    # -- restarts -----------------------------------------------------------------------------

    def counting(self) -> dict[int, int]:
        """The unknown evaluations of each alarm that is about to become UNDETERMINED, by number;
        removed alarms may be included."""
        at = np.flatnonzero((self._unknown > 0) & (self._state != UNDETERMINED))
        return dict(zip(at.tolist(), self._unknown[at].tolist(), strict=True))

    def ahead(self, evaluated: int) -> dict[int, int]:
        """The future minutes before which alarms are not judged again, by number; removed alarms
        may be included."""
        at = np.flatnonzero(self._ahead > evaluated)
        return dict(zip(at.tolist(), self._ahead[at].tolist(), strict=True))

    def restore(self, number: int, *, unknown: int | None = None, ahead: int | None = None) -> None:
        """Restore an alarm from the values of ``counting`` and ``ahead``."""
        if unknown is not None:
            self._unknown[number] = unknown
        if ahead is not None:
            self._ahead[number] = ahead
