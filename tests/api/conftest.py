"""One server with a user of every role, for the tests of all dialects."""

from collections.abc import Iterator

import pytest

from api.people import People, server_with_people


@pytest.fixture(scope="session")
def people(tmp_path_factory: pytest.TempPathFactory) -> Iterator[People]:
    """The server with its users."""
    with server_with_people(tmp_path_factory.mktemp("dialects") / "var") as made:
        yield made
