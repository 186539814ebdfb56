"""The root: versions, documentation, the service's own metrics."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec
from starlette.responses import Response

from heliometer.api.hp import versions
from heliometer.api.hp.faults import render_fault
from heliometer.api.service.docs_page import render
from heliometer.core.health import Health
from heliometer.core.instruments import Instruments
from heliometer.http.openapi import describe
from heliometer.http.operation import Call, Dialect, Operation, Replies

_PAGE_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; "
    "frame-ancestors 'none'; base-uri 'none'",
    "Referrer-Policy": "no-referrer",
}


def dialect(
    instruments: Instruments, health: Health, dialects: Callable[[], Sequence[Dialect]]
) -> Dialect:
    """The dialect at the root; ``dialects`` returns all that are served, itself included."""
    return Dialect(
        "service",
        "The service itself",
        "",
        (
            *ServiceOperations(instruments, dialects).operations(),
            *LifeOperations(health).operations(),
        ),
        render_fault,
        replies=_REPLIES,
        fault=dict[str, Any],
    )


class Status(msgspec.Struct):
    """How a process is; ``failed`` says why it cannot answer reads."""

    status: str


_REPLIES: Replies = {
    "GET /openapi.json": dict[str, Any],
    "GET /livez": Status,
    "GET /readyz": Status,
}


class LifeOperations:
    """Answers orchestrators that restart a process, or send it requests."""

    def __init__(self, health: Health) -> None:
        self._health = health

    def operations(self) -> tuple[Operation, ...]:
        """Whether the process lives, and whether it can answer reads."""
        source = "beyond the documents"
        return (
            Operation("GET", "/livez", "Check that the process lives", source, self.live),
            Operation(
                "GET", "/readyz", "Check that the process can answer reads", source, self.ready,
                faults=(503,),
            ),
        )  # fmt: skip

    async def live(self, _: Call) -> Response:
        # That this runs is the answer: the event loop turns.
        return _json({"status": "ok"})

    async def ready(self, _: Call) -> Response:
        if self._health.leaving:
            return _json({"status": "stopping"}, 503)
        if failed := await self._health.unreadable():
            return _json({"status": "not ready", "failed": failed}, 503)
        return _json({"status": "ok"})


def _json(content: Mapping[str, object], status: int = 200) -> Response:
    return Response(
        msgspec.json.encode(content),
        status,
        {"Cache-Control": "no-store"},
        media_type="application/json",
    )


class ServiceOperations:
    """Describes the service."""

    def __init__(self, instruments: Instruments, dialects: Callable[[], Sequence[Dialect]]) -> None:
        self._instruments = instruments
        self._dialects = dialects

    def operations(self) -> tuple[Operation, ...]:
        """Versions, documentation and metrics."""
        source = "beyond the documents"
        return (
            versions.LIST,
            Operation(
                "GET", "/docs", "Documentation to read", source, self.docs, media_type="text/html"
            ),
            Operation("GET", "/openapi.json", "OpenAPI description", source, self.openapi),
            Operation(
                "GET", "/metrics", "Figures of the service, in Prometheus' text form", source,
                self.metrics, media_type="text/plain", foreign=True,
            ),
        )  # fmt: skip

    async def docs(self, call: Call) -> Response:
        page = render(self._apis(), call.base_url)
        return Response(page, media_type="text/html; charset=utf-8", headers=_PAGE_HEADERS)

    async def openapi(self, call: Call) -> Response:
        document = {**describe(self._apis()), "servers": [{"url": call.base_url}]}
        return Response(msgspec.json.encode(document), media_type="application/json")

    async def metrics(self, call: Call) -> Response:
        accept = ",".join(call.request.headers.getlist("accept"))
        text, media_type = self._instruments.text(accept)
        return Response(text, headers={"Content-Type": media_type})

    def _apis(self) -> list[Dialect]:
        return [dialect for dialect in self._dialects() if dialect.is_api]
