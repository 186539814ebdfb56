"""The check of resources in SQLite. It only reads."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from urllib.parse import quote

from sqlalchemy.engine import make_url

from heliometer.config import Settings
from heliometer.core.finding import FAIL, OK, WARN, Finding
from heliometer.core.server_status import ServerStatus
from heliometer.storage.sql.postgresql_url import is_postgresql
from heliometer.storage.sql.revisions import known_revisions

NAME = "resources"
RESTORE = "restore a backup: heliometer restore FILE --data-dir NEW"


def sqlite(settings: Settings, _: ServerStatus) -> Iterator[Finding]:
    """Checks whether the database opens, is intact, and has the tables of this version."""
    if is_postgresql(settings.resources.url):
        return
    path = make_url(settings.resources_url).database or ""
    try:
        with closing(sqlite3.connect(f"file:{quote(path)}?mode=ro", uri=True)) as connection:
            connection.execute("PRAGMA query_only=ON")
            wrong = [row[0] for row in connection.execute("PRAGMA integrity_check(5)")]
            revisions = {
                row[0] for row in connection.execute("SELECT version_num FROM alembic_version")
            }
    except sqlite3.OperationalError as error:
        if "unable to open" in str(error) and not Path(path).exists():
            yield Finding(NAME, OK, f"{path} does not exist yet; the first start creates it")
        else:
            yield Finding(NAME, FAIL, f"{path} cannot be used: {error}", RESTORE)
        return
    except sqlite3.DatabaseError as error:
        yield Finding(NAME, FAIL, f"{path} is damaged: {error}", RESTORE)
        return
    if wrong != ["ok"]:
        yield Finding(NAME, FAIL, f"{path} is damaged: {'; '.join(wrong)}", RESTORE)
        return
    known = known_revisions()
    if revisions - set(known):
        yield Finding(
            NAME, FAIL, f"{path} was written by a newer version ({', '.join(revisions)})",
            "upgrade heliometer",
        )  # fmt: skip
    elif revisions != {known[0]}:
        yield Finding(
            NAME, WARN, f"{path} has the tables of an older version",
            "the next start of the server upgrades it; back it up first",
        )  # fmt: skip
    else:
        yield Finding(NAME, OK, f"{path} is whole and up to date (revision {known[0]})")
