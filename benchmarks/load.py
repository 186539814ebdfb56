"""A load generator that costs little: it shares the cores with the server.

Requests come ready-made; of the answers only the status is read. Each connection sends its next
request when the last one was answered.
"""

import selectors
import socket
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from benchmarks.server import answer_length

Next = Callable[[int], memoryview | bytes | None]
"""The next request of a connection, given its number; None: it has nothing more to say. The buffer
may be reused once the answer has arrived."""


@dataclass(slots=True)
class Outcome:
    """What the load saw."""

    seconds: float = 0.0
    cpu_seconds: float = 0.0
    """Processor time of the load generator itself."""
    latencies: list[float] = field(default_factory=list)
    statuses: Counter[int] = field(default_factory=Counter)

    @property
    def requests(self) -> int:
        """Answered ones."""
        return len(self.latencies)

    def require(self, status: int) -> None:
        """Raise unless every answer had that status."""
        if set(self.statuses) != {status}:
            raise AssertionError(f"expected only {status}, got {dict(self.statuses)}")


class _Connection:
    __slots__ = ("number", "pending", "received", "sent_at", "socket")

    def __init__(self, number: int, address: tuple[str, int]) -> None:
        self.number = number
        self.socket = socket.create_connection(address)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.setblocking(False)
        self.pending = memoryview(b"")
        self.received = b""
        self.sent_at = 0.0

    def start(self, message: memoryview | bytes) -> None:
        self.pending = memoryview(message)
        self.received = b""
        self.sent_at = time.perf_counter()

    def push(self) -> bool:
        """Send what the socket takes; whether all is sent."""
        try:
            while self.pending:
                self.pending = self.pending[self.socket.send(self.pending) :]
        except BlockingIOError:
            return False
        return True

    def pull(self) -> int | None:
        """Read what is there; the status once the answer is complete."""
        chunk = self.socket.recv(1 << 16)
        if not chunk:
            raise ConnectionResetError("the server closed a connection under load")
        self.received += chunk
        length = answer_length(self.received)
        if length is None or len(self.received) < length:
            return None
        return int(self.received[9:12])


def drive(
    address: tuple[str, int],
    connections: int,
    next_request: Next,
    seconds: float = float("inf"),
    others: Sequence[tuple[str, int]] = (),
) -> Outcome:
    """Send requests over some connections until the time is over or there are no more; where
    there are ``others``, they go to all addresses in turn."""
    every = [address, *others]
    outcome = Outcome()
    selector = selectors.DefaultSelector()
    opened = [_Connection(n, every[n % len(every)]) for n in range(connections)]
    for connection in opened:
        selector.register(connection.socket, selectors.EVENT_READ, connection)
    cpu = time.process_time()
    begin = time.perf_counter()
    active = 0

    def go_on(connection: _Connection) -> bool:
        message = next_request(connection.number)
        if message is None:
            return False
        connection.start(message)
        if not connection.push():
            both = selectors.EVENT_READ | selectors.EVENT_WRITE
            selector.modify(connection.socket, both, connection)
        return True

    try:
        for connection in opened:
            active += go_on(connection)
        while active:
            for key, events in selector.select():
                connection = key.data
                if events & selectors.EVENT_WRITE and connection.push():
                    selector.modify(connection.socket, selectors.EVENT_READ, connection)
                if not events & selectors.EVENT_READ:
                    continue
                status = connection.pull()
                if status is None:
                    continue
                now = time.perf_counter()
                outcome.latencies.append(now - connection.sent_at)
                outcome.statuses[status] += 1
                if now - begin >= seconds or not go_on(connection):
                    active -= 1
        outcome.seconds = time.perf_counter() - begin
        outcome.cpu_seconds = time.process_time() - cpu
    finally:
        selector.close()
        for connection in opened:
            connection.socket.close()
    return outcome
