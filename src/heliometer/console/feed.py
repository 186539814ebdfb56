"""The project's stream: its endpoint, what flows to it, and how to read it."""

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
from heliometer.identity.model import Caller, Permission
from heliometer.meters.model import INSTANCE, NAME, RESOURCE
from heliometer.meters.sample_model import Sample, Wanted
from heliometer.meters.samples import Samples
from heliometer.metrics.validation import RESERVED_PREFIX, check_dimension

HERE = "/console/feed"
TEMPLATE = "feed.html"
PAGE = 50
"""Subscriptions that are shown at once."""
NEWEST = 20
"""Samples of the live tail …"""
TAIL_MS = 3_600_000
"""… none of which is older …"""
LOOKED_AT = 200
"""… out of so many of each meter that is subscribed, since some may have further dimensions …"""
TAILED = 20
"""… of so many meters."""
PASSWORD = "PASSWORD"
"""Stands in the examples where nobody can tell the real one any more."""
_PAIR = re.compile(r'\s*([^=,"]*?)\s*=\s*("(?:[^"\\]|\\.)*"|(?!")[^,]*?)\s*(?:,|$)')


def section(
    streams: Streams, samples: Samples
) -> Sequence[tuple[str, str, str, Handler, Permission]]:
    """The pages."""

    async def shown(visit: PageRequest, password: str = "") -> dict[str, Any]:
        """What the page shows, whatever was asked of it."""
        caller = visit.session.caller
        context: dict[str, Any] = {
            "section": "feed", "endpoint": None, "password": password, "form": "",
            "subscriptions": [], "more": None, "tail": [],
        }  # fmt: skip
        for endpoint in await streams.list_endpoints(caller):
            after = visit.query.get("after") or None
            found = await streams.list_subscriptions(caller, after, PAGE + 1)
            uri = streams.uri(endpoint, urlsplit(visit.call.base_url).hostname or "localhost")
            context |= {
                "endpoint": endpoint,
                "uri": uri,
                "usage": await streams.usage(endpoint),
                "snippets": _snippets(endpoint, uri, password or PASSWORD),
                "subscriptions": found[:PAGE],
                "more": found[PAGE - 1].id if len(found) > PAGE else None,
                "tail": await tail(caller, found[:PAGE]),
            }
        return context

    async def tail(caller: Caller, subscriptions: Sequence[Subscription]) -> list[Sample]:
        """The newest samples of what is subscribed."""
        start = int(time.time() * 1000) - TAIL_MS
        wanted = {tuple(_fields(each).items()): None for each in subscriptions}
        found: dict[str, Sample] = {}
        for fields in list(wanted)[:TAILED]:
            for sample in await samples.newest(
                caller, Wanted(dict(fields), start_ms=start), LOOKED_AT
            ):
                if any(each.matches(sample.meter.series) for each in subscriptions):
                    found[sample.id] = sample
        newest = sorted(found.values(), key=lambda s: (-s.timestamp_ms, s.meter.series.id))
        return newest[:NEWEST]

    async def page(visit: PageRequest) -> Response:
        return visit.page(TEMPLATE, **await shown(visit))

    async def wrong(visit: PageRequest, error: HeliometerError, form: str = "") -> Response:
        return visit.wrong(TEMPLATE, error, **{**await shown(visit), "form": form})

    # A new password is shown on the very page that answers the form: it is in no cookie, in no
    # address, and gone with the page.
    async def create(visit: PageRequest) -> Response:
        try:
            _, password = await streams.create_endpoint(visit.session.caller)
        except HeliometerError as error:
            if error.code is Code.CONFLICT:
                return visit.go(HERE, "The project has an endpoint already.")
            raise
        return visit.page(TEMPLATE, **await shown(visit, password))

    async def reset(visit: PageRequest) -> Response:
        password = await streams.reset_password(visit.session.caller, visit.path("endpoint_id"))
        return visit.page(TEMPLATE, **await shown(visit, password))

    async def delete(visit: PageRequest) -> Response:
        await streams.delete_endpoint(visit.session.caller, visit.path("endpoint_id"))
        return visit.go(HERE, "The endpoint was deleted, with its subscriptions and its queue.")

    async def subscribe(visit: PageRequest) -> Response:
        try:
            dimensions = _dimensions(visit.form.get("dimensions", ""))
            made = await streams.subscribe(
                visit.session.caller,
                visit.path("endpoint_id"),
                visit.form.get("namespace", "").strip(),
                dimensions,
            )
        except HeliometerError as error:
            return await wrong(visit, error, "subscription")
        return visit.go(HERE, f"From now on {made.namespace} flows to the queue.")

    async def unsubscribe(visit: PageRequest) -> Response:
        caller = visit.session.caller
        known = await streams.get_subscription(caller, visit.path("subscription_id"))
        await streams.unsubscribe(caller, known.id)
        return visit.go(HERE, f"The subscription to {known.namespace} was deleted.")

    read, manage = Permission.READ, Permission.MANAGE
    base = "/feed/endpoints"
    return (
        ("GET", "/feed", "Feed", page, read),
        ("POST", base, "Create the endpoint", create, manage),
        ("POST", f"{base}/{{endpoint_id}}/password", "Reset its password", reset, manage),
        ("POST", f"{base}/{{endpoint_id}}/delete", "Delete the endpoint", delete, manage),
        ("POST", f"{base}/{{endpoint_id}}/subscriptions", "Subscribe", subscribe, manage),
        ("POST", "/feed/subscriptions/{subscription_id}/delete", "Delete a subscription",
         unsubscribe, manage),
    )  # fmt: skip


def _fields(subscription: Subscription) -> Mapping[str, str]:
    """By what the meters are found that a subscription may match."""
    fields = {"namespace": subscription.namespace}
    dimensions = dict(subscription.dimensions)
    if not subscription.namespace.startswith(RESERVED_PREFIX):
        # All dimensions are said, so what is not there is not in the meter either.
        fields["name"] = subscription.namespace
        fields["resource_id"] = ""
    if NAME in dimensions:
        fields["name"] = dimensions[NAME]
    if resource := dimensions.get(RESOURCE) or dimensions.get(INSTANCE):
        fields["resource_id"] = resource
    return fields


def _dimensions(text: str) -> dict[str, str]:
    """What ``key=value, key="a value, with a comma"`` says; raise INVALID for anything else."""
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
        key, value = found.groups()
        if value.startswith('"'):
            value = re.sub(r"\\(.)", r"\1", value[1:-1])
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
    """Programs that read the queue, ready to run."""
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
