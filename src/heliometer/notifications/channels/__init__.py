"""The channels: how a message travels, by the type of a notification method.

Adding one takes its folder and its line in ``CHANNELS`` (docs/adding-a-channel.md).
"""

from functools import cache
from pkgutil import resolve_name

from heliometer.config import Settings
from heliometer.notifications.channels.channel import Channel, Sender
from heliometer.notifications.model import EMAIL, SMS, WEBHOOK

CHANNELS: dict[str, str] = {
    EMAIL: "heliometer.notifications.channels.email:EmailChannel",
    SMS: "heliometer.notifications.channels.sms:SmsChannel",
    WEBHOOK: "heliometer.notifications.channels.webhook:WebhookChannel",
    "APPRISE": "heliometer.notifications.channels.apprise:AppriseChannel",
}
"""The class of each type, in the order in which forms and faults list them. A class is imported
when it is first needed; the libraries that send, when its ``sender`` is."""


def find_channel(type_: str) -> Channel | None:
    """The channel of a type; ``None`` if there is none, or no longer."""
    path = CHANNELS.get(type_)
    return _load(type_, path) if path else None


def every_channel() -> list[Channel]:
    """All channels, in the order of ``CHANNELS``."""
    return [_load(type_, path) for type_, path in CHANNELS.items()]


def confirmed_types() -> tuple[str, ...]:
    """Types that are only sent to confirmed addresses."""
    return tuple(channel.type for channel in every_channel() if channel.code is not None)


def needs_confirmation(type_: str) -> bool:
    """Whether messages of the type go to confirmed addresses only."""
    channel = find_channel(type_)
    return channel is not None and channel.code is not None


def has_secret_address(type_: str) -> bool:
    """Whether addresses of the type are kept secret; those of an unknown type may be."""
    channel = find_channel(type_)
    return channel is None or channel.secret_address


def secret_types() -> tuple[str, ...]:
    """Types whose addresses are kept secret."""
    return tuple(channel.type for channel in every_channel() if channel.secret_address)


def shown_address(type_: str, address: str) -> str:
    """An address as it may be shown to everybody in the project."""
    channel = find_channel(type_)
    if not address or channel is None:
        return "…"
    return channel.shown(address)


def load_channels(settings: Settings) -> dict[str, Sender]:
    """What sends, for each type. Raises WrongSetting."""
    return {channel.type: channel.sender(settings) for channel in every_channel()}


@cache
def _load(type_: str, path: str) -> Channel:
    channel: Channel = resolve_name(path)(type_)
    return channel
