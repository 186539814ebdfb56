"""E-mail: through an SMTP relay, or into a maildir until one is set up."""

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

MAILDIR = "maildir:"


class EmailChannel(Channel):
    title = "e-mail"
    section = "email"
    docs = "docs/alarms.md#notifications"
    address = AddressField("e-mail address", "joe@mail.com", length=100)
    code = ConfirmationCode(life_ms=24 * 3_600_000, has_long_form=True)
    shows_chart = True

    def check_address(self, text: str, settings: Settings, region: str | None = None) -> str:
        from heliometer.notifications.channels.email.address import email_address

        return email_address(text, allow_local=settings.email.allow_local)

    def owner(self, address: str) -> str:
        from heliometer.notifications.channels.email.address import mailbox

        return mailbox(address)

    def sender(self, settings: Settings) -> Sender:
        url = settings.email.url
        if url.startswith(MAILDIR):
            from heliometer.notifications.channels.email.maildir import MaildirSender

            path = url.removeprefix(MAILDIR).removeprefix("//")
            place = Path(path) if path else settings.data_dir / "outbox" / "email"
            return MaildirSender(place, settings.email.sender)
        from heliometer.notifications.channels.email.smtp import SmtpSender

        return SmtpSender(settings.email)

    def doctor(self, settings: Settings) -> Iterator[Finding]:
        from heliometer.notifications.channels.email.doctor import check

        return check(self, settings)
