"""Queues and exchanges as clients see them: one queue each, and what v1.0's consumers declare."""

from collections.abc import Callable, Mapping

from pamqp import commands
from pamqp.base import Frame

from heliometer.feed.amqp_server import faults
from heliometer.feed.amqp_server.faults import Fault
from heliometer.feed.amqp_server.wire import Wire, reply
from heliometer.feed.model import EXCHANGE
from heliometer.feed.queue import Queue

Exchange = commands.Exchange
QueueClass = commands.Queue
EXCHANGE_TYPE = "fanout"


class Topology:
    """The queues of a channel's client; ``cancel_consumers`` ends those of a deleted queue."""

    def __init__(self, wire: Wire, number: int, cancel_consumers: Callable[[Queue], None]) -> None:
        self._wire = wire
        self._number = number
        self._cancel_consumers = cancel_consumers
        self._last_queue = ""

    def declare_queue(self, method: QueueClass.Declare) -> None:
        """Declare the one queue that may be declared, or report on an existing one. Raises
        Fault."""
        name, own = method.queue, self._wire.own_queue
        if not method.passive and not name:
            if own is not None or not method.exclusive:
                raise Fault(
                    faults.ACCESS_REFUSED,
                    "only one queue, exclusive and named by the server, may be declared",
                )
            own = self._wire.own_queue = self._wire.broker.queues.passing(self._wire.endpoint.vhost)
            name = self._name(own)
        elif not method.passive and name != self._wire.endpoint.queue:
            raise Fault(
                faults.ACCESS_REFUSED,
                f"queues cannot be declared; {self._wire.endpoint.queue} is there: consume from it",
            )
        queue = self.queue(name)
        if not method.passive and queue is not own:
            self._compare(
                f"queue {name!r}",
                method.arguments,
                {
                    "durable": (method.durable, True),
                    "exclusive": (method.exclusive, False),
                    "auto_delete": (method.auto_delete, False),
                },
            )
        self._last_queue = name = self._name(queue)
        if not method.nowait:
            self._reply(QueueClass.DeclareOk(name, min(queue.ready, 2**31), queue.consumers))

    def bind_queue(self, method: QueueClass.Bind) -> None:
        """Bind the client's own queue to the exchange; the durable one is bound already. Raises
        Fault."""
        queue = self.queue(method.queue)
        self._exchange(method.exchange)
        if queue is self._wire.own_queue:
            self._wire.broker.queues.bind(queue)
        if not method.nowait:
            self._reply(QueueClass.BindOk())

    def unbind_queue(self, method: QueueClass.Unbind) -> None:
        """Unbind the client's own queue. Raises Fault."""
        queue = self._own(method.queue, "unbound")
        self._exchange(method.exchange)
        self._wire.broker.queues.unbind(queue)
        self._reply(QueueClass.UnbindOk())

    def delete_queue(self, method: QueueClass.Delete) -> None:
        """Delete the client's own queue. Raises Fault."""
        queue = self._own(method.queue, "deleted")
        number = queue.ready
        self._wire.broker.queues.unbind(queue)
        self._cancel_consumers(queue)
        queue.close()
        self._wire.own_queue = None
        if not method.nowait:
            self._reply(QueueClass.DeleteOk(number))

    def declare_exchange(self, method: Exchange.Declare) -> None:
        """Confirm that the exchange is there. Raises Fault."""
        if not method.passive and method.exchange != EXCHANGE:
            raise Fault(faults.ACCESS_REFUSED, f"exchanges cannot be declared; {EXCHANGE} is there")
        self._exchange(method.exchange)
        if not method.passive:
            self._compare(
                f"exchange {EXCHANGE!r}",
                method.arguments,
                {
                    "type": (method.exchange_type, EXCHANGE_TYPE),
                    "durable": (method.durable, True),
                    "auto_delete": (method.auto_delete, False),
                    "internal": (method.internal, False),
                },
            )
        if not method.nowait:
            self._reply(Exchange.DeclareOk())

    def _name(self, queue: Queue) -> str:
        if queue is self._wire.own_queue:
            return f"amq.gen-{id(queue):x}"
        return self._wire.endpoint.queue

    def queue(self, name: str) -> Queue:
        """The client's queue with this name, or the one declared last. Raises Fault."""
        name = name or self._last_queue
        own, vhost = self._wire.own_queue, self._wire.endpoint.vhost
        if own is not None and name == self._name(own):
            return own
        if name == self._wire.endpoint.queue and vhost in self._wire.broker.queues:
            return self._wire.broker.queues[vhost]
        raise Fault(
            faults.NOT_FOUND,
            f"no queue {name!r} in vhost {vhost!r}; yours is {self._wire.endpoint.queue}",
        )

    def _own(self, name: str, done: str) -> Queue:
        queue = self.queue(name)
        if queue is not self._wire.own_queue:
            raise Fault(faults.ACCESS_REFUSED, f"queue {name!r} cannot be {done}; consume from it")
        return queue

    def _exchange(self, name: str) -> None:
        if name != EXCHANGE:
            raise Fault(
                faults.NOT_FOUND,
                f"no exchange {name!r} in vhost {self._wire.endpoint.vhost!r}; "
                f"there is {EXCHANGE!r}",
            )

    def _compare(
        self,
        what: str,
        arguments: Mapping[str, object] | None,
        properties: Mapping[str, tuple[object, object]],
    ) -> None:
        """Raise Fault unless the wanted properties, first in each pair, are the real ones."""
        asked = dict(arguments or {})
        pairs = {**properties, "x-queue-type": (asked.pop("x-queue-type", "classic"), "classic")}
        pairs |= {str(name): (value, None) for name, value in asked.items()}
        for name, (wanted, real) in pairs.items():
            if wanted != real:
                raise Fault(
                    faults.PRECONDITION_FAILED,
                    f"inequivalent arg {name!r} for {what} in vhost "
                    f"{self._wire.endpoint.vhost!r}: received {wanted!r} but current is {real!r}",
                )

    def _reply(self, method: Frame) -> None:
        reply(self._wire, self._number, method)
