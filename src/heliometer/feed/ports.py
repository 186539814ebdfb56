"""What the feed needs: stores of endpoints, subscriptions and messages, and a server of queues."""

from collections.abc import Mapping, Sequence
from typing import Protocol

from heliometer.feed.model import Chunk, Endpoint, Position, Subscription, Usage


class EndpointStore(Protocol):
    """Stores endpoints. An endpoint of another project is NOT_FOUND."""

    async def create_endpoint(self, endpoint: Endpoint, by: str) -> None:
        """Store an endpoint. Raises CONFLICT if the project has one already."""
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
        """Change the password; return the changed endpoint. Raises NOT_FOUND."""
        ...

    async def delete_endpoint(self, project_id: str, endpoint_id: str, by: str) -> None:
        """Remove the endpoint with its subscriptions. Raises NOT_FOUND."""
        ...

    async def load_endpoints(self) -> list[Endpoint]:
        """The endpoints of all projects."""
        ...


class SubscriptionStore(Protocol):
    """Stores subscriptions. A subscription of another project is NOT_FOUND."""

    async def create_subscription(self, subscription: Subscription, by: str, limit: int) -> None:
        """Store a subscription.

        Raises MALFORMED when the project has no such endpoint, CONFLICT when the endpoint has one
        for the same namespace and dimensions, RATE_LIMITED when the project has ``limit`` already.
        """
        ...

    async def list_subscriptions(
        self, project_id: str, after: str | None = None, limit: int | None = None
    ) -> list[Subscription]:
        """The project's subscriptions in order of creation, starting behind the id ``after``.

        Raises NOT_FOUND when there is no such id.
        """
        ...

    async def get_subscription(self, project_id: str, subscription_id: str) -> Subscription:
        """The subscription. Raises NOT_FOUND."""
        ...

    async def delete_subscription(self, project_id: str, subscription_id: str, by: str) -> None:
        """Remove a subscription. Raises NOT_FOUND."""
        ...

    async def load_subscriptions(self) -> list[Subscription]:
        """The subscriptions of all projects."""
        ...


class FeedStore(EndpointStore, SubscriptionStore, Protocol):
    """Both: removing an endpoint removes its subscriptions."""


class MessageStore(Protocol):
    """Stores the messages of all queues until they are acknowledged or dropped."""

    async def load(self) -> dict[str, Position]:
        """The state of each queue, by project."""
        ...

    async def append(self, chunks: Sequence[Chunk]) -> None:
        """Put all chunks, or none, on stable storage. Raises UNAVAILABLE."""
        ...

    async def revoke(self, chunks: Sequence[Chunk]) -> None:
        """Undo an ``append`` whose measurements were not stored."""
        ...

    async def read(self, project_id: str, number: int) -> Chunk | None:
        """The chunk with this message, or else the next one; ``None`` if there is neither."""
        ...

    async def advance(self, positions: Mapping[str, Position]) -> None:
        """Save the state of queues, and remove the chunks that they are done with."""
        ...

    async def oldest(self, before_ms: int) -> dict[str, int]:
        """For each queue with chunks older than this: the number after their last message."""
        ...

    async def forget(self, project_id: str) -> None:
        """Remove a queue and its messages."""
        ...


class FeedServer(Protocol):
    """Serves tenants' queues: the built-in AMQP listener, or RabbitMQ."""

    def uri(self, endpoint: Endpoint, host: str) -> str:
        """The URI that clients connect to; ``host`` is the one of the request for it."""
        ...

    async def open(self, endpoint: Endpoint) -> None:
        """Make the endpoint's user and queue. Raises UNAVAILABLE."""
        ...

    async def reset(self, endpoint: Endpoint) -> None:
        """Replace the user's password; sessions that used the old one end."""
        ...

    async def close(self, endpoint: Endpoint) -> None:
        """Close the endpoint's connections and remove its queue."""
        ...

    async def stored(self, project_id: str) -> None:
        """The project's endpoint has changed in the database."""
        ...

    async def subscribe(self, subscription: Subscription) -> None:
        """Deliver the subscription's measurements from now on."""
        ...

    async def unsubscribe(self, subscription: Subscription) -> None:
        """Stop delivering the subscription's measurements."""
        ...

    async def usage(self, project_id: str) -> Usage:
        """Counts of the project's messages."""
        ...
