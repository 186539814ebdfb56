"""What was decided, on its way into the resource database: in order, and until it is there."""

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Sequence

from heliometer.alarms.clock import Clock
from heliometer.alarms.model import Alarm, Outcome, Resumed, State
from heliometer.alarms.ports import EvaluationStore, Superseded
from heliometer.core.errors import HeliometerError
from heliometer.projects.model import ProjectShard

log = logging.getLogger(__name__)

RETRY_S = 5.0

Committed = Callable[[Outcome, Sequence[str]], None]
"""Called with a durable outcome, and the ids of alarms whose transitions were left out."""
NameCauses = Callable[[Outcome], Awaitable[Outcome]]
"""Adds to each finding the series that caused it."""


class CommitQueue:
    """Commits outcomes one after the other.

    An outcome stays in the queue until its commit is answered. A lost answer is harmless: the
    store recognises what it recorded before.
    """

    def __init__(
        self,
        store: EvaluationStore,
        shard: ProjectShard,
        clock: Clock,
        name_causes: NameCauses,
        committed: Committed,
    ) -> None:
        self._store = store
        self._shard = shard
        self._clock = clock
        self._name_causes = name_causes
        self._committed = committed
        self._fencing_token = 0
        self._outcomes: deque[Outcome] = deque()
        self._has_some = asyncio.Event()
        self._is_empty = asyncio.Event()
        self._is_empty.set()

    def __len__(self) -> int:
        return len(self._outcomes)

    def put(self, outcome: Outcome) -> None:
        """Add what was decided after everything in the queue."""
        self._outcomes.append(outcome)
        self._is_empty.clear()
        self._has_some.set()

    async def emptied(self) -> None:
        """Return when everything is committed."""
        await self._is_empty.wait()

    def states_to_come(self, alarms: Iterable[Alarm]) -> dict[str, State]:
        """The alarms' states as they are stored, and as what is in the queue will change them."""
        state = {alarm.id: alarm.state for alarm in alarms}
        for outcome in self._outcomes:
            for transition in outcome.transitions:
                if state.get(transition.alarm_id) is transition.old:
                    state[transition.alarm_id] = transition.new
        return state

    async def take_over(self, changed_since_ms: int, from_ms: int) -> Resumed:
        """Become the only one to commit for the shard (``EvaluationStore.resume``)."""
        resumed = await self._store.resume(changed_since_ms, self._shard, from_ms=from_ms)
        self._fencing_token = resumed.fencing_token
        return resumed

    async def run(self) -> None:
        """Commit what is put until cancelled. Raises Superseded when the shard has another
        owner."""
        while True:
            await self._has_some.wait()
            try:
                # Should we be cancelled here, ``close`` has the outcome, with causes or without.
                self._outcomes[0] = await self._name_causes(self._outcomes[0])
            except Exception:
                log.exception("the series behind a transition cannot be named")
            await self._commit_first()

    async def close(self) -> None:
        """Commit what is left, each once, while ``run`` is not running.

        Nothing is committed after something that failed: the next owner continues after the last
        minute that was committed, and would never evaluate the one that failed.
        """
        while self._outcomes:
            try:
                await self._store.commit(self._outcomes[0], self._shard, self._fencing_token)
            except Superseded:
                break
            except Exception as error:
                # Whatever it is: the next owner evaluates it again, and the rest must be closed.
                unexpected = not isinstance(error, HeliometerError)
                log.error("a transition is left for the next start: %s", error, exc_info=unexpected)
                break
            self._outcomes.popleft()

    async def _commit_first(self) -> None:
        """Until it succeeds: what was decided is neither lost nor overtaken."""
        outcome, is_logged = self._outcomes[0], False
        while True:
            try:
                left_out = await self._store.commit(outcome, self._shard, self._fencing_token)
                break
            except HeliometerError as error:
                if not is_logged:
                    log.error("transitions wait for the resource store: %s", error.message)
                    is_logged = True
                await self._clock.sleep(RETRY_S)
        self._outcomes.popleft()
        if not self._outcomes:
            self._has_some.clear()
            self._is_empty.set()
        if outcome.transitions:
            log.info("%d alarms changed", len(outcome.transitions) - len(left_out))
        self._committed(outcome, left_out)
