"""Answers on their way to clients: long ones in pieces, and a budget for what waits to be read.

An answer that does not fit into one piece is written only as fast as its client reads, so that the
connection's buffer never holds more than about two pieces. What the answer is made of is held
until the client has taken it, and counts against the budget.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from itertools import chain, islice
from typing import TypeVar

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from heliometer.core.errors import Code, HeliometerError

T = TypeVar("T")

PIECE_BYTES = 65_536
RETRY_S = 2

_encode = msgspec.json.Encoder().encode


class AnswerBudget:
    """Memory for answers that their clients have not read yet, in all and for each project.

    A project that holds nothing may always hold one answer of its own, whatever its size, as long
    as the total suffices; and so may a service that holds nothing.
    """

    def __init__(self, total_bytes: int, project_bytes: int) -> None:
        self._total = total_bytes
        self._for_project = project_bytes
        self._held: Counter[str] = Counter()
        self._all = 0

    @property
    def held_bytes(self) -> int:
        """What all answers hold now."""
        return self._all

    def reserve(self, project_id: str, response: Response) -> int:
        """Reserve the bytes that a response holds, and return how many those are: none if it fits
        into one piece. Raises UNAVAILABLE when fewer are left."""
        size = response.held_bytes if isinstance(response, Pieces) else len(_body(response))
        if size <= PIECE_BYTES and not isinstance(response, Pieces):
            return 0
        held = self._held[project_id]
        if held and held + size > self._for_project:
            raise _too_many("The project's clients have not read earlier answers yet.")
        if self._all and self._all + size > self._total:
            raise _too_many("Too many large answers are being read.")
        self._held[project_id] = held + size
        self._all += size
        return size

    def give_back(self, project_id: str, size: int) -> None:
        """Release what a finished answer had reserved."""
        self._all -= size
        self._held[project_id] -= size
        if not self._held[project_id]:
            del self._held[project_id]


def _too_many(message: str) -> HeliometerError:
    return HeliometerError(
        Code.UNAVAILABLE,
        message,
        details="Read them, or ask for less, and send the request again.",
        retry_after=RETRY_S,
    )


class Pieces(Response):
    """An answer that is made while it is written, so that its length is not known beforehand."""

    def __init__(self, pieces: Iterator[bytes], held_bytes: int, media_type: str) -> None:
        """``held_bytes``: about how much memory the pieces are made of."""
        super().__init__(media_type=media_type)
        del self.headers["content-length"]
        self.pieces = pieces
        self.held_bytes = held_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Write it, until the client has it all or is gone."""
        if scope["method"] == "HEAD":
            self.pieces = iter(())
        elif scope.get("http_version") == "1.0":  # which has no chunks
            body = b"".join(self.pieces)
            self.headers["content-length"] = str(len(body))
            self.pieces = _cut(body)
        await _write(self, self.pieces, scope, receive, send)


async def write(response: Response, scope: Scope, receive: Receive, send: Send) -> None:
    """Write a response as fast as its client reads it."""
    body = _body(response)
    if len(body) > PIECE_BYTES:
        await _write(response, _cut(body), scope, receive, send)
    else:
        await response(scope, receive, send)


def _body(response: Response) -> bytes | memoryview:
    return getattr(response, "body", b"")  # a stream has none


async def _write(
    head: Response, pieces: Iterable[bytes], scope: Scope, receive: Receive, send: Send
) -> None:
    request = Request(scope, receive)
    await send(
        {
            "type": "http.response.start",
            "status": head.status_code,
            "headers": head.raw_headers,
        }
    )
    for piece in pieces:
        await send({"type": "http.response.body", "body": piece, "more_body": True})
        await asyncio.sleep(0)  # others have their turn even if the client reads at once
        if await request.is_disconnected():
            return
    await send({"type": "http.response.body", "body": b""})


def _cut(body: bytes | memoryview) -> Iterator[bytes]:
    view = memoryview(body)
    return (bytes(view[at : at + PIECE_BYTES]) for at in range(0, len(view), PIECE_BYTES))


def json_list(
    rows: Iterable[T],
    render: Callable[[T], object],
    held_bytes: int,
    media_type: str,
    around: tuple[bytes, bytes] = (b"[", b"]"),
) -> Response:
    """A JSON list, rendered while it is written if it is long. ``held_bytes``: about how much
    memory the rows keep until they are rendered. ``around``: what is before and after the rows,
    for a list within an object."""

    def parts() -> Iterator[bytes]:
        yield around[0]
        comma = b""
        for row in rows:
            yield comma + _encode(render(row))
            comma = b","
        yield around[1]

    return made_while_written(parts(), held_bytes, media_type)


def made_while_written(parts: Iterator[bytes], held_bytes: int, media_type: str) -> Response:
    """A response whose parts, of any size, are made while it is written, if it is long."""
    pieces = _joined(parts)
    ahead = list(islice(pieces, 2))
    if len(ahead) < 2:
        return Response(ahead[0], media_type=media_type)
    return Pieces(chain(ahead, pieces), held_bytes, media_type)


def _joined(parts: Iterator[bytes]) -> Iterator[bytes]:
    buffer = bytearray()
    for part in parts:
        buffer += part
        if len(buffer) >= PIECE_BYTES:
            yield bytes(buffer)
            buffer.clear()
    yield bytes(buffer)
