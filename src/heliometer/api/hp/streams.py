"""Endpoints and subscriptions (v1.1 §4.4.2, §4.4.3; v1.0 §4.4.2, §4.4.3)."""

from typing import Any
from urllib.parse import urlsplit

import msgspec
from starlette.responses import Response

from heliometer.api.hp import wire
from heliometer.api.hp.alarms_v1_0 import NAMESPACES
from heliometer.core.errors import Code, HeliometerError, Malformed
from heliometer.feed.model import EXCHANGE, Endpoint, Subscription
from heliometer.feed.service import Streams
from heliometer.http.operation import Call, Operation, Parameter
from heliometer.identity.model import Permission

PAGE = 1000
_SHOWN = {namespace: name for name, namespace in NAMESPACES.items()}


class SubscriptionFields(msgspec.Struct, forbid_unknown_fields=True):
    """A subscription."""

    endpoint_id: str
    namespace: str
    dimensions: dict[str, str] = {}


class SubscriptionBody(msgspec.Struct, forbid_unknown_fields=True):
    """A request to subscribe."""

    subscription: SubscriptionFields


def operations_v1_0(streams: Streams) -> tuple[Operation, ...]:
    """The operations of v1.0: consumers find an exchange, and there is one namespace."""
    return _endpoints(streams, "v1.0") + _subscriptions(streams, "v1.0")


def operations_v1_1(streams: Streams) -> tuple[Operation, ...]:
    """The operations of v1.1: consumers find a queue."""
    return _endpoints(streams, "v1.1") + _subscriptions(streams, "v1.1")


def _endpoints(streams: Streams, version: str) -> tuple[Operation, ...]:
    base = f"/{version}/endpoints"

    async def create(call: Call) -> Response:
        endpoint, password = await streams.create_endpoint(call.caller)
        document = render(call, endpoint)
        document["meta"] = meta(endpoint, password)
        return wire.created(call, f"{base}/{endpoint.id}", {"endpoint": document})

    async def find(call: Call) -> Response:
        found = await streams.list_endpoints(call.caller)
        return wire.json_response({"endpoints": [await usage(render(call, e), e) for e in found]})

    async def get(call: Call) -> Response:
        endpoint = await streams.get_endpoint(call.caller, call.path_params["endpoint_id"])
        document = render(call, endpoint)
        document["meta"] = meta(endpoint)
        return wire.json_response({"endpoint": await usage(document, endpoint)})

    async def delete(call: Call) -> Response:
        await streams.delete_endpoint(call.caller, call.path_params["endpoint_id"])
        return Response(status_code=204)

    async def reset(call: Call) -> Response:
        password = await streams.reset_password(call.caller, call.path_params["endpoint_id"])
        return wire.json_response({"password": password})

    def render(call: Call, endpoint: Endpoint) -> dict[str, Any]:
        host = urlsplit(call.base_url).hostname or "localhost"
        return {
            "id": endpoint.id,
            "links": wire.self_link(call, f"{base}/{endpoint.id}"),
            "uri": streams.uri(endpoint, host),
        }

    def meta(endpoint: Endpoint, password: str | None = None) -> dict[str, str]:
        fields = {"amqp_username": endpoint.user}
        if password is not None:
            fields["amqp_password"] = password
        if version == "v1.0":
            fields["amqp_exchange"] = EXCHANGE
        else:
            fields["amqp_queue"] = endpoint.queue
        return fields

    async def usage(document: dict[str, Any], endpoint: Endpoint) -> dict[str, Any]:
        if version != "v1.0":
            document["queue"] = (await streams.usage(endpoint))._asdict()
        return document

    read, manage = Permission.READ, Permission.MANAGE
    section = f"{version} §4.4.2"
    return (
        Operation(
            "POST", "/endpoints", "Create a new endpoint", f"{section}.1", create, manage, 201,
            (409,),
        ),
        Operation("GET", "/endpoints", "List all endpoints", f"{section}.2", find, read),
        Operation(
            "GET", "/endpoints/{endpoint_id}", "Get a specific endpoint", f"{section}.3", get,
            read, 200, (404,),
        ),
        Operation(
            "DELETE", "/endpoints/{endpoint_id}", "Delete a specific endpoint", f"{section}.4",
            delete, manage, 204, (404,),
        ),
        Operation(
            "POST", "/endpoints/{endpoint_id}/reset-password",
            "Reset the password for a specific endpoint", f"{section}.4", reset, manage, 200,
            (404,),
        ),
    )  # fmt: skip


def _subscriptions(streams: Streams, version: str) -> tuple[Operation, ...]:
    base = f"/{version}/subscriptions"

    async def create(call: Call) -> Response:
        wanted = (await wire.body(call, SubscriptionBody)).subscription
        namespace = wanted.namespace
        if version == "v1.0":
            if namespace not in NAMESPACES:
                raise Malformed(
                    f"subscription.namespace: {namespace[:40]!r} is not one of "
                    f"{', '.join(NAMESPACES)}.",
                    details="v1.1 has namespaces of your own.",
                )
            namespace = NAMESPACES[namespace]
        subscription = await streams.subscribe(
            call.caller, wanted.endpoint_id, namespace, wanted.dimensions
        )
        document = render(call, subscription) | {"meta": {}}
        reply: dict[str, Any] = {"subscription": document}
        if version != "v1.0":
            # The document shows the one key here and the other where one is got.
            reply["subscriptions"] = document
        return wire.created(call, f"{base}/{subscription.id}", reply)

    async def find(call: Call) -> Response:
        marker, limit = wire.page(call, PAGE)
        found = await streams.list_subscriptions(call.caller, marker, limit and limit + 1)
        shown = found[:limit] if limit else found
        document: dict[str, Any] = {
            "subscriptions": [render(call, s) for s in shown if is_known(s)]
        }
        if limit is not None:
            more = shown[-1].id if len(found) > limit else None
            document["links"] = wire.next_link(call, base, more)
        return wire.json_response(document)

    async def known(call: Call) -> Subscription:
        """The subscription that the path names, if this version has its namespace."""
        subscription = await streams.get_subscription(
            call.caller, call.path_params["subscription_id"]
        )
        if not is_known(subscription):
            raise HeliometerError(
                Code.NOT_FOUND, f"There is no subscription {subscription.id!r} in v1.0."
            )
        return subscription

    async def get(call: Call) -> Response:
        document = render(call, await known(call)) | {"meta": {}}
        return wire.json_response({"subscription": document})

    async def delete(call: Call) -> Response:
        await streams.unsubscribe(call.caller, (await known(call)).id)
        return Response(status_code=204)

    def is_known(subscription: Subscription) -> bool:
        return version != "v1.0" or subscription.namespace in _SHOWN

    def render(call: Call, subscription: Subscription) -> dict[str, Any]:
        namespace = subscription.namespace
        return {
            "id": subscription.id,
            "links": wire.self_link(call, f"{base}/{subscription.id}"),
            "endpoint_id": subscription.endpoint_id,
            "namespace": _SHOWN.get(namespace, namespace) if version == "v1.0" else namespace,
            "dimensions": dict(subscription.dimensions),
        }

    read, manage = Permission.READ, Permission.MANAGE
    section = f"{version} §4.4.3"
    example = {
        "subscription": {
            "endpoint_id": "eabe9e32-6ce0-4a36-9750-df415606b44c",
            "namespace": "compute" if version == "v1.0" else "hpcs.compute",
            "dimensions": {
                "instance_id": "392633"
                if version == "v1.0"
                else "31ff6820-7c86-11e2-b92a-0800200c9a66"
            },
        }
    }
    return (
        Operation(
            "POST", "/subscriptions", "Create a new subscription", f"{section}.1",
            wire.only_400(create), manage, 201, (409, 413, 415, 429), body=SubscriptionBody,
            example=example,
        ),
        Operation(
            "GET", "/subscriptions", "List all subscriptions", f"{section}.2", wire.marked(find),
            read, parameters=_PAGE,
        ),
        Operation(
            "GET", "/subscriptions/{subscription_id}", "Get a specific subscription",
            f"{section}.3", get, read, 200, (404,),
        ),
        Operation(
            "DELETE", "/subscriptions/{subscription_id}", "Delete a specific subscription",
            f"{section}.4", delete, manage, 204, (404,),
        ),
    )  # fmt: skip


_PAGE = (
    Parameter(
        "limit", "Entries in one answer; all unless given.",
        schema={"type": "integer", "minimum": 1, "maximum": PAGE},
    ),
    Parameter("marker", "Where the answer before ended; the link to the next holds it."),
)  # fmt: skip
