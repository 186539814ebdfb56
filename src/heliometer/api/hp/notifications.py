"""Notification methods and addresses (v1.1 §4.4.4, §4.4.5; v1.0 §4.4.4); beyond the documents:
test messages and the ledger."""

from typing import Any

import msgspec
from starlette.responses import Response

from heliometer.api.hp import wire
from heliometer.core.errors import Code, HeliometerError
from heliometer.http.operation import Call, Operation, Parameter
from heliometer.identity.model import Permission
from heliometer.notifications.model import (
    ALARM_MESSAGE,
    CODE_MESSAGE,
    SMS,
    STATUSES,
    TEST_MESSAGE,
    VERIFIED_TYPES,
    Delivery,
    DeliveryFilter,
    NotificationAddress,
    NotificationMethod,
)
from heliometer.notifications.service import Notifications, Wanted
from heliometer.notifications.verification import Validation

PAGE = 1000
LEDGER = 50
"""Entries of the ledger in one answer unless the caller says how many."""
KINDS = (ALARM_MESSAGE, TEST_MESSAGE, CODE_MESSAGE)
NATIONAL = "US"
"""v1.0 accepts its documented national form."""


class MethodFields(msgspec.Struct, forbid_unknown_fields=True):
    """A notification method. Types beyond the document: WEBHOOK, APPRISE."""

    name: str
    type: str
    address: str


class MethodBody(msgspec.Struct, forbid_unknown_fields=True):
    """A request to create a notification method."""

    notification_method: MethodFields


class AddressFields(msgspec.Struct, forbid_unknown_fields=True):
    """A notification address."""

    type: str
    address: str
    name: str | None = None


class AddressBody(msgspec.Struct, forbid_unknown_fields=True):
    """A request to verify an address."""

    notification_address: AddressFields


class CodeBody(msgspec.Struct, forbid_unknown_fields=True):
    """The code that was delivered to an address."""

    validation_code: str


def operations_v1_0(notifications: Notifications) -> tuple[Operation, ...]:
    """The operations of v1.0: methods, with numbers in national form."""
    return _methods(notifications, "v1.0")


def operations_v1_1(notifications: Notifications, validation: Validation) -> tuple[Operation, ...]:
    """The operations of v1.1."""
    return (
        *_methods(notifications, "v1.1"),
        *_addresses(notifications, validation),
        *_ledger(notifications),
    )


def _methods(notifications: Notifications, version: str) -> tuple[Operation, ...]:
    base = f"/{version}/notification-methods"

    async def create(call: Call) -> Response:
        wanted = (await wire.body(call, MethodBody)).notification_method
        region = NATIONAL if version == "v1.0" else None
        if version == "v1.0" and wanted.type not in VERIFIED_TYPES:
            wire.one_of("notification_method.type", wanted.type, VERIFIED_TYPES)
        method = await notifications.create_method(
            call.caller, Wanted(wanted.name, wanted.type, wanted.address, region)
        )
        document = render(call, method)
        if method.secret:
            document["secret"] = method.secret
        return wire.created(call, f"{base}/{method.id}", {"notification_method": document})

    async def find(call: Call) -> Response:
        marker, limit = wire.page(call, PAGE)
        found = await notifications.list_methods(call.caller, marker, limit and limit + 1)
        shown = found[:limit] if limit else found
        document: dict[str, Any] = {
            "notification_methods": [
                render(call, m) for m in shown if version != "v1.0" or m.type in VERIFIED_TYPES
            ]
        }
        if limit is not None:
            more = shown[-1].id if len(found) > limit else None
            document["links"] = wire.next_link(call, base, more)
        return wire.json_response(document)

    async def known(call: Call) -> NotificationMethod:
        """The method that the path names, if this version has its type."""
        method = await notifications.get_method(call.caller, call.path_params["method_id"])
        if version == "v1.0" and method.type not in VERIFIED_TYPES:
            raise HeliometerError(
                Code.NOT_FOUND, f"There is no notification method {method.id!r} in v1.0."
            )
        return method

    async def get(call: Call) -> Response:
        return wire.json_response({"notification_method": render(call, await known(call))})

    async def delete(call: Call) -> Response:
        method = await known(call)
        await notifications.delete_method(call.caller, method.id)
        return Response(status_code=204)

    def render(call: Call, method: NotificationMethod) -> dict[str, Any]:
        address = method.address
        if version == "v1.0" and method.type == SMS:
            address = address.removeprefix("+")
        return {
            "id": method.id,
            "links": wire.self_link(call, f"{base}/{method.id}"),
            "name": method.name,
            "type": method.type,
            "address": address,
        }

    read, manage = Permission.READ, Permission.MANAGE
    section = f"{version} §4.4.4"
    example = {
        "notification_method": {"name": "Joe's Email", "type": "EMAIL", "address": "joe@mail.com"}
    }
    return (
        Operation(
            "POST", "/notification-methods", "Create a new notification method", f"{section}.1",
            wire.only_400(create), manage, 201, (413, 415, 429), body=MethodBody, example=example,
        ),
        Operation(
            "GET", "/notification-methods", "List all notification methods", f"{section}.2",
            wire.marked(find), read, parameters=_PAGE,
        ),
        Operation(
            "GET", "/notification-methods/{method_id}", "Get a specific notification method",
            f"{section}.3", get, read, 200, (404,),
        ),
        Operation(
            "DELETE", "/notification-methods/{method_id}",
            "Delete a specific notification method", f"{section}.4", delete, manage, 204, (404,),
        ),
    )  # fmt: skip


def _addresses(notifications: Notifications, validation: Validation) -> tuple[Operation, ...]:
    base = "/v1.1/notification-addresses"

    async def create(call: Call) -> Response:
        wanted = (await wire.body(call, AddressBody)).notification_address
        name = wanted.address if wanted.name is None else wanted.name
        address = await notifications.create_address(
            call.caller, Wanted(name, wanted.type, wanted.address)
        )
        document = {"notification_address": render(call, address)}
        return wire.created(call, f"{base}/{address.id}", document)

    async def find(call: Call) -> Response:
        marker, limit = wire.page(call, PAGE)
        found = await notifications.list_addresses(call.caller, marker, limit and limit + 1)
        shown = found[:limit] if limit else found
        document: dict[str, Any] = {"notification_addresses": [render(call, a) for a in shown]}
        if limit is not None:
            more = shown[-1].id if len(found) > limit else None
            document["links"] = wire.next_link(call, base, more)
        return wire.json_response(document)

    async def get(call: Call) -> Response:
        address = await notifications.get_address(call.caller, call.path_params["address_id"])
        return wire.json_response({"notification_address": render(call, address)})

    async def delete(call: Call) -> Response:
        await notifications.delete_address(call.caller, call.path_params["address_id"])
        return Response(status_code=204)

    async def validate(call: Call) -> Response:
        code = (await wire.body(call, CodeBody)).validation_code
        client = call.request.client.host if call.request.client else ""
        await validation.validate(call.caller_or_none, client, code)
        return Response(status_code=204)

    def render(call: Call, address: NotificationAddress) -> dict[str, Any]:
        return {
            "id": address.id,
            "links": wire.self_link(call, f"{base}/{address.id}"),
            "type": address.type,
            "state": address.state,
            "address": address.address,
            "name": address.name,
        }

    read, manage = Permission.READ, Permission.MANAGE
    return (
        Operation(
            "POST", "/notification-addresses", "Create a new notification address",
            "v1.1 §4.4.5.1", wire.only_400(create), manage, 201, (413, 415, 429), body=AddressBody,
            example={
                "notification_address": {
                    "type": "EMAIL", "address": "joe@mail.com", "name": "Joe's email",
                }
            },
        ),
        Operation(
            "GET", "/notification-addresses", "List all notification addresses", "v1.1 §4.4.5.2",
            wire.marked(find), read, parameters=_PAGE,
        ),
        Operation(
            "POST", "/notification-addresses/validate",
            "Validate a received validation code", "v1.1 §4.4.5.6", wire.only_400(validate), None,
            204, (401, 403, 404, 413, 415, 429), body=CodeBody,
            example={"validation_code": "1234567890"}, knows_caller=True,
        ),
        Operation(
            "GET", "/notification-addresses/{address_id}",
            "Get a specific notification address", "v1.1 §4.4.5.3", get, read, 200, (404,),
        ),
        Operation(
            "DELETE", "/notification-addresses/{address_id}",
            "Delete a specific notification address", "v1.1 §4.4.5.4", delete, manage, 204, (404,),
        ),
    )  # fmt: skip


def _ledger(notifications: Notifications) -> tuple[Operation, ...]:
    async def test(call: Call) -> Response:
        delivery = await notifications.test_method(call.caller, call.path_params["method_id"])
        return wire.json_response({"notification": _delivery(call, delivery)}, 202)

    async def find(call: Call) -> Response:
        query = call.request.query_params
        marker, given = wire.page(call, PAGE)
        limit = given or LEDGER
        status, kind = wire.only(query, "status"), wire.only(query, "kind")
        wanted = DeliveryFilter(
            status=wire.one_of("status", status, STATUSES) if status else None,
            alarm_id=wire.only(query, "alarm_id"),
            method_id=wire.only(query, "notification_method_id"),
            kind=wire.one_of("kind", kind, KINDS) if kind else None,
        )
        found = await notifications.ledger(call.caller, wanted, marker, limit + 1)
        shown = found[:limit]
        more = shown[-1].id if len(found) > limit else None
        return wire.json_response(
            {
                "notifications": [_delivery(call, d) for d in shown],
                "links": wire.next_link(call, "/v1.1/notifications", more),
            }
        )

    async def get(call: Call) -> Response:
        delivery = await notifications.delivery(call.caller, call.path_params["notification_id"])
        return wire.json_response({"notification": _delivery(call, delivery)})

    async def replay(call: Call) -> Response:
        delivery = await notifications.replay(call.caller, call.path_params["notification_id"])
        return wire.json_response({"notification": _delivery(call, delivery)}, 202)

    read, manage = Permission.READ, Permission.MANAGE
    beyond = "beyond the documents"
    return (
        Operation(
            "POST", "/notification-methods/{method_id}/test", "Send a test message", beyond, test,
            manage, 202, (404,),
        ),
        Operation(
            "GET", "/notifications", "List who was told of what", beyond, wire.marked(find), read,
            parameters=_LEDGER,
        ),
        Operation(
            "GET", "/notifications/{notification_id}", "Get a notification's fate", beyond, get,
            read, 200, (404,),
        ),
        Operation(
            "POST", "/notifications/{notification_id}/replay", "Send a failed notification again",
            beyond, replay, manage, 202, (404, 409),
        ),
    )  # fmt: skip


def _delivery(call: Call, delivery: Delivery) -> dict[str, Any]:
    return {
        "id": delivery.id,
        "links": wire.self_link(call, f"/v1.1/notifications/{delivery.id}"),
        "kind": delivery.kind,
        "notification_method_id": delivery.method_id,
        "alarm_id": delivery.alarm_id,
        "transition_id": delivery.transition_id,
        "type": delivery.type,
        "address": delivery.address,
        "status": delivery.status,
        "reason": delivery.reason,
        "attempts": delivery.attempts,
        "created_at": wire.iso(delivery.created_ms),
        "changed_at": wire.iso(delivery.changed_ms),
    }


_PAGE = (
    Parameter(
        "limit", "Entries in one answer; all unless given.",
        schema={"type": "integer", "minimum": 1, "maximum": PAGE},
    ),
    Parameter("marker", "Where the answer before ended; the link to the next holds it."),
)  # fmt: skip
_LEDGER = (
    Parameter("status", f"One of {', '.join(STATUSES)}."),
    Parameter("alarm_id", "Only what this alarm sent."),
    Parameter("notification_method_id", "Only what this method was sent."),
    Parameter("kind", f"One of {', '.join(KINDS)}."),
    *_PAGE,
)
