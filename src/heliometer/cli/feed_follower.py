"""Following the feed: creates what it needs, shows what arrives, and cleans up after itself."""

import asyncio
import os
import signal
from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime
from typing import Any
from urllib.parse import quote, urlsplit

import aiormq
import click
import msgspec

from heliometer.cli.access import Access
from heliometer.cli.client import Client
from heliometer.cli.errors import CommandError
from heliometer.cli.query import escape
from heliometer.cli.resources import below, pages, send
from heliometer.feed.model import EXCHANGE, REQUIRED
from heliometer.metrics.validation import RESERVED_PREFIX

PASSWORD = "HELIOMETER_AMQP_PASSWORD"
SERIES = 1000
"""The most series that are followed."""
LOOK_S = 10.0
"""Seconds between two checks for new series."""
CONNECT_S = 15.0


def follow(
    access: Access,
    namespace: str | None,
    dimensions: Mapping[str, str],
    *,
    as_json: bool,
    count: int | None,
    reset: bool,
) -> None:
    """Show messages until it is interrupted, or as many as ``count``."""
    with access.connect() as client:
        tail = Tail(client, namespace, dimensions, as_json, count)
        try:
            url = tail.endpoint(reset)
            tail.subscribe()
            asyncio.run(tail.run(url))
        finally:
            tail.clean_up()


class Tail:
    """One call of the command."""

    def __init__(
        self,
        client: Client,
        namespace: str | None,
        dimensions: Mapping[str, str],
        as_json: bool,
        count: int | None,
    ) -> None:
        self._client = client
        self._namespace = namespace
        self._dimensions = dimensions
        self._as_json = as_json
        self._left = count
        self._endpoint = ""
        self._made_endpoint = False
        self._made: list[str] = []
        """Ids of subscriptions that were made."""
        self._wanted: set[tuple[str, frozenset[tuple[str, str]]]] = set()
        self._done = asyncio.Event()

    # -- what it needs ------------------------------------------------------------------------

    def endpoint(self, reset: bool) -> str:
        """The URL of the project's endpoint, which is created if there is none."""
        found = self._client.get("/endpoints")["endpoints"]
        if not found:
            endpoint = send(self._client, "POST", "/endpoints")["endpoint"]
            self._made_endpoint = True
            password = endpoint["meta"]["amqp_password"]
        else:
            path = below("/endpoints", found[0]["id"])
            endpoint = self._client.get(path)["endpoint"]
            password = os.environ.get(PASSWORD, "")
            if reset:
                password = send(self._client, "POST", f"{path}/reset-password")["password"]
                click.echo(f"the endpoint's new password is {password}", err=True)
            elif not password:
                raise CommandError(
                    f"the project already has an endpoint: set its password in {PASSWORD}, or "
                    "use --reset-password, after which its other consumers need the new one too"
                )
        self._endpoint = endpoint["id"]
        parts = urlsplit(endpoint["uri"])
        user, secret = quote(endpoint["meta"]["amqp_username"]), quote(password, safe="")
        return f"{parts.scheme}://{user}:{secret}@{parts.netloc}{parts.path}"

    def subscribe(self) -> None:
        """Subscribe to the known series that have no subscription yet."""
        for namespace, dimensions in self._interesting():
            key = namespace, frozenset(dimensions.items())
            if key in self._wanted:
                continue
            self._wanted.add(key)
            fields = {
                "endpoint_id": self._endpoint,
                "namespace": namespace,
                "dimensions": dict(dimensions),
            }
            try:
                made = send(self._client, "POST", "/subscriptions", {"subscription": fields})
            except CommandError as error:
                if "(409 " not in error.message:
                    raise
            else:
                self._made.append(made["subscription"]["id"])

    def _interesting(self) -> list[tuple[str, Mapping[str, str]]]:
        """Namespaces and dimensions to subscribe to."""
        query = {"namespace": self._namespace} if self._namespace else {}
        if self._dimensions:
            query["dimensions"] = escape(self._dimensions)
        found: list[tuple[str, Mapping[str, str]]] = []
        for series in pages(self._client, "/metrics/series", "series", SERIES, query):
            namespace, dimensions = series["namespace"], series["dimensions"]
            if namespace.startswith(RESERVED_PREFIX):
                # There a subscription may name less than all: one serves many series.
                keys = {*REQUIRED.get(namespace, ()), *self._dimensions}
                dimensions = {k: v for k, v in dimensions.items() if k in keys}
            found.append((namespace, dimensions))
        return found

    def clean_up(self) -> None:
        """Delete the endpoint and the subscriptions that were made for this command."""
        paths = [below("/subscriptions", each) for each in self._made]
        if self._made_endpoint:  # its subscriptions go with it
            paths = [below("/endpoints", self._endpoint)]
        for path in paths:
            try:
                self._client.call("DELETE", path)
            except CommandError as error:
                click.echo(f"heliometer: not removed: {error.message}", err=True)

    # -- what comes ---------------------------------------------------------------------------

    async def run(self, url: str) -> None:
        """Show messages until it is over. Raises CommandError."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._done.set)
        try:
            connection = await asyncio.wait_for(aiormq.connect(url), CONNECT_S)
        except Exception as error:
            where = urlsplit(url)
            raise CommandError(
                f"cannot read the feed at {where.hostname}:{where.port}: "
                f"{str(error) or type(error).__name__}; run heliometer doctor to find the cause"
            ) from error
        try:
            channel = await connection.channel()
            queue = (await channel.queue_declare(exclusive=True)).queue
            assert queue is not None
            await channel.queue_bind(queue, EXCHANGE, routing_key="#")
            await channel.basic_consume(queue, self._show, no_ack=True)
            if not self._as_json:
                click.echo("following; press Ctrl-C to stop", err=True)
            await self._until_over(connection)
        finally:
            with suppress(Exception):
                await connection.close()

    async def _until_over(self, connection: Any) -> None:
        done = asyncio.create_task(self._done.wait())
        new = asyncio.create_task(self._look_for_new())
        closed = asyncio.ensure_future(connection.closing)
        await asyncio.wait({done, new, closed}, return_when=asyncio.FIRST_COMPLETED)
        for task in (done, new):
            if not task.done():
                task.cancel()
        if new.done() and not new.cancelled():
            new.result()
        if closed.done() and not self._done.is_set():
            raise CommandError(f"the feed ended: {closed.exception() or 'connection closed'}")

    async def _look_for_new(self) -> None:
        while True:
            await asyncio.sleep(LOOK_S)
            await asyncio.to_thread(self.subscribe)

    async def _show(self, message: Any) -> None:
        if self._done.is_set():
            return
        metric = msgspec.json.decode(message.body)
        if self._namespace and metric["namespace"] != self._namespace:
            return
        if not self._dimensions.items() <= metric["dimensions"].items():
            return
        click.echo(message.body.decode() if self._as_json else line_of(metric))
        if self._left is not None:
            self._left -= 1
            if self._left <= 0:
                self._done.set()


def line_of(metric: Mapping[str, Any]) -> str:
    """A message as a line: local time, value, namespace and dimensions."""
    at = datetime.fromtimestamp(metric["timestamp"]).astimezone().strftime("%H:%M:%S")
    dimensions = " ".join(f"{k}={v}" for k, v in sorted(metric["dimensions"].items()))
    return f"{at}  {metric['value']:>14,.6g}  {metric['namespace']}  {dimensions}"
