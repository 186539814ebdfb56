"""What goes over the wire: mails that nobody can forge headers of, and webhooks that reach only
where they may."""

import asyncio
import email
import email.policy
import hashlib
import hmac
import ipaddress
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from heliometer.config import EmailSettings, ServerSettings, Settings, SmsSettings, WebhookSettings
from heliometer.core.public_address import is_public
from heliometer.notifications.channels import load_channels
from heliometer.notifications.channels.channel import Rejected
from heliometer.notifications.channels.email.mail import build, html
from heliometer.notifications.channels.email.smtp import SmtpSender
from heliometer.notifications.channels.sms.gateway import GatewaySender
from heliometer.notifications.channels.webhook.sender import WebhookSender
from heliometer.notifications.chart_image import Chart, draw
from heliometer.notifications.messages import SMS_LENGTH, Message, alarm_message
from heliometer.notifications.model import ALARM_MESSAGE, WEBHOOK, Delivery
from mail_server import MailServer


def delivery(address: str = "joe@mail.com", type_: str = "EMAIL", **payload: Any) -> Delivery:
    reason = {
        "minute_ms": 1_795_000_020_000,
        "at_once": False,
        "findings": [
            {
                "text": "ns > 1", "truth": True, "function": "max", "operator": ">",
                "threshold": 1.0, "windows": [[1_795_000_020_000, 1_795_000_080_000, 5.0]],
                "matching": 1, "series": [[{"host": "<b>a</b>"}, 5.0]],
            }
        ],
    }  # fmt: skip
    whole = {
        "alarm_id": "a-1", "name": "n", "description": "", "severity": "high",
        "expression": "ns > 1", "project_name": "shop", "old": "OK", "new": "ALARM",
        "at_ms": 1_795_000_081_000, "reason": reason, **payload,
    }  # fmt: skip
    made = Delivery.new(ALARM_MESSAGE, "p", type_, address, 0, method_id="m-1", payload=whole)
    return replace(made, id="d-1", alarm_id="a-1", transition_id=7)


def message(**payload: Any) -> Message:
    return alarm_message(delivery(**payload), "https://m.example.org")


nasty = st.text(
    st.one_of(
        st.sampled_from("\r\n\0\t\"'<>@,;:\\%‮⁦‏éß漢🔥 =?utf-8"),
        st.characters(exclude_categories=["Cs"]),
    ),
    max_size=120,
)


@given(nasty, nasty, nasty)
@example("x\r\nBcc: eve@mail.com", "\r\n.\r\n", "\r\n\r\nhello")
@example("=?utf-8?q?=0D=0ABcc:_eve@mail.com?=", "", "")
def test_no_name_adds_a_header_or_recipient(name: str, project: str, description: str) -> None:
    made = message(name=name, project_name=project, description=description)
    mail = build(made, "heliometer@localhost", "joe@mail.com")
    parsed = email.message_from_bytes(mail.as_bytes(), policy=email.policy.default)
    assert isinstance(parsed, EmailMessage)
    assert sorted(parsed.keys()) == sorted(
        [
            "Subject", "From", "To", "Date", "Message-ID", "References", "Auto-Submitted",
            "X-Heliometer-Notification-Id", "X-Heliometer-Kind", "MIME-Version", "Content-Type",
        ]
    )  # fmt: skip
    assert parsed["To"].addresses[0].addr_spec == "joe@mail.com"
    assert len(parsed["To"].addresses) == 1
    assert len(parsed.defects) == 0
    assert len(made.short) <= SMS_LENGTH
    assert "\n" not in made.subject + made.short
    json.dumps(made.document)


def test_names_are_text_in_the_html() -> None:
    page = html(message(name="<script>alert(1)</script>", description='"><img src=x>'))
    assert "<script>" not in page
    assert "<img" not in page
    assert "<b>a</b>" not in page


def test_a_mail_carries_its_picture() -> None:
    picture = draw(Chart([1.0, None, 3.0, 2.0], 2.5, True))
    assert picture is not None
    assert picture.startswith(b"\x89PNG")
    made = alarm_message(delivery(), "https://m.example.org", picture)
    mail = build(made, "heliometer@localhost", "joe@mail.com")
    (image,) = [p for p in mail.walk() if p.get_content_type() == "image/png"]
    assert image["Content-ID"] == "<picture>"
    assert 'src="cid:picture"' in html(made)
    assert draw(Chart([None, 1.0], 2.5, True)) is None


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("93.184.216.34", True),
        ("2606:2800:220:1::1", True),
        ("10.0.0.1", False),
        ("127.0.0.1", False),
        ("169.254.169.254", False),
        ("100.64.0.1", False),
        ("0.0.0.0", False),
        ("224.0.0.1", False),
        ("255.255.255.255", False),
        ("::1", False),
        ("::ffff:127.0.0.1", False),
        ("::ffff:93.184.216.34", True),
        ("::127.0.0.1", False),
        ("64:ff9b::7f00:1", False),
        ("64:ff9b::5db8:d822", True),
        ("2002:7f00:1::", False),
        ("fec0::1", False),
        ("fe80::1", False),
        ("fd00::1", False),
        ("ff02::1", False),
        ("::ffff:0:7f00:1", False),
        ("2a00:1450::5efe:127.0.0.1", False),
        ("2a00:1450::200:5efe:93.184.216.34", True),
        ("5f00::1", False),
        ("4000::1", False),
    ],
)
def test_what_is_public(address: str, public: bool) -> None:
    assert is_public(ipaddress.ip_address(address)) is public


class Receiver:
    """A small HTTP server that answers as the test says."""

    def __init__(self) -> None:
        self.answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
        self.requests: list[tuple[dict[str, str], bytes]] = []
        self.port = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        pairs = (line.split(": ", 1) for line in head[1:] if line)
        headers = {name.lower(): value for name, value in pairs}
        body = await reader.readexactly(int(headers["content-length"]))
        self.requests.append((headers, body))
        writer.write(self.answer)
        writer.close()


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    made = Receiver()
    server = await asyncio.start_server(made.serve, "127.0.0.1", 0)
    made.port = server.sockets[0].getsockname()[1]
    yield made
    server.close()
    await server.wait_closed()


async def test_a_webhook_is_signed(receiver: Receiver) -> None:
    sender = WebhookSender(WebhookSettings(allow_private=True))
    to = delivery(f"http://localhost:{receiver.port}/hook?x=1", WEBHOOK)
    assert await sender.send(message(), to, "key") == "HTTP 200"
    ((headers, body),) = receiver.requests
    assert headers["host"] == f"localhost:{receiver.port}"
    assert headers["x-heliometer-id"] == "d-1"
    signed = headers["x-heliometer-timestamp"].encode() + b"." + body
    expected = hmac.new(b"key", signed, hashlib.sha256).hexdigest()
    assert headers["x-heliometer-signature"] == f"sha256={expected}"
    document = json.loads(body)
    assert document["version"] == 1
    assert document["alarm"]["name"] == "n"
    assert document["transition"]["new_state"] == "ALARM"


async def test_a_webhook_reaches_no_private_address(receiver: Receiver) -> None:
    sender = WebhookSender(WebhookSettings())
    for host in ("localhost", "127.0.0.1", "[::ffff:127.0.0.1]", "127.1", "2130706433"):
        to = delivery(f"http://{host}:{receiver.port}/", WEBHOOK)
        with pytest.raises(Rejected, match="not a public address"):
            await sender.send(message(), to, "key")
    assert receiver.requests == []


@pytest.mark.parametrize(
    ("answer", "rejected", "said"),
    [
        (b"HTTP/1.1 302 Found\r\nLocation: http://10.0.0.1/\r\nContent-Length: 0\r\n\r\n", True,
         "redirects are not followed"),
        (b"HTTP/1.1 410 Gone\r\nContent-Length: 0\r\n\r\n", True, "HTTP 410"),
        (b"HTTP/1.1 429 Slow\r\nContent-Length: 0\r\n\r\n", False, "HTTP 429"),
        (b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n", False, "HTTP 503"),
    ],
)  # fmt: skip
async def test_what_a_receivers_answer_means(
    receiver: Receiver, answer: bytes, rejected: bool, said: str
) -> None:
    receiver.answer = answer
    url = f"http://127.0.0.1:{receiver.port}/"
    hook = WebhookSender(WebhookSettings(allow_private=True))
    gateway = GatewaySender(SmsSettings(url=url, authorization="Bearer x"))
    for sender, to in ((hook, delivery(url, WEBHOOK)), (gateway, delivery("+4670", "SMS"))):
        with pytest.raises(Rejected if rejected else ConnectionError, match=said):
            await sender.send(message(), to, "key")
    assert receiver.requests[1][0]["authorization"] == "Bearer x"
    assert json.loads(receiver.requests[1][1])["to"] == "+4670"
    await gateway.close()


async def test_an_endless_answer_is_not_read(receiver: Receiver) -> None:
    receiver.answer = b"HTTP/1.1 200 OK\r\nContent-Length: 10000000\r\n\r\n" + b"x" * 100_000
    sender = WebhookSender(WebhookSettings(allow_private=True))
    to = delivery(f"http://127.0.0.1:{receiver.port}/", WEBHOOK)
    assert await sender.send(message(), to, "key") == "HTTP 200"


async def test_a_password_never_goes_in_the_clear() -> None:
    server = MailServer().start()
    settings = EmailSettings(url=f"smtp://joe:secret@127.0.0.1:{server.port}", starttls="never")
    with pytest.raises(Exception, match="STARTTLS"):
        await SmtpSender(settings).send(message(), delivery(), "")
    server.stop()
    assert server.mails == []


async def test_by_default_messages_are_files(tmp_path: Path) -> None:
    senders = load_channels(Settings(server=ServerSettings(data_dir=str(tmp_path))))
    for type_, place in (("EMAIL", "outbox/email/new"), ("SMS", "outbox/sms")):
        for _ in range(2):  # a duplicate replaces itself
            await senders[type_].send(message(), delivery(type_=type_), "")
        (file,) = (tmp_path / place).iterdir()
        assert "[ALARM] n" in file.read_text() or "ALARM: n" in file.read_text()
        assert file.stat().st_mode & 0o77 == 0
