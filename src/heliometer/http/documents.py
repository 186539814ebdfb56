"""JSON documents that describe a resource: small, and typed."""

from typing import Any, TypeVar

from heliometer.http.json import convert, strict_loads
from heliometer.http.operation import Call

DOCUMENT_BYTES = 256 << 10
"""Most bytes of the document of a resource. An alarm that names a thousand notification methods
for each of its states has half as many."""

T = TypeVar("T")


async def read_document(call: Call) -> Any:
    """The body of a request for one resource. Raises TOO_LARGE, MALFORMED."""
    call.body_limit = min(call.body_limit, DOCUMENT_BYTES)
    body = await call.body()
    return await call.decode(body, lambda: strict_loads(body))


async def read_typed(call: Call, type_: type[T]) -> T:
    """The body as a value of a msgspec type. Raises as ``read_document`` does."""
    return convert(await read_document(call), type_)
