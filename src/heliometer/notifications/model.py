"""Notification methods (where to send), addresses (proof that one may), and deliveries (what
became of each message).

Times are milliseconds since the epoch.
"""

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

EMAIL, SMS, WEBHOOK = "EMAIL", "SMS", "WEBHOOK"
"""Types that more than their own channel knows; ``channels.CHANNELS`` has all."""
NAME_LENGTH = 250
"""Characters of a method's name (v1.1 §4.4.4.1)."""
ADDRESS_NAME_LENGTH = 100
"""Characters of an address's name (v1.1 §4.4.5.1)."""
ADDRESS_LENGTH = 100
"""Characters of an e-mail address or number (v1.1 §4.4.4.1)."""

IN_PROGRESS, VERIFIED, TIMED_OUT = "in-progress", "verified", "timed out"
"""States of an address (v1.1 §2.2.4)."""

PENDING, DELIVERED, FAILED, WITHHELD = "pending", "delivered", "failed", "withheld"
STATUSES = (PENDING, DELIVERED, FAILED, WITHHELD)
"""A delivery waits or is retried; was accepted by the relay; was given up (dead letter); or is not
sent at all, and its reason says why."""

KEY_MISSING = "the key that its secrets were encrypted with is missing"
"""Why a method is disabled."""

ALARM_MESSAGE, TEST_MESSAGE, CODE_MESSAGE, HEARTBEAT = "alarm", "test", "code", "heartbeat"
"""The kinds of messages, as they are stored."""


@dataclass(frozen=True, slots=True)
class NotificationMethod:
    """Where notifications are sent."""

    id: str
    project_id: str
    name: str
    type: str
    address: str
    """In the form that is sent to: an e-mail address, a number in E.164, a URL. Empty: the method
    is disabled, because the key is missing that it was encrypted with."""
    created_ms: int
    secret: str = ""
    """By which messages are signed; empty unless the channel signs."""

    @property
    def disabled(self) -> str:
        """Why nothing is sent by it; empty: it is."""
        return "" if self.address else KEY_MISSING


@dataclass(frozen=True, slots=True)
class NotificationAddress:
    """An address whose owner agrees, or is being asked, to be notified by a project."""

    id: str
    project_id: str
    type: str
    address: str
    name: str
    state: str
    created_ms: int
    expires_ms: int
    """When the newest code expires; meaningless once verified."""


@dataclass(frozen=True, slots=True)
class ValidationCode:
    """A code that was sent. Only digests of it are kept."""

    address_id: str
    short_hash: str
    """argon2 hash of the short numeric code, which is accepted only with a token of the project."""
    long_digest: bytes
    """SHA-256 of the long code (128 bits or more); empty if none was sent."""
    expires_ms: int
    failures: int = 0


class Backlog(NamedTuple):
    """What is pending in the outbox."""

    waiting: int
    oldest_ms: int | None
    """When the retry period of the oldest began; ``None``: nothing waits."""


NOTHING_WAITS = Backlog(0, None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """One message to one destination: a row of the outbox, and later of the delivery log."""

    id: str
    """Sent with the message, so that a duplicate can be recognised."""
    kind: str
    project_id: str
    type: str
    address: str
    """Empty: the key is missing that it was encrypted with."""
    method_id: str | None = None
    alarm_id: str | None = None
    transition_id: int | None = None
    status: str = PENDING
    reason: str = ""
    attempts: int = 0
    created_ms: int
    next_attempt_ms: int
    changed_ms: int
    started_ms: int
    """When the retry period began: at its creation, or when it was last sent again."""
    payload: Mapping[str, Any] = field(default_factory=dict)
    """What the message is made of: plain data, by kind."""

    @classmethod
    def new(
        cls,
        kind: str,
        project_id: str,
        type_: str,
        address: str,
        now_ms: int,
        *,
        method_id: str | None = None,
        status: str = PENDING,
        reason: str = "",
        payload: Mapping[str, Any] | None = None,
    ) -> "Delivery":
        """A delivery that is due at once, with a new id."""
        return cls(
            id=str(uuid.uuid4()),
            kind=kind,
            project_id=project_id,
            type=type_,
            address=address,
            method_id=method_id,
            status=status,
            reason=reason,
            created_ms=now_ms,
            next_attempt_ms=now_ms,
            changed_ms=now_ms,
            started_ms=now_ms,
            payload=dict(payload or {}),
        )


class Settlement(NamedTuple):
    """How an attempt to deliver a message ended."""

    delivery_id: str
    status: str
    reason: str
    next_attempt_ms: int = 0
    """When the next attempt is due; meaningful while the delivery is pending."""


@dataclass(frozen=True, slots=True)
class DeliveryFilter:
    """Which deliveries to list; ``None`` matches any."""

    status: str | None = None
    alarm_id: str | None = None
    method_id: str | None = None
    kind: str | None = None
