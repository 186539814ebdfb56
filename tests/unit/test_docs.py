"""The documentation agrees with the code."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest

from heliometer import config
from heliometer.alarms.expression import parse
from heliometer.cli import cli
from heliometer.core.errors import Invalid

DOCS = Path(__file__).parents[2] / "docs"
SOURCES = DOCS.parent / "src"
SETTINGS = DOCS / "settings.md"
PAGES = [*sorted(DOCS.parent.glob("*.md")), *sorted(DOCS.rglob("*.md"))]
SEPARATORS = set("();<>|&")
LINK = re.compile(r"\]\(([^)#\s]*)(?:#([^)]+))?\)")
RENEW = "python tests/unit/test_docs.py"

HEADING = """\
# Settings

Every setting has a default. Override it with a key in the TOML file given with `--config`, or with
an environment variable `HELIOMETER_SECTION_KEY`, such as `HELIOMETER_SERVER_LISTEN`. Flags take
precedence over the environment, and the environment over the file. An invalid setting stops the
start with one line that names it and says what is wrong and what is allowed.

With `_FILE` after the name of the variable, the value is read from the file that it names, less the
end of the last line, so that a password need not stand in the environment, as in
`HELIOMETER_IDENTITY_KEYSTONE_PASSWORD_FILE=/run/secrets/keystone`. This works for every setting,
and for `HELIOMETER_BOOTSTRAP_PASSWORD`. Setting both is an error.

`HELIOMETER_BOOTSTRAP_PASSWORD` is not a setting: the first start gives this password to the user
`demo`, or generates one and prints it once."""


def settings_page() -> str:
    """The reference of the settings, from their descriptions in ``config``."""
    lines = [HEADING]
    section = ""
    for name, key, default, allowed, description in config.entries():
        if name != section:
            section = name
            lines += [
                "",
                f"## [{section}]",
                "",
                "| key | default | allowed | meaning |",
                "|---|---|---|---|",
            ]
        lines.append(f"| `{key}` | {_shown(default)} | {allowed} | {description} |")
    return "\n".join(lines) + "\n"


def _shown(default: Any) -> str:
    if default == "":
        return "empty"
    return f"`{str(default).lower() if isinstance(default, bool) else default}`"


def _name(page: Path) -> str:
    return str(page.relative_to(DOCS.parent))


def _anchors(page: Path) -> set[str]:
    """Fragments of the headings, as GitHub makes them."""
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def _shell_lines(page: Path) -> Iterator[str]:
    text = page.read_text(encoding="utf-8").replace("\\\n", " ")
    for block in re.findall(r"```sh\n(.*?)```", text, re.DOTALL):
        yield from block.splitlines()


def _heliometer_commands(line: str) -> Iterator[list[str]]:
    """The arguments of each ``heliometer`` command in a line of a shell."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    try:
        tokens = list(lexer)
    except ValueError:  # a quotation that goes on in the next line
        return
    for at, token in enumerate(tokens):
        is_first = not at or set(tokens[at - 1]) <= SEPARATORS
        if token.rpartition("/")[2] == "heliometer" and is_first:
            words = []
            for word in tokens[at + 1 :]:
                if set(word) <= SEPARATORS:
                    break
                words.append(word)
            yield words


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
        if not name.endswith((".md", ".sqlite", ".duckdb", ".py", ".key", ".toml"))
    }
    assert found
    assert found <= known


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_links_lead_to_a_page_and_a_heading(page: Path) -> None:
    for target, anchor in LINK.findall(page.read_text(encoding="utf-8")):
        if target.startswith(("http://", "https://")):
            continue
        linked = page.parent / target if target else page
        assert linked.exists(), target
        if anchor:
            assert anchor in _anchors(linked), f"{target}#{anchor}"


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_commands_and_options_exist(page: Path) -> None:
    for line in _shell_lines(page):
        for words in _heliometer_commands(line):
            command: click.Command = cli
            context = click.Context(cli)
            while isinstance(command, click.Group) and words:
                found = command.get_command(context, words.pop(0))
                assert found is not None, line
                command, context = found, click.Context(found, parent=context)
            options = {o for p in command.params for o in (*p.opts, *p.secondary_opts)} | {"--help"}
            given = {word.partition("=")[0] for word in words if word.startswith("-")}
            numbers = {word for word in given if word[1:2].isdigit()}
            assert given - numbers - {"-"} <= options, line


def test_metrics_of_the_service_exist() -> None:
    sources = "".join(path.read_text(encoding="utf-8") for path in SOURCES.rglob("*.py"))
    strings = re.findall(r'"(?:heliometer_)?([a-z_]+(?:{[a-z]+})?)(?:_total)?"', sources)
    known = re.compile("|".join({re.sub("{.*}", "[a-z]+", string) for string in strings}))
    for page in PAGES:
        for name in re.findall(r"`heliometer_([a-z_]+)`", page.read_text(encoding="utf-8")):
            spellings = (name, name.removesuffix("_total"))
            assert any(map(known.fullmatch, spellings)), f"{page.name}: heliometer_{name}"


def test_the_error_in_the_page_on_alarms_is_the_parsers() -> None:
    page = (DOCS / "alarms.md").read_text(encoding="utf-8")
    shown = re.search(r"```\n(expression: [^`]+)\n```", page)
    assert shown
    expression = shown[1].splitlines()[1].strip()
    with pytest.raises(Invalid) as raised:
        parse(expression)
    assert raised.value.message == shown[1]


def test_every_measured_figure_has_a_date() -> None:
    for page in ("performance.md", "sizing.md"):
        for section in (DOCS / page).read_text(encoding="utf-8").split("\n## "):
            if "|---|" in section:
                assert re.search(r"Measured on \d{4}-\d{2}-\d{2}", section), section[:60]


def test_the_page_on_performance_and_the_makefile_agree_on_how_long_it_takes() -> None:
    makefile = (DOCS.parent / "Makefile").read_text(encoding="utf-8")
    said = re.search(r"^bench:.*about (\d+) minutes", makefile, re.MULTILINE)
    assert said
    page = (DOCS / "performance.md").read_text(encoding="utf-8")
    assert re.search(rf"^make bench +#.*about {said[1]} minutes$", page, re.MULTILINE)


@pytest.mark.parametrize("name", ["docs/architecture.md", "docs/extending.md", "CONTRIBUTING.md"])
def test_folders_and_modules_that_pages_name_exist(name: str) -> None:
    root = DOCS.parent
    page = (root / name).read_text(encoding="utf-8")
    named = re.findall(r"`([\w./@-]+(?:\.(?:py|md|service|conf|lock)|/))`", page)
    assert named
    for path in named:
        assert any((base / path).exists() for base in (root, SOURCES / "heliometer")), path


def test_every_decision_is_in_the_index() -> None:
    index = (DOCS / "decisions" / "README.md").read_text(encoding="utf-8")
    for record in (DOCS / "decisions").glob("[0-9]*.md"):
        assert f"({record.name})" in index, record.name


if __name__ == "__main__":
    SETTINGS.write_text(settings_page(), encoding="utf-8")
