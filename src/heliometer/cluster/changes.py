"""What all processes tell each other: what changed in the resource database, and who is there.

A change says only *what* to look at again; whoever cares reads the database. Nothing depends on a
change to arrive: with every new connection everybody looks at everything.
"""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Any

import msgspec

from heliometer.cluster.broker import CHANGES, Inbox

log = logging.getLogger(__name__)

KEPT = 10_000
"""Changes that wait for a connection; the oldest go first."""
LARGEST = 8 << 20

Change = Mapping[str, Any]
Heard = Callable[[Any], Awaitable[None] | None]

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder()


class Changes:
    """Sends and hears changes; also where replies to this process arrive."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._heard: dict[str, list[Heard]] = {}
        self._connected: list[Callable[[], Awaitable[None]]] = []
        self._waiting: deque[tuple[str, bytes]] = deque(maxlen=KEPT)
        self._there = asyncio.Event()
        self.queue = ""
        """This process's own, for replies; empty while there is no connection."""

    def on(self, kind: str, heard: Heard) -> None:
        """Have ``heard`` called with each change of a kind, those of this process included."""
        self._heard.setdefault(kind, []).append(heard)

    def on_connect(self, look: Callable[[], Awaitable[None]]) -> None:
        """Have ``look`` called with every new connection, after which no change is missed."""
        self._connected.append(look)

    def send(self, kind: str, content: Any) -> None:
        """Tell all processes, now or with the next connection."""
        self._put("", kind, content)

    def reply(self, queue: str, kind: str, content: Any) -> None:
        """Tell the process whose queue this is."""
        self._put(queue, kind, content)

    def _put(self, queue: str, kind: str, content: Any) -> None:
        self._waiting.append((queue, _encoder.encode([kind, content])))
        self._there.set()

    async def flush(self) -> None:
        """Return when everything is sent, or cannot be for lack of a connection."""
        for _ in range(50):
            if not self._waiting or not self.queue:
                return
            await asyncio.sleep(0.01)

    async def serve(self, connection: Any) -> None:
        """Send and hear over a connection."""
        channel = await connection.channel(publisher_confirms=False)
        inbox = Inbox()
        declared = await channel.queue_declare(queue="", exclusive=True, auto_delete=True)
        await channel.queue_bind(queue=declared.queue, exchange=CHANGES)
        await channel.basic_consume(declared.queue, inbox.put, no_ack=True)
        self.queue = declared.queue
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._hear(inbox))
                group.create_task(self._send(channel))
                for look in self._connected:
                    await _safely(look())
        finally:
            self.queue = ""

    async def _hear(self, inbox: Inbox) -> None:
        while True:
            for message in await inbox.take(LARGEST):
                with suppress(msgspec.MsgspecError, ValueError):  # of another version
                    kind, content = _decoder.decode(message.body)
                    for heard in self._heard.get(kind, ()):
                        await _safely(heard(content))

    async def _send(self, channel: Any) -> None:
        while True:
            await self._there.wait()
            self._there.clear()
            while self._waiting:
                queue, body = self._waiting[0]
                await channel.basic_publish(
                    body, exchange="" if queue else CHANGES, routing_key=queue
                )
                self._waiting.popleft()


async def _safely(answer: Awaitable[None] | None) -> None:
    if answer is None:
        return
    try:
        await answer
    except Exception:
        log.exception("what another process changed could not be looked at")


class Member(msgspec.Struct, frozen=True):
    """A process of the service, as it tells of itself."""

    name: str
    roles: list[str]
    host: str
    pid: int
    version: str
    url: str
    parts: list[int] = []
    """Those that it owns."""
    lag_s: float = 0.0
    """Seconds that the furthest behind of its parts is behind."""


HERE_S = 2.0
GONE_S = 15.0
"""A process that was not heard of for so long is gone."""


class Members:
    """Who is there."""

    def __init__(self, changes: Changes, me: Callable[[], Member]) -> None:
        self._changes = changes
        self._me = me
        self._seen: dict[str, tuple[float, Member]] = {}
        changes.on("here", self._heard)
        changes.on("gone", self._left)

    def _heard(self, content: Any) -> None:
        member = msgspec.convert(content, Member)
        self._seen[member.name] = time.monotonic(), member

    def _left(self, content: Any) -> None:
        self._seen.pop(content, None)

    def all(self) -> list[Member]:
        """Those heard of lately, by name."""
        now = time.monotonic()
        self._seen = {n: (at, m) for n, (at, m) in self._seen.items() if now - at < GONE_S}
        return [self._seen[name][1] for name in sorted(self._seen)]

    def with_role(self, role: str) -> list[Member]:
        """Those that do something."""
        return [member for member in self.all() if role in member.roles]

    async def serve(self, connection: Any) -> None:
        """Tell all that this process is there."""
        while True:
            self._changes.send("here", msgspec.to_builtins(self._me()))
            await asyncio.sleep(HERE_S)

    def leave(self) -> None:
        """Tell all that it is not any more."""
        self._changes.send("gone", self._me().name)
