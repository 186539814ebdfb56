"""Signing in: what a client and this server agree on before channels can be opened."""

import logging
import struct
from dataclasses import dataclass
from typing import Any

from pamqp import commands, decode
from pamqp.base import Frame
from pamqp.common import FieldTable

from heliometer import __version__
from heliometer.core.errors import HeliometerError
from heliometer.feed.amqp_server import faults
from heliometer.feed.amqp_server.broker import Broker
from heliometer.feed.amqp_server.faults import Fault
from heliometer.feed.model import Endpoint

log = logging.getLogger(__name__)

C = commands.Connection
FIRST_FRAMES = 4096
"""The largest frame, in bytes, before the client has signed in."""
MECHANISMS = "PLAIN AMQPLAIN"
PROPERTIES: FieldTable = {
    "product": "Heliometer",
    "version": __version__,
    "platform": "Python",
    "information": "Consuming only: see the documentation, Stream your metrics",
    "capabilities": {
        "authentication_failure_close": True,
        "basic.nack": True,
        "consumer_cancel_notify": True,
        "per_consumer_qos": True,
        "publisher_confirms": True,
    },
}


class WrongPassword(Exception):
    """The client's user or password is wrong; ``fault`` is for clients that want to know."""

    def __init__(self, fault: Fault, tell: bool) -> None:
        super().__init__(fault.text)
        self.fault = fault
        self.tell = tell


@dataclass(slots=True)
class Agreed:
    """What client and server agreed on."""

    frame_max: int
    channel_max: int
    heartbeat_s: int = 0
    """Seconds between heartbeats; 0: no heartbeats."""


class SignIn:
    """The steps of one client's sign-in, in the order of the protocol."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self.address = ""
        """The client's network address."""
        self.wanted: type[Frame] | None = C.StartOk
        """The method that the client has to send next; ``None`` when it has signed in."""
        self.endpoint: Endpoint | None = None

    def start(self) -> Frame:
        """The first method, which this server sends."""
        return C.Start(0, 9, PROPERTIES, MECHANISMS, "en_US")

    def start_ok(self, method: Any) -> Frame:
        """Check user and password; return the answer. Raises Fault or WrongPassword."""
        capabilities = method.client_properties.get("capabilities")
        tell = isinstance(capabilities, dict) and bool(
            capabilities.get("authentication_failure_close")
        )
        user, password = _credentials(method.mechanism, method.response)
        try:
            self.endpoint = self._broker.sign_in(user, password, self.address)
        except HeliometerError as error:
            text = f"login refused: {error.message} {error.details}"
            raise WrongPassword(Fault(faults.ACCESS_REFUSED, text, hard=True), tell) from error
        if self.endpoint is None:
            log.info("the feed refused user %r", user[:80])
            fault = Fault(
                faults.ACCESS_REFUSED,
                "login refused: wrong user or password; POST /v1.1/endpoints/ID/reset-password "
                "makes a new one",
                hard=True,
            )
            raise WrongPassword(fault, tell)
        self.wanted = C.TuneOk
        terms = self._broker.terms
        return C.Tune(terms.channel_max, terms.frame_max, terms.heartbeat_s)

    def tune_ok(self, method: Any) -> Agreed:
        """Take the client's limits. Raises Fault."""
        terms = self._broker.terms
        frame_max = method.frame_max or terms.frame_max
        channel_max = (method.channel_max & 0xFFFF) or terms.channel_max
        if not FIRST_FRAMES <= frame_max <= terms.frame_max or channel_max > terms.channel_max:
            raise Fault(
                faults.NOT_ALLOWED,
                f"frame_max must be {FIRST_FRAMES} to {terms.frame_max}, channel_max at most "
                f"{terms.channel_max}",
            )
        self.wanted = C.Open
        return Agreed(frame_max, channel_max, method.heartbeat & 0xFFFF)

    def check_vhost(self, method: Any) -> Endpoint:
        """Raise Fault unless the client opens its own vhost."""
        endpoint = self.endpoint
        assert endpoint is not None
        if method.virtual_host != endpoint.vhost:
            raise Fault(
                faults.NOT_ALLOWED,
                f"vhost {method.virtual_host!r} is not for user {endpoint.user!r}; "
                f"yours is {endpoint.vhost}",
            )
        return endpoint

    def done(self) -> None:
        """The client may open channels."""
        self.wanted = None


def _credentials(mechanism: str, response: str | bytes) -> tuple[str, str]:
    """User and password of a sign-in. Raises Fault."""
    given = response.encode() if isinstance(response, str) else bytes(response)
    try:
        if mechanism == "PLAIN":
            _, user, password = given.split(b"\0")
            return user.decode(), password.decode()
        if mechanism == "AMQPLAIN":
            _, table = decode.field_table(struct.pack(">I", len(given)) + given)
            return str(table["LOGIN"]), str(table["PASSWORD"])
    except Exception as error:  # whatever a decoder raises for bytes that anybody may send
        raise Fault(faults.SYNTAX_ERROR, f"the {mechanism} response cannot be read") from error
    raise Fault(faults.NOT_ALLOWED, f"mechanism {mechanism!r} is none of {MECHANISMS}")
