"""A channel: the methods with which a client reads its queue; all others are refused."""

import secrets
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pamqp import commands
from pamqp.base import Frame

from heliometer.feed.amqp_server import faults
from heliometer.feed.amqp_server.consumers import ChannelConsumer, Getter
from heliometer.feed.amqp_server.deliveries import Deliveries
from heliometer.feed.amqp_server.faults import Fault
from heliometer.feed.amqp_server.frames import Envelope, body_frames, encode, header_frame
from heliometer.feed.amqp_server.topology import Topology
from heliometer.feed.amqp_server.wire import Wire, reply
from heliometer.feed.model import EXCHANGE
from heliometer.feed.queue import Message, Queue

Basic, Confirm, Exchange, QueueClass = (
    commands.Basic,
    commands.Confirm,
    commands.Exchange,
    commands.Queue,
)
CONSUMERS = 100
"""The most consumers on one channel."""
NO_LIMIT = 1 << 30


class Channel:
    """The consumers of one channel and their deliveries."""

    def __init__(self, wire: Wire, number: int) -> None:
        self.wire = wire
        self.number = number
        self.flowing = True
        self.closing = False
        """A fault was sent: everything is ignored until the client confirms it."""
        self.prefetch = 0
        """The most unacknowledged messages of all consumers together; 0: no limit."""
        self.deliveries = Deliveries()
        self._consumer_prefetch = 0
        self._consumers: dict[str, ChannelConsumer] = {}
        self._getters: set[Getter] = set()
        self._topology = Topology(wire, number, self._cancel_consumers)

    # -- messages -----------------------------------------------------------------------------

    def deliver(
        self, queue: Queue, messages: Sequence[Message], link: ChannelConsumer, envelope: Envelope
    ) -> None:
        """Send messages to a consumer."""
        pieces: list[bytes] = []
        tag = self.deliveries.last_tag
        unacknowledged = self.deliveries.unacknowledged
        for message in messages:
            tag += 1
            pieces += envelope.pack(tag, message)
            if not link.no_ack:
                unacknowledged[tag] = queue, message.number, link
        self.deliveries.last_tag = tag
        self.wire.send(b"".join(pieces))
        if link.no_ack:
            self.deliveries.done(queue, (m.number for m in messages))

    def answer(self, getter: Getter, message: Message) -> None:
        """Send the message for a Basic.Get."""
        queue = getter.queue
        self._getters.discard(getter)
        self.deliveries.last_tag += 1
        tag = self.deliveries.last_tag
        ok = Basic.GetOk(tag, message.redelivered, EXCHANGE, "", min(queue.ready, 2**31))
        pieces = [encode(ok, self.number), header_frame(self.number, len(message.body))]
        pieces += body_frames(self.number, message.body, self.wire.frame_max - 8)
        self.wire.send(b"".join(pieces))
        if getter.no_ack:
            self.deliveries.done(queue, (message.number,))
            self.deliveries.flush()
        else:
            self.deliveries.unacknowledged[tag] = queue, message.number, None

    def close(self) -> None:
        """Stop consuming, and return what is not acknowledged."""
        self.closing = True
        for link in list(self._consumers.values()):
            self._drop(link)
        for getter in self._getters:
            getter.queue.detach(getter)
        self._getters.clear()
        self.deliveries.give_back_all()

    def wake(self) -> None:
        """Deliver again: there may be room."""
        for queue in {link.queue for link in self._consumers.values()}:
            queue.pump()

    # -- methods ------------------------------------------------------------------------------

    def handle(self, method: Frame) -> None:
        """Execute a method of the client. Raises Fault."""
        handler = _HANDLERS.get(type(method))
        if handler is None:
            raise _refusal(method)
        handler(self, method)
        self.deliveries.flush()

    def _reply(self, method: Frame) -> None:
        reply(self.wire, self.number, method)

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
        queue = self._topology.queue(method.queue)
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
        link = ChannelConsumer(
            self, queue, tag, bool(method.no_ack), self._consumer_prefetch or NO_LIMIT
        )
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

    def _drop(self, link: ChannelConsumer) -> None:
        del self._consumers[link.tag]
        link.queue.detach(link)
        self.wire.broker.release(link.queue, link)

    def _cancel_consumers(self, queue: Queue) -> None:
        for consumer in [each for each in self._consumers.values() if each.queue is queue]:
            self._drop(consumer)
            self._reply(Basic.Cancel(consumer.tag, nowait=True))

    def _get(self, method: Any) -> None:
        queue = self._topology.queue(method.queue)
        if queue.ready:
            getter = Getter(self, queue, bool(method.no_ack))
            self._getters.add(getter)
            queue.attach(getter)
        else:
            self._reply(Basic.GetEmpty())

    def _ack(self, method: Any) -> None:
        self.deliveries.acknowledge(method.delivery_tag, bool(method.multiple))

    def _nack(self, method: Any) -> None:
        self.deliveries.give_back(method.delivery_tag, bool(method.multiple), bool(method.requeue))

    def _reject(self, method: Any) -> None:
        self.deliveries.give_back(method.delivery_tag, False, bool(method.requeue))

    def _recover(self, method: Any) -> None:
        if not method.requeue:
            raise Fault(faults.NOT_IMPLEMENTED, "recover without requeue is not supported")
        if isinstance(method, Basic.Recover):
            self._reply(Basic.RecoverOk())
        self.deliveries.give_back_all()

    def _confirm(self, method: Any) -> None:
        if not method.nowait:
            self._reply(Confirm.SelectOk())


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
    QueueClass.Declare: lambda channel, method: channel._topology.declare_queue(method),
    QueueClass.Bind: lambda channel, method: channel._topology.bind_queue(method),
    QueueClass.Unbind: lambda channel, method: channel._topology.unbind_queue(method),
    QueueClass.Delete: lambda channel, method: channel._topology.delete_queue(method),
    Exchange.Declare: lambda channel, method: channel._topology.declare_exchange(method),
}
