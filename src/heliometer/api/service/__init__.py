"""What the service says of itself at its root: versions, documentation, figures."""

from collections.abc import Callable, Sequence

import msgspec
from starlette.responses import Response

from heliometer.api.hp import versions
from heliometer.api.hp.faults import render_fault
from heliometer.api.service.docs_page import render
from heliometer.core.instruments import CONTENT_TYPE, Instruments
from heliometer.http.openapi import describe
from heliometer.http.operation import Call, Dialect, Operation

_PAGE_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; "
    "frame-ancestors 'none'; base-uri 'none'",
    "Referrer-Policy": "no-referrer",
}


def dialect(instruments: Instruments, dialects: Callable[[], Sequence[Dialect]]) -> Dialect:
    """The root. ``dialects`` gives everything that is served, once all of it is known."""

    def apis() -> list[Dialect]:
        return [dialect for dialect in dialects() if dialect.is_api]

    async def openapi(call: Call) -> Response:
        document = {**describe(apis()), "servers": [{"url": call.base_url}]}
        return Response(msgspec.json.encode(document), media_type="application/json")

    async def docs(call: Call) -> Response:
        page = render(apis(), call.base_url)
        return Response(page, media_type="text/html; charset=utf-8", headers=_PAGE_HEADERS)

    async def metrics(_: Call) -> Response:
        return Response(instruments.text(), headers={"Content-Type": CONTENT_TYPE})

    return Dialect(
        "service",
        "The service itself",
        "",
        (
            versions.LIST,
            Operation("GET", "/docs", "Documentation to read", "beyond the documents", docs,
                      media_type="text/html"),
            Operation("GET", "/openapi.json", "OpenAPI description", "beyond the documents",
                      openapi),
            Operation("GET", "/metrics", "Figures of the service, in Prometheus' text form",
                      "beyond the documents", metrics, media_type="text/plain"),
        ),
        render_fault,
    )  # fmt: skip
