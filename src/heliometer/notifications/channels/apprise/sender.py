"""Messages through the library apprise, which is an extra: ``heliometer[apprise]``."""

import asyncio
import logging
from collections.abc import Collection

from heliometer.notifications.channels.channel import Rejected
from heliometer.notifications.messages import Message
from heliometer.notifications.model import Delivery


class AppriseSender:
    """Sends to URLs with one of the schemes, which are in lower case."""

    def __init__(self, schemes: Collection[str]) -> None:
        self._schemes = schemes

    async def send(self, message: Message, delivery: Delivery, secret: str) -> str:
        """Return that the service took it. Raises Rejected for a URL that apprise does not know,
        or that is no longer allowed."""
        scheme = delivery.address.partition("://")[0].lower()
        if scheme not in self._schemes:
            raise Rejected(f"{scheme}:// is not allowed (setting notify.apprise_schemes)")
        try:
            import apprise
        except ImportError as error:
            raise ConnectionError("apprise is not installed: heliometer[apprise]") from error
        # It logs URLs, and these contain secrets.
        logging.getLogger("apprise").setLevel(logging.CRITICAL)
        service = apprise.Apprise()
        if not service.add(delivery.address):
            raise Rejected(f"apprise does not understand this {scheme}:// URL")
        sent = await asyncio.to_thread(service.notify, body=message.text, title=message.subject)
        if not sent:
            raise ConnectionError(f"{scheme}: the service did not take it")
        return f"taken by {scheme}"

    async def close(self) -> None:
        """Do nothing: no connection is kept open."""
