"""Collectors: what the service captures itself and reports in the reserved namespaces."""

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any, NamedTuple, Protocol, cast

COLLECTORS: dict[str, str] = {
    "host": "heliometer.collectors.host.collector:HostCollector",
    "libvirt": "heliometer.collectors.libvirt.hypervisor:libvirt_collector",
}
"""Name of each collector → ``module:maker``, imported only when it is used."""


class Measurement(NamedTuple):
    """One value that a collector read, on its way to the ingest."""

    namespace: str
    dimensions: Mapping[str, str]
    timestamp_ms: int
    value: float
    project_id: str = ""
    """Whose it is: id or name; empty: the project that the collector itself works for."""


Due = Callable[[str], bool]
"""Whether a round is due for a project: each has the interval of its monitoring level."""


class Collector(Protocol):
    """Reads something that can be measured."""

    def collect(self, timestamp_ms: int, due: Due) -> list[Measurement]:
        """Read once; every measurement carries ``timestamp_ms``. May block: called in a thread.

        Only what belongs to projects for which it is ``due`` is reported, and each difference
        spans the time since it last was. Whatever could be read is returned; raises only when
        nothing could.
        """
        ...


def load_collector(name: str, **arguments: Any) -> Collector:
    """Make the collector of that name. Raises KeyError for a name that is not in COLLECTORS."""
    module, _, attribute = COLLECTORS[name].partition(":")
    return cast(Collector, getattr(import_module(module), attribute)(**arguments))
