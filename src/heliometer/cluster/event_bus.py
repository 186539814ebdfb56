"""Sends events to all processes of the cluster and receives theirs.

Nothing depends on the arrival of an event: with every new connection, each process checks
everything that it may have missed.
"""

import asyncio
import logging
import secrets
from collections import deque
from collections.abc import Awaitable, Callable, Collection
from functools import partial
from typing import Any, TypeVar

import msgspec
from aiormq.abc import AbstractChannel, AbstractConnection

from heliometer.cluster.connection import CHANGES, FIRST_RETRY_S, LAST_RETRY_S, Inbox
from heliometer.cluster.events import Event, Handled, decode, encode
from heliometer.core.background import together
from heliometer.core.errors import Code, HeliometerError
from heliometer.core.retry import Backoff

log = logging.getLogger(__name__)

KEPT = 10_000
"""Most events that wait for a connection; the oldest are dropped first."""
LARGEST = 8 << 20
TELL_S = 2.0
"""How long ``tell`` waits for the others, in seconds."""

E = TypeVar("E", bound=Event)


class EventBus:
    """The events of all processes, and replies to this one."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._handlers: dict[type[Event], list[Callable[[Any], Awaitable[None] | None]]] = {}
        self._lines: dict[type[Event], asyncio.Queue[Event]] = {}
        self._awaited: dict[str, set[str]] = {}
        self._answered = asyncio.Event()
        self._on_connect: list[Callable[[], Awaitable[None]]] = []
        self._waiting: deque[tuple[str, bytes]] = deque(maxlen=KEPT)
        self._any_waiting = asyncio.Event()
        self.queue = ""
        """This process's own queue, for replies; empty while there is no connection."""
        self.caught_up = asyncio.Event()
        """Set once everything that may have been missed before this connection has been checked."""

    def on(self, kind: type[E], handler: Callable[[E], Awaitable[None] | None]) -> None:
        """Have ``handler`` called with each event of a kind, including this process's own."""
        self._handlers.setdefault(kind, []).append(handler)
        self._lines.setdefault(kind, asyncio.Queue())

    def on_connect(self, look: Callable[[], Awaitable[None]]) -> None:
        """Have ``look`` called on every new connection, once no further event can be missed."""
        self._on_connect.append(look)

    def send(self, event: Event) -> None:
        """Send an event to all processes, now or with the next connection."""
        self._put("", event)

    async def tell(self, event: Event, to: Callable[[], Collection[str]]) -> None:
        """Send an event to all processes. Returns when those named by ``to`` have handled it, or
        after ``TELL_S`` if they have not."""
        if not self.queue:
            self.send(event)
            return
        token = secrets.token_hex(8)
        handled_by: set[str] = set()
        self._awaited[token] = handled_by
        self._put("", msgspec.structs.replace(event, reply_to=self.queue, token=token))
        try:
            async with asyncio.timeout(TELL_S):
                while not handled_by.issuperset(to()):
                    await self._answered.wait()
        except TimeoutError:
            log.warning("%s: not all processes have answered", _name(type(event)))
        finally:
            del self._awaited[token]

    def reply(self, queue: str, event: Event) -> None:
        """Send an event only to the process with this queue."""
        self._put(queue, event)

    def _put(self, queue: str, event: Event) -> None:
        self._waiting.append((queue, encode(event)))
        self._any_waiting.set()

    async def flush(self) -> None:
        """Return when everything is sent, or there is no connection to send it over."""
        for _ in range(50):
            if not self._waiting or not self.queue:
                return
            await asyncio.sleep(0.01)

    async def catch_up(self) -> None:
        """Check everything that may have been missed; returns when all of it is known."""
        # Concurrently: the backend of one may be down, and the others must not wait for it.
        async with asyncio.TaskGroup() as group:
            for look in self._on_connect:
                group.create_task(until_handled("what changed meanwhile", look, insist=True))
        self.caught_up.set()

    async def serve(self, connection: AbstractConnection) -> None:
        """Send and receive over a connection."""
        channel = await connection.channel(publisher_confirms=False)
        inbox = Inbox()
        inbox.end_with(channel)
        declared = await channel.queue_declare(queue="", exclusive=True, auto_delete=True)
        queue = declared.queue or ""
        await channel.queue_bind(queue=queue, exchange=CHANGES)
        await channel.basic_consume(queue, inbox.put, no_ack=True)
        self.queue = queue
        try:
            await together(
                hear=partial(self._hear, inbox),
                send=partial(self._send_waiting, channel),
                catch_up=self._catch_up_once,
                **{
                    f"handle {_name(kind)}": partial(self._handle_each, kind, line)
                    for kind, line in self._lines.items()
                },
            )
        finally:
            self.caught_up.clear()
            self.queue = ""

    async def _catch_up_once(self) -> None:
        await self.catch_up()
        await asyncio.Event().wait()

    async def _hear(self, inbox: Inbox) -> None:
        while True:
            for message in await inbox.take(LARGEST):
                try:
                    event = decode(message.body)
                except ValueError as error:  # it comes from another version
                    log.debug("an event cannot be read: %s", error)
                    continue
                if isinstance(event, Handled):
                    self._was_handled(event)
                elif line := self._lines.get(type(event)):
                    line.put_nowait(event)

    async def _handle_each(self, kind: type[Event], line: asyncio.Queue[Event]) -> None:
        """Handle the events of one kind, one by one; other kinds do not wait for them."""
        while True:
            event = await line.get()
            for handler in self._handlers[kind]:
                await until_handled(f"{_name(kind)} of another process", handler, event)
            if event.reply_to:
                self.reply(event.reply_to, Handled((event.token, self.name)))

    def _was_handled(self, event: Handled) -> None:
        token, name = event.by
        if token in self._awaited:
            self._awaited[token].add(name)
            self._answered.set()
            self._answered = asyncio.Event()

    async def _send_waiting(self, channel: AbstractChannel) -> None:
        while True:
            await self._any_waiting.wait()
            self._any_waiting.clear()
            while self._waiting:
                queue, body = self._waiting[0]
                await channel.basic_publish(
                    body, exchange="" if queue else CHANGES, routing_key=queue
                )
                self._waiting.popleft()


def _name(kind: type[Event]) -> str:
    return str(kind.__struct_config__.tag)


async def until_handled(
    what: str,
    handler: Callable[..., Awaitable[None] | None],
    *event: Event,
    insist: bool = False,
) -> None:
    """Call the handler, and retry while a backend does not answer, since the event is not sent a
    second time.

    ``insist``: retry after any other error too, since others wait for the result.
    """
    backoff = Backoff(FIRST_RETRY_S, LAST_RETRY_S)
    while True:
        try:
            answer = handler(*event)
            if answer is not None:
                await answer
            return
        except HeliometerError as error:
            if error.code is not Code.UNAVAILABLE and not insist:
                log.error("%s: %s", what, error.message)
                return
            if not backoff.failed:
                log.warning("%s waits: %s", what, error.message)
        except Exception:
            if not backoff.failed:
                log.exception("%s could not be handled", what)
            if not insist:
                return
        await backoff.pause()
