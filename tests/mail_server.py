"""A real SMTP server on loopback that tests read mail from, and that can misbehave."""

import asyncio
import email
import email.policy
import socket
from collections.abc import Callable
from email.message import EmailMessage
from typing import Any

from aiosmtpd.controller import Controller

from eventually import eventually


class MailServer:
    """Keeps what it takes. ``answer`` decides what is said to each recipient."""

    def __init__(self) -> None:
        self.mails: list[EmailMessage] = []
        self.answer: Callable[[str], str] = lambda _: "250 OK"
        self.delay_s = 0.0
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self.port = probe.getsockname()[1]
        self._controller: Controller | None = None

    @property
    def url(self) -> str:
        """What ``email.url`` is set to."""
        return f"smtp://127.0.0.1:{self.port}"

    def start(self) -> "MailServer":
        """Listen."""
        self._controller = Controller(self, hostname="127.0.0.1", port=self.port)
        self._controller.start()
        return self

    def stop(self) -> None:
        """Listen no more; what was taken stays."""
        if self._controller is not None:
            self._controller.stop()
            self._controller = None

    async def handle_RCPT(  # noqa: N802
        self, _server: Any, _session: Any, envelope: Any, address: str, _options: Any
    ) -> str:
        """aiosmtpd asks whether the recipient is wanted."""
        await asyncio.sleep(self.delay_s)
        answer = self.answer(address)
        if answer.startswith("250"):
            envelope.rcpt_tos.append(address)
        return answer

    async def handle_DATA(self, _server: Any, _session: Any, envelope: Any) -> str:  # noqa: N802
        """aiosmtpd hands over a message."""
        mail = email.message_from_bytes(envelope.content, policy=email.policy.default)
        assert isinstance(mail, EmailMessage)
        mail["X-Envelope-To"] = ", ".join(envelope.rcpt_tos)
        self.mails.append(mail)
        return "250 taken"

    def wait_for(self, number: int) -> list[EmailMessage]:
        """The mails, once there are as many; fails when they do not come."""
        eventually(
            lambda: len(self.mails) >= number,
            why=lambda: f"{len(self.mails)} mails instead of {number}",
        )
        return self.mails


def text_of(mail: EmailMessage) -> str:
    """The plain text of a mail."""
    body = mail.get_body(("plain",))
    assert body is not None
    content: str = body.get_content()
    return content.replace("\r\n", "\n")
