"""Collectors: what the service captures itself and reports in the reserved namespaces."""

from collections.abc import Mapping
from importlib import import_module
from typing import NamedTuple, Protocol, cast

COLLECTORS: dict[str, str] = {
    "host": "heliometer.collect.host.collector:HostCollector",
}
"""Name of each collector → ``module:Class``, imported only when it is used."""


class Measurement(NamedTuple):
    """One value that a collector read, on its way to the ingest."""

    namespace: str
    dimensions: Mapping[str, str]
    timestamp_ms: int
    value: float


class Collector(Protocol):
    """Reads something that can be measured."""

    def collect(self, timestamp_ms: int) -> list[Measurement]:
        """Read once; every measurement carries ``timestamp_ms``. May block: called in a thread.

        Whatever could be read is returned; raises only when nothing could.
        """
        ...


def load_collector(name: str) -> Collector:
    """Make the collector of that name. Raises KeyError for a name that is not in COLLECTORS."""
    module, _, attribute = COLLECTORS[name].partition(":")
    return cast(Collector, getattr(import_module(module), attribute)())
