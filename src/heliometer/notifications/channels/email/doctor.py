"""Whether e-mail could be handed over."""

from collections.abc import Iterator
from urllib.parse import urlsplit

from heliometer.config import Settings
from heliometer.core.finding import OK, WARN, Finding
from heliometer.notifications.channels.channel import Channel
from heliometer.notifications.channels.relay_check import check_relay, place_of


def check(channel: Channel, settings: Settings) -> Iterator[Finding]:
    """One finding on the relay, or on the maildir that stands in for it."""
    url = settings.email.url
    if url.startswith("maildir:"):
        yield Finding(channel.title, OK, "goes into files, until email.url names a relay")
        return
    found = check_relay(channel, settings, url, "email.url")
    plain = urlsplit(url).scheme == "smtp" and settings.email.starttls == "never"
    if found.level == OK and plain:
        found = Finding(
            channel.title, WARN, f"{place_of(url)} answers, without TLS",
            "set email.starttls to required",
        )  # fmt: skip
    yield found
