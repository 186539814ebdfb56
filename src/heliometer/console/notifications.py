"""Where notifications go, proof that they may, and what became of each."""

from collections.abc import Sequence
from typing import Any, TypeVar

from starlette.responses import Response

from heliometer.console.page_request import Handler, PageRequest, url
from heliometer.core.errors import Code, HeliometerError, Malformed
from heliometer.identity.model import Permission
from heliometer.notifications.model import (
    CODE_MESSAGE,
    FAILED,
    IN_PROGRESS,
    PENDING,
    STATUSES,
    TYPES,
    VERIFIED,
    VERIFIED_TYPES,
    Delivery,
    DeliveryFilter,
    NotificationAddress,
    NotificationMethod,
)
from heliometer.notifications.service import Notifications, Wanted
from heliometer.notifications.verification import Validation

HERE = "/console/notifications"
TEMPLATE = "notifications.html"
PAGE = 50
"""Methods, addresses and deliveries that are shown at once."""
CODES = 100
"""Deliveries of codes among which that of an address is looked for."""
DEAD = 1000
"""Dead letters that one press of the button sends again."""

_Listed = TypeVar("_Listed", NotificationMethod, NotificationAddress)


def section(
    notifications: Notifications, validation: Validation
) -> Sequence[tuple[str, str, str, Handler, Permission]]:
    """The pages."""

    async def shown(visit: PageRequest) -> dict[str, Any]:
        """What the page shows, whatever was asked of it."""
        caller, query = visit.session.caller, visit.query
        status = query.get("status") or None
        if status is not None and status not in STATUSES:
            raise Malformed(f"There is no status {status[:40]!r}.")
        wanted = DeliveryFilter(status=status, method_id=query.get("method") or None)
        methods = await notifications.list_methods(caller)
        addresses = await notifications.list_addresses(caller)
        codes = await notifications.ledger(caller, DeliveryFilter(kind=CODE_MESSAGE), None, CODES)
        deliveries = await notifications.ledger(
            caller, wanted, query.get("before") or None, PAGE + 1
        )
        return {
            "section": "notifications",
            "types": TYPES,
            "statuses": STATUSES,
            "methods": _page(methods, query.get("methods")),
            "addresses": _page(addresses, query.get("addresses")),
            "names": {method.id: method.name for method in methods},
            "proof_of": _proofs(methods, addresses),
            "code_of": _codes(codes),
            "awaited": [a for a in addresses if a.state == IN_PROGRESS],
            "is_ready": any(m.type not in VERIFIED_TYPES for m in methods)
            or any(a.state == VERIFIED for a in addresses),
            "deliveries": deliveries[:PAGE],
            "older": deliveries[PAGE - 1].id if len(deliveries) > PAGE else None,
            "is_moving": any(d.status == PENDING for d in deliveries),
            "filter": wanted,
            "watched": await watched(visit),
            "created": None,
            "form": "",
        }

    async def watched(visit: PageRequest) -> Delivery | None:
        """The test message whose fate is awaited."""
        wanted = visit.query.get("watch")
        if not wanted:
            return None
        try:
            return await notifications.delivery(visit.session.caller, wanted)
        except HeliometerError as error:
            if error.code is Code.NOT_FOUND:
                return None
            raise

    async def page(visit: PageRequest) -> Response:
        return visit.page(TEMPLATE, **await shown(visit))

    async def wrong(visit: PageRequest, error: HeliometerError, form: str = "") -> Response:
        return visit.wrong(TEMPLATE, error, **{**await shown(visit), "form": form})

    async def create_method(visit: PageRequest) -> Response:
        caller, form = visit.session.caller, visit.form
        wanted = Wanted(
            form.get("name", "").strip(), form.get("type", ""), form.get("address", "").strip()
        )
        try:
            method = await notifications.create_method(caller, wanted)
        except HeliometerError as error:
            return await wrong(visit, error, "method")
        if method.secret:
            # Shown on this very page, so that it is in no cookie and no address.
            return visit.page(TEMPLATE, **{**await shown(visit), "created": method})
        if method.type not in VERIFIED_TYPES:
            return visit.go(
                HERE, f"{_short(method.name)} was created. Send a test to see whether it works."
            )
        known = await notifications.list_addresses(caller)
        if (proof := _proofs([method], known).get(method.id)) and proof.state == VERIFIED:
            return visit.go(
                HERE, f"{_short(method.name)} was created; its address is verified already."
            )
        try:
            # The code is what a newcomer needs next; who does not want it need not enter it.
            await notifications.create_address(
                caller, Wanted(method.name[:100], method.type, method.address)
            )
        except HeliometerError as error:
            return visit.go(
                HERE, f"{_short(method.name)} was created, but no code sent. {error.message}"
            )
        return visit.go(
            HERE,
            f"{_short(method.name)} was created, and a code sent to {_short(method.address)}: "
            "enter it here.",
        )

    async def delete_method(visit: PageRequest) -> Response:
        caller = visit.session.caller
        method = await notifications.get_method(caller, visit.path("method_id"))
        await notifications.delete_method(caller, method.id)
        return visit.go(HERE, f"{_short(method.name)} was deleted.")

    async def test_method(visit: PageRequest) -> Response:
        delivery = await notifications.test_method(visit.session.caller, visit.path("method_id"))
        return visit.go(url(HERE, watch=delivery.id))

    async def create_address(visit: PageRequest) -> Response:
        form = visit.form
        address = form.get("address", "").strip()
        wanted = Wanted(form.get("name", "").strip() or address, form.get("type", ""), address)
        try:
            made = await notifications.create_address(visit.session.caller, wanted)
        except HeliometerError as error:
            return await wrong(visit, error, "address")
        return visit.go(HERE, _sent(made))

    async def send_code(visit: PageRequest) -> Response:
        caller = visit.session.caller
        known = await notifications.get_address(caller, visit.path("address_id"))
        try:
            made = await notifications.create_address(
                caller, Wanted(known.name, known.type, known.address)
            )
        except HeliometerError as error:
            return await wrong(visit, error)
        return visit.go(HERE, _sent(made))

    async def verify(visit: PageRequest) -> Response:
        client = visit.call.request.client
        code = visit.form.get("validation_code", "")
        try:
            await validation.validate(visit.session.caller, client.host if client else "", code)
        except HeliometerError as error:
            if error.code is Code.UNAVAILABLE:
                raise
            return await wrong(visit, _about_code(error), "code")
        return visit.go(HERE, "The address is verified: notifications are sent to it from now on.")

    async def delete_address(visit: PageRequest) -> Response:
        caller = visit.session.caller
        address = await notifications.get_address(caller, visit.path("address_id"))
        await notifications.delete_address(caller, address.id)
        return visit.go(HERE, f"{_short(address.address)} was deleted.")

    async def replay(visit: PageRequest) -> Response:
        try:
            delivery = await notifications.replay(visit.session.caller, visit.path("delivery_id"))
        except HeliometerError as error:
            return await wrong(visit, error)
        return visit.go(HERE, f"It will be sent to {_short(delivery.address)} again.")

    async def replay_all(visit: PageRequest) -> Response:
        caller = visit.session.caller
        dead = await notifications.ledger(caller, DeliveryFilter(status=FAILED), None, DEAD)
        number = 0
        for delivery in dead:
            if delivery.kind == CODE_MESSAGE:
                continue
            try:
                await notifications.replay(caller, delivery.id)
            except HeliometerError as error:
                if error.code not in (Code.CONFLICT, Code.NOT_FOUND):  # somebody else was faster
                    raise
            else:
                number += 1
        return visit.go(
            HERE, f"{number} notification{'s' if number != 1 else ''} will be sent again."
        )

    read, manage = Permission.READ, Permission.MANAGE
    base = "/notifications"
    return (
        ("GET", base, "Notifications", page, read),
        ("POST", f"{base}/methods", "Create a notification method", create_method, manage),
        ("POST", f"{base}/methods/{{method_id}}/test", "Send a test message", test_method, manage),
        ("POST", f"{base}/methods/{{method_id}}/delete", "Delete a method", delete_method, manage),
        ("POST", f"{base}/addresses", "Have a code sent", create_address, manage),
        ("POST", f"{base}/addresses/verify", "Verify an address", verify, manage),
        ("POST", f"{base}/addresses/{{address_id}}/code", "Send another code", send_code, manage),
        ("POST", f"{base}/addresses/{{address_id}}/delete", "Delete an address", delete_address,
         manage),
        ("POST", f"{base}/replay", "Send everything that failed again", replay_all, manage),
        ("POST", f"{base}/deliveries/{{delivery_id}}/replay", "Send it again", replay, manage),
    )  # fmt: skip


def _page(everything: Sequence[_Listed], after: str | None) -> tuple[Sequence[_Listed], str | None]:
    """One page of a list, and behind what the next one begins."""
    ids = [each.id for each in everything]
    start = ids.index(after) + 1 if after in ids else 0
    found = everything[start : start + PAGE]
    return found, found[-1].id if len(everything) > start + PAGE else None


def _proofs(
    methods: Sequence[NotificationMethod], addresses: Sequence[NotificationAddress]
) -> dict[str, NotificationAddress | None]:
    """For methods that need one: the address by which each is proved, if any."""
    known = {(address.type, address.address): address for address in addresses}
    return {m.id: known.get((m.type, m.address)) for m in methods if m.type in VERIFIED_TYPES}


def _codes(deliveries: Sequence[Delivery]) -> dict[str, Delivery]:
    """What became of the newest code of each address."""
    newest: dict[str, Delivery] = {}
    for delivery in deliveries:
        newest.setdefault(delivery.payload.get("address_id", ""), delivery)
    return newest


def _sent(address: NotificationAddress) -> str:
    if address.state == VERIFIED:
        return f"{_short(address.address)} is verified already."
    return f"A code was sent to {_short(address.address)}: enter it here."


def _short(name: str) -> str:
    """A name in what is said: no more than a line may hold."""
    return name if len(name) <= 60 else f"{name[:59]}…"


def _about_code(error: HeliometerError) -> HeliometerError:
    """The error with the field that it is about, in words for who just typed it."""
    field = "validation_code: "
    if error.code is Code.NOT_FOUND:
        text, details = (
            "this is no open code of the project.",
            ("It may be mistyped, used or expired: have another one sent."),
        )
    else:
        text, details = error.message.removeprefix(field), error.details
    return HeliometerError(error.code, field + text, details=details, retry_after=error.retry_after)
