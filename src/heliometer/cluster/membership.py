"""The processes of the cluster, as each reports itself every few seconds."""

import asyncio
import time
from collections.abc import Callable, Mapping

import msgspec
from aiormq.abc import AbstractConnection

from heliometer.cluster.event_bus import EventBus
from heliometer.cluster.events import Member, MemberHere, MemberLeft

HERE_S = 2.0
GONE_S = 15.0
"""A process that has been silent for so many seconds is gone."""
KNOWN_S = 2 * HERE_S + 1
"""So many seconds after connecting, every process that is there has been heard of."""


class Membership:
    """The processes of the service, this one included."""

    def __init__(self, bus: EventBus, describe: Callable[[], Member] | None = None) -> None:
        """``describe`` describes this process; without it, the others are only watched."""
        self._bus = bus
        self._describe = describe
        self._failed: dict[str, str] = {}
        self._seen: dict[str, tuple[float, Member]] = {}
        self._connected_at: float | None = None
        self._is_frozen = False
        """Without a connection nobody can be heard: silence proves nothing."""
        bus.on(MemberHere, self.heard_of)
        bus.on(MemberLeft, self.left)

    @property
    def name(self) -> str:
        """The name of this process."""
        return self._bus.name

    def heard_of(self, event: MemberHere) -> None:
        """Note that a process is running."""
        self._seen[event.member.name] = time.monotonic(), event.member

    def left(self, event: MemberLeft) -> None:
        """Note that a process has exited."""
        self._seen.pop(event.name, None)

    @property
    def is_known(self) -> bool:
        """Whether ``all`` is what there is: while connected, and long enough."""
        since = self._connected_at
        return since is not None and time.monotonic() - since > KNOWN_S

    def all(self) -> list[Member]:
        """The processes heard of lately, or before the connection was lost; sorted by name."""
        now = time.monotonic()
        if self._is_frozen:
            return [self._seen[name][1] for name in sorted(self._seen)]
        self._seen = {n: (at, m) for n, (at, m) in self._seen.items() if now - at < GONE_S}
        return [self._seen[name][1] for name in sorted(self._seen)]

    def names(self, role: str) -> set[str]:
        """The names of the processes that have a role."""
        return {member.name for member in self.with_role(role)}

    def with_role(self, role: str) -> list[Member]:
        """The processes that have a role."""
        return [member for member in self.all() if role in member.roles]

    def failed_elsewhere(self) -> dict[str, str]:
        """What does not work in other processes, and why, as far as they can be heard."""
        if self._is_frozen:
            return {}
        return {
            what: f"{why} ({','.join(member.roles)} on {member.host}, process {member.pid})"
            for member in self.all()
            if member.name != self.name
            for what, why in member.failed.items()
        }

    def report(self, failed: Mapping[str, str]) -> None:
        """Include in this process's reports from now on what does not work here, and why."""
        self._failed = dict(failed)

    async def serve(self, connection: AbstractConnection) -> None:
        """Report regularly that this process is running."""
        assert self._describe is not None
        self.connected()
        try:
            while True:
                me = msgspec.structs.replace(self._describe(), failed=self._failed)
                self._bus.send(MemberHere(me))
                await asyncio.sleep(HERE_S)
        finally:
            self.disconnected()

    def connected(self) -> None:
        """Reports can be heard from now on."""
        self._connected_at = now = time.monotonic()
        # Those heard of before get as long to be heard again.
        self._seen = {name: (now, member) for name, (_, member) in self._seen.items()}
        self._is_frozen = False

    def disconnected(self) -> None:
        """Nothing can be heard any more."""
        self._connected_at = None
        self._is_frozen = True

    def leave(self) -> None:
        """Report that this process is exiting."""
        self._bus.send(MemberLeft(self.name))
