"""The feed: a project's endpoint and subscriptions, and its queue of messages.

Times are milliseconds since the epoch.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from heliometer.core.errors import Malformed
from heliometer.metrics.model import Dimensions, Series
from heliometer.metrics.validation import RESERVED_PREFIX

EXCHANGE = "metrics"
"""The exchange that consumers of v1.0 bind their queue to (v1.0 §4.4.2.1)."""
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
    """Which measurements are delivered to an endpoint (v1.1 §4.4.3)."""

    id: str
    endpoint_id: str
    project_id: str
    namespace: str
    dimensions: Dimensions
    created_ms: int

    def matches(self, series: Series) -> bool:
        """Whether the series is subscribed to. In reserved namespaces a series may have further
        dimensions; elsewhere it must have exactly these (v1.1 §2.3.1)."""
        if (series.project_id, series.namespace) != (self.project_id, self.namespace):
            return False
        if self.namespace.startswith(RESERVED_PREFIX):
            return set(self.dimensions) <= set(series.dimensions)
        return self.dimensions == series.dimensions


class Usage(NamedTuple):
    """Counts of a project's messages: ``published`` is the sum of ``queued``, ``delivered`` and
    ``dropped``."""

    published: int
    queued: int
    """Not acknowledged yet, including those that a consumer has."""
    delivered: int
    """Messages that a consumer has acknowledged."""
    dropped: int
    """Removed, the oldest first, because the queue reached its limit in count or age."""
    consumers: int


class Position(NamedTuple):
    """The state of a queue. Messages are numbered from 0; ``first`` is the oldest one kept."""

    first: int
    next: int
    delivered: int
    dropped: int
    seen: int = 0
    """Messages with smaller numbers may have been delivered before."""


class Chunk(NamedTuple):
    """Messages that were published to one queue together."""

    project_id: str
    first: int
    """Number of the first message."""
    at_ms: int
    bodies: Sequence[bytes]
    """JSON, one measurement each (v1.1 §2.4, scalar form)."""


def check_required(namespace: str, dimensions: Mapping[str, str]) -> None:
    """Raise MALFORMED if a dimension is missing that the namespace requires."""
    missing = [key for key in REQUIRED.get(namespace, ()) if key not in dimensions]
    if missing:
        raise Malformed(
            f"subscription.dimensions: {namespace} requires {' and '.join(missing)}.",
            details="Name the instance whose metrics are to flow.",
        )
