"""The command line as a whole: help, errors, completion, and how quickly it starts."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from heliometer import __version__
from heliometer.cli import cli, run


def commands(group: click.Group = cli, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    yield path
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if isinstance(command, click.Group):
            yield from commands(command, (*path, name))
        else:
            yield (*path, name)


@pytest.mark.parametrize("path", list(commands()), ids=" ".join)
@pytest.mark.parametrize("flag", ["-h", "--help"])
def test_every_command_has_help_with_examples(
    path: tuple[str, ...], flag: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([*path, flag]) == 0
    text = capsys.readouterr().out
    assert text.startswith("Usage: heliometer")
    assert "Examples:" in text


def test_the_list_of_commands_says_what_the_commands_say() -> None:
    for name, (_, text) in cli.lazy.items():
        command = cli.get_command(click.Context(cli), name)
        assert command is not None
        assert command.get_short_help_str(100) == text


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--version"]) == 0
    assert capsys.readouterr().out == f"heliometer {__version__}\n"


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["nonsense"], 2, "No such command"),
        (["serv"], 2, "'serve'"),
        (["serve", "--nonsense"], 2, "No such option"),
        (["serve", "--roles", "api,cook"], 2, "cook: roles are"),
        (["serve", "--listen", "nowhere"], 2, "server.listen"),
        (["serve", "--config", "/nonexistent.toml"], 2, "cannot read /nonexistent.toml"),
        (["completion", "tcsh"], 2, "bash"),
        (["metrics", "push"], 2, "--value"),
        (["metrics", "push", "-d", "host", "--value", "1"], 2, "KEY=VALUE"),
        (["metrics", "push", "-d", "a=1", "-d", "a=2", "x.csv"], 2, "given twice"),
        (["metrics", "query", "n", "--statistics", "p99"], 2, "p99 is not a statistic"),
        (["metrics", "query", "n", "--start", "soon"], 2, "'soon' is not a time"),
        (["metrics", "query", "n", "--start", "1h", "--end", "2h"], 2, "is not before"),
        (["metrics", "push", "--namespace", "n", "/nonexistent.csv"], 1, "No such file"),
        (["metrics", "push", "--namespace", "n", "-"], 1, "--format"),
        (["backup", "/nonexistent/heliometer/b.tar"], 1, "no folder"),
        (["restore", "/nonexistent.tar", "--data-dir", "/tmp/x/y"], 1, "no file"),
    ],
)
def test_an_error_is_one_line(
    arguments: list[str], code: int, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(arguments) == code
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("heliometer: ")
    assert captured.err.count("\n") == 1
    assert words in captured.err


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_script(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["completion", shell]) == 0
    text = capsys.readouterr().out
    assert "_HELIOMETER_COMPLETE" in text
    assert "# To install: heliometer completion" in text
    assert not text.startswith("#compdef") or shell == "zsh"


def test_completion_offers_commands_and_options() -> None:
    def complete(words: str, index: int) -> str:
        return subprocess.run(
            [sys.executable, "-c", "from heliometer.cli import main; main()"],
            env={"_HELIOMETER_COMPLETE": "bash_complete", "COMP_WORDS": words,
                 "COMP_CWORD": str(index)},
            capture_output=True, text=True, check=True,
        ).stdout  # fmt: skip

    assert complete("heliometer met", 1) == "plain,metrics\n"
    assert "plain,--statistics" in complete("heliometer metrics query --stat", 3)


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; from heliometer.cli import run; run(['--help']);"
        "print([m for m in ('duckdb', 'numpy', 'sqlalchemy', 'httpx', 'msgspec', 'asyncio')"
        " if m in sys.modules])"
    )
    shown = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout
    assert shown.splitlines()[-1] == "[]"


def test_commands_on_projects_do_not_load_the_store_of_measurements(tmp_path: Path) -> None:
    arguments = ["project", "list", "--data-dir", str(tmp_path / "var")]
    code = (
        f"import sys; from heliometer.cli import run; assert run({arguments!r}) == 0;"
        "print([m for m in ('duckdb', 'numpy') if m in sys.modules])"
    )
    shown = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout
    assert shown.splitlines()[-1] == "[]"


def test_a_reader_that_goes_away_is_no_error() -> None:
    process = subprocess.Popen(
        [sys.executable, "-c",
         "from heliometer.cli import cli, main; import click, sys\n"
         "@cli.command()\ndef flood():\n  [click.echo('x' * 1000) for _ in range(10000)]\n"
         "sys.argv[1:] = ['flood']; main()"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.read(10)
    process.stdout.close()
    assert process.stderr.read() == b""
    assert process.wait(60) == 1
    process.stderr.close()


def test_an_interrupt_is_quiet(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("heliometer.config.load", interrupted)
    assert run(["project", "list"]) == 130
    assert capsys.readouterr().err.strip() == ""
