"""Notification methods and addresses, test messages, and the delivery log."""

import secrets
import uuid
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace

from heliometer.config import Settings
from heliometer.core.errors import Invalid
from heliometer.identity.model import Caller, Permission
from heliometer.notifications.channels import (
    CHANNELS,
    confirmed_types,
    find_channel,
    shown_address,
)
from heliometer.notifications.channels.channel import Channel
from heliometer.notifications.checks import (
    METHOD_DELETED,
    NOT_VERIFIED,
    as_of,
    check_enabled,
    check_replay,
    check_text,
    is_confirmed,
)
from heliometer.notifications.message_quotas import MessageQuotas
from heliometer.notifications.model import (
    ADDRESS_NAME_LENGTH,
    CODE_MESSAGE,
    IN_PROGRESS,
    NAME_LENGTH,
    PENDING,
    TEST_MESSAGE,
    VERIFIED,
    WITHHELD,
    Delivery,
    DeliveryFilter,
    NotificationAddress,
    NotificationMethod,
)
from heliometer.notifications.ports import NotificationStores


@dataclass(frozen=True, slots=True)
class Wanted:
    """A method or address as requested."""

    name: str
    type: str
    address: str
    region: str | None = None
    """Country whose national numbers are accepted; ``None``: only E.164."""


class Notifications:
    """What belongs to the caller's project (v1.1 §4.4.4, §4.4.5); anything of another project is
    NOT_FOUND. ``queued`` is called when something waits to be sent."""

    def __init__(
        self,
        stores: NotificationStores,
        settings: Settings,
        clock: Callable[[], float],
        quotas: MessageQuotas,
        queued: Callable[[], None] = lambda: None,
    ) -> None:
        self._methods = stores.methods
        self._addresses = stores.addresses
        self._outbox = stores.outbox
        self._log = stores.log
        self._settings = settings
        self._limit = settings.limits.methods_per_project
        self._clock = clock
        self._quotas = quotas
        self._queued = queued

    def now_ms(self) -> int:
        """Now, in milliseconds since the epoch."""
        return int(self._clock() * 1000)

    # -- methods ------------------------------------------------------------------------------

    async def create_method(self, caller: Caller, wanted: Wanted) -> NotificationMethod:
        """Store a method. Raises INVALID for a wrong field, and RATE_LIMITED when the project has
        as many as it may have."""
        check_text("name", wanted.name, NAME_LENGTH)
        channel, address = self._destination(wanted, tuple(CHANNELS))
        method = NotificationMethod(
            id=str(uuid.uuid4()),
            project_id=caller.project_id,
            name=wanted.name,
            type=wanted.type,
            address=address,
            created_ms=self.now_ms(),
            secret=secrets.token_urlsafe(32) if channel.signs else "",
        )
        await self._methods.create(method, caller.user_name, self._limit)
        return method

    async def get_method(self, caller: Caller, method_id: str) -> NotificationMethod:
        """One method of the project; its address in full for those who may change it."""
        return _for(caller, await self._methods.get(caller.project_id, method_id))

    async def list_methods(
        self, caller: Caller, after: str | None = None, limit: int | None = None
    ) -> Sequence[NotificationMethod]:
        """Methods in order of creation, those after the id ``after``; their addresses in full for
        those who may change them."""
        found = await self._methods.list(caller.project_id, after, limit)
        return [_for(caller, method) for method in found]

    async def delete_method(self, caller: Caller, method_id: str) -> None:
        """Remove a method, also from every alarm's actions."""
        await self._methods.delete(caller.project_id, method_id, caller.user_name, METHOD_DELETED)

    async def test_method(self, caller: Caller, method_id: str) -> Delivery:
        """Send a message through the method as an alarm would; the delivery log has the result.
        Raises RATE_LIMITED when there were too many, and CONFLICT while the method is disabled."""
        method = await self._methods.get(caller.project_id, method_id)
        check_enabled(method)
        await self._quotas.take_test(caller.project_id, method.type, method.address)
        may_send = await self._may_send(method)
        delivery = Delivery.new(
            TEST_MESSAGE,
            caller.project_id,
            method.type,
            method.address,
            self.now_ms(),
            method_id=method.id,
            status=PENDING if may_send else WITHHELD,
            reason="" if may_send else NOT_VERIFIED,
            payload={
                "method_name": method.name,
                "user_name": caller.user_name,
                "project_name": caller.project_name,
            },
        )
        await self._outbox.enqueue([delivery])
        self._queued()
        return _shown(delivery)

    # -- addresses ----------------------------------------------------------------------------

    async def create_address(self, caller: Caller, wanted: Wanted) -> NotificationAddress:
        """Send a code to an address, to have it confirmed. A further request sends another code
        unless the address is verified; raises RATE_LIMITED when there were too many."""
        check_text("name", wanted.name, ADDRESS_NAME_LENGTH)
        channel, destination = self._destination(wanted, confirmed_types())
        assert channel.code is not None
        now = self.now_ms()
        new = NotificationAddress(
            id=str(uuid.uuid4()),
            project_id=caller.project_id,
            type=wanted.type,
            address=destination,
            name=wanted.name,
            state=IN_PROGRESS,
            created_ms=now,
            expires_ms=now + channel.code.life_ms,
        )
        known = await self._addresses.list(caller.project_id)
        if not is_confirmed(wanted.type, destination, known):
            await self._quotas.take_code(caller.project_id, wanted.type, destination)
        address = await self._addresses.put(new, caller.user_name, self._limit)
        if address.state != VERIFIED:
            code = Delivery.new(
                CODE_MESSAGE,
                caller.project_id,
                address.type,
                address.address,
                self.now_ms(),
                payload={"address_id": address.id, "project_name": caller.project_name},
            )
            await self._outbox.enqueue([code])
            self._queued()
        return address

    async def get_address(self, caller: Caller, address_id: str) -> NotificationAddress:
        """One address of the project."""
        return as_of(await self._addresses.get(caller.project_id, address_id), self.now_ms())

    async def list_addresses(
        self, caller: Caller, after: str | None = None, limit: int | None = None
    ) -> Sequence[NotificationAddress]:
        """Addresses in order of creation, those after the id ``after``."""
        found = await self._addresses.list(caller.project_id, after, limit)
        return [as_of(address, self.now_ms()) for address in found]

    async def delete_address(self, caller: Caller, address_id: str) -> None:
        """Remove an address: nothing is sent to it any more."""
        await self._addresses.delete(caller.project_id, address_id, caller.user_name)

    # -- the delivery log ---------------------------------------------------------------------

    async def deliveries(
        self, caller: Caller, wanted: DeliveryFilter, before: str | None, limit: int
    ) -> Sequence[Delivery]:
        """What became of the project's messages, newest first, those older than ``before``."""
        found = await self._log.list(caller.project_id, wanted, before, limit)
        return [_shown(delivery) for delivery in found]

    async def delivery(self, caller: Caller, delivery_id: str) -> Delivery:
        """What became of one message."""
        return _shown(await self._log.get(caller.project_id, delivery_id))

    async def replay(self, caller: Caller, delivery_id: str) -> Delivery:
        """Send a failed message again; raises CONFLICT for any other, and for codes."""
        project = caller.project_id
        check_replay(await self._log.get(project, delivery_id))
        while not await self._log.retry(project, delivery_id, self.now_ms(), caller.user_name):
            # Another request was faster; what it sent may have failed again meanwhile.
            check_replay(await self._log.get(project, delivery_id))
        self._queued()
        return _shown(await self._log.get(project, delivery_id))

    # -- inside -------------------------------------------------------------------------------

    async def _may_send(self, method: NotificationMethod) -> bool:
        if method.type not in confirmed_types():
            return True
        known = await self._addresses.list(method.project_id)
        return is_confirmed(method.type, method.address, known)

    def _destination(self, wanted: Wanted, allowed: Collection[str]) -> tuple[Channel, str]:
        """The channel, and the address in the form that is sent to."""
        channel = find_channel(wanted.type) if wanted.type in allowed else None
        if channel is None:
            raise Invalid(f"type: {wanted.type[:40]!r} is none; allowed are {', '.join(allowed)}.")
        check_text("address", wanted.address, channel.address.length)
        return channel, channel.check_address(wanted.address, self._settings, wanted.region)


def _for(caller: Caller, method: NotificationMethod) -> NotificationMethod:
    """A method as the caller may see it."""
    if not method.address or Permission.MANAGE in caller.permissions:
        return method
    return replace(method, address=shown_address(method.type, method.address), secret="")


def _shown(delivery: Delivery) -> Delivery:
    """A delivery as the log shows it."""
    return replace(delivery, address=shown_address(delivery.type, delivery.address))
