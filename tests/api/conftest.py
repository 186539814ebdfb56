"""One server with a user of every role, for the tests of all dialects."""

import asyncio
from collections.abc import Iterator

import pytest

from api.people import BODY_LIMIT, People, populate
from conftest import RunningServer


@pytest.fixture(scope="session")
def people(tmp_path_factory: pytest.TempPathFactory) -> Iterator[People]:
    """The server with its users."""
    environment = {
        "HELIOMETER_COLLECTOR_ENABLED": "false",
        "HELIOMETER_LIMITS_BODY_BYTES": str(BODY_LIMIT),
    }
    running = RunningServer(tmp_path_factory.mktemp("dialects") / "var", environment).start()
    yield People(running, asyncio.run(populate(running.settings)))
    assert running.stop() == 0
