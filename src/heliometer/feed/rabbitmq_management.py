"""RabbitMQ's management API: makes and removes what a project's consumers need."""

import logging
from typing import Any
from urllib.parse import quote, unquote, urlsplit

import httpx

from heliometer.config import AmqpSettings
from heliometer.core.errors import Code, HeliometerError
from heliometer.feed.model import EXCHANGE, Endpoint

log = logging.getLogger(__name__)

TIMEOUT_S = 5.0
PORT = 15672
QUEUES = 20
"""Queues in one vhost: the project's, and those that v1.0's consumers declare."""


class Management:
    """A client of the API. Raises UNAVAILABLE, with no secret in its message, when it fails."""

    def __init__(self, settings: AmqpSettings) -> None:
        broker = urlsplit(settings.url)
        self._user = unquote(broker.username or "")
        self._settings = settings
        url = urlsplit(settings.management_url or f"http://{broker.hostname}:{PORT}")
        # It is shown to people, so a password in it must not be included.
        self.url = url._replace(netloc=url.netloc.rpartition("@")[2]).geturl()
        self._http = httpx.AsyncClient(
            base_url=f"{self.url.rstrip('/')}/api/",
            auth=(self._user, unquote(broker.password or "")),
            timeout=TIMEOUT_S,
        )

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def overview(self) -> dict[str, Any]:
        """What the broker says of itself: shows that it is there and lets us in."""
        return dict((await self._ask("GET", "overview")).json())

    async def whoami(self) -> dict[str, Any]:
        """The name and the tags of our own user."""
        return dict((await self._ask("GET", "whoami")).json())

    async def nodes(self) -> list[dict[str, Any]]:
        """The broker's nodes, with their alarms."""
        return list((await self._ask("GET", "nodes")).json())

    async def provide(self, endpoint: Endpoint) -> None:
        """Make everything that the endpoint's consumers need; what is there already stays."""
        vhost, queue = quote(endpoint.vhost, safe=""), quote(endpoint.queue, safe="")
        await self._ask("PUT", f"vhosts/{vhost}")
        everything = {"configure": ".*", "write": ".*", "read": ".*"}
        await self._ask("PUT", f"permissions/{vhost}/{quote(self._user, safe='')}", everything)
        await self._ask("PUT", f"exchanges/{vhost}/{EXCHANGE}", {"type": "fanout", "durable": True})
        arguments = {
            "x-max-length": self._settings.queue_messages,
            "x-overflow": "drop-head",
            "x-message-ttl": self._settings.queue_age * 1000,
        }
        await self._ask("PUT", f"queues/{vhost}/{queue}", {"durable": True, "arguments": arguments})
        await self._ask("POST", f"bindings/{vhost}/e/{EXCHANGE}/q/{queue}", {"routing_key": ""})
        await self._make_user(endpoint)
        for name, value in (
            ("max-connections", self._settings.connections_per_project),
            ("max-queues", QUEUES),
        ):
            await self._ask("PUT", f"vhost-limits/{vhost}/{name}", {"value": value})

    async def set_password(self, endpoint: Endpoint) -> None:
        """Give the endpoint's user another password, and end its sessions."""
        # RabbitMQ ends the connections of a user that is removed, at once, those too that its
        # management API does not list yet.
        await self._ask("DELETE", f"users/{quote(endpoint.user, safe='')}", missing_ok=True)
        await self._make_user(endpoint)

    async def _make_user(self, endpoint: Endpoint) -> None:
        vhost, user = quote(endpoint.vhost, safe=""), quote(endpoint.user, safe="")
        document = {
            "password_hash": endpoint.password_hash,
            "hashing_algorithm": "rabbit_password_hashing_sha256",
            "tags": "",
        }
        await self._ask("PUT", f"users/{user}", document)
        # v1.0's consumers declare a queue that the server names, and bind it to the exchange.
        # No client can choose such a name, so this gives access to no other queue.
        own = r"^amq\.gen.*$"
        rights = {
            "configure": own,
            "write": own,
            "read": rf"^({endpoint.queue}|{EXCHANGE}|amq\.gen.*)$",
        }
        await self._ask("PUT", f"permissions/{vhost}/{user}", rights)

    async def remove(self, endpoint: Endpoint) -> None:
        """Remove the endpoint's user and vhost, and with them queue and connections."""
        await self._ask("DELETE", f"users/{quote(endpoint.user, safe='')}", missing_ok=True)
        await self._ask("DELETE", f"vhosts/{quote(endpoint.vhost, safe='')}", missing_ok=True)

    async def _ask(
        self,
        method: str,
        path: str,
        document: Any = None,
        *,
        missing_ok: bool = False,
    ) -> httpx.Response:
        try:
            reply = await self._http.request(method, path, json=document)
        except httpx.HTTPError as error:
            log.debug("RabbitMQ's management API: %s", error)
            raise refused(
                f"RabbitMQ's management API at {self.url} does not answer: "
                f"{str(error) or type(error).__name__}"
            ) from error
        if reply.status_code == 401:
            raise refused(
                f"RabbitMQ's management API at {self.url} refuses the user of amqp.url, "
                "or that user has no administrator tag"
            )
        if not reply.is_success and not (missing_ok and reply.status_code == 404):
            raise refused(
                f"RabbitMQ's management API answers {reply.status_code} to {method} {path}: "
                f"{reply.text[:200]}"
            )
        return reply


def refused(why: str) -> HeliometerError:
    """The error for callers while RabbitMQ is unavailable."""
    error = HeliometerError(
        Code.UNAVAILABLE,
        "The feed's broker does not answer.",
        details="Try again; if it lasts, the operator finds the cause with heliometer doctor.",
        retry_after=5,
    )
    error.__cause__ = RuntimeError(why)
    return error
