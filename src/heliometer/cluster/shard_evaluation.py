"""The evaluation of one shard's alarms, from take-over until the queue is lost."""

import asyncio
import logging
from collections.abc import Callable

from heliometer.alarms.evaluator import Evaluator
from heliometer.alarms.ports import AlarmStore, Superseded
from heliometer.cluster.feed_publisher import ShardBatch
from heliometer.cluster.retrying import until_done
from heliometer.cluster.watermark import Watermark
from heliometer.core.background import Ended, Life
from heliometer.core.errors import Code, HeliometerError
from heliometer.pipeline.shard import Shard
from heliometer.projects.model import ProjectShard

log = logging.getLogger(__name__)

MakeEvaluator = Callable[[], Evaluator]
"""Makes an evaluator of the shard's alarms, fed by the shard, with its watermark as the clock."""


class ShardEvaluation:
    """Evaluates a shard's alarms while this process owns it."""

    def __init__(
        self,
        projects: ProjectShard,
        shard: Shard[ShardBatch],
        watermark: Watermark,
        make_evaluator: MakeEvaluator,
        alarms: AlarmStore,
        life: Life,
    ) -> None:
        self._projects = projects
        self._shard = shard
        self._watermark = watermark
        self._make_evaluator = make_evaluator
        self._alarms = alarms
        self._life = life
        self._taking_over = asyncio.Lock()
        """Held while the alarms are read, until ``evaluator`` is set."""
        self.evaluator: Evaluator | None = None
        self.running: asyncio.Task[None] | None = None
        """The running evaluation; it ends when another owner has taken over, or with an error."""
        self.has_failed = False
        """Whether the last evaluation ended with an error."""

    @property
    def due_ms(self) -> int:
        """When the next minute is due for evaluation. There must be an evaluator."""
        assert self.evaluator is not None
        return self.evaluator.due_ms

    @property
    def has_ended(self) -> bool:
        """Whether the evaluation has ended."""
        return self.running is None or self.running.done()

    async def start(self, now_ms: int) -> None:
        """Resume from what is stored, at the time that the queue has reached. Nothing may be stored
        meanwhile."""
        number = self._projects.number
        self._shard.reset()
        evaluator = self._make_evaluator()
        self._watermark.start(now_ms)
        async with self._taking_over:
            await until_done(evaluator.start, f"shard {number} cannot be taken over")
            self.running = asyncio.create_task(
                evaluator.run(), name=f"evaluation of shard {number}"
            )
            self.has_failed = False
            self._life.began()
            self.running.add_done_callback(self._ended)
            self.evaluator = evaluator
        log.info("shard %d is owned by this process", number)

    async def stop(self) -> None:
        """Stop evaluating; the next owner, or the next ``start``, resumes."""
        evaluator, self.evaluator = self.evaluator, None
        running, self.running = self.running, None
        self._shard.reset()
        if running is not None:
            running.cancel()
            await asyncio.wait({running})
        if evaluator is not None:
            await evaluator.close()

    def _ended(self, task: asyncio.Task[None]) -> None:
        error = Ended("it was cancelled") if task.cancelled() else task.exception()
        if task is not self.running and task.cancelled():
            self._life.left()  # by ``stop``
        elif error is None or isinstance(error, Superseded):
            self._life.left()
            log.warning("shard %d: its evaluation ended: %s", self._projects.number, error)
        else:
            # The shard is taken over anew.
            self.has_failed = True
            self._life.ended(error)

    async def look_at(self, project_id: str, alarm_id: str) -> None:
        """Watch an alarm as it is in the database now."""
        if not self._projects.holds(project_id):
            return
        async with self._taking_over:  # which may have read the alarms before this one
            evaluator = self.evaluator
        if evaluator is None:
            return
        try:
            alarm = await self._alarms.get(project_id, alarm_id)
        except HeliometerError as error:
            if error.code is not Code.NOT_FOUND:
                raise
            await evaluator.forget(project_id, [alarm_id])
            return
        if not alarm.enabled:
            await evaluator.forget(project_id, [alarm_id])
            return
        try:
            await evaluator.watch(alarm)
        except HeliometerError as error:
            # The evaluator retries on its own; other events need not wait for it.
            log.warning("alarm %s is not watched yet: %s", alarm_id, error.message)
