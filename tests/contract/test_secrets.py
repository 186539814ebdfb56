"""Secrets of notification methods are encrypted in the database, and nothing else is lost with
their key."""

import asyncio
import stat
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
from sqlalchemy import select, update

from heliometer.config import BusSettings, SecretSettings, Settings
from heliometer.core.errors import Code, HeliometerError
from heliometer.core.finding import FAIL, OK, WARN, Finding
from heliometer.core.key_file import UnusableKeyFile, create, read_keys
from heliometer.core.key_file import replace as replace_keys
from heliometer.core.secret_box import KeyMissing, SecretBox, fingerprint, new_key
from heliometer.core.server_status import ServerStatus
from heliometer.identity.accounts import Project
from heliometer.notifications.model import (
    ALARM_MESSAGE,
    DELIVERED,
    KEY_MISSING,
    TEST_MESSAGE,
    Delivery,
    NotificationMethod,
    Settlement,
)
from heliometer.storage.sql.accounts import SqlAccountStore
from heliometer.storage.sql.database import Database
from heliometer.storage.sql.notification_stores import notification_stores
from heliometer.storage.sql.secret_keys import reseal, rotate
from heliometer.storage.sql.secrets_doctor import secrets as check
from heliometer.storage.sql.tables import DeliveryRow, MethodRow
from resource_databases import KINDS, new_database

SHOP = Project("0" * 31 + "1", "shop")
CANARY = "c4n4ry"
HOOK = f"https://hooks.example.org/{CANARY}?token={CANARY}"
METHOD = NotificationMethod("m-1", SHOP.id, "hook", "WEBHOOK", HOOK, 1, f"{CANARY}-secret")
MAIL = NotificationMethod("m-2", SHOP.id, "mail", "EMAIL", "joe@mail.com", 2)


@pytest.fixture(params=KINDS)
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Settings]:
    with new_database(request.param, tmp_path / "var") as made:
        yield made


@pytest.fixture
async def database(settings: Settings) -> AsyncIterator[Database]:
    opened = await Database.open(settings)
    await SqlAccountStore(opened).add_project(SHOP, 1, "test")
    yield opened
    await opened.close()


def delivery(number: int, kind: str = ALARM_MESSAGE, address: str = HOOK) -> Delivery:
    made = Delivery.new(kind, SHOP.id, "WEBHOOK", address, 1, method_id=METHOD.id)
    return replace(made, id=f"d-{number}")


async def filled(database: Database) -> None:
    stores = notification_stores(database)
    for method in (METHOD, MAIL):
        await stores.methods.create(method, "joe", 10)
    await stores.outbox.enqueue([delivery(1), delivery(2)])


async def stored(database: Database) -> list[str]:
    """Every value that may be secret, as it is stored."""
    async with database.read() as connection:
        methods = (await connection.execute(select(MethodRow.address, MethodRow.secret))).all()
        deliveries = (await connection.execute(select(DeliveryRow.address))).scalars()
        return [text for row in methods for text in row if text] + list(deliveries)


async def doctor(settings: Settings) -> list[Finding]:
    """What the doctor says, which has its own event loop."""
    server = ServerStatus(url="", has_data_dir=False)
    return await asyncio.to_thread(lambda: list(check(settings, server)))


def files_with(folder: Path, text: str) -> list[Path]:
    return [p for p in folder.rglob("*") if p.is_file() and text.encode() in p.read_bytes()]


async def test_what_is_secret_is_encrypted_and_comes_back(
    database: Database, settings: Settings
) -> None:
    await filled(database)
    stores = notification_stores(database)
    assert [t for t in await stored(database) if CANARY in t] == []
    assert files_with(settings.data_dir, CANARY) == []
    assert await stores.methods.list(SHOP.id) == [METHOD, MAIL]
    assert "joe@mail.com" in await stored(database)
    claimed = await stores.outbox.claim(10, 1000, 10)
    assert [d.address for d in claimed] == [HOOK, HOOK]
    key_file = settings.secret_key_file
    assert stat.S_IMODE(key_file.stat().st_mode) == 0o600


async def test_equal_destinations_are_still_found(database: Database) -> None:
    await filled(database)
    outbox = notification_stores(database).outbox
    (first,) = await outbox.claim(10, 1000, 1)
    assert [d.id for d in await outbox.gather(first, 10, 1000)] == ["d-2"]
    await outbox.settle([Settlement("d-1", DELIVERED, "")], 20)
    assert await outbox.delivered_since("WEBHOOK", HOOK, 0) == 1
    assert await outbox.delivered_since("WEBHOOK", f"{HOOK}x", 0) == 0


async def as_before(database: Database) -> None:
    """Rows as an earlier version left them."""
    async with database.write() as connection:
        plain = {"address": HOOK, "secret": METHOD.secret, "name": HOOK}
        await connection.execute(update(MethodRow).where(MethodRow.id == METHOD.id).values(plain))
        payload = '{"method_name": "' + HOOK + '"}'
        await connection.execute(
            update(DeliveryRow).values(address=HOOK, kind=TEST_MESSAGE, payload=payload)
        )


async def test_a_start_encrypts_what_an_earlier_version_kept(
    database: Database, settings: Settings
) -> None:
    await filled(database)
    await as_before(database)
    assert await reseal(database) == 5
    assert [t for t in await stored(database) if CANARY in t] == []
    # Not in what SQLite has freed either.
    assert files_with(settings.data_dir, CANARY) == []
    stores = notification_stores(database)
    method = await stores.methods.get(SHOP.id, METHOD.id)
    assert method == replace(METHOD, name="https://hooks.example.org/…")
    (found, _) = await stores.outbox.claim(10, 1000, 10)
    assert (found.address, found.payload["method_name"]) == (HOOK, method.name)
    assert await reseal(database, everything=True) == 0


async def test_without_its_key_a_method_is_disabled_and_nothing_else(
    database: Database, settings: Settings
) -> None:
    await filled(database)
    aside = settings.secret_key_file.rename(settings.data_dir / "aside")
    other = await Database.open(settings)
    stores = notification_stores(other)
    hook, mail = await stores.methods.list(SHOP.id)
    assert (hook.address, hook.secret, hook.disabled) == ("", "", KEY_MISSING)
    assert (mail.address, mail.disabled) == (MAIL.address, "")
    assert [d.address for d in await stores.outbox.claim(10, 1000, 10)] == ["", ""]
    with pytest.raises(HeliometerError) as caught:
        await stores.methods.create(replace(METHOD, id="m-3"), "joe", 10)
    assert caught.value.code is Code.UNAVAILABLE
    await stores.methods.create(replace(MAIL, id="m-4"), "joe", 10)
    assert not settings.secret_key_file.exists()  # a new one would fit nothing
    # Once it is there again, all is as before, without a restart.
    aside.rename(settings.secret_key_file)
    await other.refresh_secrets(settings)
    assert await stores.methods.get(SHOP.id, METHOD.id) == METHOD
    await other.close()


async def test_a_running_server_survives_the_loss_of_the_file(
    database: Database, settings: Settings
) -> None:
    await filled(database)
    settings.secret_key_file.unlink()
    await database.refresh_secrets(settings)
    assert await notification_stores(database).methods.get(SHOP.id, METHOD.id) == METHOD


async def test_rotation_encrypts_everything_anew(database: Database, settings: Settings) -> None:
    await filled(database)
    before = set(await stored(database))
    old = fingerprint(read_keys(settings.secret_key_file)[0])
    done = await rotate(database, settings)
    assert (done.waits, done.encrypted, done.unreadable) == (False, 4, 0)
    assert done.fingerprint != old
    assert before & set(await stored(database)) == {"joe@mail.com"}
    known = [fingerprint(key) for key in read_keys(settings.secret_key_file)]
    # Others that use the same database may not have noticed yet.
    assert known == ([old, done.fingerprint] if database.shared else [done.fingerprint])
    assert stat.S_IMODE(settings.secret_key_file.stat().st_mode) == 0o600
    await filled_again(database, settings)


async def filled_again(database: Database, settings: Settings) -> None:
    """What was stored is read, by this process and the next."""
    assert await notification_stores(database).methods.get(SHOP.id, METHOD.id) == METHOD
    other = await Database.open(settings)
    assert await notification_stores(other).methods.get(SHOP.id, METHOD.id) == METHOD
    await other.close()


async def test_an_interrupted_rotation_loses_nothing(
    database: Database, settings: Settings
) -> None:
    await filled(database)
    keys = read_keys(settings.secret_key_file)
    replace_keys(settings.secret_key_file, [*keys, new_key()])  # and then the power went
    await filled_again(database, settings)
    assert not (await rotate(database, settings)).waits
    await filled_again(database, settings)


async def test_a_lost_key_is_given_up_only_on_demand(
    database: Database, settings: Settings
) -> None:
    await filled(database)
    settings.secret_key_file.unlink()
    other = await Database.open(settings)
    with pytest.raises(HeliometerError, match="has no key with fingerprint"):
        await rotate(other, settings)
    done = await rotate(other, settings, force=True)
    assert done.unreadable == 1
    stores = notification_stores(other)
    assert (await stores.methods.get(SHOP.id, METHOD.id)).disabled
    again = replace(METHOD, id="m-5")
    await stores.methods.create(again, "joe", 10)
    assert await stores.methods.get(SHOP.id, "m-5") == again
    (finding,) = await doctor(settings)
    assert (finding.level, "key of 1 notification methods is lost" in finding.message) == (
        WARN, True,
    )  # fmt: skip
    await other.close()


def in_cluster(settings: Settings, key_file: Path | None) -> Settings:
    return msgspec.structs.replace(
        settings,
        bus=BusSettings(url="amqp://broker"),
        secrets=SecretSettings(key_file=str(key_file) if key_file else ""),
    )


async def test_a_cluster_rotates_in_two_steps(
    database: Database, settings: Settings, tmp_path: Path
) -> None:
    here = in_cluster(settings, settings.secret_key_file)
    await filled(database)
    other = await Database.open(here)
    first = await rotate(database, here)
    assert first.waits
    await other.refresh_secrets(here)
    second = await rotate(database, here)
    assert (second.fingerprint, second.waits) == (first.fingerprint, False)
    # One that has not noticed goes on with the former key, which therefore stays.
    stores = notification_stores(other)
    assert await stores.methods.get(SHOP.id, METHOD.id) == METHOD
    await stores.methods.create(replace(METHOD, id="m-6"), "joe", 10)
    assert (await notification_stores(database).methods.get(SHOP.id, "m-6")).address == HOOK
    assert len(read_keys(settings.secret_key_file)) == 2
    # One with another file is told, and disables what it cannot read.
    wrong = in_cluster(settings, tmp_path / "other.key")
    create(tmp_path / "other.key")
    stranger = await Database.open(wrong)
    assert (await notification_stores(stranger).methods.get(SHOP.id, METHOD.id)).disabled
    (finding,) = await doctor(wrong)
    assert finding.level == FAIL
    assert second.fingerprint in finding.message
    await stranger.close()
    await other.close()


async def test_a_cluster_without_a_common_key_goes_on_as_before(
    settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    unset = in_cluster(settings, None)
    opened = await Database.open(unset)
    await SqlAccountStore(opened).add_project(SHOP, 1, "test")
    await filled(opened)
    assert HOOK in await stored(opened)
    assert "stored without encryption" in caplog.text
    (finding,) = await doctor(unset)
    assert finding.level == WARN
    with pytest.raises(HeliometerError, match=r"same secrets\.key_file"):
        await rotate(opened, unset)
    await opened.close()
    # The first start with a key encrypts it.
    opened = await Database.open(in_cluster(settings, settings.data_dir / "common.key"))
    assert await reseal(opened) == 4
    assert HOOK not in await stored(opened)
    await opened.close()


async def test_the_doctor_looks_at_the_key(database: Database, settings: Settings) -> None:
    await filled(database)
    assert [f.level for f in await doctor(settings)] == [OK]
    settings.secret_key_file.chmod(0o644)
    assert [f.level for f in await doctor(settings)] == [WARN, OK]
    settings.secret_key_file.write_text("nonsense\n")
    (finding,) = await doctor(settings)
    assert (finding.level, "line 1 is not a key" in finding.message) == (FAIL, True)
    # Nor does a start crash on it.
    other = await Database.open(settings)
    assert (await notification_stores(other).methods.get(SHOP.id, METHOD.id)).disabled
    await other.close()


def test_what_was_changed_or_moved_is_refused() -> None:
    key = new_key()
    box = SecretBox([key], fingerprint(key))
    sealed = box.seal("text", "address")
    assert box.seal(sealed, "address") == sealed == box.seal("text", "address")
    assert box.open(sealed, "address") == "text"
    for wrong, purpose in ((sealed, "secret"), (sealed[:-2] + "AA", "address")):
        with pytest.raises(KeyMissing, match="damaged"):
            box.open(wrong, purpose)
    with pytest.raises(KeyMissing, match="missing"):
        SecretBox([new_key()], fingerprint(key)).open(sealed, "address")
    assert box.seal("", "address") == ""


def test_two_that_make_the_file_at_once_get_the_same_key(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "key"
    assert create(path) == create(path) == read_keys(path)
    path.unlink()
    path.mkdir()
    with pytest.raises(UnusableKeyFile):
        create(path)
