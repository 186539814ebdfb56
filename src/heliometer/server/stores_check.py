"""Whether the stores of the data directory fit each other: one that is empty beside others that are
not is no first start, but one that was lost."""

import logging
import os
from collections.abc import Collection
from pathlib import Path

import msgspec
from sqlalchemy.engine import make_url

from heliometer.config import Settings
from heliometer.core.errors import UnusableData
from heliometer.storage.sql.postgresql_url import is_postgresql

log = logging.getLogger(__name__)

MANIFEST = "stores.json"
RESOURCES, METRICS, FEED = "resources", "metrics", "feed"
_SHOWN = 3


def present(settings: Settings) -> set[str]:
    """The embedded stores whose files are there and not empty. Only the files' sizes are looked
    at."""
    found = set()
    path = resources_file(settings)
    if path is not None and _has_bytes(path):
        found.add(RESOURCES)
    metrics = settings.data_dir / "metrics"
    files = (metrics / "recent.duckdb", metrics / "recent.duckdb.wal")
    if any(_has_bytes(f) for f in files) or any((metrics / "partitions").glob("*.parquet")):
        found.add(METRICS)
    if _has_bytes(settings.data_dir / "feed.sqlite"):
        found.add(FEED)
    return found


def resources_file(settings: Settings) -> Path | None:
    """The file of the resources; none: they are in PostgreSQL."""
    if is_postgresql(settings.resources.url):
        return None
    return Path(make_url(settings.resources_url).database or "")


def lost(settings: Settings) -> dict[str, str]:
    """The stores that were there and are not, each with a sentence. It only reads."""
    here, known = present(settings), _known(settings.data_dir)
    found = {}
    path = resources_file(settings)
    if path is not None and RESOURCES not in here and (RESOURCES in known or METRICS in here):
        found[RESOURCES] = f"{path} is {'empty' if path.exists() else 'gone'}, but " + (
            "there are measurements" if METRICS in here else f"{MANIFEST} names it"
        )
    if not settings.metrics.url and METRICS in known and METRICS not in here:
        folder = settings.data_dir / "metrics"
        found[METRICS] = f"the measurements in {folder} are gone, but {MANIFEST} names them"
    if FEED in known and FEED not in here:
        feed = settings.data_dir / "feed.sqlite"
        found[FEED] = (
            f"{feed} is {'empty' if feed.exists() else 'gone'}: messages that waited for the "
            "feed's consumers are lost"
        )
    return found


def require(settings: Settings) -> None:
    """Before the stores are opened. Raises UnusableData; of the feed it only tells."""
    found = lost(settings)
    for name, sentence in found.items():
        if name != FEED:
            raise UnusableData(f"{sentence}; {advice(settings)}")
        log.error("%s", sentence)


def require_owners(
    settings: Settings, projects: Collection[str], users: int, owners: Collection[str]
) -> None:
    """After they were opened: ``projects`` and ``users`` are those of the resources, ``owners`` the
    projects that have measurements. Raises UnusableData when the resources were emptied."""
    if not owners:
        return
    if not projects and not users:
        raise UnusableData(
            f"the resources have no project and no user, but {len(owners)} projects have "
            f"measurements; {advice(settings)}"
        )
    unknown = sorted(set(owners).difference(projects))
    if unknown:
        log.error(
            "%s projects have measurements and are not among the resources: %s%s",
            len(unknown), ", ".join(unknown[:_SHOWN]), " …" if len(unknown) > _SHOWN else "",
        )  # fmt: skip


def advice(settings: Settings) -> str:
    """What to do about a lost store."""
    return (
        "nothing was changed; restore a backup, or see what can be saved with: "
        f"heliometer repair --data-dir {settings.data_dir}"
    )


def remember(settings: Settings) -> None:
    """Note which stores there are, once all are open."""
    here = present(settings)
    if here == _known(settings.data_dir):
        return
    path = settings.data_dir / MANIFEST
    partial = path.with_name(f"{path.name}.part")
    try:
        partial.write_bytes(msgspec.json.encode({"stores": sorted(here)}))
        descriptor = os.open(partial, os.O_RDONLY)
        os.fsync(descriptor)
        os.close(descriptor)
        partial.rename(path)
    except OSError as error:
        log.warning("%s cannot be written: %s", path, error.strerror)


def _known(folder: Path) -> set[str]:
    try:
        raw = (folder / MANIFEST).read_bytes()
        return set(msgspec.json.decode(raw, type=dict[str, list[str]]).get("stores", []))
    except (OSError, msgspec.MsgspecError):
        return set()


def _has_bytes(path: Path) -> bool:
    try:
        return path.stat().st_size > 0
    except OSError:
        return False
