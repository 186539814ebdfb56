"""The check of the key that secrets are encrypted with. It only reads, and shows fingerprints."""

import asyncio
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from typing import NamedTuple
from urllib.parse import quote

from asyncpg import PostgresError
from sqlalchemy.engine import make_url

from heliometer.config import Settings, WrongSetting
from heliometer.core.finding import FAIL, OK, WARN, Finding
from heliometer.core.key_file import UnusableKeyFile, is_open_to_others, read_keys
from heliometer.core.secret_box import fingerprint, fingerprint_of
from heliometer.core.server_status import ServerStatus
from heliometer.storage.sql.postgresql import connect
from heliometer.storage.sql.postgresql_url import is_postgresql, parse

NAME = "secrets"
_CURRENT = "SELECT fingerprint FROM secret_key"
_KEPT = "SELECT address, secret FROM notification_methods"


class _Found(NamedTuple):
    """What the database says."""

    current: str
    used: Sequence[str]
    """Fingerprints of each method's key."""


def secrets(settings: Settings, _: ServerStatus) -> Iterator[Finding]:
    """Whether the key file has the key in use, and nobody else can read it."""
    path = settings.secret_key_file
    try:
        known = [fingerprint(key) for key in read_keys(path)]
    except UnusableKeyFile as error:
        yield Finding(
            NAME, FAIL, f"{error}; methods that keep secrets are disabled",
            "put the right key file there, readable by the user that runs the server",
        )  # fmt: skip
        return
    found = _look(settings)
    if found is None:
        return  # other checks say why, or there is no database yet
    if known and is_open_to_others(path):
        yield Finding(NAME, WARN, f"others can read {path}", f"chmod 600 {path}")
    lost = sum(used not in known for used in found.used)
    if found.current and found.current not in known:
        yield Finding(
            NAME, FAIL,
            f"{path} has no key with fingerprint {found.current}; {lost} notification methods are "
            "disabled, and none that keeps secrets can be created",
            "copy the key file of another process or of the former server there, or name it with "
            "secrets.key_file; if it is lost: heliometer secrets rotate --force",
        )  # fmt: skip
    elif lost:
        yield Finding(
            NAME, WARN, f"the key of {lost} notification methods is lost: they are disabled",
            "delete them and create them again",
        )  # fmt: skip
    elif found.current:
        yield Finding(NAME, OK, f"encrypted with key {found.current} in {path}")
    elif settings.clustered and not settings.secrets.key_file:
        yield Finding(
            NAME, WARN, "secrets of notification methods are stored without encryption",
            "give every process the same secrets.key_file",
        )  # fmt: skip
    else:
        yield Finding(NAME, OK, "the next start of the server makes the key")


def _look(settings: Settings) -> _Found | None:
    try:
        if is_postgresql(settings.resources.url):
            current, rows = asyncio.run(_postgresql(settings.resources.url))
        else:
            current, rows = _sqlite(make_url(settings.resources_url).database or "")
    except (sqlite3.Error, PostgresError, OSError, ValueError, WrongSetting):
        return None
    kept = (fingerprint_of(address) or fingerprint_of(secret) for address, secret in rows)
    return _Found(current[0] if current else "", [each for each in kept if each is not None])


def _sqlite(path: str) -> tuple[list[str], list[tuple[str, str]]]:
    with closing(sqlite3.connect(f"file:{quote(path)}?mode=ro", uri=True)) as connection:
        current = [row[0] for row in connection.execute(_CURRENT)]
        return current, [(row[0], row[1]) for row in connection.execute(_KEPT)]


async def _postgresql(url: str) -> tuple[list[str], list[tuple[str, str]]]:
    connection = await connect(parse(url))
    try:
        current = [row[0] for row in await connection.fetch(_CURRENT)]
        return current, [(row[0], row[1]) for row in await connection.fetch(_KEPT)]
    finally:
        connection.terminate()
