"""Streams: the endpoint and the subscriptions of a project."""

import uuid
from collections.abc import Callable, Mapping
from dataclasses import replace

from heliometer.config import LimitSettings
from heliometer.core.errors import HeliometerError
from heliometer.core.keyed_lock import KeyedLock
from heliometer.feed.credentials import hash_password, new_password
from heliometer.feed.model import Endpoint, Subscription, Usage, check_required
from heliometer.feed.ports import FeedServer, FeedStore
from heliometer.identity.model import Caller
from heliometer.metrics.validation import check_dimension, check_namespace


class Streams:
    """Endpoints and subscriptions of the caller's project (v1.1 §4.4.2, §4.4.3).

    Everything of another project is NOT_FOUND, as if it did not exist.
    """

    def __init__(
        self,
        store: FeedStore,
        server: FeedServer,
        limits: LimitSettings,
        clock: Callable[[], float],
    ) -> None:
        self._store = store
        self._server = server
        self._limits = limits
        self._clock = clock
        # The store and the server must change together.
        self._locks = KeyedLock()

    def uri(self, endpoint: Endpoint, host: str) -> str:
        """The URI that clients connect to; ``host`` is the one of the request for it."""
        return self._server.uri(endpoint, host)

    async def usage(self, endpoint: Endpoint) -> Usage:
        """Counts of the endpoint's messages."""
        return await self._server.usage(endpoint.project_id)

    async def create_endpoint(self, caller: Caller) -> tuple[Endpoint, str]:
        """Create the project's endpoint; return it with its password, which is not shown again.

        Raises CONFLICT when there is one, and UNAVAILABLE.
        """
        password = new_password()
        endpoint = Endpoint(
            str(uuid.uuid4()), caller.project_id, hash_password(password), self._now_ms()
        )
        async with self._locks.of(caller.project_id):
            await self._store.create_endpoint(endpoint, caller.user_name)
            try:
                await self._server.open(endpoint)
            except HeliometerError:
                await self._store.delete_endpoint(caller.project_id, endpoint.id, caller.user_name)
                raise
            await self._server.stored(caller.project_id)
        return endpoint, password

    async def list_endpoints(self, caller: Caller) -> list[Endpoint]:
        """The project's endpoint, if any."""
        return await self._store.list_endpoints(caller.project_id)

    async def get_endpoint(self, caller: Caller, endpoint_id: str) -> Endpoint:
        """The endpoint. Raises NOT_FOUND."""
        return await self._store.get_endpoint(caller.project_id, endpoint_id)

    async def reset_password(self, caller: Caller, endpoint_id: str) -> str:
        """Set and return a new password; sessions that used the old one end."""
        password = new_password()
        async with self._locks.of(caller.project_id):
            old = await self._store.get_endpoint(caller.project_id, endpoint_id)
            endpoint = replace(old, password_hash=hash_password(password))
            await self._server.reset(endpoint)
            await self._store.set_password(
                caller.project_id, endpoint_id, endpoint.password_hash, caller.user_name
            )
            await self._server.stored(caller.project_id)
        return password

    async def delete_endpoint(self, caller: Caller, endpoint_id: str) -> None:
        """Remove the endpoint, its subscriptions and its queue; close its connections."""
        async with self._locks.of(caller.project_id):
            endpoint = await self._store.get_endpoint(caller.project_id, endpoint_id)
            subscriptions = await self._store.list_subscriptions(caller.project_id)
            await self._server.close(endpoint)
            await self._store.delete_endpoint(caller.project_id, endpoint_id, caller.user_name)
            await self._server.stored(caller.project_id)
            for subscription in subscriptions:
                await self._server.unsubscribe(subscription)

    async def subscribe(
        self, caller: Caller, endpoint_id: str, namespace: str, dimensions: Mapping[str, str]
    ) -> Subscription:
        """Deliver measurements to the endpoint from now on.

        Raises INVALID for a wrong name, MALFORMED for an endpoint that is not the project's or a
        dimension that the namespace requires and is missing, CONFLICT for a duplicate, and
        RATE_LIMITED when the project has too many.
        """
        check_namespace(namespace, "subscription.namespace")
        for key, value in dimensions.items():
            check_dimension(key, value, "subscription.dimensions")
        check_required(namespace, dimensions)
        subscription = Subscription(
            str(uuid.uuid4()),
            endpoint_id,
            caller.project_id,
            namespace,
            tuple(sorted(dimensions.items())),
            self._now_ms(),
        )
        async with self._locks.of(caller.project_id):
            await self._store.create_subscription(
                subscription, caller.user_name, self._limits.subscriptions_per_project
            )
            await self._server.subscribe(subscription)
        return subscription

    async def list_subscriptions(
        self, caller: Caller, after: str | None = None, limit: int | None = None
    ) -> list[Subscription]:
        """The project's subscriptions in order of creation, starting behind the id ``after``."""
        return await self._store.list_subscriptions(caller.project_id, after, limit)

    async def get_subscription(self, caller: Caller, subscription_id: str) -> Subscription:
        """The subscription. Raises NOT_FOUND."""
        return await self._store.get_subscription(caller.project_id, subscription_id)

    async def unsubscribe(self, caller: Caller, subscription_id: str) -> None:
        """End a subscription; messages that are queued already stay."""
        async with self._locks.of(caller.project_id):
            subscription = await self._store.get_subscription(caller.project_id, subscription_id)
            await self._store.delete_subscription(
                caller.project_id, subscription_id, caller.user_name
            )
            await self._server.unsubscribe(subscription)

    def _now_ms(self) -> int:
        return int(self._clock() * 1000)
