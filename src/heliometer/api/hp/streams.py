"""Endpoints and subscriptions (v1.1 §4.4.2, §4.4.3; v1.0 §4.4.2, §4.4.3)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import msgspec
from starlette.responses import Response

from heliometer.api.hp import wire
from heliometer.api.hp.alarms_v1_0 import NAMESPACES
from heliometer.core.errors import Code, HeliometerError, Malformed
from heliometer.feed.model import EXCHANGE, Endpoint, Subscription
from heliometer.feed.service import Streams
from heliometer.http import paging
from heliometer.http.operation import Call, Operation, Parameter
from heliometer.identity.model import Permission

PAGE = 1000
"""Most subscriptions in one answer."""


class SubscriptionFields(msgspec.Struct, forbid_unknown_fields=True):
    """The fields that a client sets."""

    endpoint_id: str
    namespace: str
    dimensions: dict[str, str] = {}


class SubscriptionBody(msgspec.Struct, forbid_unknown_fields=True):
    """A request to subscribe."""

    subscription: SubscriptionFields


@dataclass(frozen=True, slots=True)
class Version:
    """In what the versions of the API differ here."""

    name: str
    has_exchange: bool
    """Whether consumers find an exchange rather than a queue."""
    namespaces: Mapping[str, str] | None
    """The model's namespace by that of the version; ``None``: they are the same."""
    example: Mapping[str, str]


V1_0 = Version("v1.0", True, NAMESPACES, {"namespace": "compute", "instance_id": "392633"})
V1_1 = Version(
    "v1.1",
    False,
    None,
    {"namespace": "hpcs.compute", "instance_id": "31ff6820-7c86-11e2-b92a-0800200c9a66"},
)


def operations(streams: Streams, version: Version) -> tuple[Operation, ...]:
    """The operations of a version."""
    return (
        *EndpointOperations(streams, version).operations(),
        *SubscriptionOperations(streams, version).operations(),
    )


class EndpointOperations:
    """Endpoints: where a project's programs read its feed."""

    def __init__(self, streams: Streams, version: Version) -> None:
        self._streams = streams
        self._version = version
        self._base = f"/{version.name}/endpoints"

    def operations(self) -> tuple[Operation, ...]:
        """Create, list, get, delete, and reset the password."""
        read, manage = Permission.READ, Permission.MANAGE
        section = f"{self._version.name} §4.4.2"
        one = "/endpoints/{endpoint_id}"
        return (
            Operation(
                "POST", "/endpoints", "Create a new endpoint", f"{section}.1", self.create, manage,
                201, (409,),
            ),
            Operation("GET", "/endpoints", "List all endpoints", f"{section}.2", self.find, read),
            Operation(
                "GET", one, "Get a specific endpoint", f"{section}.3", self.get, read, 200, (404,),
            ),
            Operation(
                "DELETE", one, "Delete a specific endpoint", f"{section}.4", self.delete, manage,
                204, (404,),
            ),
            Operation(
                "POST", f"{one}/reset-password", "Reset the password for a specific endpoint",
                f"{section}.4", self.reset, manage, 200, (404,),
            ),
        )  # fmt: skip

    async def create(self, call: Call) -> Response:
        endpoint, password = await self._streams.create_endpoint(call.caller)
        document = self._document(call, endpoint)
        document["meta"] = self._meta(endpoint, password)
        return wire.created(call, f"{self._base}/{endpoint.id}", {"endpoint": document})

    async def find(self, call: Call) -> Response:
        found = await self._streams.list_endpoints(call.caller)
        documents = [await self._usage(self._document(call, e), e) for e in found]
        return wire.json_response({"endpoints": documents})

    async def get(self, call: Call) -> Response:
        endpoint = await self._streams.get_endpoint(call.caller, call.path_params["endpoint_id"])
        document = self._document(call, endpoint)
        document["meta"] = self._meta(endpoint)
        return wire.json_response({"endpoint": await self._usage(document, endpoint)})

    async def delete(self, call: Call) -> Response:
        await self._streams.delete_endpoint(call.caller, call.path_params["endpoint_id"])
        return Response(status_code=204)

    async def reset(self, call: Call) -> Response:
        endpoint_id = call.path_params["endpoint_id"]
        password = await self._streams.reset_password(call.caller, endpoint_id)
        return wire.json_response({"password": password})

    def _document(self, call: Call, endpoint: Endpoint) -> dict[str, Any]:
        host = urlsplit(call.base_url).hostname or "localhost"
        return {
            "id": endpoint.id,
            "links": wire.self_link(call, f"{self._base}/{endpoint.id}"),
            "uri": self._streams.uri(endpoint, host),
        }

    def _meta(self, endpoint: Endpoint, password: str | None = None) -> dict[str, str]:
        fields = {"amqp_username": endpoint.user}
        if password is not None:
            fields["amqp_password"] = password
        if self._version.has_exchange:
            fields["amqp_exchange"] = EXCHANGE
        else:
            fields["amqp_queue"] = endpoint.queue
        return fields

    async def _usage(self, document: dict[str, Any], endpoint: Endpoint) -> dict[str, Any]:
        if not self._version.has_exchange:
            document["queue"] = (await self._streams.usage(endpoint))._asdict()
        return document


class SubscriptionOperations:
    """Subscriptions: which measurements flow to an endpoint."""

    def __init__(self, streams: Streams, version: Version) -> None:
        self._streams = streams
        self._version = version
        self._base = f"/{version.name}/subscriptions"
        ours = version.namespaces or {}
        self._names = {namespace: name for name, namespace in ours.items()}
        """The version's namespaces by those of the model."""

    def operations(self) -> tuple[Operation, ...]:
        """Create, list, get and delete."""
        read, manage = Permission.READ, Permission.MANAGE
        section = f"{self._version.name} §4.4.3"
        one = "/subscriptions/{subscription_id}"
        given = self._version.example
        example = {
            "subscription": {
                "endpoint_id": "eabe9e32-6ce0-4a36-9750-df415606b44c",
                "namespace": given["namespace"],
                "dimensions": {"instance_id": given["instance_id"]},
            }
        }
        return (
            Operation(
                "POST", "/subscriptions", "Create a new subscription", f"{section}.1",
                wire.only_400(self.create), manage, 201, (409, 413, 415, 429),
                body=SubscriptionBody, example=example,
            ),
            Operation(
                "GET", "/subscriptions", "List all subscriptions", f"{section}.2",
                wire.marked(self.find), read, parameters=_PAGE,
            ),
            Operation(
                "GET", one, "Get a specific subscription", f"{section}.3", self.get, read, 200,
                (404,),
            ),
            Operation(
                "DELETE", one, "Delete a specific subscription", f"{section}.4", self.delete,
                manage, 204, (404,),
            ),
        )  # fmt: skip

    async def create(self, call: Call) -> Response:
        wanted = (await wire.body(call, SubscriptionBody)).subscription
        subscription = await self._streams.subscribe(
            call.caller, wanted.endpoint_id, self._namespace(wanted.namespace), wanted.dimensions
        )
        document = self._document(call, subscription) | {"meta": {}}
        reply: dict[str, Any] = {"subscription": document}
        if self._version.namespaces is None:
            # v1.1's document shows this key here, and the other one where a subscription is got.
            reply["subscriptions"] = document
        return wire.created(call, f"{self._base}/{subscription.id}", reply)

    async def find(self, call: Call) -> Response:
        marker, limit = wire.page(call, PAGE)
        found = await self._streams.list_subscriptions(call.caller, marker, limit and limit + 1)
        shown, last = paging.cut(found, limit)
        links = wire.next_link(call, self._base, last.id if last else None)
        return wire.list_response(
            "subscriptions",
            [s for s in shown if self._is_known(s)],
            lambda s: self._document(call, s),
            {} if limit is None else {"links": links},
            len(shown),
        )

    async def get(self, call: Call) -> Response:
        document = self._document(call, await self._known(call)) | {"meta": {}}
        return wire.json_response({"subscription": document})

    async def delete(self, call: Call) -> Response:
        await self._streams.unsubscribe(call.caller, (await self._known(call)).id)
        return Response(status_code=204)

    def _namespace(self, given: str) -> str:
        """The model's namespace."""
        known = self._version.namespaces
        if known is None:
            return given
        if given not in known:
            raise Malformed(
                f"subscription.namespace: {given[:40]!r} is not one of {', '.join(known)}.",
                details="v1.1 has namespaces of your own.",
            )
        return known[given]

    async def _known(self, call: Call) -> Subscription:
        """The subscription of the path. Raises NOT_FOUND if its namespace is not the version's."""
        subscription = await self._streams.get_subscription(
            call.caller, call.path_params["subscription_id"]
        )
        if not self._is_known(subscription):
            raise HeliometerError(
                Code.NOT_FOUND,
                f"There is no subscription {subscription.id!r} in {self._version.name}.",
            )
        return subscription

    def _is_known(self, subscription: Subscription) -> bool:
        return self._version.namespaces is None or subscription.namespace in self._names

    def _document(self, call: Call, subscription: Subscription) -> dict[str, Any]:
        namespace = subscription.namespace
        return {
            "id": subscription.id,
            "links": wire.self_link(call, f"{self._base}/{subscription.id}"),
            "endpoint_id": subscription.endpoint_id,
            "namespace": self._names.get(namespace, namespace),
            "dimensions": dict(subscription.dimensions),
        }


_PAGE = (
    Parameter(
        "limit", "Entries in one answer; all unless given.",
        schema={"type": "integer", "minimum": 1, "maximum": PAGE},
    ),
    wire.MARKER,
)  # fmt: skip
