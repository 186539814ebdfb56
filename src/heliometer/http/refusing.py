"""Closing a listener without losing connections that wait to be accepted."""

import contextlib
import ctypes
import socket
import struct

SO_ATTACH_FILTER = 26
"""Linux; Python's socket has no name for it."""
_ALL = (1 << 32) - 1
"""Keep the whole packet; accepted connections inherit the filter."""
# Classic BPF: load the TCP flags; drop packets with SYN; keep the rest.
_INSTRUCTIONS = b"".join(
    struct.pack("=HBBI", *instruction)
    for instruction in (
        (0x30, 0, 0, 13),
        (0x45, 0, 1, 0x02),
        (0x06, 0, 0, 0),
        (0x06, 0, 0, _ALL),
    )
)


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_char_p))


def refuse_new(listener: socket.socket) -> None:
    """Have the kernel ignore new connection attempts from now on.

    Closing a listener resets connections that wait to be accepted or are in their handshake,
    although their clients consider themselves connected and have sent a request. So no new ones
    may arrive before those are accepted and the listener is closed. An ignored client tries again
    a second later and is refused then. Has no effect except on Linux.
    """
    if listener.family not in (socket.AF_INET, socket.AF_INET6):
        return
    program = _Program(len(_INSTRUCTIONS) // 8, _INSTRUCTIONS)
    with contextlib.suppress(OSError):
        listener.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, bytes(program))
