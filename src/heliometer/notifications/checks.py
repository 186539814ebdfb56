"""What may be sent, what is withheld and what is refused: pure decisions on what is stored."""

from collections.abc import Iterable
from dataclasses import replace

from heliometer.core.errors import Code, HeliometerError, Invalid
from heliometer.notifications.model import (
    CODE_MESSAGE,
    FAILED,
    IN_PROGRESS,
    TIMED_OUT,
    VERIFIED,
    Delivery,
    NotificationAddress,
    NotificationMethod,
)

HOUR_MS = 3_600_000
METHOD_DELETED = "the notification method was deleted"
NOT_VERIFIED = "the address is not verified"
PROJECT_DISABLED = "the project is disabled"
NOTHING_TO_CONFIRM = "the address is gone, or verified already"
"""Reasons for which deliveries are withheld."""


def check_text(field: str, text: str, most: int) -> None:
    """Raise INVALID unless a text is one printable line of 1 to ``most`` characters."""
    if not 1 <= len(text) <= most:
        raise Invalid(f"{field}: must have 1 to {most} characters, not {len(text)}.")
    if not text.isprintable() or not text.strip():
        raise Invalid(f"{field}: must be one line of printable characters, and not blank.")


def is_confirmed(type_: str, destination: str, addresses: Iterable[NotificationAddress]) -> bool:
    """Whether one of a project's addresses shows that the destination agreed."""
    return any((a.type, a.address, a.state) == (type_, destination, VERIFIED) for a in addresses)


def confirmations(
    methods: Iterable[NotificationMethod], addresses: Iterable[NotificationAddress]
) -> dict[str, NotificationAddress | None]:
    """By id of a method the address, in whatever state, that its destination is confirmed by."""
    known = {(a.type, a.address): a for a in addresses}
    return {m.id: known.get((m.type, m.address)) for m in methods}


def as_of(address: NotificationAddress, now_ms: int) -> NotificationAddress:
    """An address whose newest code has expired has timed out (v1.1 §2.2.4)."""
    late = address.state == IN_PROGRESS and now_ms >= address.expires_ms
    return replace(address, state=TIMED_OUT) if late else address


def check_number(what: str, number: int, limit: int) -> None:
    """Raise RATE_LIMITED when a project that has ``number`` of something may have no more."""
    if number >= limit:
        raise HeliometerError(
            Code.RATE_LIMITED,
            f"The project has {number} {what} and may have {limit}.",
            details="Delete some that are not used.",
            retry_after=3600,
        )


def check_enabled(method: NotificationMethod) -> None:
    """Raise CONFLICT while nothing can be sent by a method."""
    if method.disabled:
        raise HeliometerError(
            Code.CONFLICT,
            f"The notification method is disabled: {method.disabled}.",
            details="Delete it and create it again, or ask the operator to restore the key.",
        )


def check_replay(delivery: Delivery) -> None:
    """Raise CONFLICT unless a delivery may be sent again: only failed ones, and no codes, which
    have to be requested anew so that they are counted."""
    if delivery.kind == CODE_MESSAGE:
        raise HeliometerError(
            Code.CONFLICT,
            "A validation code cannot be replayed.",
            details="POST /v1.1/notification-addresses with the same address sends a new one.",
        )
    if delivery.status != FAILED:
        raise HeliometerError(
            Code.CONFLICT,
            f"The notification is {delivery.status}; only failed ones can be replayed.",
        )
