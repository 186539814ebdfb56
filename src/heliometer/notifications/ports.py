"""What notifications need of their storage: four ports, and one to read what became of messages.

Which addresses may be sent to and what is withheld is decided by ``checks``, how many codes are
sent by ``message_quotas``; storage only keeps rows. Limits are passed to it where counting and
adding must be one transaction.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from heliometer.notifications.model import (
    Backlog,
    Delivery,
    DeliveryFilter,
    NotificationAddress,
    NotificationMethod,
    Settlement,
    ValidationCode,
)


class MethodStore(Protocol):
    """Keeps notification methods."""

    async def create(self, method: NotificationMethod, by: str, limit: int) -> None:
        """Store a method; raise RATE_LIMITED when the project already has ``limit``."""
        ...

    async def get(self, project_id: str, method_id: str) -> NotificationMethod:
        """Raises NOT_FOUND when the project has no such method."""
        ...

    async def list(
        self, project_id: str, after: str | None = None, limit: int | None = None
    ) -> Sequence[NotificationMethod]:
        """The project's methods in order of creation, those after the id ``after``."""
        ...

    async def delete(self, project_id: str, method_id: str, by: str, reason: str) -> None:
        """Remove a method and take it out of every alarm's actions; its pending deliveries become
        withheld for ``reason``. Raises NOT_FOUND."""
        ...


class AddressStore(Protocol):
    """Keeps notification addresses."""

    async def put(self, address: NotificationAddress, by: str, limit: int) -> NotificationAddress:
        """Store an address in progress. If the project has it already, its name changes, and its
        expiry unless it is verified; raises RATE_LIMITED when it would be one more than ``limit``.
        Returns what is stored."""
        ...

    async def get(self, project_id: str, address_id: str) -> NotificationAddress:
        """Raises NOT_FOUND when the project has no such address."""
        ...

    async def list(
        self, project_id: str, after: str | None = None, limit: int | None = None
    ) -> Sequence[NotificationAddress]:
        """The project's addresses in order of creation, those after the id ``after``."""
        ...

    async def find(self, address_id: str) -> NotificationAddress | None:
        """An address of any project, for the notifier."""
        ...

    async def delete(self, project_id: str, address_id: str, by: str) -> None:
        """Remove an address and its codes. Raises NOT_FOUND."""
        ...

    async def verify(self, address_id: str, now_ms: int, by: str) -> bool:
        """Mark the address verified and remove its codes, once: False when it was verified already
        or is gone."""
        ...


class CodeStore(Protocol):
    """Keeps the codes that confirm addresses."""

    async def add(self, code: ValidationCode, keep: int) -> bool:
        """Store a code and, of its address, remove all but the newest ``keep``. False: there is no
        such address in progress."""
        ...

    async def valid(self, project_id: str, now_ms: int) -> Sequence[ValidationCode]:
        """The codes of a project that are neither expired nor used."""
        ...

    async def find_long(self, digest: bytes, now_ms: int) -> ValidationCode | None:
        """The code with that digest, in any project, if it is neither expired nor used."""
        ...

    async def count_failure(self, project_id: str, most: int) -> None:
        """Count a wrong attempt against every code of a project, and remove those that then have
        ``most``."""
        ...


class Outbox(Protocol):
    """Keeps what is to be sent, and gives each delivery to one notifier at a time."""

    async def enqueue(self, deliveries: Sequence[Delivery]) -> None:
        """Add deliveries to the outbox."""
        ...

    async def claim(self, now_ms: int, lease_ms: int, limit: int) -> Sequence[Delivery]:
        """Claim due deliveries exclusively for ``lease_ms``. Of one alarm and method, only the
        oldest pending delivery is claimed, so that messages arrive in order. Status and
        ``attempts`` stay unchanged."""
        ...

    async def gather(self, delivery: Delivery, now_ms: int, lease_ms: int) -> Sequence[Delivery]:
        """Claim every other pending alarm message to the destination of a claimed one, later ones
        of the same alarm included, for a digest."""
        ...

    async def settle(self, ends: Sequence[Settlement], now_ms: int) -> None:
        """Record how attempts ended and give up the claims; ``attempts`` grows by one."""
        ...

    async def defer(self, ids: Sequence[str], until_ms: int) -> None:
        """Give up claims without an attempt: the deliveries are due again at ``until_ms``."""
        ...

    async def release_claims(self) -> None:
        """Give up every claim. Only for a process that knows that it is the only one."""
        ...

    async def next_due_ms(self) -> int | None:
        """When the next pending delivery is due; ``None``: nothing waits."""
        ...

    async def delivered_since(self, type_: str, address: str, since_ms: int) -> int:
        """The number of alarm messages delivered to a destination since then, all projects
        together."""
        ...


class DeliveryLog(Protocol):
    """The same deliveries, for those who want to know what became of them."""

    async def list(
        self, project_id: str, wanted: DeliveryFilter, before: str | None, limit: int
    ) -> Sequence[Delivery]:
        """Deliveries of a project, newest first, those older than the id ``before``."""
        ...

    async def get(self, project_id: str, delivery_id: str) -> Delivery:
        """Raises NOT_FOUND when the project has no such delivery."""
        ...

    async def retry(self, project_id: str, delivery_id: str, now_ms: int, by: str) -> bool:
        """Make a failed delivery pending again, with a new retry period. False: it is not failed,
        or not there."""
        ...

    async def backlog(self) -> Backlog:
        """What is still to be delivered, all projects together."""
        ...

    async def forget(self, before_ms: int, limit: int) -> int:
        """Remove up to ``limit`` settled deliveries that are older; return how many."""
        ...


@dataclass(frozen=True, slots=True)
class NotificationStores:
    """The ports of one database."""

    methods: MethodStore
    addresses: AddressStore
    codes: CodeStore
    outbox: Outbox
    log: DeliveryLog
