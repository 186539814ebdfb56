"""The checks of ``heliometer doctor``, in the order in which they are told."""

from collections.abc import Callable, Iterator

from heliometer.cli import (
    checks_cluster,
    checks_collect,
    checks_data,
    checks_feed,
    checks_host,
    checks_identity,
    checks_notify,
    checks_stores,
)
from heliometer.cli.server_probe import Probe, probe
from heliometer.config import Settings
from heliometer.core.finding import FAIL, Finding

Check = Callable[[Settings, Probe], Iterator[Finding]]
CHECKS: dict[str, Check] = {
    "versions": checks_host.versions,
    "data directory": checks_data.directory,
    "disk": checks_data.disk,
    "resources": checks_stores.resources,
    "measurements": checks_stores.measurements,
    "identity": checks_identity.identity,
    "cluster": checks_cluster.cluster,
    "server": checks_host.port,
    "TLS": checks_host.tls,
    "feed": checks_feed.feed,
    "notifications": checks_notify.relays,
    "hypervisor": checks_collect.hypervisor,
    "StatsD": checks_collect.statsd,
    "clock": checks_host.clock,
    "limits": checks_host.file_limit,
}


def run_all(settings: Settings) -> Iterator[Finding]:
    """Run every check. One that breaks is a finding, and keeps no other from running."""
    server = probe(settings)
    for name, check in CHECKS.items():
        try:
            yield from check(settings, server)
        except Exception as error:
            yield Finding(
                name, FAIL, f"could not be checked: {error or type(error).__name__}",
                "run the doctor as the user that runs the server",
            )  # fmt: skip
