"""The documentation page in a real browser."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from conftest import RunningServer

pytestmark = pytest.mark.browser


def chromium(*arguments: str) -> str:
    """Run a headless browser and return what it prints."""
    program = shutil.which("chromium") or shutil.which("chromium-browser")
    if program is None:
        pytest.skip("chromium is not installed")
    done = subprocess.run(
        [program, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic",
         "--no-first-run", "--disable-background-networking", "--disable-component-update",
         "--disable-sync", *arguments],
        capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    return done.stdout


@pytest.mark.parametrize("width", [390, 1280])
def test_every_operation_can_be_read(server: RunningServer, tmp_path: Path, width: int) -> None:
    profile = f"--user-data-dir={tmp_path / 'profile'}"
    size = f"--window-size={width},900"
    dom = chromium(profile, size, "--dump-dom", f"{server.url}/docs")
    with server.client() as client:
        paths = client.get("/openapi.json").json()["paths"]
    for path in paths:
        assert path in dom
    assert dom.count("<article") == sum(len(methods) for methods in paths.values())
    assert not re.search(r"(src|href)=\"https?://", dom), "the page asks other hosts for something"
    picture = tmp_path / "docs.png"
    chromium(profile, size, f"--screenshot={picture}", f"{server.url}/docs")
    assert picture.stat().st_size > 10_000
