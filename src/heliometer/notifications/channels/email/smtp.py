"""E-mail through an SMTP relay."""

import asyncio
import ssl
from urllib.parse import unquote, urlsplit

import aiosmtplib

from heliometer.config import EmailSettings, WrongSetting
from heliometer.notifications.channels.channel import Rejected, TryLater
from heliometer.notifications.channels.email.mail import build
from heliometer.notifications.messages import Message
from heliometer.notifications.model import Delivery

TIMEOUT_S = 20
IDLE = 8
IDLE_S = 20.0
"""Idle connections kept for the next message, and for how many seconds."""
PORTS = {"smtp": 25, "smtps": 465}


class SmtpSender:
    """Hands messages to the relay, on connections that are reused."""

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
        """Return the relay's answer. Raises Rejected for a 5xx about this recipient,
        and TryLater for a 4xx about it."""
        mail = build(message, self._sender, delivery.address)
        client, used = await self._connection()
        try:
            _, answer = await client.send_message(
                mail, sender=self._sender, recipients=[delivery.address]
            )
        except aiosmtplib.SMTPRecipientsRefused as error:
            await self._keep(client)
            refusal = error.recipients[0]
            said = _line(refusal.code, refusal.message)
            # It is about this recipient, such as greylisting: the relay serves others.
            raise (Rejected if 500 <= refusal.code < 600 else TryLater)(said) from error
        except aiosmtplib.SMTPResponseException as error:
            client.close()
            raise _refused(error.code, error.message) from error
        except (aiosmtplib.SMTPServerDisconnected, ConnectionError):
            client.close()
            if used:  # the relay closed an idle connection, which is no failure
                return await self.send(message, delivery, secret)
            raise
        except BaseException:
            client.close()
            raise
        await self._keep(client)
        return answer.strip()[:200] or "accepted"

    async def ping(self) -> None:
        """Send NOOP on a connection that is then kept for the next message."""
        client, _ = await self._connection()
        try:
            await client.noop()
        except BaseException:
            client.close()
            raise
        await self._keep(client)

    async def close(self) -> None:
        """Close the idle connections."""
        for _, client in self._idle:
            client.close()
        self._idle.clear()

    async def _connection(self) -> tuple[aiosmtplib.SMTP, bool]:
        """A connection to the relay, and whether it was used before."""
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


def _refused(code: int, text: str) -> Exception:
    return (Rejected if 500 <= code < 600 else ConnectionError)(_line(code, text))


def _line(code: int, text: str) -> str:
    return f"{code} {' '.join(text.split())}"[:300]
