"""Prometheus' own tool finds nothing to complain of in the service's metrics."""

import shutil
import subprocess
from pathlib import Path

import httpx
import pytest

from conftest import RunningServer

PROMTOOL = shutil.which("promtool")
pytestmark = [
    pytest.mark.engines,
    pytest.mark.skipif(not PROMTOOL, reason="needs promtool, which comes with prometheus"),
]
OTHERS = ("process_", "python_")
"""Of the client library, with names that it chose."""


def test_the_service_s_metrics_follow_the_conventions(tmp_path: Path) -> None:
    assert PROMTOOL is not None
    server = RunningServer(tmp_path / "var", {"HELIOMETER_STATSD_LISTEN": "127.0.0.1:0"}).start()
    try:
        httpx.get(f"{server.url}/v1.1")
        text = httpx.get(f"{server.url}/metrics").text
    finally:
        server.stop()
    assert "heliometer_statsd_samples_total" in text
    checked = subprocess.run(
        [PROMTOOL, "check", "metrics"], input=text, capture_output=True, text=True, timeout=60
    )
    said = [line for line in (checked.stdout + checked.stderr).splitlines() if line.strip()]
    assert [line for line in said if not line.startswith(OTHERS)] == []
