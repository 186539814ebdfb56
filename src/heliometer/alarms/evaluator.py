"""The evaluator of a shard: the engine, the clock's loop, the commits and the reconciling, put
together, with one life."""

from collections.abc import Callable, Iterable, Sequence

from heliometer.alarms.causes import Causes
from heliometer.alarms.clock import Clock
from heliometer.alarms.commit_queue import CommitQueue
from heliometer.alarms.engine.model import Explanation, Rules
from heliometer.alarms.live_engine import LiveEngine
from heliometer.alarms.model import Alarm, Outcome
from heliometer.alarms.ports import EvaluationStore, MeasurementSource
from heliometer.alarms.reconciler import Reconciler
from heliometer.alarms.scheduler import Scheduler
from heliometer.alarms.stored_windows import StoredWindows
from heliometer.config import AlarmSettings
from heliometer.core.background import together
from heliometer.core.errors import Code, HeliometerError
from heliometer.metrics.ports import MeasurementReader
from heliometer.metrics.series_index import SeriesIndex
from heliometer.projects.model import ALL_PROJECTS, ProjectShard


def rules_of(settings: AlarmSettings) -> Rules:
    """How the engine behaves under these settings."""
    return Rules(
        at_once=settings.at_once,
        flapping_changes=settings.flapping_changes,
        flapping_span_s=settings.flapping_span,
    )


class Evaluator:
    """Evaluates all alarms of a shard; fulfils ``ports.Watcher`` and ``ports.Explainer`` for them.

    ``committed`` is called when transitions, and the notifications that they cause, are durable.
    """

    def __init__(
        self,
        store: MeasurementReader,
        series_index: SeriesIndex,
        source: MeasurementSource,
        alarms: EvaluationStore,
        settings: AlarmSettings,
        clock: Clock,
        *,
        shard: ProjectShard = ALL_PROJECTS,
        committed: Callable[[], None] = lambda: None,
    ) -> None:
        rules = rules_of(settings)
        self._source = source
        self._notify = committed
        self._causes = Causes(store, series_index)
        self._queue = CommitQueue(alarms, shard, clock, self._name_causes, self._committed)
        windows = StoredWindows(store, series_index)
        self._engine = LiveEngine(rules, windows, clock, self._queue.put)
        self._reconciler = Reconciler(
            alarms, self._engine, source, clock, self._queue.states_to_come
        )
        self._scheduler = Scheduler(
            self._engine,
            self._queue,
            source,
            clock,
            grace_ms=settings.grace * 1000,
            flapping_span_ms=settings.flapping_span * 1000,
        )

    # -- life ---------------------------------------------------------------------------------

    async def start(self) -> None:
        """Take up all alarms where the last process left them, before anything new is stored."""
        await self._scheduler.load()
        self._source.listen(self._engine.take)

    async def run(self) -> None:
        """Evaluate each minute until cancelled. Raises Superseded when the shard has another owner.
        After any other error, it may be called again."""
        await together(
            evaluation=self._scheduler.run,
            at_once=self._engine.run,
            transitions=self._queue.run,
            reconciling=self._reconciler.run,
        )

    async def close(self) -> None:
        """Commit what is decided, once, and let the thread end. ``run`` must have ended."""
        await self._queue.close()
        await self._engine.close()

    # -- the state of it ----------------------------------------------------------------------

    def __len__(self) -> int:
        return len(self._engine)

    @property
    def is_punctual(self) -> bool:
        """Whether the newest evaluation succeeded and is no older than two minutes."""
        return self._scheduler.is_punctual

    @property
    def due_ms(self) -> int:
        """When the next minute is to be evaluated."""
        return self._scheduler.due_ms

    @property
    def lag_s(self) -> float:
        """From the time that the newest evaluation was due until it was committed, in seconds."""
        return self._scheduler.lag_s

    @property
    def seconds(self) -> float:
        """How long the newest evaluation took."""
        return self._scheduler.seconds

    @property
    def missed(self) -> int:
        """Minutes that were not evaluated in time since the start."""
        return self._scheduler.missed

    @property
    def uncommitted(self) -> int:
        """Outcomes that wait for the resource store."""
        return len(self._queue)

    @property
    def in_doubt(self) -> frozenset[str]:
        """Ids of alarms that may not be watched as they are stored."""
        return self._reconciler.in_doubt

    @property
    def waiting(self) -> frozenset[str]:
        """Ids of alarms that are about to be watched."""
        return self._reconciler.waiting

    @property
    def arrived(self) -> int:
        """Commits of measurements that the engine was not given yet."""
        return self._engine.arrived

    async def ping(self) -> None:
        """Health check: raise UNAVAILABLE unless alarms are evaluated in time."""
        if not self.is_punctual:
            raise HeliometerError(Code.UNAVAILABLE, "Alarms are not evaluated in time.")

    # -- for the service of alarms ------------------------------------------------------------

    async def watch(self, alarm: Alarm) -> None:
        """See ``Reconciler.watch``."""
        await self._reconciler.watch(alarm)

    async def forget(self, project_id: str, alarm_ids: Iterable[str]) -> None:
        """Stop watching these alarms of a project."""
        await self._reconciler.forget(alarm_ids)

    async def minutes_kept(self, project_id: str) -> int:
        """Minutes of windows that are kept for a project's alarms."""
        return self._engine.minutes_kept(project_id)

    async def explain(self, alarm: Alarm) -> Explanation:
        """Why the alarm is in its state, as of the last whole minute.

        Raises NOT_FOUND for one that is not watched, such as a disabled one.
        """
        return await self._engine.explain(alarm.id)

    async def _name_causes(self, outcome: Outcome) -> Outcome:
        return await self._causes.add_to(outcome, self._engine.expressions)

    def _committed(self, outcome: Outcome, left_out: Sequence[str]) -> None:
        self._scheduler.committed(outcome)
        if outcome.transitions:
            self._notify()
        self._reconciler.committed(outcome, left_out)
