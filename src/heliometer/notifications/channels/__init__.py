"""The ways that a message goes, by the type of a notification method."""

from collections.abc import Callable
from typing import Protocol, runtime_checkable

from heliometer.config import Settings
from heliometer.notifications.messages import Message
from heliometer.notifications.model import APPRISE, EMAIL, SMS, WEBHOOK, Delivery


class Rejected(Exception):
    """The destination refused for good: trying again would not help. The message says why."""


class Kind(Protocol):
    """One way."""

    async def send(self, message: Message, delivery: Delivery, secret: str) -> str:
        """Hand the message over; return what the relay said.

        Raises Rejected when it refused for good, and anything else when it may take it later.
        ``secret`` is the notification method's.
        """
        ...

    async def close(self) -> None:
        """Let go of connections."""
        ...


@runtime_checkable
class Probed(Protocol):
    """A way whose relay can be asked whether it is there."""

    async def ping(self) -> None:
        """Raise unless messages could be handed over now."""
        ...


def load_kinds(settings: Settings) -> dict[str, Kind]:
    """A sender for each type; those that need more than is installed are left out."""
    return {name: load(settings) for name, load in KINDS.items()}


def _email(settings: Settings) -> Kind:
    from heliometer.notifications.channels.email import load

    return load(settings)


def _sms(settings: Settings) -> Kind:
    from heliometer.notifications.channels.sms import load

    return load(settings)


def _webhook(settings: Settings) -> Kind:
    from heliometer.notifications.channels.webhook import WebhookKind

    return WebhookKind(settings.webhook)


def _apprise(settings: Settings) -> Kind:
    from heliometer.notifications.channels.apprise import AppriseKind

    return AppriseKind(settings.notify.apprise_schemes)


KINDS: dict[str, Callable[[Settings], Kind]] = {
    EMAIL: _email,
    SMS: _sms,
    WEBHOOK: _webhook,
    APPRISE: _apprise,
}
"""Imported only when the notifier starts."""
