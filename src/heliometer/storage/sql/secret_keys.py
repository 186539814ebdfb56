"""Which key the database's secrets are encrypted with, and encrypting them with another.

The keys are in a file; the database says by its fingerprint which of them is current, so that all
processes change at the same moment, and so that a file that does not fit is noticed.
"""

import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import String, and_, func, or_, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.orm import InstrumentedAttribute
from sqlalchemy.sql import ColumnElement

from heliometer.config import Settings
from heliometer.core.errors import Code, HeliometerError
from heliometer.core.key_file import UnusableKeyFile, create, read_keys, replace
from heliometer.core.secret_box import (
    KeyMissing,
    SecretBox,
    fingerprint,
    new_key,
)
from heliometer.notifications.channels import secret_types, shown_address
from heliometer.notifications.model import TEST_MESSAGE
from heliometer.storage.sql.sealing import ADDRESS, SECRET
from heliometer.storage.sql.tables import DeliveryRow, MethodRow, SecretKeyRow

if TYPE_CHECKING:
    from heliometer.storage.sql.database import Database

log = logging.getLogger(__name__)

ROWS = 500
_COLUMNS: tuple[tuple[type[MethodRow] | type[DeliveryRow], str, str], ...] = (
    (MethodRow, "address", ADDRESS),
    (MethodRow, "secret", SECRET),
    (DeliveryRow, "address", ADDRESS),
)
"""The columns that hold secrets, and what these are called when they are encrypted."""


@dataclass(frozen=True, slots=True)
class Rotation:
    """What a rotation did."""

    fingerprint: str
    """Of the key that was added, and unless ``waits`` encrypts from now on."""
    waits: bool
    """Whether all processes must get the new key before it is used."""
    encrypted: int = 0
    """Secrets that were encrypted with it."""
    unreadable: int = 0
    """Secrets whose key is missing."""

    def to_dict(self) -> dict[str, Any]:
        """The same as a dictionary, for JSON."""
        return asdict(self)


async def open_box(database: "Database", settings: Settings, *, make_key: bool) -> SecretBox:
    """The keys that the settings name; made, unless there is one already, when ``make_key``.

    A missing or wrong key stops nothing but the secrets that it kept; it is logged.
    """
    path = settings.secret_key_file
    async with database.read() as connection:
        current = await current_fingerprint(connection)
    try:
        keys = read_keys(path)
        if not keys and not current and make_key:
            if settings.clustered and not settings.secrets.key_file:
                log.warning(
                    "secrets are stored without encryption: give every process the same "
                    "secrets.key_file"
                )
                return SecretBox((), "")
            keys = create(path)
    except UnusableKeyFile as error:
        log.error("secrets of notification methods cannot be used: %s", error)
        # Never as if nothing was to be encrypted: what is stored meanwhile would stay so.
        return SecretBox((), current or "unusable")
    # A database that is only looked at, or copied into, is not the one to be marked.
    if keys and not current and make_key:
        current = await _record(database, fingerprint(keys[-1]))
    box = SecretBox(keys, current)
    if not box.is_usable:
        log.error(
            "notification methods that keep secrets are disabled: %s has no key with fingerprint "
            "%s (setting secrets.key_file)",
            path, current,
        )  # fmt: skip
    return box


async def current_fingerprint(connection: AsyncConnection) -> str:
    """Of the key in use; empty: none is."""
    found = (await connection.execute(select(SecretKeyRow.fingerprint))).scalar_one_or_none()
    return found or ""


async def reseal(database: "Database", *, everything: bool = False) -> int:
    """Encrypt with the current key what is not; how many secrets were. What cannot be read stays.

    A start looks through deliveries only until all have been; ``everything`` looks always.
    """
    box = database.secrets
    if not box.encrypts or not box.is_usable:
        return 0
    async with database.read() as connection:
        done = (await connection.execute(select(SecretKeyRow.resealed))).scalar_one_or_none()
    count = lost = 0
    for table, column, purpose in _COLUMNS:
        if table is DeliveryRow and done and not everything and not database.shared:
            continue
        sealed, left = await _reseal_column(database, table, column, purpose)
        count, lost = count + sealed, lost + left
    count += await _rename(database)
    async with database.write() as connection:
        await connection.execute(
            update(SecretKeyRow)
            .where(SecretKeyRow.fingerprint == box.current)
            .values(resealed=not lost)
        )
    if count:
        # Otherwise what the rows held before would stay in free pages of the file.
        await database.compact()
    return count


async def unreadable(connection: AsyncConnection, known: Sequence[str]) -> int:
    """The number of methods whose secrets are encrypted with none of the keys with these
    fingerprints."""
    lost = [
        and_(
            getattr(MethodRow, column).like("enc:1:%"),
            *(getattr(MethodRow, column).notlike(f"enc:1:{each}:%") for each in known),
        )
        for column in ("address", "secret")
    ]
    query = select(func.count()).select_from(MethodRow).where(or_(*lost))
    return (await connection.execute(query)).scalar_one()


async def rotate(database: "Database", settings: Settings, *, force: bool = False) -> Rotation:
    """Encrypt all secrets with a new key. In a cluster, the first call only adds it to the file,
    and the second, once every process has the file, uses it.

    Raises CONFLICT when a key is missing, unless ``force``: what it kept stays unreadable then.
    """
    path = settings.secret_key_file
    if settings.clustered and not settings.secrets.key_file and not database.secrets.encrypts:
        raise HeliometerError(
            Code.CONFLICT,
            "A cluster encrypts nothing until every process has the same secrets.key_file.",
        )
    try:
        keys = read_keys(path)
    except UnusableKeyFile as error:
        raise HeliometerError(Code.CONFLICT, f"{error}.") from error
    async with database.read() as connection:
        current = await current_fingerprint(connection)
    known = [fingerprint(key) for key in keys]
    if current and current not in known and not force:
        raise HeliometerError(
            Code.CONFLICT,
            f"{path} has no key with fingerprint {current}.",
            details="Put the right file there, or use --force to go on with a new key: what the "
            "lost one kept stays disabled until it is made again.",
        )
    newest = known[-1] if known else ""
    if not newest or newest == current or current not in known or not settings.clustered:
        keys = [*keys, new_key()]
        newest = fingerprint(keys[-1])
        replace(path, keys)
        if settings.clustered and current in known:
            return Rotation(newest, waits=True)
    await _record(database, newest, over=True)
    database.secrets = SecretBox(keys, newest)
    count = await reseal(database, everything=True)
    async with database.read() as connection:
        left = await unreadable(connection, [newest])
    # Other processes use the former key until they have noticed.
    needed = (newest, current) if settings.clustered or database.shared else (newest,)
    kept = [key for key in keys if fingerprint(key) in needed]
    replace(path, kept)
    database.secrets = SecretBox(kept, newest)
    return Rotation(newest, waits=False, encrypted=count, unreadable=left)


async def _record(database: "Database", wanted: str, *, over: bool = False) -> str:
    """Make a key the current one, unless there is one already or ``over``; which it is then."""
    from heliometer.storage.sql.database import milliseconds

    async with database.write() as connection:
        insert = postgresql.insert if database.shared else sqlite.insert
        values = {"fingerprint": wanted, "changed_at": milliseconds(), "resealed": False}
        put = insert(SecretKeyRow).values(id=1, **values)
        if over:
            put = put.on_conflict_do_update(index_elements=["id"], set_=values)
        else:
            put = put.on_conflict_do_nothing()
        await connection.execute(put)
        return await current_fingerprint(connection)


async def _rename(database: "Database") -> int:
    """Take addresses out of the names of methods, which alarms of Telemetry v2 used to give them;
    how many there were."""
    box, count = database.secrets, 0
    query = select(MethodRow.id, MethodRow.type, MethodRow.name, MethodRow.address).where(
        MethodRow.type.in_(secret_types()), MethodRow.name.like("%://%")
    )
    async with database.write() as connection:
        for row in (await connection.execute(query)).all():
            if row.name != box.open_or_empty(row.address, ADDRESS):
                continue
            name = shown_address(row.type, row.name)
            await connection.execute(
                update(MethodRow).where(MethodRow.id == row.id).values(name=name)
            )
            await connection.execute(
                update(DeliveryRow)
                .where(DeliveryRow.method_id == row.id, DeliveryRow.kind == TEST_MESSAGE)
                .values(payload=func.replace(DeliveryRow.payload, row.name, name))
            )
            count += 1
    return count


async def _reseal_column(
    database: "Database", table: type[MethodRow] | type[DeliveryRow], column: str, purpose: str
) -> tuple[int, int]:
    """How many were encrypted, and how many cannot be read."""
    box, count, left, after = database.secrets, 0, 0, ""
    while True:
        async with database.write() as connection:
            rows = (await connection.execute(_page(table, column, box.current, after))).all()
            for row_id, old in rows:
                try:
                    new = box.seal(box.open(old, purpose), purpose)
                except KeyMissing:
                    left += 1
                    continue
                same = and_(table.id == row_id, getattr(table, column) == old)
                await connection.execute(update(table).where(same).values({column: new}))
                count += 1
        if len(rows) < ROWS:
            return count, left
        after = rows[-1][0]


def _page(table: type[MethodRow] | type[DeliveryRow], column: str, current: str, after: str) -> Any:
    """Rows, in the order of their ids, whose column is not encrypted with the current key."""
    held: InstrumentedAttribute[str] = getattr(table, column)
    wanted: list[ColumnElement[bool]] = [
        held != "",
        held.cast(String).notlike(f"enc:1:{current}:%"),
        table.id > after,
    ]
    if column == "address":
        wanted.append(table.type.in_(secret_types()))
    return select(table.id, held).where(*wanted).order_by(table.id).limit(ROWS)
