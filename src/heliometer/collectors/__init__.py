"""Collectors: measurements that the service takes itself, in the reserved namespaces."""

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any, NamedTuple, Protocol, cast

COLLECTORS: dict[str, str] = {
    "host": "heliometer.collectors.host.collector:HostCollector",
    "libvirt": "heliometer.collectors.libvirt.hypervisor:libvirt_collector",
}
"""Each collector's name → ``module:maker``, imported only when it is used."""


class Measurement(NamedTuple):
    """One value that a collector read."""

    namespace: str
    dimensions: Mapping[str, str]
    timestamp_ms: int
    value: float
    project_id: str = ""
    """Id or name of the project that owns it; empty for the collector's own project."""


Due = Callable[[str], bool]
"""Whether a round is due for a project, by the interval of its monitoring level."""


class Collector(Protocol):
    """Reads a machine or a hypervisor, once a round."""

    def collect(self, timestamp_ms: int, due: Due) -> list[Measurement]:
        """Read once; every measurement carries ``timestamp_ms``. May block: called in a thread.

        Only projects for which a round is ``due`` are reported, and each delta covers the time
        since their last report. Returns whatever could be read; raises only if nothing could.
        """
        ...


def load_collector(name: str, **arguments: Any) -> Collector:
    """Make the collector of that name. Raises KeyError for a name that is not in COLLECTORS."""
    module, _, attribute = COLLECTORS[name].partition(":")
    return cast(Collector, getattr(import_module(module), attribute)(**arguments))
