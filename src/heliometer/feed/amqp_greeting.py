"""Which product answers at an address in AMQP."""

import socket
from contextlib import suppress
from typing import Any

from pamqp import commands, frame

OURS = "Heliometer"
TIMEOUT_S = 3.0


def greeting(host: str, port: int) -> str | None:
    """The product and version; empty if it does not speak AMQP; ``None`` if nothing answers.
    Heliometer's own comes without the version."""
    try:
        connection = socket.create_connection((host, port), TIMEOUT_S)
    except OSError:
        return None
    data = b""
    with connection, suppress(OSError):
        connection.sendall(b"AMQP\x00\x00\x09\x01")
        while len(data) < 7 or len(data) < int.from_bytes(data[3:7], "big") + 8:
            part = connection.recv(4096)
            if not part:
                break
            data += part
    try:
        _, _, start = frame.unmarshal(data)
    except Exception:  # whatever another program answers
        return ""
    if not isinstance(start, commands.Connection.Start):
        return ""
    properties: Any = start.server_properties
    name, version = str(properties.get("product", "")), str(properties.get("version", ""))
    return name if name == OURS else f"{name} {version}".strip()
