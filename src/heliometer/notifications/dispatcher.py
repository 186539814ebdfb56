"""The notifier: claim what is due in the outbox, send it, record how it ended.

At least once: a delivery is settled after the relay accepted it, so a crash in between sends it
again, with the same id. In order: of one alarm and method only the oldest pending message is given
out.
"""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable, Mapping

from heliometer.config import NotifySettings
from heliometer.core.errors import HeliometerError
from heliometer.notifications.channels import find_channel, shown_address
from heliometer.notifications.channels.channel import Channel, Rejected, Sender, TryLater
from heliometer.notifications.checks import NOTHING_TO_CONFIRM
from heliometer.notifications.composer import Composer
from heliometer.notifications.digests import Destination, Digests, destination_of
from heliometer.notifications.hosts import Hosts, Pauses
from heliometer.notifications.model import (
    ALARM_MESSAGE,
    DELIVERED,
    FAILED,
    KEY_MISSING,
    WITHHELD,
    Delivery,
    Settlement,
)
from heliometer.notifications.outcomes import after_failure, reason_of
from heliometer.notifications.ports import MethodStore, Outbox

log = logging.getLogger(__name__)

DEADLINE_S = 30.0
"""For one attempt, whatever hangs."""
LEASE_MS = 120_000
AT_ONCE = 256
"""Most messages under way at once."""
CHARTS_UP_TO = 16
"""Messages under way beyond which e-mail is sent without charts, and sooner."""
IDLE_S = 30.0
RETRY_S = 5.0
"""Seconds until the outbox is looked into again when it could not be."""


class Notifier:
    """Sends what is in the outbox. ``clock`` counts seconds since the epoch, ``steady`` seconds
    since any moment."""

    def __init__(
        self,
        outbox: Outbox,
        methods: MethodStore,
        senders: Mapping[str, Sender],
        composer: Composer,
        settings: NotifySettings,
        clock: Callable[[], float],
        *,
        steady: Callable[[], float] = time.monotonic,
    ) -> None:
        self._outbox = outbox
        self._methods = methods
        self._senders = senders
        self._composer = composer
        self._retry_period_s = settings.retry_period
        self._clock = clock
        self._steady = steady
        self._digests = Digests(outbox, settings, self.now_ms)
        self._hosts = Hosts()
        self._pauses = Pauses()
        self._wake = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._ends: list[Settlement] = []
        self.counts: Counter[str] = Counter()
        """Settled attempts by the status that they led to."""

    def wake(self) -> None:
        """Look into the outbox now: something was queued."""
        self._wake.set()

    async def run(self) -> None:
        """Send until cancelled. Messages under way then go on: ``run`` may be called again, and
        ``close`` ends them."""
        while True:
            try:
                await self.step()
                await self._rest()
            except HeliometerError as error:
                log.error("the outbox cannot be read: %s", error.message)
                await asyncio.sleep(RETRY_S)

    async def close(self) -> None:
        """Give messages under way five seconds to finish, record how they ended, and let go of the
        relays. ``run`` must have ended."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=5)
        for task in self._tasks:
            task.cancel()
        await self._settle()
        for sender in self._senders.values():
            await sender.close()

    async def step(self) -> None:
        """Settle what has ended, and begin what is due, as far as there is room."""
        self._wake.clear()
        await self._settle()
        room = AT_ONCE - len(self._tasks)
        if room <= 0:
            return
        due = await self._outbox.claim(self.now_ms(), LEASE_MS, room)
        together: dict[str | Destination, list[Delivery]] = {}
        for delivery in due:
            destination = destination_of(delivery)
            in_digest = delivery.kind == ALARM_MESSAGE and self._digests.collects(destination)
            together.setdefault(destination if in_digest else delivery.id, []).append(delivery)
        for deliveries in together.values():
            task = asyncio.create_task(self._deliver(deliveries), name="notify")
            self._tasks.add(task)
            task.add_done_callback(self._done)
        if len(due) == room:
            self._wake.set()

    async def idle(self) -> None:
        """Send until nothing is under way and nothing is due, then return."""
        while True:
            await self.step()
            if self._tasks:
                await asyncio.wait(self._tasks)
            elif not self._ends:
                due = await self._outbox.next_due_ms()
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
            # Its claim expires, and it is tried again.
            log.error("an attempt to notify failed unexpectedly: %s", error, exc_info=error)

    async def _rest(self) -> None:
        """Wait until something is queued, ends or becomes due."""
        due = await self._outbox.next_due_ms() if not self._wake.is_set() else None
        seconds = IDLE_S
        if due is not None:
            seconds = min(IDLE_S, max(0.05, (due - self.now_ms()) / 1000))
        if len(self._tasks) >= AT_ONCE:  # one that ends wakes
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
            await self._outbox.settle(ends, self.now_ms())
        except HeliometerError as error:
            # Nothing is lost: what is not settled is sent again when its claim expires.
            self._ends = ends + self._ends
            log.error("the outbox cannot be written: %s", error.message)
            await asyncio.sleep(1)
            return
        except asyncio.CancelledError:
            self._ends = ends + self._ends
            raise
        self.counts.update(end.status for end in ends)

    async def _deliver(self, deliveries: list[Delivery]) -> None:
        """Try one delivery, or all that are due to a destination that gets digests."""
        delivery = deliveries[0]
        channel = find_channel(delivery.type)
        host = self._hosts.get(channel.host(delivery.address) if channel else delivery.type)
        now_s, destination = self._steady(), destination_of(delivery)
        if wait_s := max(host.wait_s(now_s), self._pauses.wait_s(destination, now_s)):
            until_ms = self.now_ms() + int(wait_s * 1000)
            await self._outbox.defer([d.id for d in deliveries], until_ms)
            return
        async with self._hosts.queued(host):
            try:
                async with host.turns:
                    ends = await self._attempt(deliveries, channel)
                self._ends += ends  # not the list of before the attempt: that may be settled
                host.failures = 0
            except Rejected as error:
                host.failures = 0
                reason = _without_secrets(str(error), delivery) or "refused"
                self._ends += [Settlement(d.id, FAILED, reason) for d in deliveries]
                log.warning("notification %s was refused for good: %s", delivery.id, reason)
            except TryLater as error:
                host.failures = 0
                if error.after_s:
                    self._pauses.pause(destination, self._steady() + error.after_s)
                self._ends += [
                    self._after_failure(d, _without_secrets(str(error), delivery), error.after_s)
                    for d in deliveries
                ]
            except Exception as error:
                reason = _without_secrets(reason_of(error), delivery)
                for each in deliveries:
                    if host.failed(self._steady()):
                        log.warning("notifications to %s fail: %s", host.name, reason)
                    self._ends.append(self._after_failure(each, reason))

    def _after_failure(self, delivery: Delivery, reason: str, least_s: float = 0) -> Settlement:
        now_ms, period_s = self.now_ms(), self._retry_period_s
        end = after_failure(delivery, reason, now_ms, period_s, least_s=least_s)
        if end.status == FAILED:
            log.error("notification %s has failed for good: %s", delivery.id, reason)
        return end

    async def _attempt(
        self, deliveries: list[Delivery], channel: Channel | None
    ) -> list[Settlement]:
        """Send one message for the deliveries and, of a digest, those behind them."""
        delivery = deliveries[0]
        sender = self._senders.get(delivery.type)
        if sender is None or channel is None:
            raise Rejected(f"this service sends nothing of type {delivery.type}")
        if not delivery.address:
            raise ConnectionError(KEY_MISSING)  # the operator may restore it
        if delivery.kind == ALARM_MESSAGE:
            digest_due = await self._digests.due_ms(delivery)
            if digest_due > self.now_ms():
                await self._outbox.defer([d.id for d in deliveries], digest_due)
                return []
            if digest_due:
                deliveries += await self._outbox.gather(delivery, self.now_ms(), LEASE_MS)
        with_chart = len(self._tasks) <= CHARTS_UP_TO
        message = await self._composer.compose(deliveries, channel, with_chart=with_chart)
        if message is None:
            return [Settlement(delivery.id, WITHHELD, NOTHING_TO_CONFIRM)]
        secret = await self._secret(delivery, channel)
        async with asyncio.timeout(DEADLINE_S):
            said = await sender.send(message, delivery, secret)
        if len(deliveries) > 1:
            said = f"in digest {delivery.id}: {said}"
        return [Settlement(d.id, DELIVERED, said) for d in deliveries]

    async def _secret(self, delivery: Delivery, channel: Channel) -> str:
        if not channel.signs or delivery.method_id is None:
            return ""
        method = await self._methods.get(delivery.project_id, delivery.method_id)
        if method.disabled:
            raise ConnectionError(method.disabled)
        return method.secret


def _without_secrets(reason: str, delivery: Delivery) -> str:
    """The reason with the address as it may be shown: libraries put URLs into their errors."""
    if not delivery.address:
        return reason
    return reason.replace(delivery.address, shown_address(delivery.type, delivery.address))
