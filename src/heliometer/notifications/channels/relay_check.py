"""The doctor's check of a relay or gateway that messages are handed to."""

import asyncio
from urllib.parse import urlsplit

from heliometer.config import Settings, WrongSetting
from heliometer.core.finding import FAIL, OK, Finding
from heliometer.notifications.channels.channel import Channel, Probed, Sender

TIMEOUT_S = 5.0


def check_relay(channel: Channel, settings: Settings, url: str, setting: str) -> Finding:
    """Whether what ``url``, the value of ``setting``, names takes messages now."""
    try:
        sender = channel.sender(settings)
    except WrongSetting as error:
        return Finding(channel.title, FAIL, str(error), "correct the setting")
    if why := asyncio.run(_ask(sender)):
        return Finding(
            channel.title, FAIL, f"{place_of(url)} does not take messages: {why}",
            f"start it, or correct {setting}; messages wait for up to "
            f"{settings.notify.retry_period // 3600} hours",
        )  # fmt: skip
    return Finding(channel.title, OK, f"{place_of(url)} answers")


def place_of(url: str) -> str:
    """Host and port of a URL, without its password."""
    parts = urlsplit(url)
    return f"{parts.hostname}:{parts.port}" if parts.port else f"{parts.hostname}"


async def _ask(sender: Sender) -> str:
    """Why the relay cannot be reached; empty: it answers."""
    try:
        if isinstance(sender, Probed):
            await asyncio.wait_for(sender.ping(), TIMEOUT_S)
    except TimeoutError:
        return f"no answer within {TIMEOUT_S:g} s"
    except Exception as error:  # whatever prevents it is the finding
        return " ".join(str(error).split())[:200] or type(error).__name__
    finally:
        await sender.close()
    return ""
