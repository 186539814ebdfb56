"""What the doctor finds of mail relay and SMS gateway."""

import socket

from heliometer.config import EmailSettings, Settings, SmsSettings
from heliometer.core.finding import FAIL, OK, WARN, Finding
from heliometer.core.server_status import ServerStatus
from heliometer.notifications.doctor import channels
from mail_server import MailServer

NOBODY = ServerStatus("http://127.0.0.1:1", has_data_dir=False)


def found(**settings: object) -> dict[str, Finding]:
    return {f.check: f for f in channels(Settings(**settings), NOBODY)}  # type: ignore[arg-type]


def test_files_are_well() -> None:
    assert {f.level for f in found().values()} == {OK}


def test_a_relay_that_answers_and_one_that_does_not() -> None:
    mail = MailServer().start()
    assert found(email=EmailSettings(url=mail.url))["e-mail"].level == OK
    plain = found(email=EmailSettings(url=mail.url, starttls="never"))["e-mail"]
    assert (plain.level, plain.advice) == (WARN, "set email.starttls to required")
    mail.stop()
    gone = found(email=EmailSettings(url=mail.url))["e-mail"]
    assert gone.level == FAIL
    assert "email.url" in gone.advice


def test_a_relay_whose_password_would_go_in_the_clear() -> None:
    mail = MailServer().start()
    url = mail.url.replace("//", "//joe:hush@")
    refused = found(email=EmailSettings(url=url))["e-mail"]
    assert refused.level == FAIL
    assert "hush" not in refused.line()
    mail.stop()


def test_a_gateway_that_does_not_answer() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        assert found(sms=SmsSettings(url=f"http://127.0.0.1:{port}/send"))["SMS"].level == OK
    gone = found(sms=SmsSettings(url=f"http://127.0.0.1:{port}/send"))["SMS"]
    assert gone.level == FAIL
    assert "sms.url" in gone.advice
