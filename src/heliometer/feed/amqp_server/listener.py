"""Where clients come in: the listening socket, and who is connected."""

import asyncio
import socket
import ssl

from heliometer.feed.amqp_server.broker import Broker
from heliometer.feed.amqp_server.connection import Connection

BACKLOG = 1024
FAREWELL_S = 2.0
HANDSHAKE_S = 20.0
"""A TLS handshake must be complete within this time."""


class PortTaken(Exception):
    """The listener cannot have its address. The message says why."""


class Listener:
    """Accepts connections for a broker."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._server: asyncio.Server | None = None
        self._connections: set[Connection] = set()

    @property
    def port(self) -> int | None:
        """Where it listens; ``None``: it does not."""
        sockets = self._server.sockets if self._server is not None else ()
        return int(sockets[0].getsockname()[1]) if sockets else None

    async def open(self, host: str, port: int, tls: ssl.SSLContext | None) -> None:
        """Begin to listen. Raises PortTaken."""
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        try:
            listening = socket.create_server((host, port), family=family, backlog=BACKLOG)
        except OSError as error:
            raise PortTaken(error.strerror or str(error)) from error
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(
            lambda: Connection(self._broker, self._connections),
            sock=listening,
            ssl=tls,
            backlog=BACKLOG,
            ssl_handshake_timeout=HANDSHAKE_S if tls else None,
        )

    async def close(self) -> None:
        """Close every connection in an orderly way, and stop."""
        if self._server is None:
            return
        self._server.close()
        for guest in self._broker.everybody():
            guest.end("the server stops; connect again")
        if self._connections:
            closed = [asyncio.ensure_future(each.closed) for each in self._connections]
            await asyncio.wait(closed, timeout=FAREWELL_S)
        for connection in list(self._connections):
            connection.abort()
