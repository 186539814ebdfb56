"""SMS: through an HTTP gateway, or into a folder until one is set up."""

from collections.abc import Iterator
from pathlib import Path

from heliometer.config import Settings
from heliometer.core.finding import Finding
from heliometer.notifications.channels.channel import (
    AddressField,
    Channel,
    ConfirmationCode,
    Sender,
)

FOLDER = "folder:"


class SmsChannel(Channel):
    title = "SMS"
    section = "sms"
    docs = "docs/alarms.md#notifications"
    address = AddressField("number", "+12063823454", "With the country code (E.164).", length=100)
    code = ConfirmationCode(life_ms=10 * 60_000)

    def check_address(self, text: str, settings: Settings, region: str | None = None) -> str:
        from heliometer.notifications.channels.sms.address import phone_number

        return phone_number(text, region)

    def sender(self, settings: Settings) -> Sender:
        url = settings.sms.url
        if url.startswith(FOLDER):
            from heliometer.notifications.channels.sms.folder import FolderSender

            path = url.removeprefix(FOLDER).removeprefix("//")
            return FolderSender(Path(path) if path else settings.data_dir / "outbox" / "sms")
        from heliometer.notifications.channels.sms.gateway import GatewaySender

        return GatewaySender(settings.sms)

    def doctor(self, settings: Settings) -> Iterator[Finding]:
        from heliometer.notifications.channels.sms.doctor import check

        return check(self, settings)
