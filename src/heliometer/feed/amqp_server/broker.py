"""What connections share: the endpoints, the limits and the queues."""

import logging
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from heliometer.core.errors import HeliometerError
from heliometer.feed.credentials import hash_password, is_password
from heliometer.feed.hub import FeedHub
from heliometer.feed.model import Endpoint
from heliometer.feed.queue import Queue
from heliometer.identity.sign_in_limiter import Throttle

log = logging.getLogger(__name__)

STRANGERS = 200
"""The most connections that have not signed in; one more ends the oldest of them."""
SIGN_IN_FAILURES = 5
"""Wrong passwords of one user from one address that are answered as such; ``Throttle`` has the
budgets of the address and of the user."""
USER_LENGTH = 80
_NOBODY = hash_password("")


@dataclass(frozen=True, slots=True)
class Terms:
    """Limits on connections."""

    connections: int
    per_project: int
    heartbeat_s: int
    frame_max: int = 131_072
    channel_max: int = 127


class Guest(Protocol):
    """A connection, as the broker sees it."""

    def end(self, text: str) -> None:
        """Close the connection with a reason."""
        ...

    def abort(self) -> None:
        """Close the connection at once."""
        ...


class Broker:
    """Knows the endpoints and their connections. ``refusals`` counts, by budget, what was refused
    for wrong passwords; ``monotonic`` is in seconds."""

    def __init__(
        self,
        queues: FeedHub,
        terms: Terms,
        refusals: Counter[str] | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._refusals = Counter() if refusals is None else refusals
        self._throttle = Throttle(SIGN_IN_FAILURES, monotonic)
        self.queues = queues
        self.terms = terms
        self.refused = 0
        """Connections that were refused since the start."""
        self._endpoints: dict[str, Endpoint] = {}
        self._strangers: dict[Guest, None] = {}
        self._guests: dict[str, set[Guest]] = {}
        self._exclusive: dict[Queue, object] = {}

    @property
    def connections(self) -> int:
        """How many connections have signed in."""
        return sum(len(guests) for guests in self._guests.values())

    def admit(self, endpoint: Endpoint) -> None:
        """Accept the endpoint's user, with its present password only."""
        self._endpoints[endpoint.user] = endpoint

    def bar(self, endpoint: Endpoint) -> None:
        """Refuse the endpoint's user from now on."""
        self._endpoints.pop(endpoint.user, None)

    def expel(self, project_id: str, text: str) -> None:
        """Close the connections of a project."""
        for guest in list(self._guests.get(project_id, ())):
            guest.end(text)

    def everybody(self) -> list[Guest]:
        """All connections, signed in or not."""
        return [*self._strangers, *(g for guests in self._guests.values() for g in guests)]

    def sign_in(self, user: str, password: str, address: str) -> Endpoint | None:
        """The endpoint whose user and password these are. Raises RATE_LIMITED after too many wrong
        ones of that user or address."""
        endpoint = self._endpoints.get(user)
        # An unknown user takes as long as a wrong password.
        right = is_password(password, endpoint.password_hash if endpoint else _NOBODY)
        if right and endpoint is not None:
            # Always: a password of 144 random bits is not found by guessing, and one consumer with
            # an old password must not keep out the others behind its address.
            return endpoint
        try:
            attempt = self._throttle.begin(user[:USER_LENGTH], address)
        except HeliometerError:
            self._refusals["amqp_sign_in"] += 1
            raise
        if attempt is not None:
            attempt.failed()
        return None

    def arrived(self, guest: Guest) -> None:
        """Note a new connection, which has not signed in."""
        self._strangers[guest] = None
        if len(self._strangers) > STRANGERS:
            oldest = next(iter(self._strangers))
            self.refused += 1
            oldest.abort()
            self.left(oldest)

    def entered(self, guest: Guest, project_id: str) -> str:
        """Note that a connection has signed in; the reason if it must be refused, else empty."""
        here = self._guests.get(project_id, set())
        if len(here) >= self.terms.per_project:
            self.refused += 1
            return f"the project has {len(here)} connections already, and may have no more"
        if self.connections >= self.terms.connections:
            self.refused += 1
            return f"the service has {self.connections} connections already, and may have no more"
        self._strangers.pop(guest, None)
        self._guests.setdefault(project_id, here).add(guest)
        return ""

    def left(self, guest: Guest, project_id: str = "") -> None:
        """Note that a connection is closed."""
        self._strangers.pop(guest, None)
        here = self._guests.get(project_id)
        if here is not None:
            here.discard(guest)
            if not here:
                del self._guests[project_id]

    def exclusive(self, queue: Queue) -> object | None:
        """The consumer that has exclusive use of the queue."""
        return self._exclusive.get(queue)

    def reserve(self, queue: Queue, consumer: object) -> None:
        """Give a consumer exclusive use of the queue."""
        self._exclusive[queue] = consumer

    def release(self, queue: Queue, consumer: object) -> None:
        """End a consumer's exclusive use of the queue."""
        if self._exclusive.get(queue) is consumer:
            del self._exclusive[queue]
