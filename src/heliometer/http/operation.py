"""A dialect as data: its operations with their documents, and how it renders faults."""

import asyncio
import zlib
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from heliometer.core.errors import Code, HeliometerError, Malformed
from heliometer.http.decoding import INLINE_BYTES, Decoder
from heliometer.identity.model import Caller, Permission

T = TypeVar("T")

OPEN_BODY_BYTES = 64 << 10
"""Most bytes of a body while the caller is not known; it may not be compressed either."""
INFLATED_BYTES = 256 << 10
"""Bytes that are inflated at once, before others have their turn."""

STATUS: dict[Code, int] = {
    Code.MALFORMED: 400,
    Code.UNAUTHENTICATED: 401,
    Code.FORBIDDEN: 403,
    Code.NOT_FOUND: 404,
    Code.METHOD_NOT_ALLOWED: 405,
    Code.NOT_ACCEPTABLE: 406,
    Code.CONFLICT: 409,
    Code.TOO_LARGE: 413,
    Code.UNSUPPORTED_MEDIA_TYPE: 415,
    Code.INVALID: 422,
    Code.RATE_LIMITED: 429,
    Code.HEADERS_TOO_LARGE: 431,
    Code.INTERNAL: 500,
    Code.UNAVAILABLE: 503,
}


class BodyBudget:
    """Memory for the bodies of all requests in progress, so that slow ones cannot exhaust it."""

    def __init__(self, total_bytes: int) -> None:
        self._left = total_bytes

    def take(self, size: int) -> None:
        """Reserve bytes. Raises UNAVAILABLE when fewer are left."""
        if size > self._left:
            raise HeliometerError(
                Code.UNAVAILABLE,
                "Too many large requests are in progress.",
                details="Send the request again a little later.",
                retry_after=1,
            )
        self._left -= size

    def give_back(self, size: int) -> None:
        """Release what an answered request had reserved."""
        self._left += size


Unpack = Callable[[bytes, int], bytes | None]
"""Decompresses a body. ``None``: it would exceed that many bytes. Raises MALFORMED."""


@dataclass(slots=True)
class Call:
    """One request on its way to its operation."""

    request: Request
    request_id: str
    path_params: Mapping[str, str]
    base_url: str
    """``scheme://host:port`` under which the client reaches the service, without a final slash."""
    body_limit: int
    budget: BodyBudget
    decoder: Decoder
    caller_or_none: Caller | None = None
    held_bytes: int = 0
    """Bytes of the budget that the body has reserved."""

    @property
    def caller(self) -> Caller:
        """The authenticated caller. Raises LookupError in an operation that needs no permission."""
        if self.caller_or_none is None:
            raise LookupError("an open operation has no caller")
        return self.caller_or_none

    async def body(self, unpack: Mapping[str, Unpack] | None = None) -> bytes:
        """The whole body, decompressed: gzip, or an encoding that ``unpack`` names.

        Raises TOO_LARGE as soon as the body is known to exceed the limit, without reading the
        rest, and UNSUPPORTED_MEDIA_TYPE for any other encoding. From a caller who has not signed in
        it takes OPEN_BODY_BYTES, and nothing compressed.
        """
        headers = self.request.headers
        encoding = headers.get("content-encoding", "identity").strip().lower()
        other = (unpack or {}).get(encoding)
        if self.caller_or_none is None:
            self.body_limit = min(self.body_limit, OPEN_BODY_BYTES)
            if encoding not in ("identity", ""):
                raise HeliometerError(
                    Code.UNSUPPORTED_MEDIA_TYPE,
                    "A compressed body is only taken with a valid token.",
                    details="Send the body as it is, without Content-Encoding.",
                )
        if other is None and encoding not in ("identity", "gzip", ""):
            raise HeliometerError(
                Code.UNSUPPORTED_MEDIA_TYPE,
                f"Content-Encoding {encoding[:40]!r} is not supported.",
                details="Send the body as it is, or compressed with "
                f"{' or '.join(['gzip', *(unpack or {})])}.",
            )
        length = headers.get("content-length", "")
        if length.isdecimal() and int(length[:20]) > self.body_limit:
            raise self._too_large()
        inflate = zlib.decompressobj(wbits=31) if encoding == "gzip" else None
        chunks: list[bytes] = []
        size = 0
        try:
            async for received in self.request.stream():
                if inflate is None:
                    size += self._hold(received, size, chunks)
                    continue
                while received:
                    chunk = inflate.decompress(received, INFLATED_BYTES)
                    size += self._hold(chunk, size, chunks)
                    received = inflate.unconsumed_tail
                    if received:
                        await asyncio.sleep(0)
        except zlib.error as error:
            raise Malformed("The body is not valid gzip.") from error
        except ClientDisconnect as error:
            raise Malformed("The connection closed before the whole body arrived.") from error
        if inflate is not None and (not inflate.eof or inflate.unused_data):
            raise Malformed("The gzip body is not complete, or bytes follow it.")
        body = chunks[0] if len(chunks) == 1 else b"".join(chunks)
        return body if other is None else self._unpacked(body, other)

    async def decode(
        self, body: bytes, read: Callable[[], T], inline_bytes: int = INLINE_BYTES
    ) -> T:
        """The result of ``read``, which decodes the body; in a thread if it is large."""
        if len(body) <= inline_bytes:
            return read()
        caller = self.caller_or_none
        return await self.decoder.run(caller.project_id if caller else "", read)

    def _hold(self, chunk: bytes, size: int, chunks: list[bytes]) -> int:
        """Keep a part of the body, which had ``size`` bytes before; the bytes of the part."""
        if size + len(chunk) > self.body_limit:
            raise self._too_large()
        if chunk:
            self.budget.take(len(chunk))
            self.held_bytes += len(chunk)
            chunks.append(chunk)
        return len(chunk)

    def _unpacked(self, packed: bytes, unpack: Unpack) -> bytes:
        body = unpack(packed, self.body_limit)
        if body is None:
            raise self._too_large()
        self.budget.take(len(body))
        self.held_bytes += len(body)
        return body

    def _too_large(self) -> HeliometerError:
        return HeliometerError(
            Code.TOO_LARGE,
            f"The body is larger than {self.body_limit} bytes.",
            details="Send fewer measurements in one request."
            if self.caller_or_none
            else "More is only taken with a valid token.",
        )


@dataclass(frozen=True, slots=True)
class Parameter:
    """A query parameter or request header, for the OpenAPI description."""

    name: str
    description: str
    required: bool = False
    where: str = "query"
    schema: Mapping[str, Any] = field(default_factory=lambda: {"type": "string"})
    example: Any = None


@dataclass(frozen=True, slots=True)
class Operation:
    """One method on one path of a dialect."""

    method: str
    path: str
    """Below the dialect's prefix, without a final slash; ``{name}`` is a variable segment."""
    summary: str
    source: str
    """Document and section that specify the behaviour."""
    handler: Callable[[Call], Awaitable[Response]]
    permission: Permission | None = None
    """What the caller's role must allow; ``None``: no authentication."""
    success: int = 200
    faults: tuple[int, ...] = ()
    """Documented fault statuses besides those that every operation may answer with."""
    parameters: tuple[Parameter, ...] = ()
    body: Any = None
    """Type of the JSON body, for the OpenAPI description."""
    reply: Any = None
    """Type of the JSON reply, for the OpenAPI description."""
    example: Any = None
    """A valid body, for the OpenAPI description and the docs page."""
    media_type: str = "application/json"
    """Content type of a success."""
    knows_caller: bool = False
    """Needs no token, but authenticates one that is sent; an invalid one is refused."""
    foreign: bool = False
    """For clients that do not know X-Auth-Token: they may send Authorization (Bearer, Token,
    Basic), and any Accept."""


Replies = Mapping[str, Any]
"""Types of JSON replies by method and path, such as ``GET /alarms``."""
FaultRenderer = Callable[[HeliometerError, str], Response]
"""Renders an error, with the id of the request, in the form of a dialect."""


@dataclass(frozen=True, slots=True)
class Dialect:
    """A published API: where it is mounted, its operations, and how it renders faults."""

    name: str
    title: str
    prefix: str
    """Such as ``/v1.1``; empty for the root."""
    operations: tuple[Operation, ...]
    render_fault: FaultRenderer
    aliases: tuple[str, ...] = ()
    """Other prefixes under which the same operations answer."""
    is_api: bool = True
    """Whether OpenAPI describes it; pages for people are left out."""
    replies: Replies = field(default_factory=dict)
    """Types of the replies of operations that do not name theirs."""
    fault: Any = None
    """Type of its faults, for the OpenAPI description."""
    render_fault_of: Callable[[HeliometerError, str, Request], Response] | None = None
    """Instead of ``render_fault`` where the form depends on the request."""

    def reply_of(self, operation: Operation) -> Any:
        """The type of the JSON reply of an operation; ``None``: it has none."""
        if operation.reply is not None:
            return operation.reply
        return self.replies.get(f"{operation.method} {operation.path}")
