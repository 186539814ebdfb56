"""Any service that apprise speaks to, where the operator has allowed its kind of URL."""

import asyncio
import logging

from heliometer.notifications.channels import Rejected
from heliometer.notifications.messages import Message
from heliometer.notifications.model import Delivery


class AppriseKind:
    """Sends through the library apprise, which is an extra: ``heliometer[apprise]``."""

    def __init__(self, schemes: str) -> None:
        self._schemes = {s.strip().lower() for s in schemes.split(",") if s.strip()}

    async def send(self, message: Message, delivery: Delivery, secret: str) -> str:
        """Return that the library sent it; raises Rejected for a URL that it does not know."""
        scheme = delivery.address.partition("://")[0].lower()
        if scheme not in self._schemes:
            raise Rejected(f"{scheme}:// is not allowed (setting notify.apprise_schemes)")
        try:
            import apprise
        except ImportError as error:
            raise ConnectionError("apprise is not installed: heliometer[apprise]") from error
        # It logs URLs, and these hold secrets.
        logging.getLogger("apprise").setLevel(logging.CRITICAL)
        service = apprise.Apprise()
        if not service.add(delivery.address):
            raise Rejected(f"apprise does not understand this {scheme}:// URL")
        sent = await asyncio.to_thread(service.notify, body=message.text, title=message.subject)
        if not sent:
            raise ConnectionError(f"{scheme}: the service did not take it")
        return f"taken by {scheme}"

    async def close(self) -> None:
        """Nothing is held."""
