"""What belongs to a project or user, counted before it is deleted."""

from collections.abc import Mapping

from sqlalchemy import func, select
from sqlalchemy.orm import InstrumentedAttribute

from heliometer.storage.sql.database import Database
from heliometer.storage.sql.tables import (
    AddressRow,
    AlarmRow,
    DeliveryRow,
    EndpointRow,
    GrantRow,
    InvitationRow,
    MeterRow,
    MethodRow,
    SubscriptionRow,
    TokenRow,
    TransitionRow,
)

OF_PROJECT: Mapping[str, InstrumentedAttribute[str]] = {
    "members": GrantRow.project_id,
    "invitations": InvitationRow.project_id,
    "alarms": AlarmRow.project_id,
    "transitions": TransitionRow.project_id,
    "notification methods": MethodRow.project_id,
    "notification addresses": AddressRow.project_id,
    "deliveries": DeliveryRow.project_id,
    "endpoints": EndpointRow.project_id,
    "subscriptions": SubscriptionRow.project_id,
    "custom meters": MeterRow.project_id,
}
OF_USER: Mapping[str, InstrumentedAttribute[str]] = {
    "memberships": GrantRow.user_id,
    "tokens": TokenRow.user_id,
}


async def count(
    database: Database, columns: Mapping[str, InstrumentedAttribute[str]], owner: str
) -> Mapping[str, int]:
    """How many rows of each kind refer to this id."""
    async with database.read() as connection:
        return {
            what: (
                await connection.execute(select(func.count()).where(column == owner))
            ).scalar_one()
            for what, column in columns.items()
        }
