"""E-mail: by SMTP, or into a maildir."""

import asyncio
import ssl
from datetime import UTC, datetime
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP as SMTP_POLICY
from email.utils import format_datetime
from pathlib import Path
from urllib.parse import unquote, urlsplit

import aiosmtplib

from heliometer.config import EmailSettings, Settings, WrongSetting
from heliometer.notifications.channels import Kind, Rejected, folder
from heliometer.notifications.messages import Message
from heliometer.notifications.model import Delivery

TIMEOUT_S = 20
IDLE = 8
"""Connections that are kept for the next message."""
IDLE_S = 20.0
PORTS = {"smtp": 25, "smtps": 465}


def load(settings: Settings) -> Kind:
    """The way that the settings name; raises WrongSetting."""
    url = settings.email.url
    if url.startswith("maildir:"):
        path = url.removeprefix("maildir:").removeprefix("//")
        place = Path(path) if path else settings.data_dir / "outbox" / "email"
        return MaildirKind(place, settings.email.sender)
    return SmtpKind(settings.email)


class MaildirKind:
    """Writes each message into the ``new`` folder of a maildir."""

    def __init__(self, place: Path, sender: str) -> None:
        self._place = place
        self._sender = sender

    async def send(self, message: Message, delivery: Delivery, secret: str) -> str:
        """Write it durably."""
        content = build(message, self._sender, delivery.address).as_bytes()
        (self._place / "cur").mkdir(parents=True, exist_ok=True, mode=0o700)
        path = await asyncio.to_thread(
            folder.write,
            self._place / "new",
            f"{delivery.created_ms}.{message.id}.eml",
            content,
            within=self._place / "tmp",
        )
        return f"written to {path.name}"

    async def ping(self) -> None:
        """Write and remove a file."""
        await asyncio.to_thread(folder.probe, self._place / "tmp")

    async def close(self) -> None:
        """Nothing is held."""


class SmtpKind:
    """Hands messages to a relay."""

    def __init__(self, settings: EmailSettings) -> None:
        parts = urlsplit(settings.url)
        try:
            self._port = parts.port or PORTS[parts.scheme]
        except ValueError as error:
            raise WrongSetting(f"email.url: {error}") from error
        if not parts.hostname:
            raise WrongSetting("email.url: names no host; allowed: smtp://host[:port]")
        self._host = parts.hostname
        self._tls = parts.scheme == "smtps"
        self._user = unquote(parts.username) if parts.username else None
        self._password = unquote(parts.password) if parts.password else None
        # A password never goes over the wire in the clear.
        self._starttls = "required" if self._password else settings.starttls
        self._sender = settings.sender
        try:
            self._context = ssl.create_default_context(cafile=settings.ca or None)
        except OSError as error:
            raise WrongSetting(f"email.ca: {settings.ca!r} cannot be read: {error}") from error
        self._idle: list[tuple[float, aiosmtplib.SMTP]] = []

    async def send(self, message: Message, delivery: Delivery, secret: str) -> str:
        """Return the relay's answer; its 5xx for this recipient is for good."""
        mail = build(message, self._sender, delivery.address)
        client, used = await self._connection()
        try:
            _, answer = await client.send_message(
                mail, sender=self._sender, recipients=[delivery.address]
            )
        except aiosmtplib.SMTPRecipientsRefused as error:
            await self._keep(client)
            refusal = error.recipients[0]
            raise _refused(refusal.code, refusal.message) from error
        except aiosmtplib.SMTPResponseException as error:
            client.close()
            raise _refused(error.code, error.message) from error
        except (aiosmtplib.SMTPServerDisconnected, ConnectionError):
            client.close()
            if used:  # the relay tired of an idle connection: that is no failure of ours
                return await self.send(message, delivery, secret)
            raise
        except BaseException:
            client.close()
            raise
        await self._keep(client)
        return answer.strip()[:200] or "accepted"

    async def ping(self) -> None:
        """Ask the relay whether it is there, on a connection that is kept for the next message."""
        client, _ = await self._connection()
        try:
            await client.noop()
        except BaseException:
            client.close()
            raise
        await self._keep(client)

    async def close(self) -> None:
        """Say goodbye on every idle connection."""
        for _, client in self._idle:
            client.close()
        self._idle.clear()

    async def _connection(self) -> tuple[aiosmtplib.SMTP, bool]:
        """A connection, and whether it was used before."""
        now = asyncio.get_running_loop().time()
        while self._idle:
            since, client = self._idle.pop()
            if client.is_connected and now - since < IDLE_S:
                return client, True
            client.close()
        client = aiosmtplib.SMTP(
            hostname=self._host,
            port=self._port,
            use_tls=self._tls,
            start_tls={"required": True, "never": False, "offered": None}[self._starttls]
            if not self._tls
            else False,
            username=self._user,
            password=self._password,
            tls_context=self._context,
            timeout=TIMEOUT_S,
        )
        await client.connect()
        return client, False

    async def _keep(self, client: aiosmtplib.SMTP) -> None:
        if client.is_connected and len(self._idle) < IDLE:
            self._idle.append((asyncio.get_running_loop().time(), client))
        else:
            client.close()


def build(message: Message, sender: str, recipient: str) -> EmailMessage:
    """The message as e-mail: plain text, HTML, and the picture inside the HTML."""
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
    mail.add_alternative(message.html, subtype="html")
    if message.picture is not None:
        html = mail.get_payload()[1]  # type: ignore[index]
        assert isinstance(html, EmailMessage)
        html.add_related(message.picture, "image", "png", cid="<picture>", filename="chart.png")
    return mail


def _refused(code: int, text: str) -> Exception:
    said = f"{code} {' '.join(text.split())}"[:300]
    return Rejected(said) if 500 <= code < 600 else ConnectionError(said)
