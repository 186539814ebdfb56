"""SMS through an HTTP gateway."""

import asyncio

import httpx

from heliometer.config import SmsSettings
from heliometer.notifications.channels.outbound_http import judge
from heliometer.notifications.messages import Message
from heliometer.notifications.model import Delivery

TIMEOUT_S = 20


class GatewaySender:
    """Posts ``{"to", "text", "id"}`` to a gateway; 2xx means that it was taken."""

    def __init__(self, settings: SmsSettings) -> None:
        self._url = settings.url
        headers = {"Authorization": settings.authorization} if settings.authorization else {}
        self._client = httpx.AsyncClient(timeout=TIMEOUT_S, headers=headers, trust_env=False)

    async def send(self, message: Message, delivery: Delivery, secret: str) -> str:
        """Return the gateway's status. Raises Rejected when it refused the message for good,
        and TryLater when it asked to be left alone."""
        document = {"to": delivery.address, "text": message.short, "id": message.id}
        # The status says how it went; an answer that never ends must not make it go again.
        async with self._client.stream("POST", self._url, json=document) as response:
            return judge(response)

    async def ping(self) -> None:
        """Connect, and send nothing: a message costs money."""
        url = httpx.URL(self._url)
        port = url.port or (443 if url.scheme == "https" else 80)
        _, writer = await asyncio.open_connection(url.host, port)
        writer.close()

    async def close(self) -> None:
        """Close the connections to the gateway."""
        await self._client.aclose()
