"""The dead man's switch: a message at regular intervals while alarms are evaluated in time. Its
absence means trouble."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping

from heliometer.config import NotifySettings
from heliometer.notifications.channels import shown_address
from heliometer.notifications.channels.channel import Sender
from heliometer.notifications.dispatcher import DEADLINE_S
from heliometer.notifications.messages import heartbeat_message
from heliometer.notifications.model import EMAIL, HEARTBEAT, WEBHOOK, Delivery

log = logging.getLogger(__name__)

RETRY_S = 10.0


async def beat(
    senders: Mapping[str, Sender],
    settings: NotifySettings,
    base_url: str,
    clock: Callable[[], float],
    is_healthy: Callable[[], bool],
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> None:
    """Send a heartbeat every ``heartbeat_interval`` seconds until cancelled.

    None is sent while ``is_healthy()`` is false. One that fails is tried again after RETRY_S.
    """
    to = settings.heartbeat_to
    is_mail = to.startswith("mailto:")
    type_, address = (EMAIL, to.removeprefix("mailto:")) if is_mail else (WEBHOOK, to)
    while True:
        wait = float(settings.heartbeat_interval)
        if is_healthy():
            delivery = Delivery.new(HEARTBEAT, "", type_, address, int(clock() * 1000))
            message = heartbeat_message(delivery, base_url, settings.heartbeat_interval)
            try:
                async with asyncio.timeout(DEADLINE_S):
                    await senders[type_].send(message, delivery, "")
            except Exception as error:
                shown = shown_address(type_, address)
                said = str(error).replace(address, shown)
                log.warning("the heartbeat to %s failed: %s", shown, said)
                wait = min(wait, RETRY_S)
        else:
            wait = min(wait, RETRY_S)
        await sleep(wait)
