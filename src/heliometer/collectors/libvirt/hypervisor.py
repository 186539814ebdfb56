"""The connection to a hypervisor: all of its running domains in one call."""

import logging
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import libvirt

from heliometer.collectors.libvirt.collector import Domain, LibvirtCollector
from heliometer.collectors.libvirt.definition import Definition
from heliometer.collectors.libvirt.owners import Owners
from heliometer.core.errors import Code, HeliometerError

log = logging.getLogger(__name__)

GONE = (libvirt.VIR_ERR_NO_DOMAIN, libvirt.VIR_ERR_OPERATION_INVALID)
"""A domain that ended while it was read."""
STATISTICS = (
    libvirt.VIR_DOMAIN_STATS_STATE
    | libvirt.VIR_DOMAIN_STATS_CPU_TOTAL
    | libvirt.VIR_DOMAIN_STATS_VCPU
    | libvirt.VIR_DOMAIN_STATS_INTERFACE
    | libvirt.VIR_DOMAIN_STATS_BLOCK
)
RUNNING = libvirt.VIR_CONNECT_GET_ALL_DOMAINS_STATS_ACTIVE
# A busy domain (a snapshot, a migration) returns what is available without waiting.
NO_WAITING = libvirt.VIR_CONNECT_GET_ALL_DOMAINS_STATS_NOWAIT


BLOCK_KEYS = ("rd.reqs", "rd.bytes", "wr.reqs", "wr.bytes")
NET_KEYS = (
    "rx.bytes", "rx.pkts", "rx.errs", "rx.drop", "tx.bytes", "tx.pkts", "tx.errs", "tx.drop",
)  # fmt: skip
"""The values that the calls for one device return, in order."""


class Hypervisor:
    """Connects on first use, and reconnects after the connection was lost."""

    def __init__(self, uri: str) -> None:
        self.uri = uri
        self._connection: Any = None
        # Errors are raised; by default libvirt prints them as well.
        libvirt.registerErrorHandler(lambda *_: None, None)

    def domains(self) -> list[Domain]:
        """Every running domain. Raises UNAVAILABLE, with what to do about it."""
        connection = self._connected()
        try:
            found = self._statistics(connection)
        except libvirt.libvirtError as error:
            self.close()
            raise self._unavailable(error) from error
        return [
            Domain(handle.UUIDString(), handle.ID(), statistics, handle)
            for handle, statistics in found
        ]

    def xml_of(self, domain: Domain) -> str | None:
        """The domain's definition; None if it has ended meanwhile."""
        xml: str | None = _unless_gone(domain.handle.XMLDesc)
        return xml

    def complete(self, domain: Domain, definition: Definition) -> Mapping[str, Any]:
        """The domain's statistics; those that some hypervisors leave out of the reply for all
        domains take a call each."""
        statistics = dict(domain.statistics)
        handle = domain.handle
        if "cpu.time" not in statistics and (info := _unless_gone(handle.info)):
            statistics |= {"vcpu.current": info[3], "cpu.time": info[4]}
        for group, names, ask, keys in (
            ("block", definition.disks, handle.blockStats, BLOCK_KEYS),
            ("net", definition.interfaces, handle.interfaceStats, NET_KEYS),
        ):
            if f"{group}.count" in statistics:
                continue
            statistics[f"{group}.count"] = len(names)
            for number, name in enumerate(names):
                statistics[f"{group}.{number}.name"] = name
                for key, value in zip(keys, _unless_gone(ask, name) or (), strict=False):
                    statistics[f"{group}.{number}.{key}"] = value
        return statistics

    def close(self) -> None:
        """Close the connection, ignoring errors."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(libvirt.libvirtError):
                connection.close()

    def _connected(self) -> Any:
        if self._connection is not None:
            with suppress(libvirt.libvirtError):
                if self._connection.isAlive():
                    return self._connection
            self.close()
        try:
            # Read-only, which on many systems needs no group membership.
            self._connection = libvirt.openReadOnly(self.uri)
        except libvirt.libvirtError as error:
            raise self._unavailable(error) from error
        return self._connection

    def _statistics(self, connection: Any) -> list[tuple[Any, Mapping[str, Any]]]:
        try:
            found: list[tuple[Any, Mapping[str, Any]]] = connection.getAllDomainStats(
                STATISTICS, RUNNING | NO_WAITING
            )
        except libvirt.libvirtError as error:
            if error.get_error_code() not in (
                libvirt.VIR_ERR_INVALID_ARG,
                libvirt.VIR_ERR_ARGUMENT_UNSUPPORTED,
            ):
                raise
            found = connection.getAllDomainStats(STATISTICS, RUNNING)  # libvirt before 4.5
        return found

    def _unavailable(self, error: libvirt.libvirtError) -> HeliometerError:
        text = str(error).strip()
        hint = "Start libvirtd there, or name another hypervisor."
        if "ermission denied" in text or "uthentication" in text:
            hint = "Let this user read it: usermod -aG libvirt USER, then start anew."
        return HeliometerError(
            Code.UNAVAILABLE, f"The hypervisor {self.uri} cannot be read: {text}.", details=hint
        )


def libvirt_collector(
    uri: str, owners: Owners, counts: Counter[str] | None = None
) -> LibvirtCollector:
    """A collector of the hypervisor at a libvirt URI, such as ``qemu:///system``."""
    return LibvirtCollector(Hypervisor(uri), owners, counts=Counter() if counts is None else counts)


def _unless_gone(call: Any, *arguments: Any) -> Any:
    try:
        return call(*arguments)
    except libvirt.libvirtError as error:
        if error.get_error_code() not in GONE:
            log.debug("a domain could not be read: %s", error)
        return None
