"""What operator commands share: the users and projects in the data directory."""

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from heliometer.cli.options import load_settings

if TYPE_CHECKING:
    from heliometer.identity.builtin.service import BuiltinIdentity

T = TypeVar("T")


def manage(
    config: Path | None, data_dir: str | None, work: Callable[["BuiltinIdentity"], Awaitable[T]]
) -> T:
    """Do ``work`` on users and projects, also while a server runs; return what it returns.

    Raises WrongSetting, UnusableData, HeliometerError and whatever ``work`` raises.
    """
    settings = load_settings(config, data_dir)
    from heliometer.server.operator import manage_users

    return manage_users(settings, work)
