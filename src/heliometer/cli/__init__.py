"""The ``heliometer`` command: a file per command group, imported only when it is called."""

import io
import os
import sys

import click

from heliometer import __version__
from heliometer.cli.lazy_group import LazyGroup

PROGRAM = "heliometer"
INTERRUPTED = 130
"""The exit code that a shell reports for a program ended by SIGINT."""
BROKEN_PIPE = 1


@click.group(
    name=PROGRAM,
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    lazy={
        "serve": ("serve:serve", "Run the service."),
        "project": ("project:project", "Create and manage projects (on the data directory)."),
        "user": ("user:user", "Create and manage users (on the data directory)."),
        "operator": (
            "operators:operator",
            "Name users who operate the whole service (on the data directory).",
        ),
        "audit": ("audit:audit", "Show who changed what."),
        "token": ("token:token", "Issue, show and revoke tokens."),
        "password": ("password:password", "Change your own password."),
        "metrics": ("metrics:metrics", "Push, list and query measurements."),
        "alarms": ("alarms:alarms", "Define alarms, try them on history, explain them."),
        "notifications": (
            "notifications:notifications",
            "Notification methods, addresses and the delivery log.",
        ),
        "collect": ("collect:collect", "Report this machine, or its virtual machines."),
        "tail": ("tail:tail", "Show the project's metrics as they arrive."),
        "secrets": ("secrets:secrets", "The key that secrets are encrypted with."),
        "doctor": ("doctor:doctor", "Check settings, data, disk and clock, with advice."),
        "repair": ("repair:repair", "Save what can be saved of damaged data."),
        "backup": ("backup:backup", "Write the embedded data to one file, also while serving."),
        "restore": ("backup:restore", "Put a backup into a data directory."),
        "migrate": ("migrate:migrate", "Move the embedded data to PostgreSQL and ClickHouse."),
        "completion": ("completion:completion", "Print the completion script of a shell."),
    },
)
@click.version_option(__version__, prog_name=PROGRAM, message="%(prog)s %(version)s")
def cli() -> None:
    """Monitoring as a service that you run yourself.

    \b
    Examples:
      heliometer serve
      heliometer token issue --username demo --project demo
      heliometer metrics query hpcs.compute -d metric_name=cpu_percent --start 1h --plot

    Every setting has a default, a key in the file given with --config and an environment variable
    HELIOMETER_SECTION_KEY.
    """


def main() -> None:
    """Run the command line; the process ends with its exit code.

    0: done, 1: failed, 2: wrong usage or settings. Errors are one line on standard error; with
    HELIOMETER_TRACEBACK=1 an unexpected error shows where it came from.
    """
    for stream in (sys.stdout, sys.stderr):
        # A character that the terminal's encoding lacks is shown as ?, and is no error.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    code = run(sys.argv[1:])
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        code = _broken_pipe()
    sys.exit(code)


def run(arguments: list[str]) -> int:
    """Run the command line with ``arguments`` and return the exit code."""
    try:
        result = cli.main(arguments, prog_name=PROGRAM, standalone_mode=False)
    except (click.Abort, KeyboardInterrupt):
        return INTERRUPTED
    except BrokenPipeError:
        return _broken_pipe()
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message(), err=True)
        return error.exit_code
    except Exception as error:
        return _report(error)
    return result if isinstance(result, int) else 0


def _report(error: Exception) -> int:
    from heliometer.cli.errors import explain

    message, code = explain(error)
    click.echo(f"{PROGRAM}: {message}", err=True)
    if os.environ.get("HELIOMETER_TRACEBACK") == "1":
        import traceback

        traceback.print_exception(error)
    return code


def _broken_pipe() -> int:
    # The reader of our output is gone, so nothing more can be written; the interpreter would still
    # try to flush at exit, and complain.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return BROKEN_PIPE
