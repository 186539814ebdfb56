"""What the package is built from, and what of others it contains."""

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]
STATIC = ROOT / "src" / "heliometer" / "console" / "static"


def test_what_builds_the_package_is_pinned_with_hashes() -> None:
    required = tomllib.loads((ROOT / "pyproject.toml").read_text())["build-system"]["requires"]
    lock = (ROOT / "requirements-build.lock").read_text()
    pinned = re.findall(r"^(\S+==\S+) \\\n +--hash=sha256:", lock, re.MULTILINE)
    assert set(required) <= set(pinned)
    assert len(pinned) == len(re.findall(r"^\S", lock, re.MULTILINE))
    for line in (ROOT / "Makefile").read_text().splitlines():
        if "pip install" in line:
            assert "--require-hashes" in line or "--no-build-isolation" in line, line


def test_scripts_of_others_carry_their_licences() -> None:
    theirs = [path for path in STATIC.iterdir() if ".min." in path.name]
    assert theirs
    for path in theirs:
        licence = STATIC / f"{path.name.partition('.')[0]}.LICENSE"
        assert licence.stat().st_size > 200, path.name
