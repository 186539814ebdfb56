"""The built-in feed: the service's own AMQP listener in front of its queues."""

import asyncio
import logging
import ssl
from collections import Counter
from collections.abc import Iterable
from functools import partial

from heliometer.config import AmqpSettings, WrongSetting, parse_address
from heliometer.core.background import Supervised, Supervisor
from heliometer.core.errors import Code, HeliometerError
from heliometer.feed.amqp_server.broker import Broker, Terms
from heliometer.feed.amqp_server.listener import Listener, PortTaken
from heliometer.feed.hub import FeedHub
from heliometer.feed.model import Endpoint, Subscription, Usage

log = logging.getLogger(__name__)

EVERYWHERE = ("0.0.0.0", "::", "")  # noqa: S104
"""Addresses that an operator may have set, but clients cannot connect to."""
PORT = 5672
RETRY_S = 5.0
"""Between two attempts to have a port that another program had."""


def uri(settings: AmqpSettings, endpoint: Endpoint, host: str, port: int | None = None) -> str:
    """The URI that clients connect to; ``host`` is the one of the request for it."""
    if settings.public_url:
        return f"{settings.public_url.rstrip('/')}/{endpoint.vhost}"
    own, own_port = parse_address(settings.listen) if settings.listen else ("127.0.0.1", PORT)
    scheme = "amqps" if settings.tls_cert else "amqp"
    name = host if own in EVERYWHERE else own
    name = f"[{name}]" if ":" in name else name
    return f"{scheme}://{name}:{port or own_port}/{endpoint.vhost}"


class BuiltinFeed:
    """Serves endpoints from this process."""

    def __init__(
        self,
        settings: AmqpSettings,
        queues: FeedHub,
        tasks: Supervisor,
        refusals: Counter[str] | None = None,
    ) -> None:
        self._settings = settings
        self._tasks = tasks
        self._retry: Supervised | None = None
        self._queues = queues
        self._host, self._port = (
            parse_address(settings.listen) if settings.listen else ("127.0.0.1", PORT)
        )
        terms = Terms(settings.connections, settings.connections_per_project, settings.heartbeat)
        self.broker = Broker(queues, terms, refusals)
        self._listener = Listener(self.broker)
        self.off = ""
        """Why clients cannot connect; empty if they can."""

    async def start(self, endpoints: Iterable[Endpoint], *, listen: bool = True) -> None:
        """Accept clients. If the port is taken, that is logged, and it is tried again until it is
        free."""
        for endpoint in endpoints:
            self.broker.admit(endpoint)
        if not self._settings.listen or not listen:
            self.off = "amqp.listen is empty" if listen else "this process has no feed role"
            return
        tls = self._tls()
        if not await self._listens(tls):
            log.warning(
                "the feed is off: %s; is a RabbitMQ running there? "
                "choose another address with amqp.listen (HELIOMETER_AMQP_LISTEN)",
                self.off,
            )
            self._retry = self._tasks.start(partial(self._listen_later, tls), "feed-listener")

    async def stop(self) -> None:
        """Close all connections with a reason."""
        if self._retry is not None:
            await self._retry.stop()
        await self._listener.close()

    async def ping(self) -> None:
        """Raise UNAVAILABLE while the feed should be on and is not."""
        if self.off and self._settings.listen:
            raise HeliometerError(Code.UNAVAILABLE, f"off: {self.off}")

    def uri(self, endpoint: Endpoint, host: str) -> str:
        """The URI that clients connect to; ``host`` is the one of the request for it."""
        return uri(self._settings, endpoint, host, self._listener.port)

    async def open(self, endpoint: Endpoint) -> None:
        """Make the endpoint's user and queue."""
        self._queues.add(endpoint.project_id)
        self.broker.admit(endpoint)

    async def reset(self, endpoint: Endpoint) -> None:
        """Replace the user's password; sessions that used the old one end."""
        self.broker.admit(endpoint)
        self.broker.expel(endpoint.project_id, "the password was reset")

    async def close(self, endpoint: Endpoint) -> None:
        """Close the endpoint's connections and remove its queue."""
        self.broker.bar(endpoint)
        self.broker.expel(endpoint.project_id, "the endpoint was deleted")
        await self._queues.remove(endpoint.project_id)

    async def stored(self, project_id: str) -> None:
        """Nothing to do: the change was made in this process."""

    async def follow(self, before: Endpoint | None, now: Endpoint | None) -> None:
        """Serve a project's endpoint as another process has changed it."""
        if before is not None and (now is None or now.id != before.id):
            await self.close(before)
            before = None
        if now is not None:
            await (self.open(now) if before is None else self.reset(now))

    async def subscribe(self, subscription: Subscription) -> None:
        """Deliver the subscription's measurements from now on."""
        self._queues.subscribe(subscription)

    async def unsubscribe(self, subscription: Subscription) -> None:
        """Stop delivering the subscription's measurements."""
        self._queues.unsubscribe(subscription)

    async def usage(self, project_id: str) -> Usage:
        """Counts of the project's messages."""
        return self._queues.usage(project_id)

    async def _listens(self, tls: ssl.SSLContext | None) -> bool:
        try:
            await self._listener.open(self._host, self._port, tls)
        except PortTaken as error:
            self.off = f"cannot listen on {self._settings.listen}: {error}"
            return False
        self.off = ""
        return True

    async def _listen_later(self, tls: ssl.SSLContext | None) -> None:
        while self.off:
            await asyncio.sleep(RETRY_S)
            if await self._listens(tls):
                log.info("the feed is on: it listens on %s", self._settings.listen)
        await asyncio.Event().wait()

    def _tls(self) -> ssl.SSLContext | None:
        if not self._settings.tls_cert:
            return None
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        try:
            context.load_cert_chain(self._settings.tls_cert, self._settings.tls_key)
        except (OSError, ssl.SSLError) as error:
            raise WrongSetting(f"amqp.tls_cert: cannot be used: {error}") from error
        return context
