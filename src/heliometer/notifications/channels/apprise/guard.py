"""What a process may do that sends for tenants.

An audit hook sees each connection with the very address that is connected to, after any name was
resolved, whichever library makes it; so there is no second resolution to be different.
"""

import ipaddress
import os
import resource
import sys
from collections.abc import Sequence

from heliometer.core.public_address import is_public

MEMORY_BYTES = 1 << 30
CPU_S = 30
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_READABLE = ("/dev/null", "/dev/urandom", "/usr/share/zoneinfo")
_REFUSED = (
    "os.chmod", "os.chown", "os.exec", "os.fork", "os.forkpty", "os.kill", "os.link", "os.mkdir",
    "os.posix_spawn", "os.remove", "os.rename", "os.rmdir", "os.spawn", "os.symlink", "os.system",
    "os.truncate", "pty.spawn", "shutil.", "socket.bind", "sqlite3.connect", "subprocess.Popen",
)  # fmt: skip


class Guard:
    """Refuses, for the rest of the process, files other than Python's own, programs, and
    connections to what is not public."""

    def __init__(self, *, allow_private: bool) -> None:
        self._allow_private = allow_private
        self._folders = tuple(
            os.path.realpath(folder) + os.sep for folder in (*sys.path, sys.prefix) if folder
        )
        self.refused: list[str] = []
        """What was refused, in a few words each; callers may swallow the exception."""

    def install(self) -> None:
        """Begin; there is no way back."""
        for what, most in (
            (resource.RLIMIT_AS, MEMORY_BYTES),
            (resource.RLIMIT_CPU, CPU_S),
            (resource.RLIMIT_CORE, 0),
            (resource.RLIMIT_FSIZE, 0),
        ):
            hard = resource.getrlimit(what)[1]
            least = most if hard == resource.RLIM_INFINITY else min(most, hard)
            resource.setrlimit(what, (least, least))
        sys.addaudithook(self._audit)

    def _audit(self, event: str, arguments: tuple[object, ...]) -> None:
        if event == "open":
            self._check_file(*arguments[:3])
        elif event in ("socket.connect", "socket.sendto", "socket.sendmsg"):
            self._check_address(arguments[1])
        elif event.startswith(_REFUSED):
            self._refuse("this service may not run programs or change files")

    def _check_file(self, path: object, mode: object, flags: object) -> None:
        if isinstance(path, int):
            return
        writes = isinstance(flags, int) and flags & _WRITING
        if isinstance(mode, str) and any(c in mode for c in "wax+"):
            writes = True
        if not isinstance(path, str | bytes):
            path = str(path)
        real = os.path.realpath(os.fsdecode(path))
        if writes or not real.startswith((*self._folders, *_READABLE)):
            self._refuse("a URL may not name files of the server")

    def _check_address(self, given: object) -> None:
        if given is None:  # a datagram over a connection that was judged
            return
        if isinstance(given, tuple) and given and isinstance(given[0], str):
            try:
                address = ipaddress.ip_address(given[0].partition("%")[0])
            except ValueError:
                address = None  # a name, which would be resolved once more
            if address is not None and (self._allow_private or is_public(address)):
                return
        self._refuse("it leads to what is not a public address (setting webhook.allow_private)")

    def _refuse(self, why: str) -> None:
        self.refused.append(why)
        raise PermissionError(why)


def summary(refused: Sequence[str]) -> str:
    """The reasons, each once."""
    return "; ".join(dict.fromkeys(refused))
