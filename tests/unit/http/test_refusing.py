"""A listener that is about to be closed: nobody new comes in, nobody inside is lost."""

import socket
import sys

import pytest

from heliometer.http.refusing import refuse_new

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux has such filters")
MUCH = b"x" * (4 << 20)


@pytest.mark.parametrize(
    ("family", "host"), [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")]
)
def test_who_waits_is_accepted_and_who_comes_is_not(
    family: socket.AddressFamily, host: str
) -> None:
    listener = socket.create_server((host, 0), family=family, backlog=10)
    address = listener.getsockname()[:2]
    early = socket.create_connection(address, 1)
    refuse_new(listener)
    with pytest.raises(TimeoutError):
        socket.create_connection(address, 0.3)
    accepted, _ = listener.accept()
    listener.close()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(address, 1)
    with early, accepted:  # all that is said arrives whole
        early.setblocking(False)
        sent = received = 0
        while received < len(MUCH):
            if sent < len(MUCH):
                sent += early.send(MUCH[sent : sent + 65_000])
            received += len(accepted.recv(1 << 20))
        accepted.sendall(b"good")
        early.setblocking(True)
        assert early.recv(4) == b"good"


def test_other_sockets_are_left_alone() -> None:
    first, second = socket.socketpair()
    with first, second:
        refuse_new(first)
        second.sendall(b"good")
        assert first.recv(4) == b"good"
