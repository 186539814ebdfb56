"""Endpoints and subscriptions of the feed, in the resource database."""

import hashlib
import json
from typing import Any

from sqlalchemy import Row, delete, func, insert, select, tuple_, update
from sqlalchemy.ext.asyncio import AsyncConnection

from heliometer.core.errors import Code, HeliometerError, Malformed
from heliometer.feed.model import Endpoint, Subscription
from heliometer.storage.sql.database import Database, milliseconds, record
from heliometer.storage.sql.tables import EndpointRow, SubscriptionRow
from heliometer.storage.sql.transactions import lock_project, rerun


class SqlFeedStore:
    """Implements ``feed.ports.FeedStore``."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @rerun
    async def create_endpoint(self, endpoint: Endpoint, by: str) -> None:
        async with self._database.write() as connection:
            await lock_project(connection, endpoint.project_id)
            mine = select(EndpointRow.id).where(EndpointRow.project_id == endpoint.project_id)
            if (await connection.execute(mine)).first() is not None:
                raise HeliometerError(
                    Code.CONFLICT,
                    "An endpoint for this project already exists.",
                    details="GET /endpoints shows it; reset-password makes a new password.",
                )
            await connection.execute(
                insert(EndpointRow).values(
                    id=endpoint.id,
                    project_id=endpoint.project_id,
                    password_hash=endpoint.password_hash,
                    created_at=endpoint.created_ms,
                )
            )
            await _record(connection, by, "create endpoint", endpoint.id, endpoint.project_id)

    async def list_endpoints(self, project_id: str) -> list[Endpoint]:
        query = select(EndpointRow.__table__).where(EndpointRow.project_id == project_id)
        async with self._database.read() as connection:
            return [_to_endpoint(row) for row in (await connection.execute(query)).all()]

    async def get_endpoint(self, project_id: str, endpoint_id: str) -> Endpoint:
        async with self._database.read() as connection:
            return await _endpoint(connection, project_id, endpoint_id)

    @rerun
    async def set_password(
        self, project_id: str, endpoint_id: str, password_hash: str, by: str
    ) -> Endpoint:
        async with self._database.write() as connection:
            await connection.execute(
                update(EndpointRow)
                .where(EndpointRow.id == endpoint_id, EndpointRow.project_id == project_id)
                .values(password_hash=password_hash)
            )
            endpoint = await _endpoint(connection, project_id, endpoint_id)
            await _record(connection, by, "reset endpoint password", endpoint_id, project_id)
            return endpoint

    @rerun
    async def delete_endpoint(self, project_id: str, endpoint_id: str, by: str) -> None:
        async with self._database.write() as connection:
            await lock_project(connection, project_id)
            await _endpoint(connection, project_id, endpoint_id)
            await connection.execute(delete(EndpointRow).where(EndpointRow.id == endpoint_id))
            await _record(connection, by, "delete endpoint", endpoint_id, project_id)

    @rerun
    async def create_subscription(self, subscription: Subscription, by: str, limit: int) -> None:
        project_id = subscription.project_id
        dimensions = json.dumps(dict(subscription.dimensions), ensure_ascii=False)
        values = {
            "id": subscription.id,
            "endpoint_id": subscription.endpoint_id,
            "project_id": project_id,
            "namespace": subscription.namespace,
            "dimensions": dimensions,
            "dimensions_digest": hashlib.sha256(dimensions.encode()).digest(),
            "created_at": subscription.created_ms,
        }
        async with self._database.write() as connection:
            await lock_project(connection, project_id)
            try:
                await _endpoint(connection, project_id, subscription.endpoint_id)
            except HeliometerError as error:
                raise Malformed(
                    f"subscription.endpoint_id: {error.message}",
                    details="POST /endpoints makes one.",
                ) from error
            same = select(SubscriptionRow.id).where(
                *(
                    getattr(SubscriptionRow, name) == values[name]
                    for name in ("endpoint_id", "namespace", "dimensions_digest")
                )
            )
            if (await connection.execute(same)).first() is not None:
                raise HeliometerError(
                    Code.CONFLICT,
                    "A subscription for this combination of endpoint_id, namespace and dimensions "
                    "already exists for this project.",
                )
            count = select(func.count()).where(SubscriptionRow.project_id == project_id)
            number = (await connection.execute(count)).scalar_one()
            if number >= limit:
                raise HeliometerError(
                    Code.RATE_LIMITED,
                    f"The project has {number} subscriptions and may have {limit}.",
                    details="Delete some that nobody needs.",
                    retry_after=3600,
                )
            await connection.execute(insert(SubscriptionRow).values(values))
            await _record(connection, by, "create subscription", subscription.id, project_id)

    async def list_subscriptions(
        self, project_id: str, after: str | None = None, limit: int | None = None
    ) -> list[Subscription]:
        query = select(SubscriptionRow.__table__).where(SubscriptionRow.project_id == project_id)
        async with self._database.read() as connection:
            if after is not None:
                last = await _subscription(connection, project_id, after)
                query = query.where(
                    tuple_(SubscriptionRow.created_at, SubscriptionRow.id)
                    > (last.created_ms, last.id)
                )
            query = query.order_by(SubscriptionRow.created_at, SubscriptionRow.id).limit(limit)
            return [_to_subscription(row) for row in (await connection.execute(query)).all()]

    async def get_subscription(self, project_id: str, subscription_id: str) -> Subscription:
        async with self._database.read() as connection:
            return await _subscription(connection, project_id, subscription_id)

    @rerun
    async def delete_subscription(self, project_id: str, subscription_id: str, by: str) -> None:
        async with self._database.write() as connection:
            await lock_project(connection, project_id)
            await _subscription(connection, project_id, subscription_id)
            await connection.execute(
                delete(SubscriptionRow).where(SubscriptionRow.id == subscription_id)
            )
            await _record(connection, by, "delete subscription", subscription_id, project_id)

    async def load_endpoints(self) -> list[Endpoint]:
        async with self._database.read() as connection:
            rows = (await connection.execute(select(EndpointRow.__table__))).all()
        return [_to_endpoint(row) for row in rows]

    async def load_subscriptions(self) -> list[Subscription]:
        async with self._database.read() as connection:
            rows = (await connection.execute(select(SubscriptionRow.__table__))).all()
        return [_to_subscription(row) for row in rows]


async def _endpoint(connection: AsyncConnection, project_id: str, endpoint_id: str) -> Endpoint:
    query = select(EndpointRow.__table__).where(
        EndpointRow.id == endpoint_id, EndpointRow.project_id == project_id
    )
    row = (await connection.execute(query)).first()
    if row is None:
        raise HeliometerError(Code.NOT_FOUND, f"There is no endpoint {endpoint_id[:40]!r}.")
    return _to_endpoint(row)


async def _subscription(
    connection: AsyncConnection, project_id: str, subscription_id: str
) -> Subscription:
    query = select(SubscriptionRow.__table__).where(
        SubscriptionRow.id == subscription_id, SubscriptionRow.project_id == project_id
    )
    row = (await connection.execute(query)).first()
    if row is None:
        raise HeliometerError(Code.NOT_FOUND, f"There is no subscription {subscription_id[:40]!r}.")
    return _to_subscription(row)


async def _record(
    connection: AsyncConnection, by: str, action: str, details: str, project_id: str
) -> None:
    await record(connection, milliseconds(), by, action, details, project_id)


def _to_endpoint(row: Row[Any]) -> Endpoint:
    return Endpoint(row.id, row.project_id, row.password_hash, row.created_at)


def _to_subscription(row: Row[Any]) -> Subscription:
    return Subscription(
        row.id,
        row.endpoint_id,
        row.project_id,
        row.namespace,
        tuple(json.loads(row.dimensions).items()),
        row.created_at,
    )
