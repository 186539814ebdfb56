"""Errors as the one line that the user sees."""

import os
import re

import click

_POINTED = re.compile(r"\n([^\n]*\n *\^)")
"""Text and a caret below it: an expression with the place that is wrong."""
FAILED = 1
USAGE = 2


class CommandError(click.ClickException):
    """A command cannot do what it was asked. The message says why and what to do."""


def explain(error: Exception) -> tuple[str, int]:
    """The line to show for ``error`` and the exit code; where the message points at a place in a
    text, that follows on lines of its own."""
    from heliometer.config import WrongSetting
    from heliometer.core.errors import HeliometerError, UnusableData

    code = FAILED
    if isinstance(error, click.ClickException):
        message, code = error.format_message(), error.exit_code
        if isinstance(error, click.UsageError) and error.ctx is not None:
            message = f"{_sentence(message)} See '{error.ctx.command_path} --help'."
    elif isinstance(error, WrongSetting):
        message, code = str(error), USAGE
    elif isinstance(error, HeliometerError):
        message = f"{error.message} {error.details}".strip()
    elif isinstance(error, OSError) and error.strerror:
        where = os.fsdecode(error.filename) if isinstance(error.filename, str | bytes) else ""
        message = f"{where}: {error.strerror}" if where else error.strerror
    elif isinstance(error, UnusableData):
        message = str(error)
    else:
        message = (
            f"unexpected {type(error).__name__}: {error}; "
            "HELIOMETER_TRACEBACK=1 shows where it came from"
        )
    pointed = _POINTED.search(message)
    if pointed:
        message = message.replace(pointed[0], " ", 1)
    line = " ".join(message.split())
    return f"{line}\n{pointed[1]}" if pointed else line, code


def _sentence(text: str) -> str:
    return text if text.endswith((".", "?", "!", "?)")) else f"{text}."
