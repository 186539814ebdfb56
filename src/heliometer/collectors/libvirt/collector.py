"""The libvirt collector: remembers each domain's last report."""

import logging
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

from heliometer.collectors import Due, Measurement
from heliometer.collectors.libvirt.definition import Definition, read_definition
from heliometer.collectors.libvirt.owners import Owners
from heliometer.collectors.libvirt.statistics import device_names, snapshot_of
from heliometer.collectors.measure import measure, remembered
from heliometer.collectors.snapshot import Snapshot

log = logging.getLogger(__name__)

REREAD_S = 3600.0
"""A definition is read again after so many seconds even if it seems unchanged."""


class Domain(NamedTuple):
    """A running domain and its statistics."""

    uuid: str
    run: int
    """A number that changes with each start."""
    statistics: Mapping[str, Any]
    """By libvirt's names: ``cpu.time``, ``block.0.rd.bytes`` and so on."""
    handle: Any = None


class Source(Protocol):
    """A hypervisor that domains are read from."""

    def domains(self) -> list[Domain]:
        """Every running domain. Raises UNAVAILABLE, with what to do about it."""
        ...

    def xml_of(self, domain: Domain) -> str | None:
        """The domain's definition; None if it has ended meanwhile."""
        ...

    def complete(self, domain: Domain, definition: Definition) -> Mapping[str, Any]:
        """The domain's statistics, including any that the reply for all domains left out."""
        ...


@dataclass(slots=True)
class _Known:
    """What is remembered of a running domain between rounds."""

    run: int
    devices: object
    definition: Definition
    read_at: float
    capacity_s: float = 0.0
    seen_at: float = 0.0
    reported: Snapshot | None = None


@dataclass(slots=True)
class LibvirtCollector:
    """Reports every running domain to the project that owns it; see ``docs/collectors.md``."""

    hypervisor: Source
    owners: Owners = field(default_factory=Owners)
    monotonic: Callable[[], float] = time.monotonic
    counts: Counter[str] = field(default_factory=Counter)
    """Counts of the last round: ``domains``, and those left out as ``vanished`` or
    ``ownerless``."""
    _known: dict[str, _Known] = field(default_factory=dict)
    _logged: set[str] = field(default_factory=set)

    def collect(self, timestamp_ms: int, due: Due = lambda _: True) -> list[Measurement]:
        """Counters, and deltas since each domain was last reported. Raises UNAVAILABLE when the
        hypervisor cannot be read."""
        domains = self.hypervisor.domains()
        now = self.monotonic()
        found: list[Measurement] = []
        running: dict[str, _Known] = {}
        for name, size in (("domains", len(domains)), ("vanished", 0), ("ownerless", 0)):
            self.counts[name] = size
        for domain in domains:
            known = self._look_up(domain, now)
            if known is None:
                self.counts["vanished"] += 1
                continue
            running[domain.uuid] = known
            found += self._report(domain, known, now, timestamp_ms, due)
        self._known = running
        return found

    def _look_up(self, domain: Domain, now: float) -> _Known | None:
        known = self._known.get(domain.uuid)
        devices = device_names(domain.statistics)
        if (
            known is not None
            and (known.run, known.devices) == (domain.run, devices)
            and now - known.read_at < REREAD_S
        ):
            return known
        xml = self.hypervisor.xml_of(domain)
        if xml is None:
            return None
        try:
            definition = read_definition(xml)
        except ValueError as error:
            self._log_once(domain.uuid, "domain %s is left out: %s", domain.uuid, error)
            return None
        if known is None or known.run != domain.run:
            # It was restarted, and its counters with it.
            return _Known(domain.run, devices, definition, now, seen_at=now)
        known.devices, known.definition, known.read_at = devices, definition, now
        return known

    def _report(
        self, domain: Domain, known: _Known, now: float, timestamp_ms: int, due: Due
    ) -> list[Measurement]:
        definition = known.definition
        project = self.owners.owner(domain.uuid, definition)
        if not project:
            self.counts["ownerless"] += 1
            self._log_once(
                f"owner {domain.uuid}",
                "domain %s (%s) is left out: nobody says which project owns it; name one in the "
                "mapping",
                definition.name,
                domain.uuid,
            )
            return []
        if not due(project):
            return []
        statistics = self.hypervisor.complete(domain, definition)
        known.capacity_s += (now - known.seen_at) * int(statistics.get("vcpu.current", 1) or 1)
        known.seen_at = now
        snapshot = snapshot_of(statistics, definition, now, known.capacity_s)
        found = measure(known.reported, snapshot, domain.uuid, timestamp_ms, project)
        known.reported = remembered(known.reported, snapshot)
        return found

    def _log_once(self, what: str, message: str, *values: object) -> None:
        if what not in self._logged:
            self._logged.add(what)
            log.warning(f"libvirt collector: {message} (logged once)", *values)  # noqa: G004
