"""What the log says of requests whose paths hold secrets."""

import httpx
import pytest

from conftest import PASSWORD, RunningServer


@pytest.mark.reliability(23)
def test_a_token_in_a_path_is_not_logged(fresh_server: RunningServer) -> None:
    fresh_server.environment["HELIOMETER_LOG_ACCESS"] = "all"
    fresh_server.start()
    token = fresh_server.token(password=PASSWORD)
    with fresh_server.client(token) as client:
        for path in (f"/identity/v2.0/tokens/{token}", f"/identity/v2.0/token/{token}"):
            client.get(path)
    httpx.get(f"{fresh_server.url}/v1.1/alarms/tost")
    fresh_server.stop()
    log = fresh_server.log()
    assert token not in log
    assert "/identity/v2.0/tokens/{token_id}" in log
    assert "/identity/v2.0/token/…" in log or "/identity/v2.0/token/\\u2026" in log
