"""What the doctor reports of notifications: each channel checks itself."""

from collections.abc import Iterator

from heliometer.config import Settings
from heliometer.core.finding import Finding
from heliometer.core.server_status import ServerStatus
from heliometer.notifications.channels import every_channel


def channels(settings: Settings, server: ServerStatus) -> Iterator[Finding]:
    """The findings of all channels, in the order of their map."""
    for channel in every_channel():
        yield from channel.doctor(settings)
