"""E-mail as files, for a service without a relay."""

import asyncio
from pathlib import Path

from heliometer.notifications.channels import files
from heliometer.notifications.channels.email.mail import build
from heliometer.notifications.messages import Message
from heliometer.notifications.model import Delivery


class MaildirSender:
    """Writes each message into the folder ``new`` of a maildir."""

    def __init__(self, place: Path, sender: str) -> None:
        self._place = place
        self._sender = sender

    async def send(self, message: Message, delivery: Delivery, secret: str) -> str:
        """Write the message durably; return the file's name."""
        content = build(message, self._sender, delivery.address).as_bytes()
        (self._place / "cur").mkdir(parents=True, exist_ok=True, mode=0o700)
        path = await asyncio.to_thread(
            files.write,
            self._place / "new",
            f"{delivery.created_ms}.{message.id}.eml",
            content,
            within=self._place / "tmp",
        )
        return f"written to {path.name}"

    async def ping(self) -> None:
        """Write and remove a file there."""
        await asyncio.to_thread(files.probe, self._place / "tmp")

    async def close(self) -> None:
        """Do nothing: no connection is kept open."""
