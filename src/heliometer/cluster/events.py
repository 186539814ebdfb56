"""What all processes tell each other: what changed in the resource database, and who is there.

A change says only *what* to look at again; whoever cares reads the database. Nothing depends on a
change to arrive: with every new connection everybody looks at everything.
"""

import asyncio
import logging
import secrets
import time
from collections import deque
from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import Any

import msgspec

from heliometer.cluster.connection import CHANGES, FIRST_RETRY_S, LAST_RETRY_S, Inbox
from heliometer.core.errors import Code, HeliometerError

log = logging.getLogger(__name__)

KEPT = 10_000
"""Changes that wait for a connection; the oldest go first."""
LARGEST = 8 << 20
HEARD = "heard"
"""Kind of the reply of those who did what they do upon a change."""
TELL_S = 2.0

Change = Mapping[str, Any]
Heard = Callable[[Any], Awaitable[None] | None]

_encoder = msgspec.msgpack.Encoder()
_decode = msgspec.msgpack.Decoder(tuple[str, Any, str, str]).decode


class Changes:
    """Sends and hears changes; also where replies to this process arrive."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._heard: dict[str, list[Heard]] = {}
        self._lines: dict[str, asyncio.Queue[Any]] = {}
        self._awaited: dict[str, set[str]] = {}
        self._answered = asyncio.Event()
        self._connected: list[Callable[[], Awaitable[None]]] = []
        self._waiting: deque[tuple[str, bytes]] = deque(maxlen=KEPT)
        self._there = asyncio.Event()
        self.queue = ""
        """This process's own, for replies; empty while there is no connection."""
        self.looked = asyncio.Event()
        """Set when everybody has looked who is to look with the connection that stands."""

    def on(self, kind: str, heard: Heard) -> None:
        """Have ``heard`` called with each change of a kind, those of this process included."""
        self._heard.setdefault(kind, []).append(heard)
        self._lines.setdefault(kind, asyncio.Queue())

    def on_connect(self, look: Callable[[], Awaitable[None]]) -> None:
        """Have ``look`` called with every new connection, after which no change is missed."""
        self._connected.append(look)

    def send(self, kind: str, content: Any) -> None:
        """Tell all processes, now or with the next connection."""
        self._put("", kind, content)

    async def tell(self, kind: str, content: Any, to: Callable[[], Collection[str]]) -> None:
        """The same, and return when those that ``to`` names have done what they do upon it, or a
        moment later when they have not."""
        if not self.queue:
            self.send(kind, content)
            return
        token = secrets.token_hex(8)
        heard: set[str] = set()
        self._awaited[token] = heard
        self._put("", kind, content, self.queue, token)
        try:
            async with asyncio.timeout(TELL_S):
                while not heard.issuperset(to()):
                    await self._answered.wait()
        except TimeoutError:
            log.warning("%s: not all processes have answered", kind)
        finally:
            del self._awaited[token]

    def reply(self, queue: str, kind: str, content: Any) -> None:
        """Tell the process whose queue this is."""
        self._put(queue, kind, content)

    def _put(
        self, queue: str, kind: str, content: Any, reply_to: str = "", token: str = ""
    ) -> None:
        body = _encoder.encode([kind, content, reply_to, token])
        self._waiting.append((queue, body))
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
        inbox.end_with(channel)
        declared = await channel.queue_declare(queue="", exclusive=True, auto_delete=True)
        await channel.queue_bind(queue=declared.queue, exchange=CHANGES)
        await channel.basic_consume(declared.queue, inbox.put, no_ack=True)
        self.queue = declared.queue
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._hear(inbox))
                for kind, line in self._lines.items():
                    group.create_task(self._work(kind, line))
                group.create_task(self._send(channel))
                # Side by side: what one needs may be down, and the others must not wait for it.
                async with asyncio.TaskGroup() as looking:
                    for look in self._connected:
                        looking.create_task(
                            _until_done("what was changed meanwhile", look, insist=True)
                        )
                self.looked.set()
        finally:
            self.looked.clear()
            self.queue = ""

    async def _hear(self, inbox: Inbox) -> None:
        while True:
            for message in await inbox.take(LARGEST):
                try:
                    kind, content, reply_to, token = _decode(message.body)
                    if kind == HEARD:
                        self._was_heard(*content)
                    elif kind in self._lines:
                        self._lines[kind].put_nowait((content, reply_to, token))
                except (msgspec.MsgspecError, TypeError) as error:  # of another version
                    log.debug("a change cannot be read: %s", error)

    async def _work(self, kind: str, line: asyncio.Queue[Any]) -> None:
        """Changes of one kind, one after the other; those of another do not wait for them."""
        while True:
            content, reply_to, token = await line.get()
            for heard in self._heard[kind]:
                await _until_done(f"{kind} of another process", heard, content)
            if reply_to:
                self.reply(reply_to, HEARD, [token, self.name])

    def _was_heard(self, token: str, name: str) -> None:
        if token in self._awaited:
            self._awaited[token].add(name)
            self._answered.set()
            self._answered = asyncio.Event()

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


async def _until_done(
    what: str,
    look: Callable[..., Awaitable[None] | None],
    *content: Any,
    insist: bool = False,
) -> None:
    """Look, and look again while something does not answer: nobody tells it a second time.

    ``insist``: also after any other error, since others wait for what it finds.
    """
    delay, told = FIRST_RETRY_S, False
    while True:
        try:
            answer = look(*content)
            if answer is not None:
                await answer
            return
        except HeliometerError as error:
            if error.code is not Code.UNAVAILABLE and not insist:
                log.error("%s: %s", what, error.message)
                return
            if not told:
                log.warning("%s waits: %s", what, error.message)
        except Exception as error:
            if not insist and isinstance(error, (msgspec.MsgspecError, TypeError, ValueError)):
                log.warning("%s is not understood; is it of another version? %s", what, error)
                return
            if not told:
                log.exception("%s could not be looked at", what)
            if not insist:
                return
        told = True
        await asyncio.sleep(delay)
        delay = min(2 * delay, LAST_RETRY_S)


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
    failed: dict[str, str] = {}
    """What does not work there, and why."""
    of: int = 0
    """How many parts there are in its opinion; 0: it does not say."""


HERE_S = 2.0
GONE_S = 15.0
"""A process that was not heard of for so long is gone."""


class Membership:
    """Who is there."""

    def __init__(self, changes: Changes, me: Callable[[], Member]) -> None:
        self._changes = changes
        self._me = me
        self._seen: dict[str, tuple[float, Member]] = {}
        changes.on("here", self._heard)
        changes.on("gone", self._left)

    @property
    def name(self) -> str:
        """Of this process."""
        return self._changes.name

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

    def names(self, role: str) -> set[str]:
        """Of those that do something."""
        return {member.name for member in self.with_role(role)}

    def with_role(self, role: str) -> list[Member]:
        """Those that do something."""
        return [member for member in self.all() if role in member.roles]

    def failed(self, but: str) -> dict[str, str]:
        """What does not work in processes other than one, and why."""
        return {
            what: f"{why} ({','.join(member.roles)} on {member.host}, process {member.pid})"
            for member in self.all()
            if member.name != but
            for what, why in member.failed.items()
        }

    async def serve(self, connection: Any) -> None:
        """Tell all that this process is there."""
        while True:
            self._changes.send("here", msgspec.to_builtins(self._me()))
            await asyncio.sleep(HERE_S)

    def leave(self) -> None:
        """Tell all that it is not any more."""
        self._changes.send("gone", self._me().name)
