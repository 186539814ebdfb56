"""The page of the feed: its endpoint and subscriptions, recent samples, and how to read it."""

import re
import time
from collections.abc import Mapping, Sequence
from shlex import quote
from typing import Any
from urllib.parse import urlsplit

from starlette.responses import Response

from heliometer.console.page_request import Handler, PageRequest
from heliometer.core.errors import Code, HeliometerError, Invalid
from heliometer.feed.model import Endpoint, Subscription
from heliometer.feed.service import Streams
from heliometer.http.paging import cut
from heliometer.identity.model import Caller, Permission
from heliometer.meters.model import INSTANCE, NAME, RESOURCE
from heliometer.meters.sample_model import Sample, Wanted
from heliometer.meters.samples import Samples
from heliometer.metrics.validation import RESERVED_PREFIX, check_dimension

HERE = "/console/feed"
TEMPLATE = "feed.html"
PAGE = 50
"""Subscriptions on one page."""
NEWEST = 20
"""Samples in the live tail."""
TAIL_MS = 3_600_000
"""None of them is older."""
LOOKED_AT = 200
"""Samples of each meter that are searched: some may have further dimensions."""
TAILED = 20
"""Most meters that are searched."""
PASSWORD = "PASSWORD"
"""Stands in the examples for a password that is no longer known."""
_PAIR = re.compile(
    r'([^=,"]*+)=\s*+(?:"(?P<quoted>(?:[^"\\]|\\.)*+)"\s*+|(?P<bare>(?!")[^,]*+))(?:,|\Z)'
)
"""Possessive, so that it takes linear time; the blanks around are stripped afterwards."""


def section(
    streams: Streams, samples: Samples
) -> Sequence[tuple[str, str, str, Handler, Permission]]:
    """The page and its forms."""
    pages = FeedPage(streams, samples)
    read, manage = Permission.READ, Permission.MANAGE
    base = "/feed/endpoints"
    return (
        ("GET", "/feed", "Feed", pages.show, read),
        ("POST", base, "Create the endpoint", pages.create, manage),
        ("POST", f"{base}/{{endpoint_id}}/password", "Reset its password", pages.reset, manage),
        ("POST", f"{base}/{{endpoint_id}}/delete", "Delete the endpoint", pages.delete, manage),
        ("POST", f"{base}/{{endpoint_id}}/subscriptions", "Subscribe", pages.subscribe, manage),
        ("POST", "/feed/subscriptions/{subscription_id}/delete", "Delete a subscription",
         pages.unsubscribe, manage),
    )  # fmt: skip


class FeedPage:
    """One page; each action leads back to it."""

    def __init__(self, streams: Streams, samples: Samples) -> None:
        self._streams = streams
        self._samples = samples

    async def _shown(self, request: PageRequest, password: str = "") -> dict[str, Any]:
        """The context of the template."""
        caller = request.session.caller
        context: dict[str, Any] = {
            "section": "feed", "endpoint": None, "password": password, "form": "",
            "subscriptions": [], "more": None, "tail": [],
        }  # fmt: skip
        for endpoint in await self._streams.list_endpoints(caller):
            after = request.query.get("after") or None
            found = await self._streams.list_subscriptions(caller, after, PAGE + 1)
            subscriptions, last = cut(found, PAGE)
            uri = self._streams.uri(
                endpoint, urlsplit(request.call.base_url).hostname or "localhost"
            )
            context |= {
                "endpoint": endpoint,
                "uri": uri,
                "usage": await self._streams.usage(endpoint),
                "snippets": _snippets(endpoint, uri, password or PASSWORD),
                "subscriptions": subscriptions,
                "more": last.id if last else None,
                "tail": await self._tail(caller, subscriptions),
            }
        return context

    async def _tail(self, caller: Caller, subscriptions: Sequence[Subscription]) -> list[Sample]:
        """The newest samples that match a subscription."""
        start = int(time.time() * 1000) - TAIL_MS
        wanted = {tuple(_fields(each).items()): None for each in subscriptions}
        found: dict[str, Sample] = {}
        for fields in list(wanted)[:TAILED]:
            for sample in await self._samples.newest(
                caller, Wanted(dict(fields), start_ms=start), LOOKED_AT
            ):
                if any(each.matches(sample.meter.series) for each in subscriptions):
                    found[sample.id] = sample
        newest = sorted(found.values(), key=lambda s: (-s.timestamp_ms, s.meter.series.id))
        return newest[:NEWEST]

    async def show(self, request: PageRequest) -> Response:
        return request.page(TEMPLATE, **await self._shown(request))

    async def _wrong(
        self, request: PageRequest, error: HeliometerError, form: str = ""
    ) -> Response:
        return request.wrong(TEMPLATE, error, **{**await self._shown(request), "form": form})

    # The page that answers the form shows a new password, so that it is in no cookie and no URL,
    # and gone with the page.
    async def create(self, request: PageRequest) -> Response:
        try:
            _, password = await self._streams.create_endpoint(request.session.caller)
        except HeliometerError as error:
            if error.code is Code.CONFLICT:
                return request.go(HERE, "The project has an endpoint already.")
            raise
        return request.page(TEMPLATE, **await self._shown(request, password))

    async def reset(self, request: PageRequest) -> Response:
        password = await self._streams.reset_password(
            request.session.caller, request.path("endpoint_id")
        )
        return request.page(TEMPLATE, **await self._shown(request, password))

    async def delete(self, request: PageRequest) -> Response:
        await self._streams.delete_endpoint(request.session.caller, request.path("endpoint_id"))
        return request.go(HERE, "The endpoint was deleted, with its subscriptions and its queue.")

    async def subscribe(self, request: PageRequest) -> Response:
        try:
            dimensions = read_pairs(request.form.get("dimensions", ""))
            made = await self._streams.subscribe(
                request.session.caller,
                request.path("endpoint_id"),
                request.form.get("namespace", "").strip(),
                dimensions,
            )
        except HeliometerError as error:
            return await self._wrong(request, error, "subscription")
        return request.go(HERE, f"From now on {made.namespace} flows to the queue.")

    async def unsubscribe(self, request: PageRequest) -> Response:
        caller = request.session.caller
        known = await self._streams.get_subscription(caller, request.path("subscription_id"))
        await self._streams.unsubscribe(caller, known.id)
        return request.go(HERE, f"The subscription to {known.namespace} was deleted.")


def _fields(subscription: Subscription) -> Mapping[str, str]:
    """Fields that select the meters which a subscription may match."""
    fields = {"namespace": subscription.namespace}
    dimensions = dict(subscription.dimensions)
    if not subscription.namespace.startswith(RESERVED_PREFIX):
        # Such a subscription names all dimensions, so others are not in the meter either.
        fields["name"] = subscription.namespace
        fields["resource_id"] = ""
    if NAME in dimensions:
        fields["name"] = dimensions[NAME]
    if resource := dimensions.get(RESOURCE) or dimensions.get(INSTANCE):
        fields["resource_id"] = resource
    return fields


def read_pairs(text: str) -> dict[str, str]:
    """Reads ``key=value, key="a value, with a comma"``. Raises INVALID for anything else."""
    dimensions: dict[str, str] = {}
    at, text = 0, text.strip().removesuffix(",")
    while at < len(text):
        found = _PAIR.match(text, at)
        if found is None:
            part = text[at:].split(",", 1)[0].strip()
            if "=" in part:
                raise Invalid(
                    f"dimensions: a quotation mark in {part[:40]!r} is not closed, or not at the "
                    "value's start.",
                    details='A value with a comma stands in quotes: city="Malmö, Sweden".',
                )
            raise Invalid(
                f"dimensions: {part[:40]!r} has no =."
                if part
                else "dimensions: a pair is missing before a comma.",
                details="Write key=value, with a comma between pairs.",
            )
        key, quoted = found[1].strip(), found["quoted"]
        value = found["bare"].strip() if quoted is None else re.sub(r"\\(.)", r"\1", quoted)
        try:
            check_dimension(key, value, "")
        except HeliometerError as error:
            # "dimensions.KEY" names no field of the form.
            _, _, what = error.message.partition(": ")
            raise Invalid(f"dimensions: in {key[:50]!r}: {what}") from error
        if key in dimensions:
            raise Invalid(f"dimensions: the key {key} is there twice.")
        dimensions[key] = value
        at = found.end()
    return dimensions


def _snippets(endpoint: Endpoint, uri: str, password: str) -> list[tuple[str, str]]:
    """Programs that read the queue, ready to run, by title."""
    user, queue = endpoint.user, endpoint.queue
    whole = uri.replace("://", f"://{user}:{password}@", 1)
    return [
        (
            "heliometer: one line each, from a queue of its own",
            f"HELIOMETER_AMQP_PASSWORD={quote(password)} heliometer tail",
        ),
        (
            "amqp-consume (Debian: apt-get install amqp-tools)",
            f"amqp-consume --url={quote(whole)} \\\n  -q {quote(queue)} -c 10 cat",
        ),
        (
            "Python with pika (pip install pika)",
            f"""import pika

where = pika.URLParameters({uri!r})
where.credentials = pika.PlainCredentials({user!r}, {password!r})
channel = pika.BlockingConnection(where).channel()
channel.basic_qos(prefetch_count=100)
for method, _, body in channel.consume({queue!r}):
    print(body.decode())
    channel.basic_ack(method.delivery_tag)""",
        ),
        (
            "Python with aio-pika (pip install aio-pika)",
            f"""import asyncio
import aio_pika

async def main():
    connection = await aio_pika.connect_robust({whole!r})
    async with connection:
        channel = await connection.channel()
        await channel.set_qos(prefetch_count=100)
        queue = await channel.get_queue({queue!r})
        async with queue.iterator() as messages:
            async for message in messages:
                async with message.process():
                    print(message.body.decode())

asyncio.run(main())""",
        ),
    ]
