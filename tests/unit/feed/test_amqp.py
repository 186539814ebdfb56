"""The AMQP listener, with real clients and with bytes that no client would send."""

import re
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import aio_pika
import kombu
import pika
import pika.exceptions
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pamqp import commands, frame
from pamqp.heartbeat import Heartbeat
from pika.adapters.blocking_connection import BlockingChannel

from amqp_feed import PASSWORD, SHOP, STOCK, AmqpFeed, settle
from effort import effort
from heliometer.feed.amqp_server.broker import SIGN_IN_FAILURES, Terms
from heliometer.feed.amqp_server.frames import PROTOCOL, body_frames

QUEUE = f"metrics-{SHOP}"
USER = f"mon-{SHOP}"


@pytest.fixture
def feed(tmp_path: Path) -> Iterator[AmqpFeed]:
    running = AmqpFeed(tmp_path).start()
    yield running
    running.stop()


def connect(
    feed: AmqpFeed, user: str = USER, password: str = PASSWORD, vhost: str = SHOP
) -> pika.BlockingConnection:
    credentials = pika.PlainCredentials(user, password)
    return pika.BlockingConnection(
        pika.ConnectionParameters("127.0.0.1", feed.port, vhost, credentials)
    )


def read(channel: BlockingChannel, number: int, queue: str = QUEUE, ack: bool = True) -> list[str]:
    """The bodies of the next messages."""
    bodies: list[str] = []
    for method, _, body in channel.consume(queue, inactivity_timeout=10):
        assert method is not None, f"only {len(bodies)} of {number} messages came"
        bodies.append(body.decode())
        if ack:
            channel.basic_ack(method.delivery_tag)
        if len(bodies) == number:
            break
    return bodies


def until(connection: pika.BlockingConnection, taken: list[int], number: int) -> None:
    """Let so many messages come, and a little time for one too many."""
    deadline = time.monotonic() + 10
    while len(taken) < number and time.monotonic() < deadline:
        connection.process_data_events(0.05)
    connection.process_data_events(0.2)


# -- consuming --------------------------------------------------------------------------------


def test_a_measurement_is_one_message_in_the_metrics_json(feed: AmqpFeed) -> None:
    feed.post(2)
    with connect(feed) as connection:
        bodies = read(connection.channel(), 2)
    assert bodies == [
        '{"namespace":"web","dimensions":{"host":"a"},"timestamp":1700000000,"value":0.0}',
        '{"namespace":"web","dimensions":{"host":"a"},"timestamp":1700000001,"value":1.0}',
    ]
    assert feed.wait(queued=0).delivered == 2


def test_messages_flow_while_they_are_posted(feed: AmqpFeed) -> None:
    with connect(feed) as connection:
        channel = connection.channel()
        feed.post(3000)
        assert len(read(channel, 3000)) == 3000
        feed.post(10)
        assert len(read(channel, 10)) == 10


def test_a_backlog_larger_than_memory_comes_in_order(feed: AmqpFeed) -> None:
    for _ in range(30):
        feed.post(331)
    with connect(feed) as connection:
        bodies = read(connection.channel(), 9930)
    assert [float(b.rpartition(":")[2][:-1]) for b in bodies] == [float(n) for n in range(9930)]


def test_what_was_not_acknowledged_comes_again_with_the_flag(feed: AmqpFeed) -> None:
    feed.post(3)
    with connect(feed) as connection:
        read(connection.channel(), 3, ack=False)
    feed.wait(consumers=0)
    with connect(feed) as connection:
        method, _, body = connection.channel().basic_get(QUEUE)
        assert method.redelivered
        assert '"value":0.0' in body.decode()


def test_prefetch_bounds_what_is_not_acknowledged(feed: AmqpFeed) -> None:
    feed.post(50)
    with connect(feed) as connection:
        channel = connection.channel()
        channel.basic_qos(prefetch_count=7)
        taken: list[int] = []
        channel.basic_consume(QUEUE, lambda _c, method, _p, _b: taken.append(method.delivery_tag))
        until(connection, taken, 7)
        assert taken == [1, 2, 3, 4, 5, 6, 7]
        channel.basic_ack(5, multiple=True)
        until(connection, taken, 12)
        assert taken[7:] == [8, 9, 10, 11, 12]


def test_prefetch_of_the_channel_is_shared_by_its_consumers(feed: AmqpFeed) -> None:
    feed.post(50)
    with connect(feed) as connection:
        channel = connection.channel()
        channel.basic_qos(prefetch_count=6, global_qos=True)
        taken: list[int] = []
        for _ in range(2):
            channel.basic_consume(QUEUE, lambda _c, m, _p, _b: taken.append(m.delivery_tag))
        until(connection, taken, 6)
        assert len(taken) == 6


def test_nack_reject_and_recover_bring_messages_back(feed: AmqpFeed) -> None:
    feed.post(4)
    with connect(feed) as connection:
        channel = connection.channel()
        tags = [channel.basic_get(QUEUE)[0].delivery_tag for _ in range(4)]
        channel.basic_nack(tags[1], multiple=True, requeue=True)
        assert channel.basic_get(QUEUE)[2].decode().endswith('"value":0.0}')
        channel.basic_reject(tags[2], requeue=False)  # for good
        channel.basic_recover(requeue=True)
        values = []
        while (got := channel.basic_get(QUEUE, auto_ack=True))[0] is not None:
            values.append((got[2].decode().rpartition(":")[2], got[0].redelivered))
    assert values == [("0.0}", True), ("1.0}", True), ("3.0}", True)]
    assert feed.wait(queued=0).delivered == 4


def test_cancel_and_flow_stop_deliveries(feed: AmqpFeed) -> None:
    with connect(feed) as connection:
        channel = connection.channel()
        taken: list[int] = []
        tag = channel.basic_consume(
            QUEUE, lambda _c, m, _p, _b: taken.append(m.delivery_tag), auto_ack=True
        )
        channel.flow(False)
        feed.post(5)
        until(connection, taken, 0)
        assert taken == []
        channel.flow(True)
        until(connection, taken, 5)
        assert len(taken) == 5
        channel.basic_cancel(tag)
        feed.post(5)
        until(connection, taken, 5)
        assert len(taken) == 5
        assert channel.queue_declare(QUEUE, passive=True).method.message_count == 5


def test_an_exclusive_consumer_is_alone(feed: AmqpFeed) -> None:
    with connect(feed) as one, connect(feed) as two:
        one.channel().basic_consume(QUEUE, lambda *_: None, exclusive=True)
        with pytest.raises(pika.exceptions.ChannelClosedByBroker, match="exclusive use"):
            two.channel().basic_consume(QUEUE, lambda *_: None)


def test_get_of_an_empty_queue_says_so(feed: AmqpFeed) -> None:
    with connect(feed) as connection:
        assert connection.channel().basic_get(QUEUE) == (None, None, None)


def test_a_body_larger_than_a_frame_comes_in_several() -> None:

    body = bytes(range(256)) * 40
    data, seen = b"".join(body_frames(3, body, 4088)), b""
    while data:
        used, channel, part = frame.unmarshal(data)
        assert channel == 3
        assert used <= 4096
        seen, data = seen + part.value, data[used:]  # type: ignore[union-attr]
    assert seen == body


async def test_aio_pika_consumes(feed: AmqpFeed) -> None:
    feed.post(20)
    url = f"amqp://{USER}:{PASSWORD}@127.0.0.1:{feed.port}/{SHOP}"
    async with await settle(aio_pika.connect_robust(url)) as connection:
        channel = await connection.channel()
        await channel.set_qos(prefetch_count=5)
        queue = await channel.get_queue(QUEUE)  # declares passively
        seen = 0
        async with queue.iterator() as messages:
            async for message in messages:
                async with message.process():
                    seen += 1
                if seen == 20:
                    break
    assert feed.wait(queued=0).delivered == 20


def test_kombu_consumes(feed: AmqpFeed) -> None:
    feed.post(20)
    url = f"amqp://{USER}:{PASSWORD}@127.0.0.1:{feed.port}/{SHOP}"
    seen: list[object] = []
    with kombu.Connection(url) as connection:
        queue = kombu.Queue(QUEUE, no_declare=True)

        def take(body: object, message: Any) -> None:
            seen.append(body)
            message.ack()

        with kombu.Consumer(connection, [queue], callbacks=[take], accept=["json"]):
            while len(seen) < 20:
                connection.drain_events(timeout=5)
        assert isinstance(seen[0], dict)
    assert feed.wait(queued=0).delivered == 20


def test_v1_0_consumers_bind_a_queue_of_their_own_to_the_exchange(feed: AmqpFeed) -> None:
    with connect(feed) as connection:
        channel = connection.channel()
        channel.exchange_declare("metrics", passive=True)
        name = channel.queue_declare("", exclusive=True).method.queue
        assert name.startswith("amq.gen-")
        channel.queue_bind(name, "metrics", routing_key="#")
        feed.post(3)
        feed.post(3, series=2)  # another project's
        assert len(read(channel, 3, name)) == 3
        assert channel.queue_declare(name, passive=True).method.message_count == 0
        channel.cancel()
        channel.queue_unbind(name, "metrics", "#")
        feed.post(1)
        assert channel.basic_get(name) == (None, None, None)
        channel.queue_delete(name)
    assert feed.usage().queued == 4, "the durable queue has its own copy"


def test_what_is_there_may_be_declared_as_tutorials_do(feed: AmqpFeed) -> None:
    feed.post(2)
    with connect(feed) as connection:
        channel = connection.channel()
        channel.exchange_declare("metrics", "fanout", durable=True)
        assert channel.queue_declare(QUEUE, durable=True).method.message_count == 2
        channel.queue_bind(QUEUE, "metrics")
        feed.post(1)
        assert len(read(channel, 3)) == 3
    with kombu.Connection(f"amqp://{USER}:{PASSWORD}@127.0.0.1:{feed.port}/{SHOP}") as library:
        exchange = kombu.Exchange("metrics", type="fanout", durable=True)
        kombu.Queue(QUEUE, exchange, durable=True)(library.channel()).declare()


async def test_aio_pika_may_declare_it(feed: AmqpFeed) -> None:
    feed.post(1)
    url = f"amqp://{USER}:{PASSWORD}@127.0.0.1:{feed.port}/{SHOP}"
    async with await settle(aio_pika.connect_robust(url)) as connection:
        queue = await (await connection.channel()).declare_queue(QUEUE, durable=True)
        assert queue.declaration_result.message_count == 1


# -- what is refused --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("user", "password"),
    [(USER, "wrong"), (USER, ""), ("nobody", PASSWORD), (f"mon-{STOCK}x", PASSWORD)],
)
def test_a_wrong_password_or_user_is_refused(feed: AmqpFeed, user: str, password: str) -> None:
    with pytest.raises(pika.exceptions.ProbableAuthenticationError, match=r"403.*wrong user or"):
        connect(feed, user, password)


def test_guessing_is_refused_after_a_while_but_not_the_right_password(feed: AmqpFeed) -> None:
    texts = []
    for i in range(SIGN_IN_FAILURES + 2):
        with pytest.raises(pika.exceptions.ProbableAuthenticationError) as refused:
            connect(feed, USER, f"guess {i}")
        texts.append(str(refused.value))
    assert ["wrong user or" in text for text in texts] == [True] * SIGN_IN_FAILURES + [False] * 2
    assert re.search(r"403.*Too many .* Try again in \d+ seconds", texts[-1])
    # Another user at the same address has its own count, and the right password always gets in.
    with pytest.raises(pika.exceptions.ProbableAuthenticationError, match="wrong user or"):
        connect(feed, f"mon-{STOCK}", "guess")
    connect(feed).close()


@pytest.mark.parametrize("vhost", [STOCK, "/", "", "c" * 32])
def test_only_the_own_vhost_opens(feed: AmqpFeed, vhost: str) -> None:
    with pytest.raises(pika.exceptions.ProbableAccessDeniedError, match=f"530.*yours is {SHOP}"):
        connect(feed, vhost=vhost)


def _publish(channel: BlockingChannel) -> None:
    channel.confirm_delivery()
    channel.basic_publish("metrics", "", b"x")


REFUSED: dict[str, tuple[Callable[[BlockingChannel], object], int]] = {
    "publishing": (_publish, 403),
    "another project's queue": (lambda c: c.basic_get(f"metrics-{STOCK}"), 404),
    "a queue that is not": (lambda c: c.queue_declare("other", passive=True), 404),
    "declaring a queue": (lambda c: c.queue_declare("mine"), 403),
    "the own queue as it is not": (lambda c: c.queue_declare(QUEUE), 406),
    "the own queue as a quorum queue": (
        lambda c: c.queue_declare(QUEUE, durable=True, arguments={"x-queue-type": "quorum"}),
        406,
    ),
    "the own queue with a length": (
        lambda c: c.queue_declare(QUEUE, durable=True, arguments={"x-max-length": 5}),
        406,
    ),
    "the exchange as it is not": (lambda c: c.exchange_declare("metrics", "topic"), 406),
    "another project's queue as one's own": (
        lambda c: c.queue_declare(f"metrics-{STOCK}", durable=True),
        403,
    ),
    "a shared queue without a name": (lambda c: c.queue_declare(""), 403),
    "declaring an exchange": (lambda c: c.exchange_declare("mine"), 403),
    "an exchange that is not": (lambda c: c.exchange_declare("mine", passive=True), 404),
    "deleting the exchange": (lambda c: c.exchange_delete("metrics"), 403),
    "purging": (lambda c: c.queue_purge(QUEUE), 403),
    "deleting the queue": (lambda c: c.queue_delete(QUEUE), 403),
    "unbinding the queue": (lambda c: c.queue_unbind(QUEUE, "metrics", "#"), 403),
    "binding it to another exchange": (lambda c: c.queue_bind(QUEUE, "amq.topic", "#"), 404),
    "acknowledging what was not delivered": (
        lambda c: (c.basic_ack(7), c.queue_declare(QUEUE, passive=True)),
        406,
    ),
}


@pytest.mark.parametrize("what", REFUSED)
def test_a_refusal_closes_the_channel_and_nothing_else(feed: AmqpFeed, what: str) -> None:
    do, code = REFUSED[what]
    with connect(feed) as connection:
        with pytest.raises(pika.exceptions.ChannelClosedByBroker) as refused:
            do(connection.channel())
        assert refused.value.reply_code == code
        feed.post(1)
        assert connection.channel().basic_get(QUEUE)[0] is not None


@pytest.mark.parametrize("method", [commands.Basic.Ack(0), commands.Basic.Reject(0, True)])
def test_the_tag_0_names_nothing_alone(feed: AmqpFeed, method: object) -> None:
    raw = Raw(feed).sign_in().open_channel()
    raw.send((method, 1))
    closed = raw.receive()
    assert isinstance(closed, commands.Channel.Close)
    assert closed.reply_code == 406


def test_transactions_are_not_implemented(feed: AmqpFeed) -> None:
    connection = connect(feed)
    with pytest.raises(pika.exceptions.ConnectionClosedByBroker) as refused:
        connection.channel().tx_select()
    assert refused.value.reply_code == 540


def test_connections_of_a_project_are_limited(tmp_path: Path) -> None:
    feed = AmqpFeed(tmp_path, terms=Terms(connections=10, per_project=2, heartbeat_s=60)).start()
    with connect(feed), connect(feed):
        with pytest.raises(pika.exceptions.ProbableAccessDeniedError, match="2 connections"):
            connect(feed)
        with connect(feed, f"mon-{STOCK}", vhost=STOCK):
            pass
    with connect(feed):
        pass
    feed.stop()


# -- bytes ------------------------------------------------------------------------------------


class Raw:
    """A client of our own that may do everything wrong."""

    def __init__(self, feed: AmqpFeed) -> None:
        self.socket = socket.create_connection(("127.0.0.1", feed.port), timeout=10)
        self._left = b""

    def send(self, *frames: tuple[object, int]) -> None:
        self.socket.sendall(b"".join(frame.marshal(f, c) for f, c in frames))  # type: ignore[arg-type]

    def receive(self) -> object | None:
        """The next frame; ``None``: the connection is closed."""
        while True:
            if len(self._left) >= 8:
                size = int.from_bytes(self._left[3:7], "big") + 8
                if self._left[:4] == b"AMQP":
                    size = 8
                if len(self._left) >= size:
                    one, self._left = self._left[:size], self._left[size:]
                    return frame.unmarshal(one)[2]
            try:
                data = self.socket.recv(65536)
            except ConnectionResetError:
                return None
            if not data:
                return None
            self._left += data

    def sign_in(self, heartbeat: int = 0, frame_max: int = 131072) -> "Raw":
        self.socket.sendall(PROTOCOL)
        assert isinstance(self.receive(), commands.Connection.Start)
        self.send((commands.Connection.StartOk({}, "PLAIN", f"\0{USER}\0{PASSWORD}"), 0))
        assert isinstance(self.receive(), commands.Connection.Tune)
        self.send((commands.Connection.TuneOk(0, frame_max, heartbeat), 0))
        self.send((commands.Connection.Open(SHOP), 0))
        assert isinstance(self.receive(), commands.Connection.OpenOk)
        return self

    def open_channel(self, number: int = 1) -> "Raw":
        self.send((commands.Channel.Open(), number))
        assert isinstance(self.receive(), commands.Channel.OpenOk)
        return self

    def refused(self) -> int:
        """The code of the farewell."""
        while not isinstance(got := self.receive(), commands.Connection.Close):
            assert got is not None
        return got.reply_code or 0


def still_works(feed: AmqpFeed) -> bool:
    with connect(feed) as connection:
        return bool(connection.channel().queue_declare(QUEUE, passive=True))


def test_amqplain_signs_in(feed: AmqpFeed) -> None:
    raw = Raw(feed)
    raw.socket.sendall(PROTOCOL)
    raw.receive()
    table = "".join(
        chr(len(k)) + k + "S" + "\0\0\0" + chr(len(v)) + v
        for k, v in (("LOGIN", USER), ("PASSWORD", PASSWORD))
    )
    raw.send((commands.Connection.StartOk({}, "AMQPLAIN", table), 0))
    assert isinstance(raw.receive(), commands.Connection.Tune)


def test_a_client_that_cannot_be_told_why_is_just_closed(feed: AmqpFeed) -> None:
    raw = Raw(feed)
    raw.socket.sendall(PROTOCOL)
    raw.receive()
    raw.send((commands.Connection.StartOk({}, "PLAIN", f"\0{USER}\0wrong"), 0))
    assert raw.receive() is None


@pytest.mark.parametrize(
    "greeting", [b"GET / HTTP/1.1\r\n\r\n", b"AMQP\x00\x01\x00\x00", b"\x16\x03"]
)
def test_another_protocol_is_answered_with_ours(feed: AmqpFeed, greeting: bytes) -> None:
    raw = Raw(feed)
    raw.socket.sendall(greeting)
    assert raw.socket.recv(8) == PROTOCOL
    assert raw.receive() is None


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"\x01\x00\x00\x00\x01\xff\xff", 501),  # larger than any frame may be
        (b"\x07\x00\x00\x00\x00\x00\x00\xce", 501),  # no such type
        (b"\x01\x00\x01\x00\x00\x00\x04\x00\x14\x00\x0a\x00", 501),  # no end
        (b"\x01\x00\x01\x00\x00\x00\x04\x00\x63\x00\x0a\xce", 503),  # no such class
        (b"\x01\x00\x01\x00\x00\x00\x02\x00\x14\xce", 502),  # no method
        (b"\x01\x00\x01\x00\x00\x00\x05\x00\x3c\x00\x14\x00\xce", 502),  # no arguments
        (b"\x01\x00\x05\x00\x00\x00\x05\x00\x3c\x00\x46\x00\xce", 502),
        (b"\x02\x00\x01\x00\x00\x00\x02\x00\x3c\xce", 505),  # content out of nothing
        (frame.marshal(commands.Basic.Get(0, QUEUE), 9), 504),  # a channel that is not open
        (frame.marshal(commands.Channel.Open(), 1), 504),  # open already
        (frame.marshal(commands.Channel.Open(), 999), 504),
        (frame.marshal(commands.Basic.GetEmpty(), 1), 503),  # what only servers say
        (frame.marshal(commands.Connection.TuneOk(), 0), 503),
        (frame.marshal(commands.Basic.Qos(prefetch_size=1), 1), 540),
    ],
)
def test_a_breach_of_the_protocol_ends_the_connection(
    feed: AmqpFeed, data: bytes, code: int
) -> None:
    raw = Raw(feed).sign_in().open_channel()
    raw.socket.sendall(data)
    assert raw.refused() == code
    assert still_works(feed)


def test_a_large_frame_before_sign_in_is_refused(feed: AmqpFeed) -> None:
    raw = Raw(feed)
    raw.socket.sendall(PROTOCOL + b"\x01\x00\x00\x00\x00\x20\x00")
    assert raw.refused() == 501


def test_channels_come_after_signing_in(feed: AmqpFeed) -> None:
    raw = Raw(feed)
    raw.socket.sendall(PROTOCOL)
    raw.send((commands.Channel.Open(), 1))
    assert raw.refused() == 503


def test_frames_may_arrive_byte_by_byte(feed: AmqpFeed) -> None:
    raw = Raw(feed)
    for byte in PROTOCOL:
        raw.socket.sendall(bytes([byte]))
        time.sleep(0.001)
    raw.receive()
    for byte in frame.marshal(commands.Connection.StartOk({}, "PLAIN", f"\0{USER}\0{PASSWORD}"), 0):
        raw.socket.sendall(bytes([byte]))
    assert isinstance(raw.receive(), commands.Connection.Tune)


def test_heartbeats_go_both_ways(feed: AmqpFeed) -> None:
    raw = Raw(feed).sign_in(heartbeat=1)
    started = time.monotonic()
    beats = 0
    while raw.receive() is not None:
        beats += 1
        assert time.monotonic() - started < 10, "a silent client stays"
    assert beats >= 2
    assert time.monotonic() - started > 1.5
    assert isinstance(Heartbeat(), Heartbeat)


def test_a_client_that_wants_no_heartbeats_gets_none_and_stays(feed: AmqpFeed) -> None:
    raw = Raw(feed).sign_in(heartbeat=0)
    raw.socket.settimeout(0.5)
    with pytest.raises(TimeoutError):
        raw.receive()
    raw.open_channel()


def test_who_never_acknowledges_holds_up_nobody_else(feed: AmqpFeed) -> None:
    raw = Raw(feed).sign_in().open_channel()
    raw.send((commands.Basic.Qos(prefetch_count=10), 1), (commands.Basic.Consume(0, QUEUE, "t"), 1))
    feed.post(1000)
    with connect(feed) as connection:
        assert len(read(connection.channel(), 990)) == 990
    assert feed.wait(queued=10).delivered == 990
    raw.socket.close()
    feed.wait(consumers=0)
    with connect(feed) as connection:
        assert len(read(connection.channel(), 10)) == 10


def test_who_does_not_read_takes_no_memory(feed: AmqpFeed) -> None:
    raw = Raw(feed)
    raw.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    raw.sign_in().open_channel()
    raw.send((commands.Basic.Consume(0, QUEUE, "t", no_ack=True), 1))
    for _ in range(40):
        feed.post(1000)
    time.sleep(0.2)
    usage = feed.usage()
    assert usage.queued > 10_000, "everything was put into the socket's buffer"
    with connect(feed, f"mon-{STOCK}", vhost=STOCK) as connection:
        feed.post(1, series=2)
        assert len(read(connection.channel(), 1, f"metrics-{STOCK}")) == 1


def test_strangers_make_room_for_one_another(feed: AmqpFeed) -> None:
    strangers = [Raw(feed) for _ in range(250)]
    assert still_works(feed)
    assert strangers[0].receive() is None
    for raw in strangers:
        raw.socket.close()


def test_a_thousand_connections_are_bounded_and_harm_nobody(tmp_path: Path) -> None:
    terms = Terms(connections=1000, per_project=50, heartbeat_s=60)
    feed = AmqpFeed(tmp_path, terms=terms).start()
    guests = [Raw(feed).sign_in() for _ in range(50)]
    strangers = [Raw(feed) for _ in range(950)]
    with connect(feed, f"mon-{STOCK}", vhost=STOCK) as connection:
        feed.post(1, series=2)
        assert len(read(connection.channel(), 1, f"metrics-{STOCK}")) == 1
    guests[0].open_channel()
    assert feed.broker.refused >= 750
    for raw in (*guests, *strangers):
        raw.socket.close()
    feed.stop()


@settings(max_examples=effort(50, 2000), deadline=None, suppress_health_check=list(HealthCheck))
@given(
    st.lists(
        st.one_of(
            st.binary(max_size=60),
            st.tuples(st.sampled_from([1, 2, 3, 8]), st.integers(0, 3), st.binary(max_size=80)).map(
                lambda t: bytes([t[0], 0, t[1]]) + len(t[2]).to_bytes(4, "big") + t[2] + b"\xce"
            ),
            st.tuples(
                st.sampled_from(sorted(commands.INDEX_MAPPING)),
                st.integers(0, 2),
                st.binary(max_size=40),
            ).map(
                lambda t: (
                    b"\x01\x00"
                    + bytes([t[1]])
                    + (len(t[2]) + 4).to_bytes(4, "big")
                    + t[0].to_bytes(4, "big")
                    + t[2]
                    + b"\xce"
                )
            ),
        ),
        max_size=6,
    ),
    st.sampled_from(["raw", "greeted", "signed in", "open"]),
)
def test_whatever_arrives_others_are_served(
    noisy: AmqpFeed, pieces: list[bytes], stage: str
) -> None:
    raw = Raw(noisy)
    if stage == "greeted":
        raw.socket.sendall(PROTOCOL)
    elif stage in ("signed in", "open"):
        raw.sign_in()
        if stage == "open":
            raw.open_channel()
    raw.socket.settimeout(0.05)
    said = b""
    with suppress(OSError):
        raw.socket.sendall(b"".join(pieces))
        while part := raw.socket.recv(65536):
            said += part
    raw.socket.close()
    assert b"INTERNAL_ERROR" not in said


@pytest.fixture(scope="module")
def noisy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AmqpFeed]:
    running = AmqpFeed(tmp_path_factory.mktemp("noisy")).start()
    running.post(5)
    yield running
    assert still_works(running)
    running.stop()


# -- the end ----------------------------------------------------------------------------------


def test_clients_are_told_that_the_server_stops(tmp_path: Path) -> None:
    feed = AmqpFeed(tmp_path).start()
    raw = Raw(feed).sign_in()
    feed.run(feed.listener.close())
    assert raw.refused() == 320
    feed.stop()


def test_messages_and_counts_survive_a_stop_and_a_kill(tmp_path: Path) -> None:
    feed = AmqpFeed(tmp_path).start()
    feed.post(100)
    with connect(feed) as connection:
        read(connection.channel(), 30)
    feed.wait(queued=70)
    feed.stop()

    again = AmqpFeed(tmp_path).start()
    assert again.usage().queued == 70
    again.post(10)
    again.kill()

    last = AmqpFeed(tmp_path).start()
    usage = last.usage()
    assert (usage.published, usage.queued, usage.delivered) == (110, 80, 30)
    with connect(last) as connection:
        values = [b.rpartition(":")[2] for b in read(connection.channel(), 80)]
    assert values[0] == "30.0}"
    assert values[-1] == "9.0}"
    last.stop()


def test_what_is_too_old_is_dropped_and_counted(tmp_path: Path) -> None:
    feed = AmqpFeed(tmp_path).start()
    feed.post(10)
    feed.ahead_s = 86_400 / 2
    feed.post(5)
    feed.ahead_s = 86_400 + 60
    feed.run(feed.queues.expire())
    usage = feed.usage()
    assert (usage.dropped, usage.queued) == (10, 5)
    with connect(feed) as connection:
        assert read(connection.channel(), 1)[0].endswith('"value":10.0}')
    feed.stop()


def test_who_does_not_sign_in_is_shown_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("heliometer.feed.amqp_server.connection.SIGN_IN_S", 0.2)
    feed = AmqpFeed(tmp_path).start()
    silent, half = Raw(feed), Raw(feed)
    half.socket.sendall(PROTOCOL)
    half.receive()
    assert silent.receive() is None
    assert half.receive() is None
    signed_in = Raw(feed).sign_in()
    time.sleep(0.4)
    signed_in.open_channel()
    feed.stop()


def test_a_client_that_vanishes_gives_its_messages_back(feed: AmqpFeed) -> None:
    """Half-open: nothing says that it is gone, but that its heartbeats stop."""
    feed.post(5)
    raw = Raw(feed).sign_in(heartbeat=1).open_channel()
    raw.send((commands.Basic.Consume(0, QUEUE, "t"), 1))
    feed.wait(consumers=1)
    feed.wait(consumers=0)  # the socket is still open on this side
    with connect(feed) as connection:
        assert len(read(connection.channel(), 5)) == 5


def test_who_reads_byte_by_byte_holds_up_nobody(feed: AmqpFeed) -> None:
    raw = Raw(feed)
    raw.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    raw.sign_in().open_channel()
    raw.send((commands.Basic.Qos(prefetch_count=50), 1), (commands.Basic.Consume(0, QUEUE, "t"), 1))
    feed.post(100)
    with connect(feed) as connection:
        assert len(read(connection.channel(), 50)) == 50, "the rest goes to who is quicker"
    for _ in range(200):  # a byte at a time
        assert raw.socket.recv(1)
    assert feed.usage().queued == 50
    raw.socket.close()
    feed.wait(consumers=0)
    with connect(feed) as connection:
        assert len(read(connection.channel(), 50)) == 50
