"""SMS as text files, for a service without a gateway."""

import asyncio
from pathlib import Path

from heliometer.notifications.channels import files
from heliometer.notifications.messages import Message
from heliometer.notifications.model import Delivery


class FolderSender:
    """Writes each message into a text file."""

    def __init__(self, place: Path) -> None:
        self._place = place

    async def send(self, message: Message, delivery: Delivery, secret: str) -> str:
        """Write the message durably; return the file's name."""
        content = f"To: {delivery.address}\n\n{message.short}\n".encode()
        name = f"{delivery.created_ms}.{message.id}.txt"
        path = await asyncio.to_thread(files.write, self._place, name, content)
        return f"written to {path.name}"

    async def ping(self) -> None:
        """Write and remove a file there."""
        await asyncio.to_thread(files.probe, self._place)

    async def close(self) -> None:
        """Do nothing: no connection is kept open."""
