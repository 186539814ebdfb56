"""The loop of the evaluator role: feeds the engine, evaluates each minute, commits what it decides.

The engine knows neither clock nor store; everything of that kind is here. It runs in one thread of
its own, one call after the other, so that evaluating a hundred thousand alarms holds up nobody who
posts.
"""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, suppress
from dataclasses import dataclass
from functools import partial
from typing import Protocol, TypeVar

from heliometer.alarms.dry_run import Replay, replay
from heliometer.alarms.engine.causes import Causes
from heliometer.alarms.engine.engine import CAUGHT_UP, Engine, Explanation, Need, Rules, Watched
from heliometer.alarms.expression import Expression, parse, subexpressions
from heliometer.alarms.model import Alarm, Outcome, State
from heliometer.alarms.ports import EvaluationStore, Superseded
from heliometer.config import AlarmSettings
from heliometer.core.errors import Code, HeliometerError, Invalid
from heliometer.metrics.model import Batch, Series
from heliometer.metrics.ports import MeasurementReader, Stored
from heliometer.metrics.series_index import SeriesIndex
from heliometer.metrics.validation import FUTURE_MS
from heliometer.projects.model import ALL_PROJECTS, ProjectShard

log = logging.getLogger(__name__)

MINUTE_MS = 60_000
PUNCTUAL_MS = 30_000
"""A minute that could not be evaluated within this time after it was due was missed: the service
was away, and nothing may be concluded from what did not arrive then."""
STEP_MS = 60_000
"""The wall clock was set when it differs by more from the steady one."""
AHEAD_MS = 300_000
"""Another process, whose clock was ahead of this one, may have evaluated minutes to come."""
LOOK_S = 5.0
"""Seconds between two looks at the clock, which may be set while the loop waits."""
RETRY_S, LAST_RETRY_S = 5.0, 30.0
FILL_ROWS = 20_000_000
"""Measurements, at one a minute and series, that are read at most for new alarms; what is older
stays unknown to them."""
SERIES_PER_READ = 10_000
REPLAY_ROWS = 5_000_000
"""Measurements that a dry run may read, at one a minute and series."""

Clock = Callable[[], float]
T = TypeVar("T")


class Source(Protocol):
    """What stores measurements (``ingest.writer.Writer``)."""

    def listen(self, stored: Stored) -> None: ...
    def quiet(self) -> AbstractAsyncContextManager[None]: ...


@dataclass(eq=False, slots=True)
class _Doubt:
    """A reason to look at an alarm; whatever may have changed it since is another one."""

    project_id: str


class Evaluator:
    """Watches all alarms of a share of the projects.

    ``committed`` is called when transitions, and what they queue, are durable.
    """

    def __init__(
        self,
        store: MeasurementReader,
        series_index: SeriesIndex,
        writer: Source,
        alarms: EvaluationStore,
        settings: AlarmSettings,
        clock: Clock,
        *,
        share: ProjectShard = ALL_PROJECTS,
        committed: Callable[[], None] = lambda: None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        steady: Clock = time.monotonic,
    ) -> None:
        self._store = store
        self._series_index = series_index
        self._writer = writer
        self._alarms = alarms
        self._share = share
        self._fencing_token = 0
        self._grace_ms = settings.grace * 1000
        self._rules = Rules(
            at_once=settings.at_once,
            flapping_changes=settings.flapping_changes,
            flapping_span_s=settings.flapping_span,
        )
        self._clock = clock
        self._steady = steady
        self._sleep = sleep
        self._committed = committed
        self._engine = Engine(self._rules)
        self._causes = Causes(store, series_index)
        self._thread = ThreadPoolExecutor(1, "alarms")
        self._replays = ThreadPoolExecutor(1, "dry-run")
        self._turn = asyncio.Lock()
        self._stored: list[tuple[Batch, Sequence[Series]]] = []
        self._stored_here = asyncio.Event()
        self._to_watch: dict[str, Alarm] = {}
        self._watching = asyncio.Lock()
        self._outcomes: deque[Outcome] = deque()
        """What was decided, in order. It stays here until it is committed."""
        self._decided = asyncio.Event()
        """Set while there is some."""
        self._all_committed = asyncio.Event()
        """Set while there is none."""
        self._all_committed.set()
        self._watched: dict[str, tuple[str, Expression]] = {}
        """Each watched alarm's project and expression."""
        self._doubts: dict[str, _Doubt] = {}
        """Alarms of which the engine may not know what is stored."""
        self._doubted = asyncio.Event()
        self._evaluated_ms = 0
        self._blind_until_ms = 0
        self._drift_ms = 0.0
        self._failed = False
        """Whether the newest evaluation did."""
        self.lag_s = 0.0
        """From the time that the newest evaluation was due until it was committed, in seconds."""
        self.seconds = 0.0
        """That the newest evaluation took."""
        self.missed = 0
        """Minutes that were not evaluated in time since the start."""

    def __len__(self) -> int:
        return len(self._engine)

    @property
    def is_punctual(self) -> bool:
        """Whether the newest evaluation succeeded and is no older than two minutes."""
        age_ms = self.now_ms() - self._evaluated_ms
        return not self._failed and age_ms < 2 * MINUTE_MS + self._grace_ms + PUNCTUAL_MS

    @property
    def due_ms(self) -> int:
        """When the next minute is to be evaluated."""
        return self._evaluated_ms + MINUTE_MS + self._grace_ms

    async def ping(self) -> None:
        """For the health check: raise UNAVAILABLE unless alarms are evaluated in time."""
        if not self.is_punctual:
            raise HeliometerError(Code.UNAVAILABLE, "Alarms are not evaluated in time.")

    @property
    def uncommitted(self) -> int:
        """Outcomes that wait for the resource store."""
        return len(self._outcomes)

    def now_ms(self) -> int:
        """Now, in milliseconds since the epoch."""
        return int(self._clock() * 1000)

    # -- life ---------------------------------------------------------------------------------

    async def start(self) -> None:
        """Take up all alarms where the last process left them, before anything is stored anew."""
        await self._load()
        self._writer.listen(self._take)

    async def run(self) -> None:
        """Evaluate each minute until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._evaluate_each_minute(), name="evaluation")
            group.create_task(self._watch_arrivals(), name="at once")
            group.create_task(self._commit_outcomes(), name="transitions")
            group.create_task(self._look_again(), name="doubts")

    async def close(self) -> None:
        """Commit what is decided, once, and let the threads end. ``run`` must have ended.

        What follows something that cannot be committed is not: who goes on starts after the last
        minute that was committed, and would never come to that.
        """
        while self._outcomes:
            try:
                await self._alarms.commit(self._outcomes[0], self._share, self._fencing_token)
            except Superseded:
                break
            except Exception as error:
                # Whatever it is: who goes on evaluates it again, and the threads must end.
                unexpected = not isinstance(error, HeliometerError)
                log.error("a transition is left to the next start: %s", error, exc_info=unexpected)
                break
            self._outcomes.popleft()
        await asyncio.to_thread(self._thread.shutdown)
        self._replays.shutdown(wait=False, cancel_futures=True)

    # -- for use cases ------------------------------------------------------------------------

    async def watch(self, alarm: Alarm) -> None:
        """Watch an alarm from now on, with the history that is stored; replaces its old self.

        Raises UNAVAILABLE when that cannot be read; it is tried again, and until then the alarm
        is not watched.
        """
        # It may have changed since the caller read it.
        self._doubt(alarm.id, alarm.project_id)
        self._to_watch[alarm.id] = alarm
        await self._watch_waiting()

    async def _watch_waiting(self) -> None:
        async with self._watching:  # those who come meanwhile are taken along together
            wanted, self._to_watch = list(self._to_watch.values()), {}
            if not wanted:
                return
            try:
                async with self._writer.quiet(), self._turn:
                    await self._feed()
                    await self._add(wanted)
            except BaseException:
                for alarm in wanted:  # only one of those who wait for it gets the error
                    self._doubt(alarm.id, alarm.project_id)
                raise

    async def forget(self, project_id: str, alarm_ids: Iterable[str]) -> None:
        """Watch these alarms of a project no longer."""
        ids = list(alarm_ids)
        for alarm_id in ids:
            self._doubts.pop(alarm_id, None)
            self._to_watch.pop(alarm_id, None)
        async with self._watching, self._turn:
            await self._in_thread(lambda: self._engine.remove(ids))
            for alarm_id in ids:
                self._watched.pop(alarm_id, None)

    async def minutes_kept(self, project_id: str) -> int:
        """Minutes of windows that are kept for a project's alarms."""
        return self._engine.minutes_kept(project_id)

    async def explain(self, alarm: Alarm) -> Explanation:
        """Why the alarm is in its state, as of the last whole minute.

        Raises NOT_FOUND for one that is not watched, such as a disabled one.
        """
        async with self._turn:
            await self._feed()
            minute = self.now_ms() // MINUTE_MS * MINUTE_MS
            return await self._in_thread(lambda: self._engine.explain(alarm.id, minute))

    async def dry_run(
        self,
        project_id: str,
        expression: Expression,
        start_ms: int,
        end_ms: int,
    ) -> Replay:
        """What an alarm with this expression would have done; raises INVALID for too much data."""
        found: dict[int, Series] = {}
        longest = 0
        for each in subexpressions(expression):
            metric = each.metric
            longest = max(longest, each.period_s * each.times * 1000)
            matching = self._series_index.select(
                project_id, metric.namespace, dict(metric.dimensions)
            )
            found.update((s.id, s) for s in matching)
        rows = len(found) * (end_ms - start_ms + longest) // MINUTE_MS
        if rows > REPLAY_ROWS:
            raise Invalid(
                f"expression: it matches {len(found)} series; a dry run over that time would read "
                f"up to {rows} measurements, and {REPLAY_ROWS} are allowed.",
                details="Name more dimensions, or choose a shorter time.",
            )
        batch = await self._store.read(sorted(found), start_ms - longest, end_ms)
        return await asyncio.get_running_loop().run_in_executor(
            self._replays,
            lambda: replay(expression, batch, list(found.values()), start_ms, end_ms, self._rules),
        )

    # -- loading ------------------------------------------------------------------------------

    async def _load(self) -> None:
        """Build the engine from what is committed, and catch up on what was missed."""
        now = self.now_ms()
        since = now - self._rules.flapping_span_s * 1000
        due = (now - self._grace_ms) // MINUTE_MS * MINUTE_MS
        resumed = await self._alarms.resume(since, self._share, from_ms=due)
        self._fencing_token = resumed.fencing_token
        self._engine = Engine(self._rules)
        self._drift_ms = float("inf")  # should anything fail now, it is to be done over
        drift_ms = now - self._steady() * 1000
        async with self._turn:
            self._watched.clear()
            await self._add(resumed.alarms, resumed.changes)
            self._evaluated_ms = due
            if 0 < resumed.evaluated_ms < due:
                self._evaluated_ms = max(resumed.evaluated_ms, due - CAUGHT_UP * MINUTE_MS)
                self.missed += (self._evaluated_ms - resumed.evaluated_ms) // MINUTE_MS
            elif due < resumed.evaluated_ms <= due + AHEAD_MS:
                self._evaluated_ms = resumed.evaluated_ms
            evaluated = self._evaluated_ms
            await self._in_thread(lambda: self._engine.restore(resumed.checkpoint, evaluated))
        self._drift_ms = drift_ms
        if len(self._engine):
            log.info("watching %d alarms", len(self._engine))

    async def _add(
        self, alarms: Sequence[Alarm], changes: Mapping[str, tuple[int, ...]] | None = None
    ) -> None:
        """Hand alarms to the engine with the history that they need. The turn is taken, and
        nothing is stored meanwhile. Those whose history cannot be read are not watched."""
        state = self._states_to_come(alarms)
        watched: list[Watched] = []
        for alarm in alarms:
            try:
                expression = parse(alarm.expression)
            except HeliometerError:
                log.exception("alarm %s has an expression that cannot be read", alarm.id)
                continue
            known = (changes or {}).get(alarm.id, ())
            watched.append(Watched(alarm.id, alarm.project_id, expression, state[alarm.id], known))
            self._watched[alarm.id] = alarm.project_id, expression
        now = self.now_ms()
        select = self._series_index.select
        try:
            needs = await self._in_thread(lambda: self._engine.add(watched, select, now))
            for need in needs:
                await self._fill(need, now)
            await self._in_thread(self._engine.filled)
        except BaseException:
            # Not waited for, since we may have been cancelled: whatever the thread does next comes
            # after it. Where it does nothing any more, nobody is judged either.
            with suppress(RuntimeError):
                self._thread.submit(self._engine.give_up_filling)
            raise

    def _states_to_come(self, alarms: Iterable[Alarm]) -> dict[str, State]:
        """The alarms' states as they were stored, and as what is decided will change them."""
        state = {alarm.id: alarm.state for alarm in alarms}
        for outcome in self._outcomes:
            for transition in outcome.transitions:
                if state.get(transition.alarm_id) is transition.old:
                    state[transition.alarm_id] = transition.new
        return state

    async def _fill(self, need: Need, now_ms: int) -> None:
        """Read what is stored in pieces that fit into memory."""
        end = now_ms + FUTURE_MS + 1
        minutes = max(1, (end - need.since_ms) // MINUTE_MS)
        for first in range(0, len(need.series), SERIES_PER_READ):
            series = need.series[first : first + SERIES_PER_READ].tolist()
            whole = max(1, FILL_ROWS // len(series)) * MINUTE_MS
            if minutes * MINUTE_MS > whole:
                log.warning("alarms over many series see only the last part of their history")
            batch = await self._store.read(series, max(need.since_ms, end - whole), end)
            await self._in_thread(partial(self._engine.fill, batch))

    # -- measurements -------------------------------------------------------------------------

    def _take(self, batch: Batch, series: Sequence[Series]) -> None:
        self._stored.append((batch, series))
        self._stored_here.set()

    async def _watch_arrivals(self) -> None:
        while True:
            await self._stored_here.wait()
            try:
                async with self._turn:
                    await self._feed()
            except Exception:
                log.exception("measurements did not reach the alarms")

    async def _feed(self) -> None:
        """Give the engine what was stored since the last time. The turn is taken."""
        self._stored_here.clear()
        if not self._stored:
            return
        stored, self._stored = self._stored, []
        now = self.now_ms()
        batch = Batch.concatenate([b for b, _ in stored])
        series = [s for _, new in stored for s in new]

        def take() -> Outcome:
            if series:
                self._engine.know(series)
            transitions = self._engine.take(batch, now)
            return Outcome(transitions, self._engine.checkpoint() if transitions else None)

        outcome = await self._in_thread(take)
        if outcome.transitions:
            self._decide(outcome)

    # -- evaluation ---------------------------------------------------------------------------

    async def _evaluate_each_minute(self) -> None:
        while True:
            minute = self._evaluated_ms + MINUTE_MS
            wait_s = (minute + self._grace_ms - self.now_ms()) / 1000
            if self._clock_was_set():
                try:
                    await self._start_over()
                except HeliometerError as error:
                    log.error("the alarms' windows cannot be read: %s", error.message)
                    await self._sleep(RETRY_S)
            elif wait_s > 0:
                await self._sleep(min(wait_s, LOOK_S))
            else:
                try:
                    await self._evaluate(minute)
                except Exception:
                    # The next minute is another chance; health shows it when there is none.
                    log.exception("the evaluation of a minute failed")
                    self._evaluated_ms = minute
                    self._failed = True

    async def _evaluate(self, minute: int) -> None:
        late = self.now_ms() - minute - self._grace_ms
        if late > PUNCTUAL_MS:
            self.missed += 1
            # The minute that is running now was not seen whole either.
            self._blind_until_ms = (self.now_ms() // MINUTE_MS + 1) * MINUTE_MS
        blind = minute <= self._blind_until_ms
        async with self._turn:
            await self._feed()
            started, now = self._steady(), self.now_ms()
            transitions, checkpoint = await self._in_thread(
                lambda: (
                    self._engine.evaluate(minute, now, blind=blind),
                    self._engine.checkpoint(),
                )
            )
            self.seconds = self._steady() - started
            self._evaluated_ms = minute
            self._failed = False
            self._decide(Outcome(transitions, checkpoint, minute))

    def _clock_was_set(self) -> bool:
        return abs(self.now_ms() - self._steady() * 1000 - self._drift_ms) > STEP_MS

    async def _start_over(self) -> None:
        """Minutes before and after a jump of the clock do not compare: as after a restart."""
        log.warning("the clock was set; the alarms' windows are read again from the store")
        await self._all_committed.wait()
        async with self._writer.quiet():
            async with self._turn:  # what was being taken may have decided something
                self._stored.clear()
            await self._all_committed.wait()
            await self._load()
        self._blind_until_ms = (self.now_ms() // MINUTE_MS + 1) * MINUTE_MS

    # -- committing ---------------------------------------------------------------------------

    def _decide(self, outcome: Outcome) -> None:
        """The turn is taken."""
        self._outcomes.append(outcome)
        self._all_committed.clear()
        self._decided.set()

    async def _commit_outcomes(self) -> None:
        while True:
            await self._decided.wait()
            try:
                # Should we be cancelled now, ``close`` has the outcome, with its causes or without.
                self._outcomes[0] = await self._causes.add_to(self._outcomes[0], self._watched)
            except Exception:
                log.exception("the series behind a transition cannot be told")
            await self._commit(self._outcomes[0])

    async def _commit(self, outcome: Outcome) -> None:
        """Until it succeeds: what was decided is neither lost nor overtaken."""
        told = False
        while True:
            try:
                left_out = await self._alarms.commit(outcome, self._share, self._fencing_token)
                break
            except HeliometerError as error:
                if not told:
                    log.error("transitions wait for the resource store: %s", error.message)
                    told = True
                await self._sleep(RETRY_S)
        self._outcomes.popleft()
        if not self._outcomes:
            self._decided.clear()
            self._all_committed.set()
        if outcome.evaluated_ms is not None:
            self.lag_s = (self.now_ms() - outcome.evaluated_ms - self._grace_ms) / 1000
        if outcome.transitions:
            log.info("%d alarms changed", len(outcome.transitions) - len(left_out))
            self._committed()
        # What was changed or deleted meanwhile.
        for alarm_id in left_out:
            if alarm_id in self._watched:
                self._doubt(alarm_id, self._watched[alarm_id][0])
        # Those being looked at may have been read before this, and are not in its new state.
        for alarm_id in {t.alarm_id for t in outcome.transitions} & self._doubts.keys():
            self._doubt(alarm_id, self._doubts[alarm_id].project_id)

    # -- looking again ------------------------------------------------------------------------

    def _doubt(self, alarm_id: str, project_id: str) -> None:
        """Have the alarm looked at."""
        self._doubts[alarm_id] = _Doubt(project_id)
        self._doubted.set()

    async def _look_again(self) -> None:
        """Go on from what is stored with every alarm that is in doubt, until none is.

        In a task of its own, so that no commit waits for whatever it waits for.
        """
        told, delay = False, RETRY_S
        while True:
            await self._doubted.wait()
            self._doubted.clear()
            failed = False
            for alarm_id, doubt in list(self._doubts.items()):
                try:
                    await self._look_at(alarm_id, doubt)
                except Exception as error:
                    if not (told or failed):
                        unexpected = not isinstance(error, HeliometerError)
                        log.error(
                            "alarm %s is not watched as it is stored: %s", alarm_id, error,
                            exc_info=unexpected,
                        )  # fmt: skip
                    failed = True
            told = failed
            if failed:
                # Each try holds up what is to be stored and evaluated.
                await self._pause(delay)
                self._doubted.set()
            delay = min(2 * delay, LAST_RETRY_S) if failed else RETRY_S

    async def _pause(self, seconds: float) -> None:
        """``sleep`` may return earlier."""
        until = self._steady() + seconds
        while (left := until - self._steady()) > 0:
            await self._sleep(left)

    async def _look_at(self, alarm_id: str, doubt: _Doubt) -> None:
        alarm: Alarm | None = None
        try:
            alarm = await self._alarms.get(doubt.project_id, alarm_id)
        except HeliometerError as error:
            if error.code is not Code.NOT_FOUND:
                raise
        if self._doubts.get(alarm_id) is not doubt:
            return  # it was forgotten meanwhile, or changed once more
        if alarm is None or not alarm.enabled:
            await self.forget(doubt.project_id, [alarm_id])
            return
        self._to_watch[alarm_id] = alarm
        await self._watch_waiting()
        if self._doubts.get(alarm_id) is doubt:
            del self._doubts[alarm_id]

    async def _in_thread(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)
