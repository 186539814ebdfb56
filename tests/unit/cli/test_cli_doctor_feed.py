"""What the doctor finds of the feed."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from amqp_feed import AmqpFeed
from heliometer.config import AmqpSettings, Settings
from heliometer.core.finding import FAIL, OK, WARN, Finding
from heliometer.core.server_status import ServerStatus
from heliometer.feed import rabbitmq_doctor
from heliometer.feed.amqp_server.doctor import feed
from ports import free_port

NOBODY = ServerStatus("http://127.0.0.1:1", has_data_dir=False)
RUNNING = ServerStatus("http://127.0.0.1:1", has_data_dir=True, ours=True)


def found(server: ServerStatus = NOBODY, **amqp: str) -> Finding:
    *_, last = feed(Settings(amqp=AmqpSettings(**amqp)), server)  # type: ignore[arg-type]
    return last


@contextmanager
def answering(reply: bytes) -> Iterator[int]:
    """A program on a port that answers like this, whatever it is asked."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def answer() -> None:
            connection, _ = listening.accept()
            with connection:
                connection.recv(100)
                connection.sendall(reply)

        thread = threading.Thread(target=answer, daemon=True)
        thread.start()
        yield listening.getsockname()[1]
        thread.join(5)


def test_off_and_free_are_well() -> None:
    assert found(listen="").level == OK
    finding = found(listen=f"127.0.0.1:{free_port()}")
    assert finding.level == OK
    assert "for this machine only" in finding.message


def test_another_program_on_the_port(tmp_path: Path) -> None:
    with answering(b"HTTP/1.1 400 Bad Request\r\n\r\n") as port:
        finding = found(listen=f"127.0.0.1:{port}")
    assert finding.level == FAIL
    assert "another program has the port" in finding.message
    assert "amqp.listen" in finding.advice
    running = AmqpFeed(tmp_path).start()
    finding = found(listen=f"127.0.0.1:{running.port}")
    assert "another Heliometer" in finding.message
    assert found(RUNNING, listen=f"127.0.0.1:{running.port}").level == OK
    running.stop()


def test_a_server_whose_listener_does_not_answer() -> None:
    finding = found(RUNNING, listen=f"127.0.0.1:{free_port()}")
    assert finding.level == FAIL
    assert "its log says why" in finding.advice


def test_no_tls_on_a_public_address() -> None:
    first, *_ = feed(Settings(amqp=AmqpSettings(listen=f"0.0.0.0:{free_port()}")), NOBODY)
    assert first.level == WARN
    assert "amqp.tls_cert" in first.advice


def test_rabbitmq_that_does_not_answer() -> None:
    port = free_port()
    findings = list(
        rabbitmq_doctor.feed(
            Settings(
                amqp=AmqpSettings(
                    backend="rabbitmq",
                    url=f"amqp://operator:hush@127.0.0.1:{port}",
                    management_url=f"http://127.0.0.1:{port}",
                )
            ),
            NOBODY,
        )
    )
    assert [f.level for f in findings] == [FAIL, FAIL]
    assert "does not answer" in findings[0].message
    assert "rabbitmq_management" in findings[1].advice
    assert "hush" not in "".join(f.line() for f in findings)


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("heliometer.feed.amqp_greeting.TIMEOUT_S", 0.5)
    monkeypatch.setattr("heliometer.feed.rabbitmq_doctor.TIMEOUT_S", 0.5)


@pytest.mark.parametrize("reply", [b"", b"\x01\x00\x00\x00\x00\x00\x04abcd\xce"])
def test_rabbitmq_that_is_something_else(reply: bytes) -> None:
    with answering(reply) as port:
        first, *_ = rabbitmq_doctor.feed(
            Settings(
                amqp=AmqpSettings(
                    backend="rabbitmq",
                    url=f"amqp://o:h@127.0.0.1:{port}",
                    management_url="http://h",
                )
            ),
            NOBODY,
        )
    assert first.level == FAIL
    assert "correct amqp.url" in first.advice
