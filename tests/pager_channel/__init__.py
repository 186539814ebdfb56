"""A channel that only tests have: what one more folder is made of."""

from collections.abc import Iterator
from pathlib import Path

from heliometer.config import Settings
from heliometer.core.errors import Invalid
from heliometer.core.finding import OK, Finding
from heliometer.notifications.channels.channel import (
    AddressField,
    Channel,
    ConfirmationCode,
    Sender,
)
from heliometer.notifications.messages import Message
from heliometer.notifications.model import Delivery

LINE = ("PAGER", "pager_channel:PagerChannel")
"""Its line in the map of channels."""


class PagerChannel(Channel):
    title = "pager"
    summary = "a number that beeps"
    section = ""
    docs = "docs/adding-a-channel.md"
    address = AddressField("pager number", "4711", "Only digits.", length=8)
    code = ConfirmationCode(life_ms=300_000)

    def check_address(self, text: str, settings: Settings, region: str | None = None) -> str:
        if not text.isdecimal():
            raise Invalid(f"address: {text[:40]!r} is not a pager number.")
        return text

    def sender(self, settings: Settings) -> Sender:
        return PagerSender(settings.data_dir / "beeps")

    def doctor(self, settings: Settings) -> Iterator[Finding]:
        yield Finding(self.title, OK, "beeps")


class PagerSender:
    """Adds what would be shown to a file."""

    def __init__(self, file: Path) -> None:
        self._file = file

    async def send(self, message: Message, delivery: Delivery, secret: str) -> str:
        """Return that it beeped."""
        with self._file.open("a") as beeps:
            beeps.write(f"{delivery.address} {message.short}\n")
        return "it beeped"

    async def close(self) -> None:
        """Nothing is kept open."""
