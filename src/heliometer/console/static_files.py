"""Scripts, style sheets and pictures (docs/decisions/0027-http-libraries.md)."""

import functools
import gzip
import hashlib
from importlib import resources
from typing import NamedTuple

from starlette.responses import Response

from heliometer.core.errors import Code, HeliometerError
from heliometer.http.operation import Call

FILES = resources.files("heliometer.console") / "static"
TYPES = {
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
}


class StaticFile(NamedTuple):
    """The content of a file in both encodings, kept in memory."""

    body: bytes
    gzipped: bytes
    media_type: str
    digest: str


@functools.cache
def _names() -> frozenset[str]:
    """All files of these types; beside them are the licences of what others wrote. Other names are
    neither opened nor cached."""
    names = (each.name for each in FILES.iterdir())
    return frozenset(name for name in names if name.rpartition(".")[2] in TYPES)


@functools.cache
def _read(name: str) -> StaticFile:
    body = (FILES / name).read_bytes()
    digest = hashlib.blake2b(body, digest_size=8).hexdigest()
    return StaticFile(body, gzip.compress(body, 9), TYPES[name.rpartition(".")[2]], digest)


def static_url(name: str) -> str:
    """The URL of a file, which changes with its content."""
    return f"/console/static/{name}?v={_read(name).digest}"


async def static_file(call: Call) -> Response:
    """Answer with a file. Raises NOT_FOUND."""
    name = call.path_params["name"]
    if name not in _names():
        raise HeliometerError(Code.NOT_FOUND, "There is no such file.")
    file = _read(name)
    is_current = call.request.query_params.get("v") == file.digest
    headers = {
        # Only the URL that changes with the content may be cached without asking.
        "Cache-Control": "public, max-age=31536000, immutable" if is_current else "no-cache",
        "ETag": f'"{file.digest}"',
        "Vary": "Accept-Encoding",
    }
    if call.request.headers.get("if-none-match") == headers["ETag"]:
        return Response(status_code=304, headers=headers)
    if "gzip" in call.request.headers.get("accept-encoding", ""):
        headers["Content-Encoding"] = "gzip"
        return Response(file.gzipped, headers=headers, media_type=file.media_type)
    return Response(file.body, headers=headers, media_type=file.media_type)
