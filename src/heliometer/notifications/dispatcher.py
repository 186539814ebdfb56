"""The outbox's pipeline: claim what is due, send it, record what became of it.

At least once: a message is settled after the relay took it, so a crash in between sends it again,
with the same id. In order: of one alarm and method only the oldest pending message is given out.
"""

import asyncio
import logging
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from heliometer.config import NotifySettings
from heliometer.core.errors import HeliometerError
from heliometer.notifications.channels import Kind, Rejected
from heliometer.notifications.messages import (
    Message,
    alarm_message,
    code_message,
    digest_message,
    test_message,
)
from heliometer.notifications.model import (
    ALARM_MESSAGE,
    APPRISE,
    CODE_MESSAGE,
    DELIVERED,
    EMAIL,
    FAILED,
    PENDING,
    TEST_MESSAGE,
    WEBHOOK,
    WITHHELD,
    Delivery,
    NotificationStore,
)
from heliometer.notifications.picture import Chart, draw

log = logging.getLogger(__name__)

DEADLINE_S = 30.0
"""For one attempt, whatever hangs."""
LEASE_MS = 120_000
AT_ONCE = 256
"""Messages under way, and of them to one host, so that one that hangs holds up nobody else."""
QUEUE_OF_A_HOST = 64
AT_ONCE_A_HOST = 16
"""Messages that are being handed to one host; the others of its queue wait for their turn."""
BUSY_MS = 1_000
FIRST_RETRY_S = 5.0
LONGEST_RETRY_S = 900.0
IDLE_S = 30.0
HOUR_MS = 3_600_000
TIRED = 5
"""Failures of a host in a row after which it is left alone for a while."""
REST_S = 30.0
CHARTS_AT_ONCE = 2
STORM = 16
"""Messages under way from which on mails go without pictures, sooner."""

MakeCode = Callable[[str], Awaitable[tuple[str, str] | None]]
MakeChart = Callable[[Delivery], Awaitable[Chart | None]]
End = tuple[str, str, str, int]
"""Id, status, reason and next attempt: what a settled delivery comes to."""


@dataclass(slots=True)
class _Host:
    """What is known of a place that messages go to."""

    queue: int = 0
    turns: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(AT_ONCE_A_HOST))
    failures: int = 0
    rests_until: float = 0.0


class Notifier:
    """Sends what is in the outbox."""

    def __init__(
        self,
        store: NotificationStore,
        kinds: Mapping[str, Kind],
        settings: NotifySettings,
        base_url: str,
        clock: Callable[[], float],
        *,
        make_code: MakeCode,
        make_chart: MakeChart | None = None,
        steady: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._kinds = kinds
        self._settings = settings
        self._base_url = base_url
        self._clock = clock
        self._steady = steady
        self._make_code = make_code
        self._make_chart = make_chart
        self._drawing = asyncio.Semaphore(CHARTS_AT_ONCE)
        self._wake = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._ends: list[End] = []
        self._hosts: dict[str, _Host] = {}
        self._digests: dict[tuple[str, str, str], int] = {}
        """For destinations that get too much, when their next digest is due."""
        self.counts: Counter[str] = Counter()
        """Messages by what became of them."""

    def wake(self) -> None:
        """Something was queued."""
        self._wake.set()

    async def run(self) -> None:
        """Send until cancelled; what is under way then is finished first."""
        try:
            while True:
                try:
                    await self.step()
                except HeliometerError as error:
                    log.error("the outbox cannot be read: %s", error.message)
                    await asyncio.sleep(5)
                await self._rest()
        finally:
            if self._tasks:
                await asyncio.wait(self._tasks, timeout=5)
            for task in self._tasks:
                task.cancel()
            await self._settle()
            for kind in self._kinds.values():
                await kind.close()

    async def step(self) -> None:
        """Settle what has ended, and begin what is due, as far as there is room."""
        self._wake.clear()
        await self._settle()
        room = AT_ONCE - len(self._tasks)
        if room <= 0:
            return
        due = await self._store.claim(self.now_ms(), LEASE_MS, room)
        together: dict[object, list[Delivery]] = {}
        for delivery in due:
            place = _place(delivery)
            in_digest = delivery.kind == ALARM_MESSAGE and place in self._digests
            together.setdefault(place if in_digest else delivery.id, []).append(delivery)
        for deliveries in together.values():
            task = asyncio.create_task(self._deliver(deliveries), name="notify")
            self._tasks.add(task)
            task.add_done_callback(self._done)
        if len(due) == room:
            self._wake.set()

    async def idle(self) -> None:
        """Return when nothing is under way and nothing is due; for tests and the command line."""
        while True:
            await self.step()
            if self._tasks:
                await asyncio.wait(self._tasks)
            elif not self._ends:
                due = await self._store.next_due_ms()
                if due is None or due > self.now_ms():
                    return

    def now_ms(self) -> int:
        """Now, in milliseconds since the epoch."""
        return int(self._clock() * 1000)

    # -- inside -------------------------------------------------------------------------------

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._wake.set()
        if not task.cancelled() and (error := task.exception()) is not None:
            # Its claim runs out, and it is tried again.
            log.error("a notification could not be dealt with: %s", error)

    async def _rest(self) -> None:
        """Until something is queued, ends or comes due."""
        due = await self._store.next_due_ms() if not self._wake.is_set() else None
        seconds = IDLE_S
        if due is not None:
            seconds = min(IDLE_S, max(0.05, (due - self.now_ms()) / 1000))
        if self._tasks:
            seconds = IDLE_S
        try:
            async with asyncio.timeout(seconds):
                await self._wake.wait()
        except TimeoutError:
            pass

    async def _settle(self) -> None:
        ends, self._ends = self._ends, []
        if not ends:
            return
        try:
            await self._store.settle_many(ends, self.now_ms())
        except HeliometerError as error:
            # Nothing is lost: what is not settled is sent again when its claim runs out.
            self._ends = ends + self._ends
            log.error("the outbox cannot be written: %s", error.message)
            await asyncio.sleep(1)
            return
        except asyncio.CancelledError:
            self._ends = ends + self._ends
            raise
        self.counts.update(status for _, status, _, _ in ends)

    async def _deliver(self, deliveries: list[Delivery]) -> None:
        """One delivery, or all that are due of a destination that gets digests."""
        delivery = deliveries[0]
        name = _host(delivery)
        host = self._hosts.setdefault(name, _Host())
        if host.queue >= QUEUE_OF_A_HOST or host.rests_until > self._steady():
            wait_ms = max(BUSY_MS, int((host.rests_until - self._steady()) * 1000))
            await self._store.defer([d.id for d in deliveries], self.now_ms() + wait_ms)
            return
        host.queue += 1
        try:
            async with host.turns:
                self._ends += await self._attempt(deliveries)
            host.failures = 0
        except Rejected as error:
            host.failures = 0
            reason = str(error) or "refused"
            self._ends += [(d.id, FAILED, reason, 0) for d in deliveries]
            log.warning("notification %s is refused for good: %s", delivery.id, error)
        except Exception as error:
            for each in deliveries:
                self._failed(each, name, host, error)
        finally:
            host.queue -= 1
            if not host.queue and not host.failures:
                self._hosts.pop(name, None)

    def _failed(self, delivery: Delivery, name: str, host: _Host, error: Exception) -> None:
        host.failures += 1
        reason = "no answer in time" if isinstance(error, TimeoutError) else str(error)
        reason = reason or type(error).__name__
        if host.failures in (1, TIRED):
            log.warning("notifications to %s fail: %s", name, reason)
        if host.failures >= TIRED:
            host.rests_until = self._steady() + REST_S
        now = self.now_ms()
        delay = min(LONGEST_RETRY_S, FIRST_RETRY_S * 2 ** min(delivery.attempts, 10))
        at = now + int(delay * random.uniform(0.5, 1.0) * 1000)  # noqa: S311
        if at - delivery.started_ms >= self._settings.retry_period * 1000:
            self._ends.append((delivery.id, FAILED, reason, 0))
            log.error("notification %s is given up: %s", delivery.id, reason)
        else:
            self._ends.append((delivery.id, PENDING, reason, at))

    async def _attempt(self, deliveries: list[Delivery]) -> list[End]:
        """Send one message for the deliveries, and the digest's others; how each ended."""
        delivery = deliveries[0]
        kind = self._kinds.get(delivery.type)
        if kind is None:
            raise Rejected(f"this service sends nothing of type {delivery.type}")
        if delivery.kind == ALARM_MESSAGE:
            waits_until = await self._digest_due(delivery)
            if waits_until > self.now_ms():
                await self._store.defer([d.id for d in deliveries], waits_until)
                return []
            if waits_until:
                deliveries += await self._store.gather(delivery, self.now_ms(), LEASE_MS)
        message = await self._message(deliveries)
        if message is None:
            return [(delivery.id, WITHHELD, "the address is gone, or verified already", 0)]
        secret = await self._secret(delivery)
        async with asyncio.timeout(DEADLINE_S):
            said = await kind.send(message, delivery, secret)
        if len(deliveries) > 1:
            said = f"in digest {delivery.id}: {said}"
        return [(d.id, DELIVERED, said, 0) for d in deliveries]

    async def _digest_due(self, delivery: Delivery) -> int:
        """0: send it as it is; else when the digest is due that it belongs to."""
        place = _place(delivery)
        now = self.now_ms()
        sent = await self._store.sent_since(delivery.type, delivery.address, now - HOUR_MS)
        interval = self._settings.digest_interval * 1000
        due = self._digests.get(place)
        if sent < self._settings.per_address_per_hour:
            self._digests.pop(place, None)
            return due or 0
        if due is None or due <= now:
            self._digests[place] = now + interval
        return due or now + interval

    async def _message(self, deliveries: list[Delivery]) -> Message | None:
        delivery = deliveries[0]
        if len(deliveries) > 1:
            in_order = sorted(deliveries, key=lambda d: (d.payload["at_ms"], d.transition_id or 0))
            return digest_message(delivery, in_order, self._base_url)
        if delivery.kind == ALARM_MESSAGE:
            return alarm_message(delivery, self._base_url, await self._picture(delivery))
        if delivery.kind == TEST_MESSAGE:
            return test_message(delivery, self._base_url)
        if delivery.kind == CODE_MESSAGE:
            codes = await self._make_code(delivery.payload["address_id"])
            return code_message(delivery, *codes, self._base_url) if codes else None
        raise Rejected(f"there is no message of kind {delivery.kind}")

    async def _picture(self, delivery: Delivery) -> bytes | None:
        """The chart of an e-mail; whatever goes wrong with it, the message goes."""
        if self._make_chart is None or delivery.type != EMAIL or len(self._tasks) > STORM:
            return None
        try:
            async with self._drawing, asyncio.timeout(5):
                chart = await self._make_chart(delivery)
                return await asyncio.to_thread(draw, chart) if chart else None
        except Exception as error:
            log.warning("the picture of notification %s is left out: %s", delivery.id, error)
            return None

    async def _secret(self, delivery: Delivery) -> str:
        if delivery.type != WEBHOOK or delivery.method_id is None:
            return ""
        method = await self._store.get_method(delivery.project_id, delivery.method_id)
        return method.secret


def _place(delivery: Delivery) -> tuple[str, str, str]:
    """What one digest is for: never two projects together."""
    return delivery.project_id, delivery.type, delivery.address


def _host(delivery: Delivery) -> str:
    """What must not hold up others when it hangs."""
    if delivery.type == WEBHOOK:
        return urlsplit(delivery.address).netloc.lower()
    if delivery.type == APPRISE:
        return delivery.address.partition("://")[0].lower()
    return delivery.type
