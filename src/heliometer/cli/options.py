"""Options that several commands share."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from heliometer.config import Settings

F = TypeVar("F", bound=Callable[..., Any])


def settings_options(function: F) -> F:
    """Add --data-dir and --config, which :func:`load_settings` takes."""
    function = click.option(
        "--config",
        type=click.Path(dir_okay=False, path_type=Path),
        help="TOML file with settings.",
    )(function)
    return click.option(
        "--data-dir",
        type=click.Path(file_okay=False),
        help="Folder of the embedded data.  [default: ./var]",
    )(function)


def load_settings(config: Path | None, data_dir: str | None, **flags: str | None) -> "Settings":
    """The settings; flags win over the environment and the file.

    ``flags`` are named ``section_key``. Raises WrongSetting.
    """
    from heliometer.config import load

    given = {"server.data_dir": data_dir} | {
        name.replace("_", ".", 1): value for name, value in flags.items()
    }
    return load(config, flags={name: value for name, value in given.items() if value is not None})


class Pair(click.ParamType[tuple[str, str]]):
    """``key=value``, as a pair."""

    name = "key=value"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, str]:
        """Split at the first equals sign."""
        if isinstance(value, tuple):
            return value
        key, sign, text = str(value).partition("=")
        if not sign or not key or not text:
            self.fail(f"{value!r} is not KEY=VALUE, such as host=web1.", param, ctx)
        return key, text


def dimension_option(function: F) -> F:
    """Add the repeatable -d/--dimension, given to the command as ``dimensions``."""
    return click.option(
        "-d",
        "--dimension",
        "dimensions",
        type=Pair(),
        multiple=True,
        metavar="KEY=VALUE",
        help="A dimension; repeatable.",
    )(function)


def unique(pairs: tuple[tuple[str, str], ...]) -> dict[str, str]:
    """The pairs as a mapping. Raises a usage error for a key that is given twice."""
    result: dict[str, str] = {}
    for key, value in pairs:
        if key in result:
            raise click.UsageError(f"dimension {key} is given twice", click.get_current_context())
        result[key] = value
    return result
