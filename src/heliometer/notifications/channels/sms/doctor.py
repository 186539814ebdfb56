"""Whether SMS could be handed over."""

from collections.abc import Iterator

from heliometer.config import Settings
from heliometer.core.finding import OK, Finding
from heliometer.notifications.channels.channel import Channel
from heliometer.notifications.channels.relay_check import check_relay


def check(channel: Channel, settings: Settings) -> Iterator[Finding]:
    """One finding on the gateway, or on the folder that stands in for it."""
    url = settings.sms.url
    if url.startswith("folder:"):
        yield Finding(channel.title, OK, "goes into files")
    else:
        yield check_relay(channel, settings, url, "sms.url")
