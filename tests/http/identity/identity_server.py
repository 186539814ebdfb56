"""A server whose users these tests may fail to sign in as without being slowed."""

from collections.abc import Iterator

import pytest

from conftest import RunningServer


@pytest.fixture(scope="module")
def identity_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a server with users ann (in shop and stock) and bob (in shop)."""
    environment = {
        "HELIOMETER_COLLECTOR_ENABLED": "false",
        "HELIOMETER_LIMITS_SIGN_IN_FAILURES": "100000",
    }
    running = RunningServer(tmp_path_factory.mktemp("identity") / "var", environment).start()
    for command in (
        ("project", "create", "shop"),
        ("project", "create", "stock"),
        ("user", "create", "ann", "--project", "shop", "--password-stdin"),
        ("user", "create", "bob", "--project", "shop", "--password-stdin"),
        ("user", "grant", "ann", "--project", "stock"),
    ):
        done = running.command(*command, text="secret")
        assert done.returncode == 0, done.stderr
    yield running.url
    assert running.stop() == 0
