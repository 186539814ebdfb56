"""An AMQP consumer that costs little, in a process of its own: it only counts what comes.

``python -m benchmarks.amqp_reader SECONDS PREFETCH`` reads one endpoint a line from standard
input (URI, user, password and queue, as JSON), consumes from all of them, and prints what it saw.
"""

import json
import selectors
import socket
import struct
import sys
import time
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from pamqp import commands, frame

_HEAD = struct.Struct(">BHI")
_ACK = struct.Struct(">BHIIQBB")
BODY = 3
ACK_EVERY = 200


@dataclass(slots=True)
class Reader:
    """One connection with one consumer."""

    endpoint: dict[str, str]
    prefetch: int
    count: int = 0
    data: bytearray = field(default_factory=bytearray)
    wire: socket.socket = field(init=False)
    acknowledged: int = 0

    def open(self) -> None:
        """Sign in and begin to consume."""
        where = urlsplit(self.endpoint["uri"])
        self.wire = socket.create_connection((where.hostname, where.port))
        self.wire.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.wire.sendall(b"AMQP\x00\x00\x09\x01")
        c = commands.Connection
        secret = f"\0{self.endpoint['user']}\0{self.endpoint['password']}"
        self._wait_for(c.Start)
        self._say(c.StartOk({}, "PLAIN", secret), 0)
        tune: Any = self._wait_for(c.Tune)
        self._say(c.TuneOk(tune.channel_max, tune.frame_max, 0), 0)
        self._say(c.Open(where.path[1:]), 0)
        self._wait_for(c.OpenOk)
        self._say(commands.Channel.Open(), 1)
        self._wait_for(commands.Channel.OpenOk)
        self._say(commands.Basic.Qos(0, self.prefetch), 1)
        self._wait_for(commands.Basic.QosOk)
        self._say(commands.Basic.Consume(0, self.endpoint["queue"], "t"), 1)
        self._wait_for(commands.Basic.ConsumeOk)

    def read(self, arrived: list[tuple[float, bytes]] | None) -> None:
        """Count what is there; with ``arrived``, keep the bodies and when they came."""
        data = self.data
        data += self.wire.recv(1 << 18)
        at, size = 0, len(data)
        unpack = _HEAD.unpack_from
        while size - at >= 7:
            kind, _, length = unpack(data, at)
            end = at + length + 8
            if end > size:
                break
            if kind == BODY:
                self.count += 1
                if arrived is not None:
                    arrived.append((time.time(), bytes(data[at + 7 : end - 1])))
            at = end
        del data[:at]
        if self.count - self.acknowledged >= (1 if arrived is not None else ACK_EVERY):
            self.acknowledge()

    def acknowledge(self) -> None:
        """Everything that came."""
        self.acknowledged = self.count
        self.wire.sendall(_ACK.pack(1, 1, 13, commands.Basic.Ack.index, self.count, 1, 0xCE))

    def _say(self, method: Any, channel: int) -> None:
        self.wire.sendall(frame.marshal(method, channel))

    def _wait_for(self, method: Any) -> Any:
        while True:
            if len(self.data) >= 7:
                size = int.from_bytes(self.data[3:7], "big") + 8
                if len(self.data) >= size:
                    found = frame.unmarshal(bytes(self.data[:size]))[2]
                    del self.data[:size]
                    if isinstance(found, method):
                        return found
                    continue
            self.data += self.wire.recv(1 << 16)


def main() -> None:
    """Read until the time is over or nothing comes for two seconds."""
    seconds, prefetch, keep = float(sys.argv[1]), int(sys.argv[2]), sys.argv[3] == "keep"
    readers = [Reader(json.loads(line), prefetch) for line in sys.stdin]
    selector = selectors.DefaultSelector()
    for reader in readers:
        reader.open()
        selector.register(reader.wire, selectors.EVENT_READ, reader)
    print("ready", flush=True)
    arrived: list[tuple[float, bytes]] | None = [] if keep else None
    first = last = 0.0
    cpu = time.process_time()
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        for key, _ in selector.select(0.1):
            key.data.read(arrived)
            last = time.time()
            first = first or last
        if first and time.time() - last > 2:
            break
    for reader in readers:
        reader.acknowledge()
    delays = []
    for when, body in arrived or ():
        delays.append(when - json.loads(body)["value"])
    print(
        json.dumps(
            {
                "count": sum(r.count for r in readers),
                "seconds": last - first,
                "cpu": time.process_time() - cpu,
                "delays": delays,
            }
        ),
        flush=True,
    )


if __name__ == "__main__":
    main()
