"""A listener that takes no new connections, and loses none that it has."""

import contextlib
import ctypes
import socket
import struct

SO_ATTACH_FILTER = 26
"""Linux; Python's socket has no name for it."""
_ALL = (1 << 32) - 1
"""Bytes of a packet to keep; accepted connections inherit the filter."""
# Classic BPF: load the flags of the TCP header; drop what has SYN set; keep all the rest.
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
    """Have the kernel ignore whoever wants to connect from now on.

    Closing a listener resets the connections that wait to be accepted, and those whose handshake
    is under way: their clients believe that they are connected, and have sent their request. So
    nobody new may come before these have been accepted and the listener is closed. Who is ignored
    tries again a second later, and is refused then. Elsewhere than on Linux this does nothing.
    """
    if listener.family not in (socket.AF_INET, socket.AF_INET6):
        return
    program = _Program(len(_INSTRUCTIONS) // 8, _INSTRUCTIONS)
    with contextlib.suppress(OSError):
        listener.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, bytes(program))
