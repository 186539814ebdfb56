"""Notification methods (where to), addresses (proof that one may), and deliveries (what became).

Times are milliseconds since the epoch.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

EMAIL, SMS, WEBHOOK, APPRISE = "EMAIL", "SMS", "WEBHOOK", "APPRISE"
TYPES = (EMAIL, SMS, WEBHOOK, APPRISE)
VERIFIED_TYPES = (EMAIL, SMS)
"""Types that are sent to verified addresses only (v1.1 §4.4.5). The documents know no others."""
NAME_LENGTH = 250
"""Characters of a method's name (v1.1 §4.4.4.1)."""
ADDRESS_NAME_LENGTH = 100
"""Characters of an address's name (v1.1 §4.4.5.1)."""
ADDRESS_LENGTH = 100
"""Characters of an e-mail address or number (v1.1 §4.4.4.1)."""
URL_LENGTH = 1000

IN_PROGRESS, VERIFIED, TIMED_OUT = "in-progress", "verified", "timed out"
"""States of an address (v1.1 §2.2.4)."""

PENDING, DELIVERED, FAILED, WITHHELD = "pending", "delivered", "failed", "withheld"
STATUSES = (PENDING, DELIVERED, FAILED, WITHHELD)
"""A delivery waits or is retried; was taken by the relay; was given up (dead letter); or was never
to be sent, and its reason says why."""

ALARM_MESSAGE, TEST_MESSAGE, CODE_MESSAGE, HEARTBEAT = "alarm", "test", "code", "heartbeat"
"""Kinds of messages."""


@dataclass(frozen=True, slots=True)
class NotificationMethod:
    """Where notifications go."""

    id: str
    project_id: str
    name: str
    type: str
    address: str
    """E-mail address, number in E.164, or URL: in the form that is sent to."""
    created_ms: int
    secret: str = ""
    """Key of a webhook's signature."""


@dataclass(frozen=True, slots=True)
class NotificationAddress:
    """An address that a project proves, or has proved, to be allowed to notify."""

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
    """A code that was sent, known by its digests only."""

    address_id: str
    short_hash: str
    """argon2 hash of the short numeric code; good only with a token of the project."""
    long_digest: bytes
    """SHA-256 of the long code (128 bits or more); empty where none was sent."""
    expires_ms: int
    failures: int = 0


@dataclass(frozen=True, slots=True)
class Delivery:
    """One message to one destination: a row of the outbox, and later of the ledger."""

    id: str
    """Stands in the message, so that a duplicate can be told."""
    kind: str
    project_id: str
    type: str
    address: str
    method_id: str | None
    alarm_id: str | None
    transition_id: int | None
    status: str
    reason: str
    attempts: int
    created_ms: int
    next_attempt_ms: int
    changed_ms: int
    started_ms: int
    """When the period began in which it is retried: its creation, or its replay."""
    payload: dict[str, Any] = field(default_factory=dict)
    """What the message is made of: plain data, by kind."""


@dataclass(frozen=True, slots=True)
class DeliveryFilter:
    """Which deliveries to list; ``None`` means any."""

    status: str | None = None
    alarm_id: str | None = None
    method_id: str | None = None
    kind: str | None = None


class NotificationStore(Protocol):
    """Keeps methods, addresses, codes and deliveries."""

    async def create_method(self, method: NotificationMethod, by: str, limit: int) -> None:
        """Store a method; raise RATE_LIMITED when the project has ``limit`` already."""
        ...

    async def get_method(self, project_id: str, method_id: str) -> NotificationMethod:
        """The method; raise NOT_FOUND when the project has no such."""
        ...

    async def list_methods(
        self, project_id: str, after: str | None = None, limit: int | None = None
    ) -> list[NotificationMethod]:
        """The project's methods in order of creation."""
        ...

    async def delete_method(self, project_id: str, method_id: str, by: str) -> None:
        """Remove a method and take it out of every alarm's actions; what it was to be sent and is
        still pending becomes withheld. Raises NOT_FOUND."""
        ...

    async def put_address(
        self, address: NotificationAddress, by: str, limit: int
    ) -> NotificationAddress:
        """Store an address in progress; when the project has it already, its name changes, and
        its expiry unless it is verified. Return what is stored."""
        ...

    async def get_address(self, project_id: str, address_id: str) -> NotificationAddress:
        """The address; raise NOT_FOUND when the project has no such."""
        ...

    async def list_addresses(
        self, project_id: str, after: str | None = None, limit: int | None = None
    ) -> list[NotificationAddress]:
        """The project's addresses in order of creation."""
        ...

    async def find_address(self, address_id: str) -> NotificationAddress | None:
        """An address of any project, for who sends codes."""
        ...

    async def delete_address(self, project_id: str, address_id: str, by: str) -> None:
        """Remove an address and its codes; raise NOT_FOUND when there is none."""
        ...

    async def add_code(self, code: ValidationCode, keep: int) -> bool:
        """Store a code; of an address the newest ``keep`` stay good. False: no such address."""
        ...

    async def codes(self, project_id: str, now_ms: int) -> list[ValidationCode]:
        """The codes of a project that are neither expired nor used."""
        ...

    async def find_long_code(self, digest: bytes, now_ms: int) -> ValidationCode | None:
        """The code with that digest, in any project, if it is neither expired nor used."""
        ...

    async def code_failed(self, project_id: str, failures: int) -> None:
        """Count a wrong try against every open code of a project; those that reach ``failures``
        are void."""
        ...

    async def verify(self, address_id: str, now_ms: int) -> bool:
        """Mark the address verified and use up its codes, once: False when it was so already or
        is gone."""
        ...

    async def sends_since(self, type_: str, address: str, since_ms: int) -> int:
        """Codes sent to a destination since then, over all projects."""
        ...

    async def enqueue(self, deliveries: Sequence[Delivery]) -> None:
        """Add deliveries to the outbox."""
        ...

    async def claim(self, now_ms: int, lease_ms: int, limit: int) -> list[Delivery]:
        """Take deliveries that are due, for ``lease_ms``; nobody else gets them in that time.

        Of one alarm and destination only the oldest that is pending is given out, so that they
        arrive in order. Status and ``attempts`` are not touched.
        """
        ...

    async def settle(
        self, delivery_id: str, status: str, reason: str, now_ms: int, next_attempt_ms: int = 0
    ) -> None:
        """Record the end of an attempt (``attempts`` grows by one) and give up the claim."""
        ...

    async def settle_many(self, ends: Sequence[tuple[str, str, str, int]], now_ms: int) -> None:
        """``settle`` for several at once: id, status, reason and next attempt of each."""
        ...

    async def sent_since(self, type_: str, address: str, since_ms: int) -> int:
        """Alarm messages that were delivered to a destination since then."""
        ...

    async def backlog(self) -> tuple[int, int | None]:
        """How many deliveries are pending, and when the oldest of them was queued."""
        ...

    async def defer(self, ids: Sequence[str], until_ms: int) -> None:
        """Give up claims without an attempt: the deliveries are due again at ``until_ms``."""
        ...

    async def release_claims(self) -> None:
        """Give up every claim: for a process that knows itself to be the only one, when it
        starts."""
        ...

    async def gather(self, delivery: Delivery, now_ms: int, lease_ms: int) -> list[Delivery]:
        """Claim every other pending alarm message to the destination of a claimed one, those
        behind it in order too, for a digest."""
        ...

    async def next_due_ms(self) -> int | None:
        """When the next pending delivery is due; ``None``: nothing waits."""
        ...

    async def list_deliveries(
        self, project_id: str, wanted: DeliveryFilter, before: str | None, limit: int
    ) -> list[Delivery]:
        """The ledger: deliveries of a project, newest first, those older than the id ``before``."""
        ...

    async def get_delivery(self, project_id: str, delivery_id: str) -> Delivery:
        """The delivery; raise NOT_FOUND when the project has no such."""
        ...

    async def retry_delivery(self, project_id: str, delivery_id: str, now_ms: int, by: str) -> None:
        """Make a failed delivery pending again, with a new retry period. Raises NOT_FOUND, and
        CONFLICT when it is not failed."""
        ...

    async def forget_deliveries(self, before_ms: int, limit: int) -> int:
        """Remove settled deliveries that are older; say how many went."""
        ...
