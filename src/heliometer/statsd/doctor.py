"""The check of StatsD's listener."""

import socket
from collections.abc import Iterator

from heliometer.config import Settings, parse_address
from heliometer.core.finding import FAIL, OK, WARN, Finding
from heliometer.core.loopback import LOOPBACK
from heliometer.core.server_status import ServerStatus


def statsd(settings: Settings, server: ServerStatus) -> Iterator[Finding]:
    """Whether its address is free, and who can reach it."""
    listen = settings.statsd.listen
    if not listen:
        return
    host, port = parse_address(listen)
    if not server.has_data_dir:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            try:
                probe.bind((host, port))
            except OSError as error:
                yield Finding(
                    "StatsD", FAIL, f"cannot listen on {listen}: {error.strerror or error}",
                    "end the other program, or choose another address for statsd.listen",
                )  # fmt: skip
                return
    if host in LOOPBACK:
        yield Finding("StatsD", OK, f"listens on {listen}, for this machine only")
    else:
        yield Finding(
            "StatsD", WARN, f"listens on {listen} for anybody who can reach it, without a password",
            "restrict it with a firewall, or listen on 127.0.0.1",
        )  # fmt: skip
