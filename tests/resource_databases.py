"""The databases that resources may be in, for tests that hold on all of them."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from engine_servers import postgresql_database
from heliometer.config import ResourceSettings, ServerSettings, Settings

KINDS = ["sqlite", pytest.param("postgresql", marks=pytest.mark.engines)]


@contextmanager
def new_database(kind: str, folder: Path) -> Iterator[Settings]:
    """Settings of a service whose resource database is new and gone afterwards."""
    server = ServerSettings(data_dir=str(folder))
    if kind == "sqlite":
        yield Settings(server=server)
        return
    # One that orders texts by language, as most do: what we rely on must not depend on it.
    with postgresql_database(icu="en-US") as url:
        yield Settings(server=server, resources=ResourceSettings(url=url))
