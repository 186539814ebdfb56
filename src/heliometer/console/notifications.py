"""The page of notification methods and addresses, and of what became of each message."""

from collections.abc import Iterable, Sequence
from typing import Any, TypeVar

from starlette.responses import Response

from heliometer.console.page_request import Handler, PageRequest
from heliometer.console.rendering import url
from heliometer.core.errors import Code, HeliometerError, Malformed
from heliometer.identity.model import Permission
from heliometer.notifications.channels import every_channel, needs_confirmation
from heliometer.notifications.channels.channel import Channel
from heliometer.notifications.checks import confirmations
from heliometer.notifications.model import (
    CODE_MESSAGE,
    FAILED,
    IN_PROGRESS,
    PENDING,
    STATUSES,
    VERIFIED,
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
"""Methods, addresses and deliveries on one page."""
CODES = 100
"""Deliveries of codes among which that of an address is looked for."""
DEAD = 1000
"""Failed messages that are sent again at once."""

_Listed = TypeVar("_Listed", NotificationMethod, NotificationAddress)


def section(
    notifications: Notifications, validation: Validation
) -> Sequence[tuple[str, str, str, Handler, Permission]]:
    """The page and what its forms do."""
    page = NotificationsPage(notifications, validation)
    read, manage = Permission.READ, Permission.MANAGE
    base = "/notifications"
    method, address = f"{base}/methods/{{method_id}}", f"{base}/addresses/{{address_id}}"
    return (
        ("GET", base, "Notifications", page.show, read),
        ("POST", f"{base}/methods", "Create a notification method", page.create_method, manage),
        ("POST", f"{method}/test", "Send a test message", page.test_method, manage),
        ("POST", f"{method}/delete", "Delete a method", page.delete_method, manage),
        ("POST", f"{base}/addresses", "Send a code", page.create_address, manage),
        ("POST", f"{base}/addresses/verify", "Verify an address", page.verify, manage),
        ("POST", f"{address}/code", "Send another code", page.send_code, manage),
        ("POST", f"{address}/delete", "Delete an address", page.delete_address, manage),
        ("POST", f"{base}/replay", "Send everything that failed again", page.replay_all, manage),
        ("POST", f"{base}/deliveries/{{delivery_id}}/replay", "Send it again", page.replay, manage),
    )


class NotificationsPage:
    """Handlers of one page; each action leads back to it."""

    def __init__(self, notifications: Notifications, validation: Validation) -> None:
        self._notifications = notifications
        self._validation = validation

    async def show(self, request: PageRequest) -> Response:
        return request.page(TEMPLATE, **await self._shown(request))

    async def create_method(self, request: PageRequest) -> Response:
        caller, form = request.session.caller, request.form
        wanted = Wanted(
            form.get("name", "").strip(), form.get("type", ""), form.get("address", "").strip()
        )
        try:
            method = await self._notifications.create_method(caller, wanted)
        except HeliometerError as error:
            return await self._wrong(request, error, "method")
        if method.secret:
            # Shown in this very response, so that it is in no cookie and no address.
            return request.page(TEMPLATE, **{**await self._shown(request), "created": method})
        name = _short(method.name)
        if not needs_confirmation(method.type):
            return request.go(HERE, f"{name} was created. Send a test to see whether it works.")
        addresses = await self._notifications.list_addresses(caller)
        proof = confirmations([method], addresses)[method.id]
        if proof is not None and proof.state == VERIFIED:
            return request.go(HERE, f"{name} was created; its address is verified already.")
        try:
            # A newcomer needs the code next; it does no harm to others.
            await self._notifications.create_address(
                caller, Wanted(method.name[:100], method.type, method.address)
            )
        except HeliometerError as error:
            return request.go(HERE, f"{name} was created, but no code was sent. {error.message}")
        return request.go(
            HERE, f"{name} was created, and a code sent to {_short(method.address)}: enter it here."
        )

    async def delete_method(self, request: PageRequest) -> Response:
        caller = request.session.caller
        method = await self._notifications.get_method(caller, request.path("method_id"))
        await self._notifications.delete_method(caller, method.id)
        return request.go(HERE, f"{_short(method.name)} was deleted.")

    async def test_method(self, request: PageRequest) -> Response:
        delivery = await self._notifications.test_method(
            request.session.caller, request.path("method_id")
        )
        return request.go(url(HERE, watch=delivery.id))

    async def create_address(self, request: PageRequest) -> Response:
        form = request.form
        address = form.get("address", "").strip()
        wanted = Wanted(form.get("name", "").strip() or address, form.get("type", ""), address)
        try:
            made = await self._notifications.create_address(request.session.caller, wanted)
        except HeliometerError as error:
            return await self._wrong(request, error, "address")
        return request.go(HERE, _sent(made))

    async def send_code(self, request: PageRequest) -> Response:
        caller = request.session.caller
        known = await self._notifications.get_address(caller, request.path("address_id"))
        try:
            made = await self._notifications.create_address(
                caller, Wanted(known.name, known.type, known.address)
            )
        except HeliometerError as error:
            return await self._wrong(request, error)
        return request.go(HERE, _sent(made))

    async def verify(self, request: PageRequest) -> Response:
        client = request.call.request.client
        code = request.form.get("validation_code", "")
        try:
            await self._validation.validate(
                request.session.caller, client.host if client else "", code
            )
        except HeliometerError as error:
            if error.code is Code.UNAVAILABLE:
                raise
            return await self._wrong(request, _about_code(error), "code")
        return request.go(HERE, "The address is verified; notifications are now sent to it.")

    async def delete_address(self, request: PageRequest) -> Response:
        caller = request.session.caller
        address = await self._notifications.get_address(caller, request.path("address_id"))
        await self._notifications.delete_address(caller, address.id)
        return request.go(HERE, f"{_short(address.address)} was deleted.")

    async def replay(self, request: PageRequest) -> Response:
        try:
            delivery = await self._notifications.replay(
                request.session.caller, request.path("delivery_id")
            )
        except HeliometerError as error:
            return await self._wrong(request, error)
        return request.go(HERE, f"It will be sent to {_short(delivery.address)} again.")

    async def replay_all(self, request: PageRequest) -> Response:
        caller = request.session.caller
        wanted = DeliveryFilter(status=FAILED)
        number = 0
        for delivery in await self._notifications.deliveries(caller, wanted, None, DEAD):
            if delivery.kind == CODE_MESSAGE:
                continue
            try:
                await self._notifications.replay(caller, delivery.id)
            except HeliometerError as error:
                if error.code not in (Code.CONFLICT, Code.NOT_FOUND):  # another request was faster
                    raise
            else:
                number += 1
        plural = "s" if number != 1 else ""
        return request.go(HERE, f"{number} notification{plural} will be sent again.")

    # -- inside -------------------------------------------------------------------------------

    async def _wrong(
        self, request: PageRequest, error: HeliometerError, form: str = ""
    ) -> Response:
        return request.wrong(TEMPLATE, error, **{**await self._shown(request), "form": form})

    async def _shown(self, request: PageRequest) -> dict[str, Any]:
        """What the template needs, whichever action led to it."""
        caller, query = request.session.caller, request.query
        status = query.get("status") or None
        if status is not None and status not in STATUSES:
            raise Malformed(f"There is no status {status[:40]!r}.")
        wanted = DeliveryFilter(status=status, method_id=query.get("method") or None)
        methods = await self._notifications.list_methods(caller)
        addresses = await self._notifications.list_addresses(caller)
        codes = await self._notifications.deliveries(
            caller, DeliveryFilter(kind=CODE_MESSAGE), None, CODES
        )
        deliveries = await self._notifications.deliveries(
            caller, wanted, query.get("before") or None, PAGE + 1
        )
        return {
            "section": "notifications",
            **_channels(every_channel()),
            "statuses": STATUSES,
            "methods": _page(methods, query.get("methods")),
            "addresses": _page(addresses, query.get("addresses")),
            "names": {method.id: method.name for method in methods},
            "proof_of": confirmations(
                [m for m in methods if needs_confirmation(m.type)], addresses
            ),
            "code_of": _codes(codes),
            "awaited": [a for a in addresses if a.state == IN_PROGRESS],
            "is_ready": any(not needs_confirmation(m.type) for m in methods)
            or any(a.state == VERIFIED for a in addresses),
            "deliveries": deliveries[:PAGE],
            "older": deliveries[PAGE - 1].id if len(deliveries) > PAGE else None,
            "is_moving": any(d.status == PENDING for d in deliveries),
            "filter": wanted,
            "watched": await self._watched(request),
            "created": None,
            "form": "",
        }

    async def _watched(self, request: PageRequest) -> Delivery | None:
        """The test message whose result the page waits for."""
        wanted = request.query.get("watch")
        if not wanted:
            return None
        try:
            return await self._notifications.delivery(request.session.caller, wanted)
        except HeliometerError as error:
            if error.code is Code.NOT_FOUND:
                return None
            raise


def confirmed_only() -> str:
    """The sentence on which channels need confirmed addresses."""
    titles = _listed(c.title for c in every_channel() if c.code is not None)
    return f"{_capital(titles)} are only sent to confirmed addresses."


def _channels(channels: Sequence[Channel]) -> dict[str, Any]:
    """What the page says of the channels and offers in its forms."""
    coded = [(c, c.code) for c in channels if c.code is not None]
    free = [c for c in channels if c.code is None]
    return {
        "types": [_choice(c) for c in channels],
        "address_help": " ".join(_address_help(c) for c in channels),
        "address_length": max(c.address.length for c in channels),
        "code_types": [_choice(c) for c, _ in coded],
        "code_address_help": " ".join(_address_help(c) for c, _ in coded),
        "code_address_length": max((c.address.length for c, _ in coded), default=0),
        "codes_sent_for": _listed(c.type for c, _ in coded),
        "code_titles": _listed((c.title for c, _ in coded), "or"),
        "code_lives": _listed(f"{_duration(code.life_ms)} by {c.title}" for c, code in coded),
        "confirmed_only": confirmed_only(),
        "unconfirmed": _capital(_listed(c.title for c in free)),
    }


def _choice(channel: Channel) -> tuple[str, str]:
    words = f"{channel.type}: {channel.summary}" if channel.summary else channel.type
    return channel.type, words


def _address_help(channel: Channel) -> str:
    field = channel.address
    text = f"{channel.type}: {field.label}, such as {field.placeholder}."
    return f"{text} {field.help}" if field.help else text


def _duration(milliseconds: int) -> str:
    minutes = milliseconds // 60_000
    return f"{minutes // 60} hours" if minutes >= 120 else f"{minutes} minutes"


def _listed(words: Iterable[str], last: str = "and") -> str:
    """Words in a sentence: ``a``, ``a and b``, ``a, b and c``."""
    every = list(words)
    return f" {last} ".join([", ".join(every[:-1]), every[-1]] if every[1:] else every)


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _page(everything: Sequence[_Listed], after: str | None) -> tuple[Sequence[_Listed], str | None]:
    """One page of a list, and the id after which the next one begins."""
    ids = [each.id for each in everything]
    start = ids.index(after) + 1 if after in ids else 0
    found = everything[start : start + PAGE]
    return found, found[-1].id if len(everything) > start + PAGE else None


def _codes(deliveries: Sequence[Delivery]) -> dict[str, Delivery]:
    """What became of the newest code of each address, by the address' id."""
    newest: dict[str, Delivery] = {}
    for delivery in deliveries:
        newest.setdefault(delivery.payload.get("address_id", ""), delivery)
    return newest


def _sent(address: NotificationAddress) -> str:
    if address.state == VERIFIED:
        return f"{_short(address.address)} is verified already."
    return f"A code was sent to {_short(address.address)}: enter it here."


def _short(name: str) -> str:
    """A name in a sentence, cut to what fits on a line."""
    return name if len(name) <= 60 else f"{name[:59]}…"


def _about_code(error: HeliometerError) -> HeliometerError:
    """The error as one of the form's field."""
    field = "validation_code: "
    if error.code is Code.NOT_FOUND:
        return HeliometerError(error.code, f"{field}Code invalid or expired; request a new one.")
    text = error.message.removeprefix(field)
    return HeliometerError(
        error.code, field + text, details=error.details, retry_after=error.retry_after
    )
