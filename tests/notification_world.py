"""Two projects on a real database, with a notifier's hand that takes what is queued."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from heliometer.config import NotifySettings, ServerSettings, Settings
from heliometer.core.quotas import Quotas, UseStore
from heliometer.identity.builtin.service import BuiltinIdentity
from heliometer.identity.model import ROLES, Caller
from heliometer.notifications.message_quotas import MessageQuotas
from heliometer.notifications.model import (
    CODE_MESSAGE,
    DELIVERED,
    Delivery,
    NotificationAddress,
    Settlement,
)
from heliometer.notifications.ports import NotificationStores
from heliometer.notifications.service import Notifications, Wanted
from heliometer.notifications.verification import Validation
from heliometer.storage.sql.accounts import SqlAccountStore
from heliometer.storage.sql.database import Database
from heliometer.storage.sql.notification_stores import notification_stores
from heliometer.storage.sql.tokens import SqlTokenStore
from heliometer.storage.sql.uses import SqlUseStore

CLIENT = "192.0.2.1"


@dataclass
class World:
    """The use cases with what they stand on. Time stands still unless it is moved."""

    stores: NotificationStores
    settings: Settings
    shop: Caller
    stock: Caller
    uses: UseStore
    now: float = 1_800_000_000.0
    woken: int = 0
    quotas: Quotas = field(init=False)
    notifications: Notifications = field(init=False)
    validation: Validation = field(init=False)

    def __post_init__(self) -> None:
        self.quotas = Quotas(self.uses, self.clock)
        self.notifications = self.notifications_with(self.settings)
        self.validation = self.restarted()

    def clock(self) -> float:
        """Now, in seconds."""
        return self.now

    def notifications_with(self, settings: Settings) -> Notifications:
        """The use cases under other settings, on the same stores."""
        quotas = MessageQuotas(self.quotas, settings.limits)
        return Notifications(self.stores, settings, self.clock, quotas, self._wake)

    def restarted(self) -> Validation:
        """What another process, or the next, sees: only what is stored."""
        return Validation(self.stores.addresses, self.stores.codes, self.clock, self.clock)

    async def ask(
        self, address: str = "joe@mail.com", type_: str = "EMAIL", caller: Caller | None = None
    ) -> NotificationAddress:
        """Ask for a code."""
        wanted = Wanted("Joe", type_, address)
        return await self.notifications.create_address(caller or self.shop, wanted)

    async def take(self) -> Sequence[Delivery]:
        """What is due, as a notifier takes it."""
        return await self.stores.outbox.claim(int(self.now * 1000), 60_000, 100)

    async def codes(self) -> list[tuple[str, str]]:
        """Send every code that is queued: the short and the long one of each."""
        sent = []
        for delivery in await self.take():
            assert delivery.kind == CODE_MESSAGE
            code = await self.validation.make_code(delivery.payload["address_id"])
            if code is not None:
                sent.append(code)
            end = Settlement(delivery.id, DELIVERED, "")
            await self.stores.outbox.settle([end], int(self.now * 1000))
        return sent

    async def code(self, address: str = "joe@mail.com", type_: str = "EMAIL") -> tuple[str, str]:
        """Ask for a code of the shop and receive it."""
        await self.ask(address, type_)
        (code,) = await self.codes()
        return code

    async def state(self, address: str = "joe@mail.com") -> str:
        """The state of an address of the shop."""
        known = await self.notifications.list_addresses(self.shop)
        (found,) = (a for a in known if a.address == address)
        return found.state

    def _wake(self) -> None:
        self.woken += 1


@asynccontextmanager
async def running(folder: Path, schemes: str = "") -> AsyncIterator[World]:
    """The world, in a folder of its own."""
    settings = Settings(
        server=ServerSettings(data_dir=str(folder)), notify=NotifySettings(apprise_schemes=schemes)
    )
    database = await Database.open(settings)
    identity = BuiltinIdentity(SqlAccountStore(database), SqlTokenStore(database), settings)
    ids = [await identity.create_project(name) for name in ("shop", "stock")]
    shop = Caller("u", "ann", ids[0], "shop", ROLES["member"])
    yield World(
        notification_stores(database), settings, shop,
        replace(shop, user_name="bob", project_id=ids[1], project_name="stock"),
        SqlUseStore(database),
    )  # fmt: skip
    identity.close()
    await database.close()
