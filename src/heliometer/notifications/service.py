"""Notification methods and addresses, test messages, and the ledger of what was sent."""

import asyncio
import secrets
import uuid
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace

from heliometer.config import Settings
from heliometer.core.errors import Code, HeliometerError, Invalid
from heliometer.identity.model import Caller
from heliometer.notifications.destinations import (
    apprise_url,
    check_text,
    email_address,
    phone_number,
    webhook_url,
)
from heliometer.notifications.model import (
    ADDRESS_LENGTH,
    ADDRESS_NAME_LENGTH,
    APPRISE,
    CODE_MESSAGE,
    EMAIL,
    IN_PROGRESS,
    NAME_LENGTH,
    PENDING,
    SMS,
    TEST_MESSAGE,
    TIMED_OUT,
    TYPES,
    URL_LENGTH,
    VERIFIED,
    VERIFIED_TYPES,
    WEBHOOK,
    WITHHELD,
    Delivery,
    DeliveryFilter,
    NotificationAddress,
    NotificationMethod,
    NotificationStore,
)
from heliometer.notifications.verification import CODE_LIFE_MS

HOUR_MS = 3_600_000
CODES_AN_HOUR = 3
"""Codes that are sent to one destination, over all projects (RELIABILITY, test 18)."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """A method or address as it was asked for."""

    name: str
    type: str
    address: str
    region: str | None = None
    """Country whose national numbers are accepted; ``None``: only E.164."""


class Notifications:
    """What belongs to the caller's project (v1.1 §4.4.4, §4.4.5); everything of another is
    NOT_FOUND. ``queued`` is called when something waits to be sent."""

    def __init__(
        self,
        store: NotificationStore,
        settings: Settings,
        clock: Callable[[], float],
        queued: Callable[[], None] = lambda: None,
    ) -> None:
        self._store = store
        self._limit = settings.limits.methods_per_project
        self._schemes = frozenset(
            s.strip().lower() for s in settings.notify.apprise_schemes.split(",") if s.strip()
        )
        self._https = settings.webhook.require_https
        self._clock = clock
        self._queued = queued
        self._asking = asyncio.Lock()

    def now_ms(self) -> int:
        """Now, in milliseconds since the epoch."""
        return int(self._clock() * 1000)

    # -- methods ------------------------------------------------------------------------------

    async def create_method(self, caller: Caller, wanted: Wanted) -> NotificationMethod:
        """Where notifications are to go. Raises INVALID for a wrong field."""
        check_text("name", wanted.name, NAME_LENGTH)
        method = NotificationMethod(
            id=str(uuid.uuid4()),
            project_id=caller.project_id,
            name=wanted.name,
            type=wanted.type,
            address=self._destination(wanted, TYPES),
            created_ms=self.now_ms(),
            secret=secrets.token_urlsafe(32) if wanted.type == WEBHOOK else "",
        )
        await self._store.create_method(method, caller.user_name, self._limit)
        return method

    async def get_method(self, caller: Caller, method_id: str) -> NotificationMethod:
        """One method."""
        return await self._store.get_method(caller.project_id, method_id)

    async def list_methods(
        self, caller: Caller, after: str | None = None, limit: int | None = None
    ) -> list[NotificationMethod]:
        """Methods in order of creation, those behind the id ``after``."""
        return await self._store.list_methods(caller.project_id, after, limit)

    async def delete_method(self, caller: Caller, method_id: str) -> None:
        """Remove a method, out of every alarm's actions too."""
        await self._store.delete_method(caller.project_id, method_id, caller.user_name)

    async def test_method(self, caller: Caller, method_id: str) -> Delivery:
        """Send a message through the method as an alarm would; the ledger tells its fate."""
        method = await self._store.get_method(caller.project_id, method_id)
        status, reason = PENDING, ""
        if method.type in VERIFIED_TYPES and not await self._is_verified(method):
            status, reason = WITHHELD, "the address is not verified"
        delivery = self._delivery(
            TEST_MESSAGE, caller.project_id, method.type, method.address, method.id,
            status=status, reason=reason,
            payload={
                "method_name": method.name,
                "user_name": caller.user_name,
                "project_name": caller.project_name,
            },
        )  # fmt: skip
        await self._store.enqueue([delivery])
        self._queued()
        return delivery

    # -- addresses ----------------------------------------------------------------------------

    async def create_address(self, caller: Caller, wanted: Wanted) -> NotificationAddress:
        """Begin to prove an address: a code is sent to it. Asking again sends another code,
        unless the address is verified; raises RATE_LIMITED when there were too many."""
        check_text("name", wanted.name, ADDRESS_NAME_LENGTH)
        destination = self._destination(wanted, VERIFIED_TYPES)
        now = self.now_ms()
        new = NotificationAddress(
            id=str(uuid.uuid4()),
            project_id=caller.project_id,
            type=wanted.type,
            address=destination,
            name=wanted.name,
            state=IN_PROGRESS,
            created_ms=now,
            expires_ms=now + CODE_LIFE_MS[wanted.type],
        )
        async with self._asking:  # counted and queued in one, so that many at once get no more
            known = await self._store.list_addresses(caller.project_id)
            if not any(_proves(a, wanted.type, destination) for a in known):
                await self._check_sends(wanted.type, destination, now)
            address = await self._store.put_address(new, caller.user_name, self._limit)
            if address.state != VERIFIED:
                code = self._delivery(
                    CODE_MESSAGE, caller.project_id, address.type, address.address, None,
                    payload={"address_id": address.id, "project_name": caller.project_name},
                )  # fmt: skip
                await self._store.enqueue([code])
                self._queued()
        return address

    async def get_address(self, caller: Caller, address_id: str) -> NotificationAddress:
        """One address."""
        return self._as_of_now(await self._store.get_address(caller.project_id, address_id))

    async def list_addresses(
        self, caller: Caller, after: str | None = None, limit: int | None = None
    ) -> list[NotificationAddress]:
        """Addresses in order of creation, those behind the id ``after``."""
        found = await self._store.list_addresses(caller.project_id, after, limit)
        return [self._as_of_now(address) for address in found]

    async def delete_address(self, caller: Caller, address_id: str) -> None:
        """Remove an address: nothing is sent to it any more."""
        await self._store.delete_address(caller.project_id, address_id, caller.user_name)

    # -- the ledger ---------------------------------------------------------------------------

    async def ledger(
        self, caller: Caller, wanted: DeliveryFilter, before: str | None, limit: int
    ) -> list[Delivery]:
        """Who was told of what, newest first."""
        return await self._store.list_deliveries(caller.project_id, wanted, before, limit)

    async def delivery(self, caller: Caller, delivery_id: str) -> Delivery:
        """One entry of the ledger."""
        return await self._store.get_delivery(caller.project_id, delivery_id)

    async def replay(self, caller: Caller, delivery_id: str) -> Delivery:
        """Try a failed notification anew; raises CONFLICT for any other, and for a code, which
        has to be asked for anew: so they are counted."""
        found = await self._store.get_delivery(caller.project_id, delivery_id)
        if found.kind == CODE_MESSAGE:
            raise HeliometerError(
                Code.CONFLICT,
                "A validation code cannot be replayed.",
                details="POST /v1.1/notification-addresses with the same address sends a new one.",
            )
        await self._store.retry_delivery(
            caller.project_id, delivery_id, self.now_ms(), caller.user_name
        )
        self._queued()
        return await self._store.get_delivery(caller.project_id, delivery_id)

    # -- inside -------------------------------------------------------------------------------

    def _as_of_now(self, address: NotificationAddress) -> NotificationAddress:
        """An address whose newest code expired has timed out (v1.1 §2.2.4)."""
        late = address.state == IN_PROGRESS and self.now_ms() >= address.expires_ms
        return replace(address, state=TIMED_OUT) if late else address

    async def _is_verified(self, method: NotificationMethod) -> bool:
        known = await self._store.list_addresses(method.project_id)
        return any(_proves(a, method.type, method.address) for a in known)

    async def _check_sends(self, type_: str, address: str, now: int) -> None:
        sent = await self._store.sends_since(type_, address, now - HOUR_MS)
        if sent >= CODES_AN_HOUR:
            raise HeliometerError(
                Code.RATE_LIMITED,
                f"{CODES_AN_HOUR} codes were sent to this address within the last hour.",
                details="Use one of them, or ask again later.",
                retry_after=HOUR_MS // 1000,
            )

    def _destination(self, wanted: Wanted, allowed: Collection[str]) -> str:
        """The address in the form that is sent to."""
        if wanted.type not in allowed:
            raise Invalid(f"type: {wanted.type[:40]!r} is none; allowed are {', '.join(allowed)}.")
        most = ADDRESS_LENGTH if wanted.type in VERIFIED_TYPES else URL_LENGTH
        check_text("address", wanted.address, most)
        if wanted.type == EMAIL:
            return email_address(wanted.address)
        if wanted.type == SMS:
            return phone_number(wanted.address, wanted.region)
        if wanted.type == WEBHOOK:
            return webhook_url(wanted.address, ("https",) if self._https else ("http", "https"))
        assert wanted.type == APPRISE
        return apprise_url(wanted.address, self._schemes)

    def _delivery(
        self,
        kind: str,
        project_id: str,
        type_: str,
        address: str,
        method_id: str | None,
        *,
        payload: dict[str, str],
        status: str = PENDING,
        reason: str = "",
    ) -> Delivery:
        now = self.now_ms()
        return Delivery(
            str(uuid.uuid4()), kind, project_id, type_, address, method_id, None, None, status,
            reason, 0, now, now, now, now, dict(payload),
        )  # fmt: skip


def _proves(address: NotificationAddress, type_: str, destination: str) -> bool:
    return (address.type, address.address, address.state) == (type_, destination, VERIFIED)
