"""Noise for the AMQP listener: sessions of a real client, cut, mixed and bent."""

import asyncio
import random
import time
from pathlib import Path
from typing import Any

import pytest
from pamqp import commands, frame

from amqp_feed import PASSWORD, SHOP, AmqpFeed
from effort import effort
from heliometer.feed.amqp_server.connection import Connection
from heliometer.feed.amqp_server.frames import PROTOCOL

pytestmark = pytest.mark.engines

SECONDS = effort(10, 600)
QUEUE = f"metrics-{SHOP}"
C, Ch, B, Q, X = (
    commands.Connection,
    commands.Channel,
    commands.Basic,
    commands.Queue,
    commands.Exchange,
)
SIGN_IN = [
    PROTOCOL,
    frame.marshal(C.StartOk({}, "PLAIN", f"\0mon-{SHOP}\0{PASSWORD}"), 0),
    frame.marshal(C.TuneOk(0, 131072, 0), 0),
    frame.marshal(C.Open(SHOP), 0),
    frame.marshal(Ch.Open(), 1),
]
METHODS = [
    B.Qos(0, 5, False),
    B.Qos(0, 3, True),
    B.Consume(0, QUEUE, "one"),
    B.Consume(0, QUEUE, "", no_ack=True),
    B.Consume(0, "", "own", exclusive=True),
    B.Get(0, QUEUE),
    B.Get(0, QUEUE, True),
    B.Ack(1),
    B.Ack(3, True),
    B.Ack(0, True),
    B.Nack(2, True, True),
    B.Reject(4, True),
    B.Reject(5, False),
    B.Recover(True),
    B.RecoverAsync(True),
    B.Cancel("one"),
    B.Publish(0, "metrics", ""),
    Q.Declare(0, "", exclusive=True),
    Q.Declare(0, QUEUE, passive=True),
    Q.Bind(0, "", "metrics", "#"),
    Q.Unbind(0, "", "metrics", "#"),
    Q.Delete(0, ""),
    Q.Purge(0, QUEUE),
    X.Declare(0, "metrics", passive=True),
    commands.Confirm.Select(),
    commands.Tx.Select(),
    Ch.Flow(False),
    Ch.Flow(True),
    Ch.Open(),
    Ch.Close(200, "", 0, 0),
    Ch.CloseOk(),
    C.Close(200, "", 0, 0),
    C.CloseOk(),
]


class Wire(asyncio.Transport):
    """Remembers what is sent, and whether anybody would send more."""

    def __init__(self) -> None:
        super().__init__()
        self.said = bytearray()
        self.over = False

    def write(self, data: Any) -> None:
        self.said += data

    def close(self) -> None:
        self.over = True

    def abort(self) -> None:
        self.over = True

    def is_closing(self) -> bool:
        return self.over

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass


def noise(chance: random.Random) -> bytes:
    """A session that may be anything."""
    frames = [
        frame.marshal(chance.choice(METHODS), chance.choice((1, 1, 1, 1, 0, 2)))
        for _ in range(chance.randrange(12))
    ]
    pieces = [*SIGN_IN, *frames]
    for _ in range(chance.randrange(3)):
        at = chance.randrange(len(pieces))
        match chance.randrange(6):
            case 0:
                del pieces[at]
            case 1:
                pieces.insert(at, chance.randbytes(chance.randrange(40)))
            case 2:
                pieces[at] = pieces[at][: chance.randrange(len(pieces[at]) + 1)]
            case 3 if pieces[at]:
                bent = bytearray(pieces[at])
                bent[chance.randrange(len(bent))] = chance.randrange(256)
                pieces[at] = bytes(bent)
            case 4:
                other = chance.randrange(len(pieces))
                pieces[at], pieces[other] = pieces[other], pieces[at]
            case _:
                pieces.insert(at, pieces[at])
        if not pieces:
            break
    return b"".join(pieces)


async def session(feed: AmqpFeed, data: bytes, chance: random.Random) -> None:
    wire = Wire()
    connection = Connection(feed.broker, set())
    connection.connection_made(wire)
    while data and not wire.over:
        cut = chance.randrange(1, len(data) + 1)
        connection.data_received(data[:cut])
        data = data[cut:]
        if chance.random() < 0.1:
            connection.pause_writing()
            connection.resume_writing()
    assert b"INTERNAL_ERROR" not in wire.said
    connection.connection_lost(None)


@pytest.mark.reliability(14)
async def test_noise_breaks_nothing(tmp_path: Path) -> None:
    feed = AmqpFeed(tmp_path).start()
    feed.post(20)
    seed = random.SystemRandom().randrange(1 << 32)
    chance = random.Random(seed)
    sessions = 0
    until = time.monotonic() + SECONDS
    while time.monotonic() < until:
        data = noise(chance)
        try:
            feed.run(session(feed, data, chance))
        except AssertionError:
            pytest.fail(f"seed {seed}, session {sessions}: {data.hex()}")
        sessions += 1
        if sessions % 100 == 0:
            feed.post(10)
            usage = feed.usage()
            assert usage.published == usage.queued + usage.delivered + usage.dropped
            assert usage.consumers == 0
    print(f"{sessions} sessions, {feed.usage()}")
    assert feed.broker.connections == 0
    feed.stop()
