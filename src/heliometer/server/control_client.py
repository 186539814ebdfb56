"""Finds the server of a data directory and gives it commands through its control socket.

The other end is ``control``. Failures are UNAVAILABLE: what was asked for may be tried again.
"""

import fcntl
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from heliometer.core.errors import Code, HeliometerError

SOCKET = "control.sock"
ROTATE = "rotate-secrets"
ORDER_TIMEOUT_S = 6 * 3600.0


def is_running(data_dir: Path) -> bool:
    """Whether a server answers on the directory's control socket. Raises UNAVAILABLE when that
    cannot be determined, so that it is not mistaken for no."""
    path = data_dir / SOCKET
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(5)
        try:
            probe.connect(str(path))
        except (FileNotFoundError, ConnectionRefusedError, NotADirectoryError):
            return False  # none was started, or what was started died and left its socket
        except TimeoutError:
            return True
        except OSError as error:
            if "too long" in str(error):
                return False  # a server could not bind it either
            raise HeliometerError(
                Code.UNAVAILABLE,
                f"cannot tell whether a server runs on {data_dir}: {error.strerror or error}; "
                "run this as the user that runs the server",
            ) from error
    return True


def is_in_use(data_dir: Path) -> bool:
    """The same, and whether any process, such as a backup, has the measurements open."""
    return is_running(data_dir) or _is_locked(data_dir / "metrics" / "recent.duckdb")


def _is_locked(path: Path) -> bool:
    """Whether a process has locked the file, as DuckDB does with the one that it has open."""
    try:
        with path.open("r+b") as file:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def command(data_dir: Path, name: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Have the running server carry out an command; its answer. Raises UNAVAILABLE."""
    import httpx
    import msgspec

    transport = httpx.HTTPTransport(uds=str(data_dir / SOCKET))
    timeout = httpx.Timeout(10.0, read=ORDER_TIMEOUT_S)
    try:
        with httpx.Client(transport=transport, timeout=timeout) as client:
            response = client.post(
                f"http://heliometer/-/{name}", content=msgspec.json.encode(arguments)
            )
            answer = msgspec.json.decode(response.content, type=dict[str, Any])
    except httpx.TransportError as error:
        raise _failed(
            f"the server broke off the {name} ({error or type(error).__name__}); see its log"
        ) from error
    except msgspec.MsgspecError as error:
        raise _failed(f"the server's answer to the {name} is not JSON: {error}") from error
    if response.status_code != 200:
        raise _failed(str(answer.get("error", f"the server refused the {name}")))
    return answer


def _failed(why: str) -> HeliometerError:
    return HeliometerError(Code.UNAVAILABLE, why)
