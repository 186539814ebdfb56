"""The feed: a project's endpoint and subscriptions, its queue, and the ports of who keeps them.

Times are milliseconds since the epoch.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from heliometer.core.errors import Malformed
from heliometer.metrics.model import Dimensions, Series
from heliometer.metrics.validation import RESERVED_PREFIX

EXCHANGE = "metrics"
"""What v1.0's consumers bind their queue to (v1.0 §4.4.2.1)."""
REQUIRED: Mapping[str, tuple[str, ...]] = {
    "hpcs.compute": ("instance_id",),
    "hpcs.volume": ("instance_id", "disk"),
}
"""Dimensions that a subscription to a namespace must name (v1.1 §2.3.2, §2.3.3)."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A project's access to its feed (v1.1 §4.4.2): one user, one vhost, one queue."""

    id: str
    project_id: str
    password_hash: str
    """As ``feed.credentials`` makes it."""
    created_ms: int

    @property
    def vhost(self) -> str:
        """The AMQP virtual host that holds this project's queue and nothing else."""
        return self.project_id

    @property
    def user(self) -> str:
        """The AMQP user (v1.1 §2.7.1)."""
        return f"mon-{self.project_id}"

    @property
    def queue(self) -> str:
        """The AMQP queue (v1.1 §2.7.1)."""
        return f"metrics-{self.project_id}"


@dataclass(frozen=True, slots=True)
class Subscription:
    """What flows to an endpoint (v1.1 §4.4.3)."""

    id: str
    endpoint_id: str
    project_id: str
    namespace: str
    dimensions: Dimensions
    created_ms: int

    def matches(self, series: Series) -> bool:
        """Whether the series' measurements flow: in reserved namespaces the dimensions are those
        that a series must have at least, in others all that it has (v1.1 §2.3.1)."""
        if (series.project_id, series.namespace) != (self.project_id, self.namespace):
            return False
        if self.namespace.startswith(RESERVED_PREFIX):
            return set(self.dimensions) <= set(series.dimensions)
        return self.dimensions == series.dimensions


class Usage(NamedTuple):
    """What a project's queue holds and what became of the rest: ``published`` is the sum of
    ``queued``, ``delivered`` and ``dropped``."""

    published: int
    queued: int
    """Not acknowledged yet, those with a consumer included."""
    delivered: int
    """Acknowledged."""
    dropped: int
    """Lost to the queue's bounds in count and age, the oldest first."""
    consumers: int


class Position(NamedTuple):
    """Where a queue stands. Messages are numbered from 0; ``first`` is the oldest kept."""

    first: int
    next: int
    delivered: int
    dropped: int
    seen: int = 0
    """Those before it may have been with a consumer already."""


class Chunk(NamedTuple):
    """Messages of one queue that were published together."""

    project_id: str
    first: int
    """Number of the first of them."""
    at_ms: int
    bodies: Sequence[bytes]
    """JSON, one measurement each (v1.1 §2.4, scalar form)."""


class MessageStore(Protocol):
    """Keeps the messages of every queue until they are acknowledged or dropped."""

    async def load(self) -> dict[str, Position]:
        """Where each queue stands, by project."""
        ...

    async def append(self, chunks: Sequence[Chunk]) -> None:
        """Store all or nothing; on stable storage when it returns. Raises UNAVAILABLE."""
        ...

    async def revoke(self, chunks: Sequence[Chunk]) -> None:
        """Remove what ``append`` stored: it was not to be."""
        ...

    async def read(self, project_id: str, number: int) -> Chunk | None:
        """The chunk with that message, or the one after where there is no such; ``None``: none."""
        ...

    async def advance(self, positions: Mapping[str, Position]) -> None:
        """Remember where queues stand, and remove chunks that lie before."""
        ...

    async def oldest(self, before_ms: int) -> dict[str, int]:
        """For each queue with chunks older than that, the number after the newest such message."""
        ...

    async def forget(self, project_id: str) -> None:
        """Remove a queue with everything in it."""
        ...


class FeedStore(Protocol):
    """Keeps endpoints and subscriptions. Everything of another project is NOT_FOUND."""

    async def create_endpoint(self, endpoint: Endpoint, by: str) -> None:
        """Store it. Raises CONFLICT when the project has one already."""
        ...

    async def list_endpoints(self, project_id: str) -> list[Endpoint]:
        """The project's endpoint, if any."""
        ...

    async def get_endpoint(self, project_id: str, endpoint_id: str) -> Endpoint:
        """The endpoint. Raises NOT_FOUND."""
        ...

    async def set_password(
        self, project_id: str, endpoint_id: str, password_hash: str, by: str
    ) -> Endpoint:
        """Give the endpoint another password; return it. Raises NOT_FOUND."""
        ...

    async def delete_endpoint(self, project_id: str, endpoint_id: str, by: str) -> None:
        """Remove the endpoint with its subscriptions. Raises NOT_FOUND."""
        ...

    async def create_subscription(self, subscription: Subscription, by: str, limit: int) -> None:
        """Store it.

        Raises MALFORMED when the project has no such endpoint, CONFLICT when the endpoint has one
        for the same namespace and dimensions, and RATE_LIMITED when the project has ``limit``.
        """
        ...

    async def list_subscriptions(
        self, project_id: str, after: str | None = None, limit: int | None = None
    ) -> list[Subscription]:
        """The project's subscriptions in order of creation, those behind the id ``after``.

        Raises NOT_FOUND when there is no such id.
        """
        ...

    async def get_subscription(self, project_id: str, subscription_id: str) -> Subscription:
        """The subscription. Raises NOT_FOUND."""
        ...

    async def delete_subscription(self, project_id: str, subscription_id: str, by: str) -> None:
        """Remove it. Raises NOT_FOUND."""
        ...

    async def load_endpoints(self) -> list[Endpoint]:
        """The endpoints of all projects."""
        ...

    async def load_subscriptions(self) -> list[Subscription]:
        """The subscriptions of all projects."""
        ...


def check_required(namespace: str, dimensions: Mapping[str, str]) -> None:
    """Raise MALFORMED unless the dimensions that the namespace requires are there."""
    missing = [key for key in REQUIRED.get(namespace, ()) if key not in dimensions]
    if missing:
        raise Malformed(
            f"subscription.dimensions: {namespace} requires {' and '.join(missing)}.",
            details="Name the instance whose metrics are to flow.",
        )
