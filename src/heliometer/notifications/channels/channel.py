"""What a channel is: what the rest of the program reads of its folder."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Protocol, runtime_checkable

from heliometer.config import Settings
from heliometer.core.finding import Finding
from heliometer.notifications.model import Delivery

if TYPE_CHECKING:  # the command line shows channels, and need not load templates for it
    from heliometer.notifications.messages import Message


class Rejected(Exception):
    """The destination refused for good: trying again would not help. The message says why."""


class TryLater(Exception):
    """This destination does not take the message now; others of its host may. The message says
    why."""

    def __init__(self, why: str, after_s: float = 0.0) -> None:
        super().__init__(why)
        self.after_s = after_s
        """How many seconds it asked to be left alone; 0: it did not say."""


class Sender(Protocol):
    """Hands messages over; it lives as long as the notifier and may keep connections."""

    async def send(self, message: "Message", delivery: Delivery, secret: str) -> str:
        """Hand the message over; return what the receiver answered, for the delivery log.

        Raises Rejected when it refused for good, TryLater when it, and not its host, is to blame,
        and anything else when it may take the message later. ``secret`` is the notification
        method's, empty unless the channel signs.
        """
        ...

    async def close(self) -> None:
        """Close the connections that are kept open."""
        ...


@runtime_checkable
class Probed(Protocol):
    """A sender whose relay can be asked whether it is there."""

    async def ping(self) -> None:
        """Raise unless messages could be handed over now."""
        ...


@dataclass(frozen=True, slots=True)
class AddressField:
    """The address of a method in forms and on the command line."""

    label: str
    """What it is, such as ``e-mail address``."""
    placeholder: str
    """An example that the address check accepts."""
    help: str = ""
    """A sentence on what is accepted, where the example does not say it all."""
    length: int = 1000
    """Greatest length, in characters."""


@dataclass(frozen=True, slots=True)
class ConfirmationCode:
    """How the code travels that confirms an address."""

    life_ms: int
    """How long a code is valid, in milliseconds."""
    has_long_form: bool = False
    """Whether a long code travels too, which is accepted without a token."""


class Channel(ABC):
    """A way of sending. Subclasses are small and import what sends only when it is needed."""

    title: ClassVar[str]
    """Its name inside a sentence, such as ``e-mail``; also the doctor's."""
    summary: ClassVar[str] = ""
    """A few words beside the type where one is chosen."""
    section: ClassVar[str]
    """Section of the settings that it reads; empty: it has none."""
    docs: ClassVar[str]
    """Page and heading of its documentation."""
    address: ClassVar[AddressField]
    code: ClassVar[ConfirmationCode | None] = None
    """``None``: addresses need no confirmation."""
    signs: ClassVar[bool] = False
    """Whether a method gets a secret, by which what is sent is signed."""
    secret_address: ClassVar[bool] = False
    """Whether who knows an address can send there: it is stored encrypted, and shown in part."""
    shows_chart: ClassVar[bool] = False
    """Whether its messages carry a chart of the metric."""

    def __init__(self, type_: str) -> None:
        self.type = type_

    @abstractmethod
    def check_address(self, text: str, settings: Settings, region: str | None = None) -> str:
        """The address in the form that is sent to; raises INVALID.

        ``region`` is the country, such as US, whose national form of a number is accepted too.
        """

    @abstractmethod
    def sender(self, settings: Settings) -> Sender:
        """What sends, as the settings say. Raises WrongSetting."""

    def owner(self, address: str) -> str:
        """What addresses of one owner have in common, as far as they tell: quotas count by it."""
        return address

    def shown(self, address: str) -> str:
        """An address without what is secret in it; the same of what is shown already."""
        return address

    def host(self, address: str) -> str:
        """What a message to the address waits for: one host that hangs must not delay others."""
        return self.type

    def doctor(self, settings: Settings) -> Iterator[Finding]:
        """What ``heliometer doctor`` reports of it."""
        return iter(())
