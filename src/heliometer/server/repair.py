"""Repairing the embedded data of a server that does not run."""

from dataclasses import asdict

from heliometer.config import Settings
from heliometer.core.errors import UnusableData
from heliometer.server.control_client import is_in_use
from heliometer.storage.duckdb.repair import Report, repair_store


def repair(settings: Settings, *, apply: bool) -> dict[str, list[str]]:
    """Find out what is damaged and can be saved; with ``apply``, save it.

    Returns sentences: ``problems``, ``saved``, ``lost`` and ``kept``. Raises UnusableData when a
    server has the data open.
    """
    report = Report()
    if is_in_use(settings.data_dir):
        raise UnusableData(f"a server runs on {settings.data_dir}; stop it first")
    if not settings.metrics.url:
        report = repair_store(
            settings.data_dir / "metrics", settings.metrics.memory_bytes, apply=apply
        )
    return asdict(report)
