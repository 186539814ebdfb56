"""Whether what the operator has allowed can be sent."""

from collections.abc import Collection, Iterator
from importlib.util import find_spec

from heliometer.core.finding import OK, WARN, Finding
from heliometer.notifications.channels.apprise.address import LOCAL_SCHEMES
from heliometer.notifications.channels.channel import Channel


def check(channel: Channel, schemes: Collection[str]) -> Iterator[Finding]:
    """Nothing as long as no scheme is allowed."""
    if not schemes:
        return
    allowed = ", ".join(sorted(schemes))
    if local := sorted(LOCAL_SCHEMES.intersection(schemes)):
        yield Finding(
            channel.title,
            WARN,
            f"{', '.join(local)}: never sent to, because they reach this machine itself",
            "take them out of notify.apprise_schemes",
        )
    elif find_spec("apprise") is None:
        yield Finding(
            channel.title,
            WARN,
            f"{allowed}: allowed, but apprise is not installed",
            "install heliometer[apprise]",
        )
    else:
        yield Finding(channel.title, OK, f"sends to {allowed}")
