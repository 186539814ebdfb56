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
from datetime import UTC, datetime
from email.header import decode_header, make_header
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from heliometer.config import EmailSettings, ServerSettings, Settings, SmsSettings, WebhookSettings
from heliometer.core.errors import HeliometerError
from heliometer.core.public_address import is_public
from heliometer.notifications.channels import load_channels
from heliometer.notifications.channels.channel import Rejected, TryLater
from heliometer.notifications.channels.email.address import email_address
from heliometer.notifications.channels.email.mail import build, html
from heliometer.notifications.channels.email.smtp import SmtpSender
from heliometer.notifications.channels.outbound_http import LONGEST_WAIT_S, retry_after_s
from heliometer.notifications.channels.sms.gateway import GatewaySender
from heliometer.notifications.channels.webhook.sender import WebhookSender
from heliometer.notifications.chart_image import Chart, draw
from heliometer.notifications.messages import SMS_LENGTH, Message, alarm_message
from heliometer.notifications.model import ALARM_MESSAGE, HEARTBEAT, WEBHOOK, Delivery
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
@pytest.mark.reliability(22)
def test_no_name_adds_a_header_or_recipient(name: str, project: str, description: str) -> None:
    made = message(name=name, project_name=project, description=description)
    mail = build(made, "heliometer@localhost", "joe@mail.com")
    parsed = email.message_from_bytes(mail.as_bytes(), policy=email.policy.default)
    assert isinstance(parsed, EmailMessage)
    assert sorted(parsed.keys()) == sorted(
        [
            "Subject", "From", "To", "Date", "Message-ID", "In-Reply-To", "References",
            "Auto-Submitted",
            "X-Heliometer-Notification-Id", "X-Heliometer-Kind", "MIME-Version", "Content-Type",
        ]
    )  # fmt: skip
    assert parsed["To"].addresses[0].addr_spec == "joe@mail.com"
    assert len(parsed["To"].addresses) == 1
    assert len(parsed.defects) == 0
    assert parsed["Subject"] == made.subject
    assert len(made.short) <= SMS_LENGTH
    assert "\n" not in made.subject + made.short
    json.dumps(made.document)


@pytest.mark.reliability(22)
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
        self.stays_open = False

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        pairs = (line.split(": ", 1) for line in head[1:] if line)
        headers = {name.lower(): value for name, value in pairs}
        body = await reader.readexactly(int(headers["content-length"]))
        self.requests.append((headers, body))
        writer.write(self.answer)
        if self.stays_open:
            await reader.read()
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
    ("answer", "error", "said"),
    [
        (b"HTTP/1.1 302 Found\r\nLocation: http://10.0.0.1/\r\nContent-Length: 0\r\n\r\n", Rejected,
         "redirects are not followed"),
        (b"HTTP/1.1 410 Gone\r\nContent-Length: 0\r\n\r\n", Rejected, "HTTP 410"),
        (b"HTTP/1.1 429 Slow\r\nContent-Length: 0\r\n\r\n", TryLater, "HTTP 429"),
        (b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n", ConnectionError, "HTTP 503"),
    ],
)  # fmt: skip
async def test_what_a_receivers_answer_means(
    receiver: Receiver, answer: bytes, error: type[Exception], said: str
) -> None:
    receiver.answer = answer
    url = f"http://127.0.0.1:{receiver.port}/"
    hook = WebhookSender(WebhookSettings(allow_private=True))
    gateway = GatewaySender(SmsSettings(url=url, authorization="Bearer x"))
    for sender, to in ((hook, delivery(url, WEBHOOK)), (gateway, delivery("+4670", "SMS"))):
        with pytest.raises(error, match=said):
            await sender.send(message(), to, "key")
    assert receiver.requests[1][0]["authorization"] == "Bearer x"
    assert json.loads(receiver.requests[1][1])["to"] == "+4670"
    await gateway.close()


@pytest.mark.parametrize(
    "rest",
    [
        b"Content-Length: 10000000\r\n\r\n" + b"x" * 100_000,
        b"Content-Length: 10\r\n\r\nabc",
        b"\r\n",
        b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
        b"Transfer-Encoding: chunked\r\n\r\nnonsense",
        b"Content-Encoding: gzip\r\nContent-Length: 3\r\n\r\nabc",
    ],
)
async def test_the_status_alone_says_that_it_was_taken(receiver: Receiver, rest: bytes) -> None:
    receiver.answer = b"HTTP/1.1 200 OK\r\n" + rest
    receiver.stays_open = True
    url = f"http://127.0.0.1:{receiver.port}/"
    hook = WebhookSender(WebhookSettings(allow_private=True))
    assert await hook.send(message(), delivery(url, WEBHOOK), "key") == "HTTP 200"
    gateway = GatewaySender(SmsSettings(url=url))
    assert await gateway.send(message(), delivery("+4670", "SMS"), "") == "HTTP 200"
    await gateway.close()


@pytest.mark.parametrize("status", [b"429 Slow", b"503 Busy"])
async def test_a_receiver_says_when_it_may_be_asked_again(
    receiver: Receiver, status: bytes
) -> None:
    receiver.answer = b"HTTP/1.1 " + status + b"\r\nRetry-After: 60\r\nContent-Length: 0\r\n\r\n"
    sender = WebhookSender(WebhookSettings(allow_private=True))
    with pytest.raises(TryLater) as busy:
        await sender.send(message(), delivery(f"http://127.0.0.1:{receiver.port}/", WEBHOOK), "key")
    assert busy.value.after_s == 60


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("60", 60),
        (" 5 ", 5),
        ("0", 0),
        ("", 0),
        ("-5", 0),
        ("soon", 0),
        ("1e9", 0),
        ("9" * 5000, LONGEST_WAIT_S),
        ("Wed, 21 Oct 2015 07:28:30 GMT", 30),
        ("Wed, 21 Oct 2015 07:27:00 GMT", 0),
        ("Wed, 21 Oct 2099 07:28:00 GMT", LONGEST_WAIT_S),
    ],
)
def test_retry_after_is_a_number_or_a_date(header: str, seconds: float) -> None:
    now = datetime(2015, 10, 21, 7, 28, tzinfo=UTC)
    assert retry_after_s(header, now) == seconds


async def test_the_operators_own_heartbeat_may_go_anywhere(receiver: Receiver) -> None:
    to = replace(delivery(f"http://127.0.0.1:{receiver.port}/", WEBHOOK), kind=HEARTBEAT)
    assert await WebhookSender(WebhookSettings()).send(message(), to, "") == "HTTP 200"


@pytest.mark.parametrize("address", ["ops@corp.local", "root@localhost", "a@b.test"])
def test_addresses_of_a_local_network_where_they_are_allowed(address: str) -> None:
    assert email_address(address, allow_local=True) == address
    with pytest.raises(HeliometerError, match=r"email\.allow_local"):
        email_address(address)
    with pytest.raises(HeliometerError, match="not an e-mail address"):
        email_address(f"{address},eve@mail.com", allow_local=True)


@pytest.mark.parametrize(
    "name",
    [
        "Der Server im Rechenzentrum München ist überhitzt und muss sofort geprüft werden",
        "Температура сервера в зале номер три выше допустимой уже десять минут подряд",
        "東京データセンターのサーバー温度が しきい値を 超えました 至急 確認してください",
        "Température élevée détectée à l’étage où sont rangés les éléments réseau",
        "🔥 disk 👩‍👩‍👧‍👦 full 🔥 on many many machines of the family, please look 🔥 soon",
        "plain words that are longer than a line of a mail may be, of no other letters at all",
    ],
)
def test_a_subject_is_read_as_it_was_written(name: str) -> None:
    mail = build(message(name=name), "heliometer@localhost", "joe@mail.com").as_bytes()
    assert max(map(len, mail.partition(b"\r\n\r\n")[0].split(b"\r\n"))) <= 78
    expected = f"[ALARM] {name}"
    assert email.message_from_bytes(mail, policy=email.policy.default)["Subject"] == expected
    older = email.message_from_bytes(mail)["Subject"].replace("\r\n", "")
    assert str(make_header(decode_header(older))) == expected


def test_a_value_is_told_from_the_threshold() -> None:
    def finding(value: float, threshold: float) -> Message:
        windows = [[0, 60_000, value]]
        found = {
            "text": f"ns > {threshold}", "truth": True, "function": "max", "operator": ">",
            "threshold": threshold, "windows": windows, "matching": 1, "series": [[{}, value]],
        }  # fmt: skip
        return message(reason={"minute_ms": 0, "at_once": False, "findings": [found]})

    for value, threshold, said in (
        (1_500_000.5, 1_500_000, "max 1500000.5, above 1500000"),
        (90.0000004, 90, "max 90.0000004, above 90"),
        (95, 90, "max 95, above 90"),
        (100 / 3, 30, "max 33.3333, above 30"),
        (-0.00025, -0.0003, "max -0.00025, above -0.0003"),
        (1e-30, 0, "max 1e-30, above 0"),
        (123456789012, 1, "max 123456789012, above 1"),
        (1e100, 1e99, "max 1e+100, above 1e+99"),
    ):
        made = finding(value, threshold)
        assert said in made.text
        assert said in made.short
        assert said in html(made)


def test_a_long_row_of_windows_is_summed_up() -> None:
    values = [95.0] * 1440
    values[700], values[900] = 91.0, 99.0
    windows = [[i * 60_000, (i + 1) * 60_000, v] for i, v in enumerate(values)]
    found = {
        "text": "avg(ns) > 90 times 1440", "truth": True, "function": "avg", "operator": ">",
        "threshold": 90.0, "windows": windows, "matching": 1, "series": [],
    }  # fmt: skip
    made = message(reason={"minute_ms": 0, "at_once": False, "findings": [found]})
    for text in (made.text, html(made)):
        assert len(text) < 8000
        assert "697 more windows" in text  # between the third and the lowest
        assert "91" in text
        assert "99" in text
        assert text.index("00:00:00") < text.index("23:59:00")


@pytest.mark.reliability(23)
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
