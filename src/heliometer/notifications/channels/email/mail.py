"""Builds the e-mail for a message."""

from datetime import UTC, datetime
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP as SMTP_POLICY
from email.utils import format_datetime

from jinja2 import Environment, PackageLoader, StrictUndefined

from heliometer.notifications.messages import Message

_templates = Environment(
    loader=PackageLoader("heliometer.notifications.channels.email"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


def build(message: Message, sender: str, recipient: str) -> EmailMessage:
    """Plain text and HTML, with the chart inside the HTML."""
    mail = EmailMessage(policy=SMTP_POLICY.clone(max_line_length=78))
    mail["Subject"] = message.subject
    mail["From"] = Address("Heliometer", addr_spec=sender)
    mail["To"] = Address(addr_spec=recipient)
    mail["Date"] = format_datetime(datetime.now(UTC))
    domain = sender.rpartition("@")[2]
    mail["Message-ID"] = f"<{message.id}@{domain}>"
    if message.thread:
        mail["References"] = f"<alarm-{message.thread}@{domain}>"
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
