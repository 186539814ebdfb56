"""Orders to a running server, over a socket in its data directory that only its user may open."""

import logging
import os
import socket
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from heliometer.core.errors import HeliometerError
from heliometer.server.control_client import SOCKET

log = logging.getLogger(__name__)

Command = Callable[[dict[str, Any]], Awaitable[dict[str, Any]]]


class UnreachableSocket(Exception):
    """The socket cannot be made. The message says why."""


def control_app(commands: Mapping[str, Command]) -> Starlette:
    """``POST /-/NAME`` with a JSON object of arguments carries out a command."""

    def route(name: str, command: Command) -> Route:
        async def handle(request: Request) -> Response:
            try:
                body = await request.body()
                return JSONResponse(await command(msgspec.json.decode(body or b"{}", type=dict)))
            except (msgspec.MsgspecError, KeyError) as error:
                return JSONResponse({"error": f"{name}: {error}"}, 400)
            except HeliometerError as error:
                return JSONResponse({"error": f"{error.message} {error.details}".strip()}, 409)
            except Exception as error:
                log.exception("%s failed", name)
                return JSONResponse({"error": f"{name} failed: {error}"}, 500)

        return Route(f"/-/{name}", handle, methods=["POST"])

    return Starlette(routes=[route(name, command) for name, command in commands.items()])


def open_socket(data_dir: Path) -> socket.socket:
    """Bind the control socket, readable by its owner alone; one left by a dead server is removed.

    Raises UnreachableSocket.
    """
    path = data_dir / SOCKET
    listener = socket.socket(socket.AF_UNIX)
    # The limit of a socket's path is about 100 bytes; a path relative to it has no such limit.
    mask = os.umask(0o177)
    try:
        path.unlink(missing_ok=True)
        listener.bind(str(path))
    except OSError as error:
        listener.close()
        raise UnreachableSocket(f"{path}: {error.strerror or error}") from error
    finally:
        os.umask(mask)
    return listener
