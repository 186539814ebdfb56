"""Notification methods and addresses (v1.1 §4.4.4, §4.4.5; v1.0 §4.4.4); beyond the documents:
test messages and the delivery log."""

from collections.abc import Sequence
from typing import Any, TypeVar

import msgspec
from starlette.responses import Response

from heliometer.api.hp import wire
from heliometer.core.errors import Code, HeliometerError
from heliometer.http.operation import Call, Operation, Parameter
from heliometer.identity.model import Permission
from heliometer.notifications.model import (
    ALARM_MESSAGE,
    CODE_MESSAGE,
    EMAIL,
    SMS,
    STATUSES,
    TEST_MESSAGE,
    Delivery,
    DeliveryFilter,
    NotificationAddress,
    NotificationMethod,
)
from heliometer.notifications.service import Notifications, Wanted
from heliometer.notifications.verification import Validation

PAGE = 1000
LOG_PAGE = 50
"""Entries of the delivery log in one answer unless the caller asks for another number."""
KINDS = (ALARM_MESSAGE, TEST_MESSAGE, CODE_MESSAGE)
TYPES_OF_V1_0 = (EMAIL, SMS)
"""Those of the document; methods of other types do not exist in v1.0."""
NATIONAL = "US"
"""Country whose national form of numbers v1.0 accepts, as its document shows."""
BEYOND = "beyond the documents"

Entry = TypeVar("Entry", NotificationMethod, NotificationAddress, Delivery)


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
    return _method_operations(MethodsV1_0(notifications, "v1.0"))


def operations_v1_1(notifications: Notifications, validation: Validation) -> tuple[Operation, ...]:
    """The operations of v1.1."""
    return (
        *_method_operations(Methods(notifications, "v1.1")),
        *_address_operations(Addresses(notifications, validation)),
        *_log_operations(Deliveries(notifications)),
    )


class Methods:
    """Handlers of notification methods."""

    def __init__(self, notifications: Notifications, version: str) -> None:
        self._notifications = notifications
        self.version = version
        self._base = f"/{version}/notification-methods"

    async def create(self, call: Call) -> Response:
        fields = (await wire.body(call, MethodBody)).notification_method
        wanted = self._wanted(fields)
        method = await self._notifications.create_method(call.caller, wanted)
        await self._created(call, wanted)
        document = self._render(call, method)
        if method.secret:
            document["secret"] = method.secret
        location = f"{self._base}/{method.id}"
        return wire.created(call, location, {"notification_method": document})

    async def list(self, call: Call) -> Response:
        marker, limit = wire.page(call, PAGE)
        found = await self._notifications.list_methods(call.caller, marker, limit and limit + 1)
        shown, links = _cut(call, self._base, found, limit)
        methods = [self._render(call, m) for m in shown if self._knows(m.type)]
        return wire.json_response({"notification_methods": methods, **links})

    async def get(self, call: Call) -> Response:
        method = await self._named(call)
        return wire.json_response({"notification_method": self._render(call, method)})

    async def delete(self, call: Call) -> Response:
        method = await self._named(call)
        await self._notifications.delete_method(call.caller, method.id)
        return Response(status_code=204)

    # -- where v1.0 differs -------------------------------------------------------------------

    def _wanted(self, fields: MethodFields) -> Wanted:
        return Wanted(fields.name, fields.type, fields.address)

    async def _created(self, call: Call, wanted: Wanted) -> None:
        """Nothing more: addresses are confirmed by operations of their own."""

    def _knows(self, type_: str) -> bool:
        return True

    def _address(self, method: NotificationMethod) -> str:
        return method.address

    # -- inside -------------------------------------------------------------------------------

    async def _named(self, call: Call) -> NotificationMethod:
        """The method in the path, if this version has its type."""
        method_id = call.path_params["method_id"]
        method = await self._notifications.get_method(call.caller, method_id)
        if not self._knows(method.type):
            raise HeliometerError(
                Code.NOT_FOUND, f"There is no notification method {method.id!r} in {self.version}."
            )
        return method

    def _render(self, call: Call, method: NotificationMethod) -> dict[str, Any]:
        return {
            "id": method.id,
            "links": wire.self_link(call, f"{self._base}/{method.id}"),
            "name": method.name,
            "type": method.type,
            "address": self._address(method),
            **({"disabled": method.disabled} if method.disabled else {}),
        }


class MethodsV1_0(Methods):  # noqa: N801
    """The same in v1.0: only e-mail and SMS, numbers without their plus sign, and codes at once."""

    def _wanted(self, fields: MethodFields) -> Wanted:
        wire.one_of("notification_method.type", fields.type, TYPES_OF_V1_0)
        return Wanted(fields.name, fields.type, fields.address, NATIONAL)

    async def _created(self, call: Call, wanted: Wanted) -> None:
        """Send a code: v1.0 has no addresses, and the method would never be sent to."""
        try:
            await self._notifications.create_address(call.caller, wanted)
        except HeliometerError as error:
            if error.code is not Code.RATE_LIMITED:
                raise
            # The method is there, as the document has it; a code can be asked for again in v1.1.

    def _knows(self, type_: str) -> bool:
        return type_ in TYPES_OF_V1_0

    def _address(self, method: NotificationMethod) -> str:
        return method.address.removeprefix("+") if method.type == SMS else method.address


class Addresses:
    """Handlers of notification addresses."""

    BASE = "/v1.1/notification-addresses"

    def __init__(self, notifications: Notifications, validation: Validation) -> None:
        self._notifications = notifications
        self._validation = validation

    async def create(self, call: Call) -> Response:
        wanted = (await wire.body(call, AddressBody)).notification_address
        name = wanted.address if wanted.name is None else wanted.name
        address = await self._notifications.create_address(
            call.caller, Wanted(name, wanted.type, wanted.address)
        )
        document = {"notification_address": self._render(call, address)}
        return wire.created(call, f"{self.BASE}/{address.id}", document)

    async def list(self, call: Call) -> Response:
        marker, limit = wire.page(call, PAGE)
        found = await self._notifications.list_addresses(call.caller, marker, limit and limit + 1)
        shown, links = _cut(call, self.BASE, found, limit)
        addresses = [self._render(call, a) for a in shown]
        return wire.json_response({"notification_addresses": addresses, **links})

    async def get(self, call: Call) -> Response:
        address_id = call.path_params["address_id"]
        address = await self._notifications.get_address(call.caller, address_id)
        return wire.json_response({"notification_address": self._render(call, address)})

    async def delete(self, call: Call) -> Response:
        await self._notifications.delete_address(call.caller, call.path_params["address_id"])
        return Response(status_code=204)

    async def validate(self, call: Call) -> Response:
        code = (await wire.body(call, CodeBody)).validation_code
        client = call.request.client.host if call.request.client else ""
        await self._validation.validate(call.caller_or_none, client, code)
        return Response(status_code=204)

    def _render(self, call: Call, address: NotificationAddress) -> dict[str, Any]:
        return {
            "id": address.id,
            "links": wire.self_link(call, f"{self.BASE}/{address.id}"),
            "type": address.type,
            "state": address.state,
            "address": address.address,
            "name": address.name,
        }


class Deliveries:
    """Handlers of test messages and of the delivery log."""

    BASE = "/v1.1/notifications"

    def __init__(self, notifications: Notifications) -> None:
        self._notifications = notifications

    async def test(self, call: Call) -> Response:
        method_id = call.path_params["method_id"]
        delivery = await self._notifications.test_method(call.caller, method_id)
        return wire.json_response({"notification": self._render(call, delivery)}, 202)

    async def list(self, call: Call) -> Response:
        query = call.request.query_params
        marker, given = wire.page(call, PAGE)
        limit = given or LOG_PAGE
        status, kind = wire.only(query, "status"), wire.only(query, "kind")
        wanted = DeliveryFilter(
            status=wire.one_of("status", status, STATUSES) if status else None,
            alarm_id=wire.only(query, "alarm_id"),
            method_id=wire.only(query, "notification_method_id"),
            kind=wire.one_of("kind", kind, KINDS) if kind else None,
        )
        found = await self._notifications.deliveries(call.caller, wanted, marker, limit + 1)
        shown, links = _cut(call, self.BASE, found, limit)
        deliveries = [self._render(call, d) for d in shown]
        return wire.json_response({"notifications": deliveries, **links})

    async def get(self, call: Call) -> Response:
        delivery_id = call.path_params["notification_id"]
        delivery = await self._notifications.delivery(call.caller, delivery_id)
        return wire.json_response({"notification": self._render(call, delivery)})

    async def replay(self, call: Call) -> Response:
        delivery_id = call.path_params["notification_id"]
        delivery = await self._notifications.replay(call.caller, delivery_id)
        return wire.json_response({"notification": self._render(call, delivery)}, 202)

    def _render(self, call: Call, delivery: Delivery) -> dict[str, Any]:
        return {
            "id": delivery.id,
            "links": wire.self_link(call, f"{self.BASE}/{delivery.id}"),
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


def _cut(
    call: Call, base: str, found: Sequence[Entry], limit: int | None
) -> tuple[Sequence[Entry], dict[str, Any]]:
    """The entries of one answer, when one more than its limit was read, and the links to the next
    answer; without a limit all of them, and no links."""
    if limit is None:
        return found, {}
    shown = found[:limit]
    more = shown[-1].id if len(found) > limit else None
    return shown, {"links": wire.next_link(call, base, more)}


_PAGE = (
    Parameter(
        "limit", "Entries in one answer; all unless given.",
        schema={"type": "integer", "minimum": 1, "maximum": PAGE},
    ),
    Parameter("marker", "Where the answer before ended; the link to the next holds it."),
)  # fmt: skip
_LOG = (
    Parameter("status", f"One of {', '.join(STATUSES)}."),
    Parameter("alarm_id", "Only what this alarm sent."),
    Parameter("notification_method_id", "Only what this method was sent."),
    Parameter("kind", f"One of {', '.join(KINDS)}."),
    *_PAGE,
)


def _method_operations(methods: Methods) -> tuple[Operation, ...]:
    read, manage = Permission.READ, Permission.MANAGE
    section = f"{methods.version} §4.4.4"
    example = {
        "notification_method": {"name": "Joe's Email", "type": "EMAIL", "address": "joe@mail.com"}
    }
    return (
        Operation(
            "POST", "/notification-methods", "Create a new notification method", f"{section}.1",
            wire.only_400(methods.create), manage, 201, (413, 415, 429), body=MethodBody,
            example=example,
        ),
        Operation(
            "GET", "/notification-methods", "List all notification methods", f"{section}.2",
            wire.marked(methods.list), read, parameters=_PAGE,
        ),
        Operation(
            "GET", "/notification-methods/{method_id}", "Get a specific notification method",
            f"{section}.3", methods.get, read, 200, (404,),
        ),
        Operation(
            "DELETE", "/notification-methods/{method_id}",
            "Delete a specific notification method", f"{section}.4", methods.delete, manage, 204,
            (404,),
        ),
    )  # fmt: skip


def _address_operations(addresses: Addresses) -> tuple[Operation, ...]:
    read, manage = Permission.READ, Permission.MANAGE
    example = {
        "notification_address": {
            "type": "EMAIL", "address": "joe@mail.com", "name": "Joe's email",
        }
    }  # fmt: skip
    return (
        Operation(
            "POST", "/notification-addresses", "Create a new notification address",
            "v1.1 §4.4.5.1", wire.only_400(addresses.create), manage, 201, (413, 415, 429),
            body=AddressBody, example=example,
        ),
        Operation(
            "GET", "/notification-addresses", "List all notification addresses", "v1.1 §4.4.5.2",
            wire.marked(addresses.list), read, parameters=_PAGE,
        ),
        Operation(
            "POST", "/notification-addresses/validate",
            "Validate a received validation code", "v1.1 §4.4.5.6",
            wire.only_400(addresses.validate), None, 204, (401, 403, 404, 413, 415, 429),
            body=CodeBody, example={"validation_code": "1234567890"}, knows_caller=True,
        ),
        Operation(
            "GET", "/notification-addresses/{address_id}",
            "Get a specific notification address", "v1.1 §4.4.5.3", addresses.get, read, 200,
            (404,),
        ),
        Operation(
            "DELETE", "/notification-addresses/{address_id}",
            "Delete a specific notification address", "v1.1 §4.4.5.4", addresses.delete, manage,
            204, (404,),
        ),
    )  # fmt: skip


def _log_operations(deliveries: Deliveries) -> tuple[Operation, ...]:
    read, manage = Permission.READ, Permission.MANAGE
    return (
        Operation(
            "POST", "/notification-methods/{method_id}/test", "Send a test message", BEYOND,
            deliveries.test, manage, 202, (404,),
        ),
        Operation(
            "GET", "/notifications", "List the delivery log", BEYOND, wire.marked(deliveries.list),
            read, parameters=_LOG,
        ),
        Operation(
            "GET", "/notifications/{notification_id}", "Get what became of a notification", BEYOND,
            deliveries.get, read, 200, (404,),
        ),
        Operation(
            "POST", "/notifications/{notification_id}/replay", "Send a failed notification again",
            BEYOND, deliveries.replay, manage, 202, (404, 409),
        ),
    )  # fmt: skip
