"""One apprise URL is one destination, and leads nowhere that a webhook does not."""

import asyncio
import ipaddress
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import apprise.plugins
import pytest

from effort import effort
from heliometer.config import NotifySettings, Settings
from heliometer.core.errors import Invalid
from heliometer.core.finding import OK, WARN
from heliometer.core.public_address import is_public
from heliometer.notifications.channels import find_channel
from heliometer.notifications.channels.apprise.address import LOCAL, LOCAL_SCHEMES, apprise_url
from heliometer.notifications.channels.apprise.sender import AppriseSender
from heliometer.notifications.channels.channel import Rejected
from heliometer.notifications.messages import Message
from heliometer.notifications.model import TEST_MESSAGE, Delivery

ALLOWED = frozenset({"json", "form", "discord", "fcm", "mailto", "rsyslog", "dbus"})
MESSAGE = Message("d-1", TEST_MESSAGE, "test", {}, "subject", "text", "short", {})


class Listener:
    """Takes connections and datagrams on loopback; answers HTTP as the test says."""

    def __init__(self) -> None:
        self.answer = b"HTTP/1.1 204 No Content\r\n\r\n"
        self.requests: list[bytes] = []
        self.port = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.requests.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(self.answer)
        writer.close()


@pytest.fixture
async def listener() -> AsyncIterator[Listener]:
    made = Listener()
    server = await asyncio.start_server(made.serve, "127.0.0.1", 0)
    made.port = server.sockets[0].getsockname()[1]
    yield made
    server.close()
    await server.wait_closed()


def to(address: str) -> Delivery:
    return replace(Delivery.new(TEST_MESSAGE, "p", "APPRISE", address, 0), id="d-1")


async def refusal(address: str, *, allow_private: bool = False) -> str:
    """Why an address is refused for good."""
    sender = AppriseSender(ALLOWED, allow_private=allow_private)
    with pytest.raises(Rejected) as caught:
        await sender.send(MESSAGE, to(address), "")
    return str(caught.value)


@pytest.mark.parametrize(
    "separator", [", ", ",", " ", "\n", "\r\n", "\t", ";", "%20,", "\u00a0", "|"]
)
@pytest.mark.parametrize("first", ["discord://1/a", "DISCORD://1/a", "discord://1/a?x=y"])
async def test_several_urls_are_no_address(first: str, separator: str, listener: Listener) -> None:
    address = f"{first}{separator}form://127.0.0.1:{listener.port}/?method=DELETE"
    with pytest.raises(Invalid, match="must be one URL"):
        apprise_url(address, ALLOWED)
    # One that is stored already is not sent to either.
    assert await refusal(address, allow_private=True) == "the address is not one URL"
    assert listener.requests == []


@pytest.mark.parametrize(
    "address",
    [
        "form://u@x@127.0.0.1/", "json://h/?a=http://127.0.0.1/", "://h/", "json:/h", "json://",
        " json://h", "json://h ", "json://h\x00", "json://hé", "js\u2024on://h", "j\nson://h", "",
    ],
)  # fmt: skip
def test_what_is_not_one_url_is_refused_and_not_repeated(address: str) -> None:
    allowed = ALLOWED if "@" not in address else frozenset({"json"})
    with pytest.raises(Invalid) as caught:
        apprise_url(address, allowed)
    assert address == "" or address.strip() not in caught.value.message


@pytest.mark.parametrize("scheme", sorted(LOCAL_SCHEMES))
async def test_the_machine_itself_is_never_a_destination(scheme: str) -> None:
    with pytest.raises(Invalid, match="never sent to"):
        apprise_url(f"{scheme.upper()}://x", {scheme})
    sender = AppriseSender({scheme}, allow_private=True)
    with pytest.raises(Rejected, match="not allowed"):
        await sender.send(MESSAGE, to(f"{scheme}://x"), "")


SPELLINGS = [
    "json://127.0.0.1:{port}/", "JSON://localhost:{port}/", "json://[::1]:{port}/",
    "json://[::ffff:127.0.0.1]:{port}/", "json://2130706433:{port}/", "form://0x7f.1:{port}/",
    "json://0177.0.0.1:{port}/", "json://127.1:{port}/", "json://example.com@127.0.0.1:{port}/",
    "json://0.0.0.0:{port}/", "json://127.0.0.1%3A{port}/", "json://127.0.0.1:{port}/?redirect=yes",
    "form://127.0.0.1:{port}/?method=DELETE", "rsyslog://127.0.0.1:{port}/",
    "mailto://a:b@example.com:{port}?smtp=127.0.0.1&mode=insecure",
]  # fmt: skip


@pytest.mark.parametrize("spelling", SPELLINGS[: effort(5, len(SPELLINGS))] + SPELLINGS[-3:])
async def test_no_private_address_is_reached(spelling: str, listener: Listener) -> None:
    said = await refusal(spelling.format(port=listener.port))
    assert "public address" in said or "does not understand" in said
    assert listener.requests == []


async def test_it_is_reached_when_the_operator_allows_it(listener: Listener) -> None:
    sender = AppriseSender(ALLOWED, allow_private=True)
    address = f"json://joe:secret@127.0.0.1:{listener.port}/a"
    assert await sender.send(MESSAGE, to(address), "") == "taken by json"
    (request,) = listener.requests
    assert request.startswith(b"POST /a")
    listener.answer = b"HTTP/1.1 500 Broken\r\nContent-Length: 0\r\n\r\n"
    with pytest.raises(ConnectionError, match=r"^json: the service did not take it$"):
        await sender.send(MESSAGE, to(address), "")


async def test_no_redirect_is_followed(listener: Listener) -> None:
    listener.answer = (
        f"HTTP/1.1 307 There\r\nLocation: http://127.0.0.1:{listener.port}/b\r\n"
        "Content-Length: 0\r\n\r\n"
    ).encode()
    sender = AppriseSender(ALLOWED, allow_private=True)
    with pytest.raises(ConnectionError, match="did not take it"):
        await sender.send(MESSAGE, to(f"json://127.0.0.1:{listener.port}/a?redirect=yes"), "")
    assert len(listener.requests) == 1


async def test_no_file_of_the_server_is_read(tmp_path: Path) -> None:
    key = tmp_path / "key.json"
    key.write_text("{}")
    said = await refusal(f"fcm://project/device?mode=oauth2&keyfile={key}", allow_private=True)
    assert said == "fcm: a URL may not name files of the server"


async def test_what_apprise_does_not_know_is_refused() -> None:
    sender = AppriseSender({"nosuch"}, allow_private=True)
    with pytest.raises(Rejected, match="apprise has no nosuch://"):
        await sender.send(MESSAGE, to("nosuch://x"), "")


def test_every_plugin_of_the_machine_is_known() -> None:
    """Those that load what reaches it: buses, devices, programs, the log."""
    folder = Path(apprise.plugins.__file__).parent
    reaching = ("import dbus", "from dbus", "import gi", "subprocess", "import syslog", "blink1")
    found = {
        path.stem for path in folder.glob("[a-z]*.py")
        if path.stem != "base" and any(word in path.read_text() for word in reaching)
    }  # fmt: skip
    assert found - {"windows"} == set(LOCAL) - {"windows"}


def test_one_tenants_trouble_delays_no_other() -> None:
    channel = find_channel("APPRISE")
    assert channel is not None
    one, other = channel.host("slack://secret/a"), channel.host("slack://other/a")
    assert one != other
    assert "secret" not in one


def test_the_doctor_says_what_can_be_sent() -> None:
    channel = find_channel("APPRISE")
    assert channel is not None

    def levels(schemes: str) -> list[str]:
        settings = Settings(notify=NotifySettings(apprise_schemes=schemes))
        return [finding.level for finding in channel.doctor(settings)]

    assert levels("") == []
    assert levels("slack, pagerduty") == [OK]
    assert levels("slack,dbus") == [WARN]


def test_only_global_unicast_is_public() -> None:
    for number in range(0, 1 << 16, effort(97, 1)):
        address = ipaddress.IPv6Address(number << 112 | 0x1234_5678)
        if is_public(address):
            assert 0x2000 <= number <= 0x3FFF
