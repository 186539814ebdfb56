"""Converts between rows of the outbox and deliveries."""

import json
from typing import Any

from sqlalchemy import Row

from heliometer.core.secret_box import SecretBox
from heliometer.notifications.model import Delivery
from heliometer.storage.sql.sealing import ADDRESS


def delivery_row(d: Delivery) -> dict[str, Any]:
    """The values of an unclaimed row for the delivery, whose address is as it is stored."""
    return {
        "id": d.id, "kind": d.kind, "project_id": d.project_id, "type": d.type,
        "address": d.address, "method_id": d.method_id, "alarm_id": d.alarm_id,
        "transition_id": d.transition_id, "status": d.status, "reason": d.reason,
        "attempts": d.attempts, "created_at": d.created_ms, "next_attempt_at": d.next_attempt_ms,
        "leased_until": 0, "changed_at": d.changed_ms, "started_at": d.started_ms,
        "payload": json.dumps(d.payload, ensure_ascii=False),
    }  # fmt: skip


def delivery_of(row: Row[Any], box: SecretBox) -> Delivery:
    """The delivery in a row. Its address is empty when the key that encrypted it is missing."""
    return Delivery(
        id=row.id, kind=row.kind, project_id=row.project_id, type=row.type,
        address=box.open_or_empty(row.address, ADDRESS),
        method_id=row.method_id, alarm_id=row.alarm_id, transition_id=row.transition_id,
        status=row.status, reason=row.reason, attempts=row.attempts, created_ms=row.created_at,
        next_attempt_ms=row.next_attempt_at, changed_ms=row.changed_at, started_ms=row.started_at,
        payload=json.loads(row.payload),
    )  # fmt: skip
