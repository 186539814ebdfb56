"""The check of Keystone."""

import asyncio
import time
from collections.abc import Iterator
from email.utils import parsedate_to_datetime
from urllib.parse import urlsplit

from heliometer.config import Settings, parse_roles
from heliometer.core.errors import HeliometerError
from heliometer.core.finding import FAIL, OK, WARN, Finding
from heliometer.core.loopback import LOOPBACK
from heliometer.core.server_status import ServerStatus
from heliometer.identity.keystone.client import SYSTEM, Keystone
from heliometer.identity.keystone.documents import RolesReply

TIMEOUT_S = 5.0
APART_S = 60.0
"""Seconds between two clocks above which tokens end noticeably early or late."""


def identity(settings: Settings, _: ServerStatus) -> Iterator[Finding]:
    """Whether tokens can be checked, and projects looked up."""
    if settings.identity.backend != "keystone":
        return
    where = urlsplit(settings.identity.keystone_url)
    if where.scheme == "http" and where.hostname not in LOOPBACK:
        yield Finding(
            "identity", WARN, f"no TLS to Keystone at {where.netloc}",
            "use https:// in identity.keystone_url: tokens cross the network",
        )  # fmt: skip
    yield from asyncio.run(_keystone(settings))


async def _keystone(settings: Settings) -> list[Finding]:
    chosen = settings.identity
    keystone = Keystone(chosen, time.time, time.monotonic, total_s=TIMEOUT_S)
    found: list[Finding] = []

    def add(level: str, message: str, advice: str = "") -> None:
        found.append(Finding("identity", level, message, advice))

    try:
        try:
            version = await keystone.ask("GET", "/")
            if version.status != 200:
                raise keystone.failed(f"answers {version.status}")
        except HeliometerError:
            add(FAIL, f"Keystone at {keystone.url} {keystone.failing}",
                "start it, or correct identity.keystone_url and identity.keystone_ca")  # fmt: skip
            return found
        apart = _apart_s(version.headers.get("date"))
        if apart > APART_S:
            add(WARN, f"Keystone's clock and this machine's differ by {apart:.0f} s",
                "synchronize both with NTP: tokens end by the clock of this machine")  # fmt: skip
        try:
            await keystone.ping()
        except HeliometerError:
            add(FAIL, f"Keystone at {keystone.url} {keystone.failing}",
                "correct identity.keystone_user, keystone_password, keystone_project and "
                "keystone_domain, or create the user: docs/identity.md")  # fmt: skip
            return found
        held = keystone.service_roles
        if not {"service", "admin"} & held:
            add(WARN, f"user {chosen.keystone_user} may not be allowed to check tokens of others",
                f"openstack role add --user {chosen.keystone_user} --project "
                f"{chosen.keystone_project} service")  # fmt: skip
        else:
            add(OK, f"Keystone at {keystone.url} lets {chosen.keystone_user} check tokens")
        reads = (await keystone.as_service("GET", "/projects?name=heliometer")).status == 200
        if not reads:
            try:
                path = "/projects?name=heliometer"
                answer = await keystone.as_service("GET", path, scope=SYSTEM)
                reads = answer.status == 200
            except HeliometerError:
                reads = False
        if not reads:
            add(
                WARN,
                "projects that agents report for cannot be looked up",
                f"openstack role add --user {chosen.keystone_user} --system all reader",
            )
            return found
        listed = await keystone.as_service("GET", "/roles", scope=SYSTEM)
        if listed.status == 200:
            there = {role.name.casefold() for role in listed.read(RolesReply).roles}
            missing = [role for role in parse_roles(chosen.keystone_roles) if role not in there]
            if missing:
                add(WARN, f"Keystone has no role {', '.join(missing)}",
                    "create it there, or correct identity.keystone_roles")  # fmt: skip
    except HeliometerError:
        add(FAIL, f"Keystone at {keystone.url} {keystone.failing}", "see Keystone's log")
    finally:
        await keystone.close()
    return found


def _apart_s(date: str | None) -> float:
    try:
        return abs(parsedate_to_datetime(date or "").timestamp() - time.time())
    except ValueError:
        return 0.0
