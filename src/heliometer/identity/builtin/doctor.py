"""The check of the built-in identity."""

from collections.abc import Iterator

from heliometer.config import Settings
from heliometer.core.finding import OK, Finding
from heliometer.core.server_status import ServerStatus


def identity(settings: Settings, _: ServerStatus) -> Iterator[Finding]:
    """Nothing can be wrong that the check of the resources does not find."""
    if settings.identity.backend == "builtin":
        yield Finding("identity", OK, "built-in: users and projects are in the resource database")
