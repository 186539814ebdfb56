"""A PostgreSQL's address: ``resources.url`` in the driver's form, and in a form fit for display."""

import re
from typing import NamedTuple
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit

from heliometer.config import WrongSetting

FORM = "postgresql://USER:PASSWORD@HOST:PORT/DATABASE"
MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
OPTIONS = (
    "sslmode", "sslrootcert", "sslcert", "sslkey", "sslcrl", "target_session_attrs", "host",
    "application_name",
)  # fmt: skip
_SCHEME = re.compile(r"postgres(ql)?(\+\w+)?$")
_SSL = {"true": "require", "1": "require", "false": "disable", "0": "disable"}


class Address(NamedTuple):
    """A database on a PostgreSQL server."""

    dsn: str
    """The URL with the password: for the driver only."""
    shown: str
    """The URL without the password: for messages."""


def is_postgresql(url: str) -> bool:
    """Whether the URL names a PostgreSQL, even if it is misspelt."""
    return url.startswith("postgres")


def parse(url: str) -> Address:
    """Parse the URL. Raises WrongSetting, whose message contains no part of the URL that could be
    the password."""
    scheme, separator, rest = url.partition("://")
    if not separator or not _SCHEME.match(scheme):
        raise _wrong("it does not begin with postgresql://")
    try:
        parts = urlsplit(f"postgresql://{rest}")
    except ValueError as error:
        raise _wrong("its host cannot be read") from error
    user, at, hosts = parts.netloc.rpartition("@")
    database = parts.path[1:]
    if "/" in database or "@" in parts.path + parts.query or parts.fragment or "@" in user:
        # Most likely a password with such a character; it must not be shown.
        raise _wrong("special characters of a password must be percent-encoded, / as %2F, @ as %40")
    if not database:
        raise _wrong("it names no database")
    for host in hosts.split(",") if hosts else ():
        port = re.search(r":([^:\]]*)$", host)
        if port and not (port[1].isdecimal() and 1 <= int(port[1]) <= 65535):
            raise _wrong("a port must be a number from 1 to 65535")
    options = dict(_options(parts.query))
    query = f"?{urlencode(options)}" if options else ""
    name = unquote(user.partition(":")[0])
    where = hosts or options.get("host", "")
    return Address(
        f"postgresql://{user}{at}{hosts}/{database}{query}",
        f"postgresql://{quote(name) + '@' if name else ''}{where}/{database}",
    )


def _options(query: str) -> list[tuple[str, str]]:
    options = []
    for name, value in parse_qsl(query, keep_blank_values=True):
        if name == "ssl":  # as SQLAlchemy and the driver spell it
            name, value = "sslmode", _SSL.get(value.lower(), value)
        if name not in OPTIONS:
            raise _wrong(f"{name[:40]!a} is no option; known are {', '.join(OPTIONS)}")
        if name == "sslmode" and value not in MODES:
            raise _wrong(f"sslmode must be one of {', '.join(MODES)}")
        options.append((name, value))
    return options


def _wrong(why: str) -> WrongSetting:
    return WrongSetting(f"resources.url is not allowed: {why}; allowed: {FORM}")
