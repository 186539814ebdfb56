"""SMS: through an HTTP gateway, or into a folder."""

import asyncio
from pathlib import Path

import httpx

from heliometer.config import Settings, SmsSettings
from heliometer.notifications.channels import Kind, Rejected, folder
from heliometer.notifications.messages import Message
from heliometer.notifications.model import Delivery

TIMEOUT_S = 20
TEMPORARY = (408, 425, 429)
"""Refusals below 500 that may be different later."""


def load(settings: Settings) -> Kind:
    """The way that the settings name."""
    url = settings.sms.url
    if url.startswith("folder:"):
        path = url.removeprefix("folder:").removeprefix("//")
        return FolderKind(Path(path) if path else settings.data_dir / "outbox" / "sms")
    return GatewayKind(settings.sms)


class FolderKind:
    """Writes each message into a text file."""

    def __init__(self, place: Path) -> None:
        self._place = place

    async def send(self, message: Message, delivery: Delivery, secret: str) -> str:
        """Write it durably."""
        content = f"To: {delivery.address}\n\n{message.short}\n".encode()
        name = f"{delivery.created_ms}.{message.id}.txt"
        path = await asyncio.to_thread(folder.write, self._place, name, content)
        return f"written to {path.name}"

    async def ping(self) -> None:
        """Write and remove a file."""
        await asyncio.to_thread(folder.probe, self._place)

    async def close(self) -> None:
        """Nothing is held."""


class GatewayKind:
    """Posts ``{"to", "text", "id"}`` to a gateway; 2xx means that it was taken."""

    def __init__(self, settings: SmsSettings) -> None:
        self._url = settings.url
        headers = {"Authorization": settings.authorization} if settings.authorization else {}
        self._client = httpx.AsyncClient(timeout=TIMEOUT_S, headers=headers, trust_env=False)

    async def send(self, message: Message, delivery: Delivery, secret: str) -> str:
        """Return the gateway's status."""
        document = {"to": delivery.address, "text": message.short, "id": message.id}
        response = await self._client.post(self._url, json=document)
        return judge(response.status_code)

    async def ping(self) -> None:
        """Connect, and send nothing: a message costs money."""
        url = httpx.URL(self._url)
        port = url.port or (443 if url.scheme == "https" else 80)
        _, writer = await asyncio.open_connection(url.host, port)
        writer.close()

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()


def judge(status: int) -> str:
    """What an HTTP status means for a message; raises Rejected or ConnectionError."""
    said = f"HTTP {status}"
    if 200 <= status < 300:
        return said
    if 300 <= status < 400:
        raise Rejected(f"{said}: redirects are not followed")
    if status < 500 and status not in TEMPORARY:
        raise Rejected(said)
    raise ConnectionError(said)
