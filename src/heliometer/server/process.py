"""One process that serves until it is signalled to stop: its listener and its control socket."""

import asyncio
import errno
import gc
import logging
import resource
import socket
import sys
from contextlib import AsyncExitStack, suppress
from functools import partial

from heliometer.config import Settings, WrongSetting
from heliometer.core.errors import UnusableData
from heliometer.http.server import Server
from heliometer.server import control
from heliometer.server.control_client import SOCKET
from heliometer.server.logs import logging_to_stderr
from heliometer.server.service import Service, running

log = logging.getLogger(__name__)

WRONG_SETTING = 2
"""Exit status when starting again would not help; the units in packaging/ name it."""
CANNOT_START = 1
"""Exit status when it may."""


class AddressInUse(Exception):
    """Another program has the address, perhaps for a moment. The message is for the operator."""


def serve(settings: Settings, roles: frozenset[str]) -> int:
    """Run the service until SIGTERM or SIGINT; return the exit status: 0, ``WRONG_SETTING``, or
    ``CANNOT_START`` when an engine does not answer, the data cannot be used, or the address is
    taken."""
    with logging_to_stderr(settings.log):
        try:
            return asyncio.run(_serve(settings, roles))
        except (WrongSetting, UnusableData, AddressInUse) as error:
            print(f"heliometer: {error}", file=sys.stderr)
            return WRONG_SETTING if isinstance(error, WrongSetting) else CANNOT_START


async def _serve(settings: Settings, roles: frozenset[str]) -> int:
    _raise_file_limit()
    async with AsyncExitStack() as stack:
        listener = stack.enter_context(_listen(settings))
        service = await stack.enter_async_context(running(settings, roles))
        # What was made to start with stays: looking through it again and again would hold up
        # every request for tens of milliseconds.
        gc.collect()
        gc.freeze()
        stack.callback(gc.unfreeze)
        server = Server(service.http, settings, service.drain_s, service.leaving)
        if service.commands:
            stack.callback((settings.data_dir / SOCKET).unlink, missing_ok=True)
            service.tasks.run(stack, partial(take_commands, settings, service), "control")
        return await server.run(listener)


async def take_commands(settings: Settings, service: Service) -> None:
    """Serve the control socket until cancelled."""
    try:
        unix = control.open_socket(settings.data_dir)
    except control.UnreachableSocket as error:
        log.warning("backup while serving is not possible: %s", error)
        await asyncio.Event().wait()
        return
    server = Server(control.control_app(service.commands), None)
    with unix:
        running = asyncio.create_task(server.run(unix), name="control server")
        try:
            # A listener that is cancelled leaves its socket behind; it is told to stop instead.
            await asyncio.shield(running)
        finally:
            await server.finish(running)


def _listen(settings: Settings) -> socket.socket:
    host, port = settings.address
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listener = socket.create_server((host, port), family=family, backlog=2048)
        # asyncio does this only for sockets that name their protocol. Without it a reply in two
        # parts waits 40 ms for the client's delayed acknowledgement.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return listener
    except OSError as error:
        kind = AddressInUse if error.errno == errno.EADDRINUSE else WrongSetting
        raise kind(
            f"server.listen: cannot listen on {settings.server.listen}: "
            f"{error.strerror or error}; is a server running there already? "
            "choose another with --listen HOST:PORT"
        ) from error


def _raise_file_limit() -> None:
    """Each connection takes a file descriptor: use as many as the system lets us."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = hard if hard != resource.RLIM_INFINITY else 1 << 16
    if soft < wanted:
        with suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (min(wanted, 1 << 16), hard))
