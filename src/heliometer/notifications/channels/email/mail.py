"""Builds the e-mail for a message."""

from datetime import UTC, datetime
from email.header import Header
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import EmailPolicy
from email.utils import format_datetime
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from heliometer.notifications.messages import Message

_templates = Environment(
    loader=PackageLoader("heliometer.notifications.channels.email"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


LINE_LENGTH = 78


class _Policy(EmailPolicy):
    """SMTP's, with subjects folded by the older ``Header``: the newer code loses spaces between
    encoded words (Python 3.11 and 3.12), or writes words that are not valid (3.13)."""

    def fold(self, name: str, value: Any) -> str:
        return _subject(value) if name == "Subject" else super().fold(name, value)

    def fold_binary(self, name: str, value: Any) -> bytes:
        if name == "Subject":
            return _subject(value).encode("ascii")
        return super().fold_binary(name, value)


_POLICY = _Policy(linesep="\r\n", max_line_length=LINE_LENGTH)


def _subject(text: str) -> str:
    charset = "us-ascii" if text.isascii() else "utf-8"
    header = Header(str(text), charset, maxlinelen=LINE_LENGTH, header_name="Subject")
    return "Subject: " + header.encode(linesep="\r\n") + "\r\n"


def build(message: Message, sender: str, recipient: str) -> EmailMessage:
    """Plain text and HTML, with the chart inside the HTML."""
    mail = EmailMessage(policy=_POLICY)
    mail["Subject"] = message.subject
    mail["From"] = Address("Heliometer", addr_spec=sender)
    mail["To"] = Address(addr_spec=recipient)
    mail["Date"] = format_datetime(datetime.now(UTC))
    domain = sender.rpartition("@")[2]
    mail["Message-ID"] = f"<{message.id}@{domain}>"
    if message.thread:
        thread = f"<alarm-{message.thread}@{domain}>"
        mail["In-Reply-To"] = thread
        mail["References"] = thread
    mail["Auto-Submitted"] = "auto-generated"
    mail["X-Heliometer-Notification-Id"] = message.id
    mail["X-Heliometer-Kind"] = message.kind
    mail.set_content(message.text)
    mail.add_alternative(html(message), subtype="html")
    if message.chart is not None:
        shown = mail.get_payload()[1]  # type: ignore[index]
        assert isinstance(shown, EmailMessage)
        shown.add_related(message.chart, "image", "png", cid="<picture>", filename="chart.png")
    return mail


def html(message: Message) -> str:
    """The message as a page; names that tenants chose are text in it."""
    template = _templates.get_template(f"{message.template}.html")
    return template.render(
        message.values, subject=message.subject, has_picture=message.chart is not None
    )
