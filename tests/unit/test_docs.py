"""The documents keep up with the code."""

import os
import re
from pathlib import Path
from typing import Any

import pytest

from heliometer import config

DOCS = Path(__file__).parents[2] / "docs"
SETTINGS = DOCS / "settings.md"
RENEW = "python tests/unit/test_docs.py"

HEADING = """\
# Settings

Each has a default, a key in the TOML file of `--config`, and an environment variable
`HELIOMETER_SECTION_KEY`, such as `HELIOMETER_SERVER_LISTEN`. A flag wins over the environment, the
environment over the file. A wrong value stops the start with one line that says which, why, and
what is allowed.

`HELIOMETER_BOOTSTRAP_PASSWORD` is not a setting: the first start gives it to the user `demo`, or
makes one up and prints it once."""


def settings_page() -> str:
    """The reference of the settings, from their descriptions in ``config.py``."""
    lines = [HEADING]
    section = ""
    for name, key, default, allowed, description in config.entries():
        if name != section:
            section = name
            lines += [
                "",
                f"## [{section}]",
                "",
                "| key | default | allowed | |",
                "|---|---|---|---|",
            ]
        lines.append(f"| `{key}` | {_shown(default)} | {allowed} | {description} |")
    return "\n".join(lines) + "\n"


def _shown(default: Any) -> str:
    if default == "":
        return "empty"
    return f"`{str(default).lower() if isinstance(default, bool) else default}`"


def test_every_setting_is_in_the_reference() -> None:
    assert SETTINGS.read_text(encoding="utf-8") == settings_page(), f"renew it with: {RENEW}"


def test_the_agents_unit_file_is_the_documented_one() -> None:
    page = (DOCS / "collectors.md").read_text(encoding="utf-8")
    unit = (DOCS.parent / "packaging" / "heliometer-agent.service").read_text(encoding="utf-8")
    assert unit in page


def test_every_setting_says_what_it_is_for() -> None:
    for section, key, _, allowed, description in config.entries():
        assert allowed, f"{section}.{key}"
        assert description.endswith("."), f"{section}.{key}"
        assert "|" not in allowed + description, f"{section}.{key}"


def test_settings_that_the_documents_name_exist() -> None:
    known = {f"{section}.{key}" for section, key, *_ in config.entries()}
    sections = "|".join({section for section, *_ in config.entries()})
    named = re.compile(rf"`((?:{sections})\.[a-z_]+)(?: = [^`]*)?`")
    found = {
        name
        for path in DOCS.rglob("*.md")
        for name in named.findall(path.read_text(encoding="utf-8"))
        if not name.endswith((".md", ".sqlite", ".duckdb", ".py"))
    }
    assert found
    assert found <= known


@pytest.mark.parametrize(
    "path", [DOCS.parent / "README.md", *DOCS.rglob("*.md")], ids=lambda path: path.name
)
def test_links_between_the_documents_lead_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)", path.read_text(encoding="utf-8")):
        if not target.startswith(("http://", "https://")):
            assert (path.parent / target).exists(), f"{os.path.relpath(path)}: {target}"


if __name__ == "__main__":
    SETTINGS.write_text(settings_page(), encoding="utf-8")
