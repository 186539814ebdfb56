"""Checks of what is collected and taken in: the hypervisor, StatsD's address."""

import socket
from collections.abc import Iterator
from pathlib import Path

from heliometer.cli.server_probe import Probe
from heliometer.config import Settings, parse_address
from heliometer.core.errors import HeliometerError
from heliometer.core.finding import FAIL, OK, WARN, Finding

LOCAL = ("127.0.0.1", "::1", "localhost")


def hypervisor(settings: Settings, _: Probe) -> Iterator[Finding]:
    """Whether the domains can be read, and somebody owns them."""
    uri = settings.collector.libvirt_uri
    if not uri:
        return
    from heliometer.collectors.libvirt.definition import read_definition
    from heliometer.collectors.libvirt.owners import Owners, WrongOwners

    try:
        from heliometer.collectors.libvirt.hypervisor import Hypervisor
    except ImportError as error:
        advice = "pip install heliometer[libvirt]"
        yield Finding("hypervisor", FAIL, f"libvirt's Python module is missing: {error}", advice)
        return
    try:
        path = settings.collector.owners
        owners = Owners.load(Path(path) if path else None)
        source = Hypervisor(uri)
        domains = source.domains()
    except WrongOwners as error:
        yield Finding("hypervisor", FAIL, str(error), "correct collector.owners")
        return
    except HeliometerError as error:
        advice = error.details[:1].lower() + error.details[1:].rstrip(".")
        yield Finding("hypervisor", FAIL, error.message.rstrip("."), advice)
        return
    ownerless = [
        domain.uuid
        for domain in domains
        if (xml := source.xml_of(domain)) and not owners.owner(domain.uuid, read_definition(xml))
    ]
    source.close()
    found = f"{len(domains)} running domain{'s' * (len(domains) != 1)} at {uri}"
    if ownerless:
        left_out = f"{len(ownerless)} without an owner, such as {ownerless[0]}"
        yield Finding(
            "hypervisor", WARN, f"{found}; {left_out}",
            "name their projects in the file of collector.owners",
        )  # fmt: skip
    else:
        yield Finding("hypervisor", OK, found)


def statsd(settings: Settings, server: Probe) -> Iterator[Finding]:
    """Whether StatsD's address can be had, and who can reach it."""
    listen = settings.statsd.listen
    if not listen:
        return
    host, port = parse_address(listen)
    if not server.controls:
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
    if host in LOCAL:
        yield Finding("StatsD", OK, f"is taken on {listen}, from this machine only")
    else:
        yield Finding(
            "StatsD", WARN, f"is taken on {listen} from whoever reaches it, without a password",
            "let a firewall choose who may, or listen on 127.0.0.1",
        )  # fmt: skip
