"""The checks of ``heliometer doctor``. Each lives beside what it checks; this is the list."""

from collections.abc import Callable, Iterator
from importlib import import_module

from heliometer.config import Settings
from heliometer.core.finding import FAIL, Finding
from heliometer.core.server_status import ServerStatus
from heliometer.server.server_probe import probe

Check = Callable[[Settings, ServerStatus], Iterator[Finding]]
CHECKS = (
    ("versions", "server.host_checks:versions"),
    ("data directory", "server.data_directory_checks:directory"),
    ("disk", "server.data_directory_checks:disk"),
    ("resources", "storage.sql.doctor:sqlite"),
    ("resources", "storage.sql.postgresql_doctor:postgresql"),
    ("secrets", "storage.sql.secrets_doctor:secrets"),
    ("measurements", "storage.duckdb.doctor:measurements"),
    ("measurements", "storage.clickhouse.doctor:measurements"),
    ("identity", "identity.builtin.doctor:identity"),
    ("identity", "identity.keystone.doctor:identity"),
    ("cluster", "cluster.doctor:cluster"),
    ("server", "server.host_checks:port"),
    ("health", "server.host_checks:health"),
    ("TLS", "server.host_checks:tls"),
    ("feed", "feed.amqp_server.doctor:feed"),
    ("feed", "feed.rabbitmq_doctor:feed"),
    ("notifications", "notifications.doctor:channels"),
    ("hypervisor", "collectors.libvirt.doctor:hypervisor"),
    ("StatsD", "statsd.doctor:statsd"),
    ("clock", "server.host_checks:clock"),
    ("limits", "server.host_checks:file_limit"),
)
"""In the order in which they are reported: the name under which a failure to check is reported,
and the function, imported when it is its turn. A check of something that the settings do not use
finds nothing."""


def run_all(settings: Settings) -> Iterator[Finding]:
    """Run every check. One that breaks is itself a finding and does not stop the others."""
    server = probe(settings)
    for name, path in CHECKS:
        try:
            yield from _load(path)(settings, server)
        except Exception as error:
            yield Finding(
                name, FAIL, f"could not be checked: {error or type(error).__name__}",
                "run the doctor as the user that runs the server",
            )  # fmt: skip


def _load(path: str) -> Check:
    module, _, function = path.partition(":")
    check: Check = getattr(import_module(f"heliometer.{module}"), function)
    return check
