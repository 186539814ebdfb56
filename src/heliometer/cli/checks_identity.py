"""Checks of where users and projects live."""

import asyncio
import time
from collections.abc import Iterator
from email.utils import parsedate_to_datetime
from urllib.parse import urlsplit

from heliometer.cli.server_probe import Probe
from heliometer.config import Settings
from heliometer.core.errors import HeliometerError
from heliometer.core.finding import FAIL, OK, WARN, Finding

TIMEOUT_S = 5.0
LOCAL = ("127.0.0.1", "::1", "localhost")
APART_S = 60.0
"""Seconds between two clocks from which on tokens end noticeably early or late."""


def identity(settings: Settings, _: Probe) -> Iterator[Finding]:
    """Whether tokens can be checked, and projects looked up."""
    if settings.identity.backend == "builtin":
        yield Finding("identity", OK, "users and projects live here")
        return
    where = urlsplit(settings.identity.keystone_url)
    if where.scheme == "http" and where.hostname not in LOCAL:
        yield Finding(
            "identity", WARN, f"no TLS to Keystone at {where.netloc}",
            "let identity.keystone_url begin with https://: tokens go over the network",
        )  # fmt: skip
    yield from asyncio.run(_keystone(settings))


async def _keystone(settings: Settings) -> list[Finding]:
    from heliometer.config import parse_roles
    from heliometer.identity.keystone.client import SYSTEM, Keystone
    from heliometer.identity.keystone.documents import RolesReply

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
            add(WARN, f"Keystone's clock and this machine's are {apart:.0f} s apart",
                "set both by NTP: tokens end when this machine says so")  # fmt: skip
        try:
            await keystone.ping()
        except HeliometerError:
            add(FAIL, f"Keystone at {keystone.url} {keystone.failing}",
                "correct identity.keystone_user, keystone_password, keystone_project and "
                "keystone_domain, or make the user: docs/identity.md")  # fmt: skip
            return found
        held = keystone.service_roles
        if not {"service", "admin"} & held:
            add(WARN, f"user {chosen.keystone_user} may not be allowed to check others' tokens",
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
                    "make it there, or correct identity.keystone_roles")  # fmt: skip
    except HeliometerError:
        add(FAIL, f"Keystone at {keystone.url} {keystone.failing}", "look at Keystone's log")
    finally:
        await keystone.close()
    return found


def _apart_s(date: str | None) -> float:
    try:
        return abs(parsedate_to_datetime(date or "").timestamp() - time.time())
    except ValueError:
        return 0.0
