"""A channel: what a client may do to read its queue, and what it may not."""

import secrets
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import takewhile
from typing import Any, Protocol

from pamqp import commands
from pamqp.base import Frame

from heliometer.feed.amqp_server import faults
from heliometer.feed.amqp_server.broker import Broker
from heliometer.feed.amqp_server.faults import Fault
from heliometer.feed.amqp_server.frames import Envelope, body_frames, encode, header_frame
from heliometer.feed.model import EXCHANGE, Endpoint
from heliometer.feed.queue import AT_ONCE, Message, Queue

Basic, Confirm, Exchange, QueueClass = (
    commands.Basic,
    commands.Confirm,
    commands.Exchange,
    commands.Queue,
)
CONSUMERS = 100
"""Consumers on one channel."""
NO_LIMIT = 1 << 30


class Wire(Protocol):
    """A channel's connection, as it sees it."""

    broker: Broker
    frame_max: int
    own_queue: Queue | None
    """The connection's server-named queue."""

    @property
    def endpoint(self) -> Endpoint: ...
    @property
    def writable(self) -> bool: ...
    def send(self, data: bytes) -> None: ...


class Channel:
    """Consumers of one channel, and what they have not acknowledged."""

    def __init__(self, wire: Wire, number: int) -> None:
        self.wire = wire
        self.number = number
        self.flowing = True
        self.closing = False
        """A fault was sent: everything is ignored until the client has said that it knows."""
        self.prefetch = 0
        """Messages that all consumers together may have unacknowledged; 0: any number."""
        self.unacknowledged: dict[int, tuple[Queue, int, Link | None]] = {}
        """By delivery tag, in order."""
        self._consumer_prefetch = 0
        self._consumers: dict[str, Link] = {}
        self._getters: set[Getter] = set()
        self._last_tag = 0
        self._last_queue = ""
        self._acknowledged: dict[Queue, list[int]] = {}

    # -- messages -----------------------------------------------------------------------------

    def deliver(
        self, queue: Queue, messages: Sequence[Message], link: "Link", envelope: Envelope
    ) -> None:
        """Send messages to a consumer."""
        pieces: list[bytes] = []
        tag = self._last_tag
        for message in messages:
            tag += 1
            pieces += envelope.pack(tag, message)
            if not link.no_ack:
                self.unacknowledged[tag] = queue, message.number, link
        self._last_tag = tag
        self.wire.send(b"".join(pieces))
        if link.no_ack:
            self._acknowledged.setdefault(queue, []).extend(m.number for m in messages)

    def answer(self, getter: "Getter", message: Message) -> None:
        """Send the one message that was asked for."""
        queue = getter.queue
        self._getters.discard(getter)
        self._last_tag += 1
        ok = Basic.GetOk(self._last_tag, message.redelivered, EXCHANGE, "", min(queue.ready, 2**31))
        pieces = [encode(ok, self.number), header_frame(self.number, len(message.body))]
        pieces += body_frames(self.number, message.body, self.wire.frame_max - 8)
        self.wire.send(b"".join(pieces))
        if getter.no_ack:
            self._acknowledged.setdefault(queue, []).append(message.number)
            self.flush()
        else:
            self.unacknowledged[self._last_tag] = queue, message.number, None

    def acknowledge(self, tag: int, multiple: bool) -> None:
        """Take note; ``flush`` carries it out."""
        for queue, number in self._settle(tag, multiple):
            self._acknowledged.setdefault(queue, []).append(number)

    def flush(self) -> None:
        """Tell the queues what was acknowledged."""
        while self._acknowledged:
            queue, numbers = self._acknowledged.popitem()
            queue.acknowledge(numbers)

    def close(self) -> None:
        """Stop consuming, and give back what is not acknowledged."""
        self.closing = True
        for link in list(self._consumers.values()):
            self._drop(link)
        for getter in self._getters:
            getter.queue.detach(getter)
        self._getters.clear()
        self.flush()
        self._give_back(self.unacknowledged.values())

    def wake(self) -> None:
        """There is room again."""
        for queue in {link.queue for link in self._consumers.values()}:
            queue.pump()

    def _give_back(self, entries: Iterable[tuple[Queue, int, Any]]) -> None:
        by_queue: dict[Queue, list[int]] = {}
        for queue, number, link in list(entries):
            by_queue.setdefault(queue, []).append(number)
            if link is not None:
                link.unacknowledged -= 1
        self.unacknowledged.clear()
        for queue, numbers in by_queue.items():
            queue.give_back(numbers)

    def _settle(self, tag: int, multiple: bool) -> list[tuple[Queue, int]]:
        """Take deliveries out of what is unacknowledged. Raises Fault."""
        waiting = self.unacknowledged
        if not multiple:
            tags: Sequence[int] = (tag,)
        elif tag == 0:
            tags = list(waiting)
        else:
            tags = list(takewhile(lambda t: t <= tag, waiting))
        if (tag or not multiple) and tag not in waiting:
            raise Fault(faults.PRECONDITION_FAILED, f"unknown delivery tag {tag}")
        settled = []
        for each in tags:
            queue, number, link = waiting.pop(each)
            if link is not None:
                link.unacknowledged -= 1
            settled.append((queue, number))
        return settled

    # -- methods ------------------------------------------------------------------------------

    def handle(self, method: Frame) -> None:
        """Do what the client asks. Raises Fault."""
        handler = _HANDLERS.get(type(method))
        if handler is None:
            raise _refusal(method)
        handler(self, method)
        self.flush()

    def _reply(self, method: Frame) -> None:
        self.wire.send(encode(method, self.number))

    def _qos(self, method: Any) -> None:
        if method.prefetch_size:
            raise Fault(
                faults.NOT_IMPLEMENTED, "prefetch_size is not supported; use prefetch_count"
            )
        count = method.prefetch_count & 0xFFFF
        if method.global_:
            self.prefetch = count
        else:
            self._consumer_prefetch = count
        self._reply(Basic.QosOk())
        self.wake()

    def _flow(self, method: Any) -> None:
        self.flowing = bool(method.active)
        self._reply(commands.Channel.FlowOk(self.flowing))
        self.wake()

    def _consume(self, method: Any) -> None:
        queue = self._queue(method.queue)
        tag = method.consumer_tag or f"amq.ctag-{secrets.token_urlsafe(16)}"
        if tag in self._consumers:
            raise Fault(faults.NOT_ALLOWED, f"there is a consumer with the tag {tag!r} already")
        if len(self._consumers) >= CONSUMERS:
            raise Fault(faults.PRECONDITION_FAILED, f"a channel has {CONSUMERS} consumers at most")
        taken = self.wire.broker.exclusive(queue) is not None
        if taken or (method.exclusive and queue.consumers):
            raise Fault(faults.ACCESS_REFUSED, f"queue {method.queue!r} is in exclusive use")
        if not method.nowait:
            self._reply(Basic.ConsumeOk(tag))
        link = Link(self, queue, tag, bool(method.no_ack), self._consumer_prefetch or NO_LIMIT)
        self._consumers[tag] = link
        if method.exclusive:
            self.wire.broker.reserve(queue, link)
        queue.attach(link)

    def _cancel(self, method: Any) -> None:
        link = self._consumers.get(method.consumer_tag)
        if link is not None:
            self._drop(link)
        if not method.nowait:
            self._reply(Basic.CancelOk(method.consumer_tag))

    def _drop(self, link: "Link") -> None:
        del self._consumers[link.tag]
        link.queue.detach(link)
        self.wire.broker.release(link.queue, link)

    def _get(self, method: Any) -> None:
        queue = self._queue(method.queue)
        if queue.ready:
            getter = Getter(self, queue, bool(method.no_ack))
            self._getters.add(getter)
            queue.attach(getter)
        else:
            self._reply(Basic.GetEmpty())

    def _ack(self, method: Any) -> None:
        self.acknowledge(method.delivery_tag, bool(method.multiple))

    def _nack(self, method: Any) -> None:
        self._return(method.delivery_tag, bool(method.multiple), bool(method.requeue))

    def _reject(self, method: Any) -> None:
        self._return(method.delivery_tag, False, bool(method.requeue))

    def _return(self, tag: int, multiple: bool, requeue: bool) -> None:
        self.flush()
        for queue, number in self._settle(tag, multiple):
            if requeue:
                queue.give_back((number,))
            else:
                queue.acknowledge((number,))

    def _recover(self, method: Any) -> None:
        if not method.requeue:
            raise Fault(faults.NOT_IMPLEMENTED, "recover without requeue is not supported")
        if isinstance(method, Basic.Recover):
            self._reply(Basic.RecoverOk())
        self.flush()
        self._give_back(self.unacknowledged.values())

    def _confirm(self, method: Any) -> None:
        if not method.nowait:
            self._reply(Confirm.SelectOk())

    def _declare_queue(self, method: Any) -> None:
        name, own = method.queue, self.wire.own_queue
        if not method.passive and not name:
            if own is not None or not method.exclusive:
                raise Fault(
                    faults.ACCESS_REFUSED,
                    "only one queue, exclusive and named by the server, may be declared",
                )
            own = self.wire.own_queue = self.wire.broker.queues.passing(self.wire.endpoint.vhost)
            name = self._name(own)
        elif not method.passive:
            raise Fault(
                faults.ACCESS_REFUSED,
                f"queues cannot be declared; {self.wire.endpoint.queue} is there: consume from it, "
                "or declare it with passive",
            )
        queue = self._queue(name)
        self._last_queue = name = self._name(queue)
        if not method.nowait:
            self._reply(QueueClass.DeclareOk(name, min(queue.ready, 2**31), queue.consumers))

    def _bind_queue(self, method: Any) -> None:
        queue = self._own(method.queue, "bound")
        self._exchange(method.exchange)
        self.wire.broker.queues.bind(queue)
        if not method.nowait:
            self._reply(QueueClass.BindOk())

    def _unbind_queue(self, method: Any) -> None:
        queue = self._own(method.queue, "unbound")
        self._exchange(method.exchange)
        self.wire.broker.queues.unbind(queue)
        self._reply(QueueClass.UnbindOk())

    def _delete_queue(self, method: Any) -> None:
        queue = self._own(method.queue, "deleted")
        number = queue.ready
        self.wire.broker.queues.unbind(queue)
        for link in [each for each in self._consumers.values() if each.queue is queue]:
            self._drop(link)
            self._reply(Basic.Cancel(link.tag, nowait=True))
        queue.close()
        self.wire.own_queue = None
        if not method.nowait:
            self._reply(QueueClass.DeleteOk(number))

    def _declare_exchange(self, method: Any) -> None:
        if not method.passive:
            raise Fault(
                faults.ACCESS_REFUSED,
                f"exchanges cannot be declared; {EXCHANGE} is there: declare it with passive",
            )
        self._exchange(method.exchange)
        if not method.nowait:
            self._reply(Exchange.DeclareOk())

    # -- names --------------------------------------------------------------------------------

    def _name(self, queue: Queue) -> str:
        return (
            f"amq.gen-{id(queue):x}" if queue is self.wire.own_queue else (self.wire.endpoint.queue)
        )

    def _queue(self, name: str) -> Queue:
        """The queue of that name, as far as this client can see any. Raises Fault."""
        name = name or self._last_queue
        own, vhost = self.wire.own_queue, self.wire.endpoint.vhost
        if own is not None and name == self._name(own):
            return own
        if name == self.wire.endpoint.queue and vhost in self.wire.broker.queues:
            return self.wire.broker.queues[vhost]
        raise Fault(
            faults.NOT_FOUND,
            f"no queue {name!r} in vhost {vhost!r}; yours is {self.wire.endpoint.queue}",
        )

    def _own(self, name: str, done: str) -> Queue:
        queue = self._queue(name)
        if queue is not self.wire.own_queue:
            raise Fault(faults.ACCESS_REFUSED, f"queue {name!r} cannot be {done}; consume from it")
        return queue

    def _exchange(self, name: str) -> None:
        if name != EXCHANGE:
            raise Fault(
                faults.NOT_FOUND,
                f"no exchange {name!r} in vhost {self.wire.endpoint.vhost!r}; "
                f"there is {EXCHANGE!r}",
            )


class Link:
    """A consumer: connects a queue with a channel."""

    def __init__(
        self, channel: Channel, queue: Queue, tag: str, no_ack: bool, prefetch: int
    ) -> None:
        self.queue = queue
        self.tag = tag
        self.no_ack = no_ack
        self.unacknowledged = 0
        self._channel = channel
        self._prefetch = prefetch
        self._envelope = Envelope(channel.number, tag, channel.wire.frame_max)

    def room(self) -> int:
        """As many as prefetch, flow and the socket let through."""
        channel = self._channel
        if not channel.flowing or not channel.wire.writable or channel.closing:
            return 0
        if self.no_ack:
            return AT_ONCE
        room = self._prefetch - self.unacknowledged
        if channel.prefetch:
            room = min(room, channel.prefetch - len(channel.unacknowledged))
        return room

    def take(self, messages: Sequence[Message]) -> None:
        """Send them."""
        if not self.no_ack:
            self.unacknowledged += len(messages)
        self._channel.deliver(self.queue, messages, self, self._envelope)
        if self.no_ack:
            # After the queue has noted that they are out.
            self._channel.flush()


class Getter:
    """Takes one message and goes."""

    def __init__(self, channel: Channel, queue: Queue, no_ack: bool) -> None:
        self.queue = queue
        self.no_ack = no_ack
        self._channel = channel

    def room(self) -> int:
        """For one."""
        return 1

    def take(self, messages: Sequence[Message]) -> None:
        """Send it."""
        self.queue.detach(self)
        self._channel.answer(self, messages[0])


def _refusal(method: Frame) -> Fault:
    if isinstance(method, Basic.Publish):
        return Fault(faults.ACCESS_REFUSED, "messages cannot be published here; POST /v1.1/metrics")
    if method.name.startswith("Tx."):
        return Fault(faults.NOT_IMPLEMENTED, "transactions are not supported")
    if method.name.startswith(("Queue.", "Exchange.")) and not method.name.endswith("Ok"):
        return Fault(faults.ACCESS_REFUSED, f"{method.name} is not allowed; only consuming is")
    return Fault(faults.COMMAND_INVALID, f"{method.name} is not for clients to send here")


_HANDLERS: Mapping[type[Frame], Callable[[Channel, Any], None]] = {
    Basic.Qos: Channel._qos,
    Basic.Consume: Channel._consume,
    Basic.Cancel: Channel._cancel,
    Basic.Get: Channel._get,
    Basic.Ack: Channel._ack,
    Basic.Nack: Channel._nack,
    Basic.Reject: Channel._reject,
    Basic.Recover: Channel._recover,
    Basic.RecoverAsync: Channel._recover,
    Confirm.Select: Channel._confirm,
    commands.Channel.Flow: Channel._flow,
    QueueClass.Declare: Channel._declare_queue,
    QueueClass.Bind: Channel._bind_queue,
    QueueClass.Unbind: Channel._unbind_queue,
    QueueClass.Delete: Channel._delete_queue,
    Exchange.Declare: Channel._declare_exchange,
}
