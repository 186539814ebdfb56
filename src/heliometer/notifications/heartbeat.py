"""The dead man's switch: a message at regular intervals while alarms are evaluated in time. Its
silence means trouble."""

import asyncio
import logging
import uuid
from collections.abc import Awaitable, Callable, Mapping

from heliometer.config import NotifySettings
from heliometer.notifications.channels import Kind
from heliometer.notifications.dispatcher import DEADLINE_S
from heliometer.notifications.messages import heartbeat_message
from heliometer.notifications.model import EMAIL, HEARTBEAT, PENDING, WEBHOOK, Delivery

log = logging.getLogger(__name__)

RETRY_S = 10.0


async def beat(
    kinds: Mapping[str, Kind],
    settings: NotifySettings,
    base_url: str,
    clock: Callable[[], float],
    is_healthy: Callable[[], bool],
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> None:
    """Send a heartbeat every ``heartbeat_interval`` seconds until cancelled.

    None is sent while ``is_healthy()`` says no. One that fails is tried again soon.
    """
    to = settings.heartbeat_to
    type_, address = (EMAIL, to.removeprefix("mailto:")) if to.startswith("mailto:") else (
        WEBHOOK, to
    )  # fmt: skip
    while True:
        wait = float(settings.heartbeat_interval)
        if is_healthy():
            now = int(clock() * 1000)
            delivery = Delivery(
                str(uuid.uuid4()), HEARTBEAT, "", type_, address, None, None, None, PENDING, "",
                0, now, now, now, now,
            )  # fmt: skip
            message = heartbeat_message(delivery, base_url, settings.heartbeat_interval)
            try:
                async with asyncio.timeout(DEADLINE_S):
                    await kinds[type_].send(message, delivery, "")
            except Exception as error:
                log.warning("the heartbeat to %s failed: %s", address, error)
                wait = min(wait, RETRY_S)
        else:
            wait = min(wait, RETRY_S)
        await sleep(wait)
