"""What commands that delete something have in common: the counts first, then a question."""

import sys
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])


def removal_options(function: F) -> F:
    """Add --dry-run and --yes, which ``confirmed`` takes."""
    function = click.option("--yes", is_flag=True, help="Do not ask.")(function)
    return click.option(
        "--dry-run", is_flag=True, help="Only print what would be deleted, and delete nothing."
    )(function)


def confirmed(
    what: str, counts: Mapping[str, int], after: str, *, dry_run: bool, yes: bool
) -> bool:
    """Print what would be deleted and what would stay; whether to go on.

    Raises a usage error where nobody can be asked.
    """
    click.echo(f"{what}:")
    for name, number in counts.items():
        click.echo(f"  {name}: {number}")
    click.echo(after)
    if dry_run:
        return False
    if yes:
        return True
    if not sys.stdin.isatty():
        raise click.UsageError("nothing was deleted; confirm with --yes")
    click.confirm("Delete it?", abort=True, err=True)
    return True
