"""Clients of the clouds whose API this is, unmodified, with nothing but a URL and a password."""

import json
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from conftest import RunningServer

pytestmark = pytest.mark.engines

CLIENTS = Path(__file__).with_name("clients")
PYTHON = Path(__file__).parents[2] / ".venv-clients" / "bin" / "python"
"""An environment of their own: they want libraries of 2018."""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RunningServer]:
    running = RunningServer(
        tmp_path / "var",
        {"HELIOMETER_COLLECTOR_ENABLED": "false", "HELIOMETER_ALARMS_AT_ONCE": "false"},
    ).start()
    now = int(time.time()) // 60 * 60 - 600
    with running.client() as client:
        for name, till in (("sales", "till-1"), ("sales", "till-2"), ("returns", "till-1")):
            metric = {
                "namespace": "shop",
                "dimensions": {"metric_name": name, "resource_id": till},
                "time_values": [[now + 20 * k, k] for k in range(20)],
            }
            assert client.post("/v1.1/metrics", json=metric).status_code == 204
    yield running
    assert running.stop() == 0


def seen_by(script: str, server: RunningServer) -> dict[str, Any]:
    if not PYTHON.exists():
        pytest.fail(f"{PYTHON.parents[1]} is missing: run scripts/test-engines")
    done = subprocess.run(
        [str(PYTHON), "-W", "ignore", str(CLIENTS / script), server.url, server.password],
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    seen: dict[str, Any] = json.loads(done.stdout)
    return seen


def test_python_ceilometerclient(server: RunningServer) -> None:
    hook = "https://example.com/hook"
    assert seen_by("run_ceilometerclient.py", server) == {
        "meters": ["sales", "returns"],
        "limit": 1,
        "unique": 1,
        "samples": [19.0, 18.0, 17.0],
        "sample": True,
        "statistics": [
            20,
            {"cardinality/resource_id": 1.0, "max": 19.0},
            {"resource_id": "till-1"},
        ],
        "periods": 4,
        "resources": ["till-1", "till-2"],
        "resource": "till-2",
        "capability": True,
        "created": ["load"],
        "alarm": ["insufficient data", [hook], 5.0],
        "updated": ["higher", 7.0, "till-1"],
        "state": ["ok", "ok"],
        "history": ["state transition", "creation"],
        "combination": "or",
        "alarms": [3, ["higher"]],
        "gone": None,
        "error": "Unrecognized field in query. valid keys:"
        '["project_id", "timestamp", "resource_id", "resource_name", "meter"] (HTTP 400)',
    }


def test_eclsdk(server: RunningServer) -> None:
    assert seen_by("run_eclsdk.py", server) == {
        "meters": ["returns", "sales"],
        "found": "till-1",
        "samples": 40,
        "statistics": [[40, 19.0]],
        "resources": ["till-1", "till-2"],
        "resource": "till-1",
        "capabilities": True,
        "sample": "load",
        "alarm": ["insufficient data", "high", "high"],
        "updated": "higher",
        "state": ["insufficient data", "ok"],
        "changes": ["state transition", "creation"],
        "alarms": ["higher"],
        "gone": 404,
    }
