"""What a real Keystone cannot be made to answer, from a small server on loopback; and names."""

import asyncio
import gzip
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select, update

from heliometer.config import ROLE_NAMES, IdentitySettings, ServerSettings, Settings, parse_roles
from heliometer.core.errors import Code, HeliometerError
from heliometer.identity.accounts import Project
from heliometer.identity.keystone.client import REPLY_BYTES, Keystone
from heliometer.identity.keystone.documents import Named, Of, Roles, local_project
from heliometer.identity.keystone.projects import KNOWN_S, MISSING_S, KeystoneProjects
from heliometer.identity.keystone.service import KeystoneIdentity
from heliometer.identity.model import ROLES, Permission
from heliometer.storage.sql.database import Database
from heliometer.storage.sql.keystone_projects import SqlProjectMirror
from heliometer.storage.sql.projects import SqlProjectStore
from heliometer.storage.sql.tables import ProjectRow
from identity.conftest import Clock

SHOP = "5" * 32
STOCK = "6" * 32
DOMAIN = {"id": "default", "name": "Default"}
FOREVER = "2099-01-01T00:00:00.000000Z"

Respond = Callable[[asyncio.StreamWriter], Awaitable[None]]


@dataclass
class Stage:
    """A server that answers as tests say, over a socket."""

    tokens: dict[str, dict[str, Any]] = field(default_factory=dict)
    projects: dict[str, dict[str, Any]] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    """Method and path of every request."""
    respond: Respond | None = None
    """Instead of an answer, except to the service user's sign-in."""
    service_token: str = "service-1"
    refuse_service: bool = False
    writers: list[asyncio.StreamWriter] = field(default_factory=list)

    def count(self, what: str) -> int:
        """Requests that began so."""
        return sum(line.startswith(what) for line in self.asked)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        self.writers.append(writer)
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                await self._request(head.decode("latin-1"), reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def _request(
        self, head: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        first, *lines = head.split("\r\n")
        headers = {k.lower(): v.strip() for k, _, v in (line.partition(":") for line in lines)}
        body = await reader.readexactly(int(headers.get("content-length", "0")))
        method, path, _ = first.split(" ")
        self.asked.append(f"{method} {path}")
        if method == "POST" and b'"password"' in body and b"heliometer" in body:
            if self.refuse_service:
                await send(writer, 401, {"error": {"message": "no"}})
            else:
                token = {"X-Subject-Token": self.service_token}
                await send(writer, 201, {"token": issue("heliometer")}, token)
        elif self.respond is not None:
            await self.respond(writer)
        elif headers.get("x-auth-token") != self.service_token:
            await send(writer, 401, {"error": {"message": "no"}})
        elif path.startswith("/v3/projects/"):
            found = self.projects.get(path.rpartition("/")[2])
            if found is None:
                await send(writer, 404, {"error": {"message": "Could not find project."}})
            else:
                await send(writer, 200, {"project": found})
        elif path.startswith("/v3/projects?"):
            await send(writer, 200, {"projects": list(self.projects.values())})
        elif headers.get("x-subject-token") in self.tokens:
            await send(writer, 200, {"token": self.tokens[headers["x-subject-token"]]})
        else:
            await send(writer, 404, {"error": {"message": "Could not recognize the token."}})


async def send(
    writer: asyncio.StreamWriter, status: int, document: Any, more: dict[str, str] | None = None
) -> None:
    """An answer; bytes as they are."""
    body = document if isinstance(document, bytes) else json.dumps(document).encode()
    lines = [f"{k}: {v}" for k, v in {"Content-Length": str(len(body)), **(more or {})}.items()]
    writer.write(f"HTTP/1.1 {status} X\r\n".encode())
    writer.write(("\r\n".join(lines) + "\r\n\r\n").encode() + body)
    await writer.drain()


def issue(user: str, project: str = "", name: str = "shop", **more: Any) -> dict[str, Any]:
    """A token's description."""
    document: dict[str, Any] = {
        "user": {"id": f"id-of-{user}", "name": user, "domain": DOMAIN},
        "methods": ["password"], "audit_ids": ["a"],
        "issued_at": "2026-01-01T00:00:00.000000Z", "expires_at": FOREVER,
    }  # fmt: skip
    if project:
        document |= {
            "project": {"id": project, "name": name, "domain": DOMAIN},
            "roles": [{"id": "1", "name": "Member"}],
        }
    return document | more


@dataclass
class World:
    """An identity whose Keystone is the stage."""

    stage: Stage
    database: Database
    identity: KeystoneIdentity
    keystone: Keystone
    projects: KeystoneProjects
    clock: Clock
    monotonic: Clock

    async def refused(self, token: str, code: Code = Code.UNAVAILABLE) -> HeliometerError:
        """What the token is refused with."""
        with pytest.raises(HeliometerError) as caught:
            await self.identity.authenticate(token)
        assert caught.value.code is code
        return caught.value

    async def names(self) -> dict[str, str]:
        """Of all rows, by id."""
        async with self.database.read() as connection:
            rows = await connection.execute(select(ProjectRow.id, ProjectRow.name))
            return {row.id: row.name for row in rows}


@asynccontextmanager
async def staged(folder: Path, total_s: float = 10.0) -> AsyncIterator[World]:
    stage = Stage(tokens={"good": issue("ann", SHOP)})
    server = await asyncio.start_server(stage.serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    settings = Settings(
        server=ServerSettings(data_dir=str(folder)),
        identity=IdentitySettings(
            backend="keystone", keystone_url=f"http://127.0.0.1:{port}", keystone_password="x"
        ),
    )
    database = await Database.open(settings)
    clock, monotonic = Clock(), Clock(1000.0)
    keystone = Keystone(settings.identity, clock, monotonic, total_s=total_s)
    projects = KeystoneProjects(
        keystone, SqlProjectStore(database), SqlProjectMirror(database), "Default", monotonic
    )
    identity = KeystoneIdentity(keystone, projects, settings, clock, monotonic=monotonic)
    yield World(stage, database, identity, keystone, projects, clock, monotonic)
    await keystone.close()
    await database.close()
    server.close()
    for writer in stage.writers:
        writer.close()


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with staged(tmp_path) as made:
        yield made


async def test_a_token_is_looked_up_once_for_all_and_then_not_for_a_while(world: World) -> None:
    await asyncio.gather(*(world.identity.authenticate("good") for _ in range(50)))
    caller = await world.identity.authenticate("good")
    assert (caller.user_name, caller.project_id, caller.project_name) == ("ann", SHOP, "shop")
    assert Permission.POST_METRICS in caller.permissions
    assert world.stage.count("GET /v3/auth/tokens") == 1
    assert world.stage.count("POST") == 1
    world.monotonic.now += 29
    del world.stage.tokens["good"]
    await world.identity.authenticate("good")
    world.monotonic.now += 1
    await world.refused("good", Code.UNAUTHENTICATED)


@pytest.mark.reliability(17)
async def test_expired_while_remembered(world: World) -> None:
    soon = "2027-01-15T08:00:10.000000Z"
    world.stage.tokens["good"]["expires_at"] = soon
    await world.identity.authenticate("good")
    world.clock.now += 10
    await world.refused("good", Code.UNAUTHENTICATED)


@pytest.mark.parametrize(
    "answer",
    [
        (500, {"error": {"message": "broken"}}),
        (503, b"<html>"),
        (429, {"error": {"message": "slow down"}}),
        (301, b""),
        (403, {"error": {"message": "identity:validate_token"}}),
        (404, b"<html>Not Found</html>"),
        (200, b"{"),
        (200, b"\xff\xfe"),
        (200, {"token": {}}),
        (200, {"token": {**issue("ann", SHOP), "expires_at": "later"}}),
        (200, {"token": {**issue("ann"), "user": {"id": 5}}}),
        (200, b" " * (REPLY_BYTES + 1)),
        (204, b""),
    ],
)
@pytest.mark.reliability(17)
async def test_answers_that_let_nobody_in(world: World, answer: tuple[int, Any]) -> None:
    async def respond(writer: asyncio.StreamWriter) -> None:
        more = {"Location": "http://127.0.0.1:9/"} if answer[0] == 301 else None
        await send(writer, answer[0], answer[1], more)

    world.stage.respond = respond
    error = await world.refused("good")
    assert error.retry_after
    world.stage.respond = None
    await world.identity.authenticate("good")


async def test_a_compressed_bomb_is_not_unpacked(world: World) -> None:
    async def respond(writer: asyncio.StreamWriter) -> None:
        bomb = gzip.compress(b" " * (64 << 20))
        await send(writer, 200, bomb, {"Content-Encoding": "gzip"})

    world.stage.respond = respond
    await world.refused("good")


async def test_a_body_that_never_ends_is_given_up(tmp_path: Path) -> None:
    held = 0

    async def drip(writer: asyncio.StreamWriter) -> None:
        nonlocal held
        held += 1
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
        for _ in range(1200):  # a minute
            writer.write(b" ")
            await writer.drain()
            await asyncio.sleep(0.05)

    async with staged(tmp_path, total_s=2) as world:
        await world.identity.authenticate("good")
        world.monotonic.now += 31
        world.stage.respond = drip
        began = asyncio.get_running_loop().time()
        await world.refused("good")
        assert asyncio.get_running_loop().time() - began < 30
        # From now on one at a time finds out; the others are told at once.
        await asyncio.gather(*(world.refused(f"other-{n}") for n in range(20)))
        assert held == 2
        world.stage.respond = None
        await world.identity.authenticate("good")
        world.stage.tokens |= {f"t{n}": issue("ann", SHOP) for n in range(20)}
        await asyncio.gather(*(world.identity.authenticate(f"t{n}") for n in range(20)))


async def test_a_connection_that_was_closed_while_idle(world: World) -> None:
    async def slam(writer: asyncio.StreamWriter) -> None:
        world.stage.respond = None
        writer.transport.abort()

    world.stage.respond = slam
    await world.identity.authenticate("good")


async def test_the_service_token_is_renewed_before_it_ends_and_when_it_is_refused(
    world: World,
) -> None:
    await world.identity.authenticate("good")
    world.stage.service_token = "service-2"  # the first is void from now on
    world.monotonic.now += 31
    await asyncio.gather(
        world.identity.authenticate("good"), world.refused("x", Code.UNAUTHENTICATED)
    )
    assert world.stage.count("POST") == 2
    world.clock.now = 4_070_908_800 - 100  # FOREVER is near
    world.monotonic.now += 31
    await world.identity.authenticate("good")
    assert world.stage.count("POST") == 3


async def test_a_refused_service_user_does_not_try_again_at_once(world: World) -> None:
    world.stage.refuse_service = True
    for _ in range(10):
        await world.refused("good")
    assert world.stage.count("POST") == 1
    world.stage.refuse_service = False
    await world.refused("good")
    world.monotonic.now += 10
    await world.identity.authenticate("good")


async def test_the_probe_of_health(world: World) -> None:
    world.stage.tokens["service-1"] = issue("heliometer", STOCK)
    await world.keystone.ping()
    world.stage.refuse_service = True
    world.stage.service_token = "another"
    with pytest.raises(HeliometerError):
        await world.keystone.ping()


async def test_a_token_that_needs_a_certificate(world: World) -> None:
    world.stage.tokens["bound"] = issue("ann", SHOP, oauth2_credential={"x5t#S256": "abc"})
    await world.refused("bound", Code.UNAUTHENTICATED)


@pytest.mark.parametrize("id_", ["x" * 33, "a/b", "../x", "", "é"])
async def test_ids_that_cannot_be_kept(world: World, id_: str) -> None:
    world.stage.tokens["odd"] = {
        **issue("ann", SHOP),
        "project": {"id": id_, "name": "odd", "domain": DOMAIN},
    }
    await world.refused("odd", Code.FORBIDDEN)
    assert await world.names() == {}


async def test_names_move_from_project_to_project(world: World) -> None:
    await world.identity.authenticate("good")
    assert await world.names() == {SHOP: "shop"}
    # Renamed in Keystone, its name given to another; the other is seen first.
    world.stage.tokens["stock"] = issue("bob", STOCK, "shop")
    await world.identity.authenticate("stock")
    assert await world.names() == {SHOP: f"shop~{SHOP}"[:64], STOCK: "shop"}
    world.stage.tokens["good"] = issue("ann", SHOP, "boutique")
    world.monotonic.now += 31
    await world.identity.authenticate("good")
    assert await world.names() == {SHOP: "boutique", STOCK: "shop"}
    # … and changed places.
    world.stage.tokens["good"] = issue("ann", SHOP, "shop")
    world.stage.tokens["stock"] = issue("bob", STOCK, "boutique")
    world.monotonic.now += 31
    await world.identity.authenticate("good")
    await world.identity.authenticate("stock")
    assert await world.names() == {SHOP: "shop", STOCK: "boutique"}


async def test_a_row_that_another_process_changed_is_put_right_when_it_matters(
    world: World,
) -> None:
    await world.projects.seen(_of(SHOP, "shop"))
    async with world.database.write() as connection:
        await connection.execute(
            update(ProjectRow).where(ProjectRow.id == SHOP).values(enabled=False)
        )
    world.monotonic.now += KNOWN_S
    await world.projects.seen(_of(SHOP, "shop"))
    assert set(await world.projects.resolve([SHOP])) == {SHOP}


def _of(id_: str, name: str) -> Of:
    return Of(id_, name, Named("default", "Default"))


async def test_projects_that_agents_name(world: World) -> None:
    entry = {"id": STOCK, "name": "stock", "domain_id": "default", "enabled": True}
    world.stage.projects[STOCK] = entry
    for _ in range(5):
        assert await world.projects.project_exists(STOCK)
    assert world.stage.count("GET /v3/projects/") == 1
    assert await world.names() == {STOCK: "stock"}
    found = await world.projects.resolve([STOCK, "stock", "0" * 32])
    assert {name: each.id for name, each in found.items()} == {STOCK: STOCK, "stock": STOCK}
    world.stage.projects[STOCK] = {**entry, "enabled": False}
    world.monotonic.now += KNOWN_S
    assert not await world.projects.project_exists(STOCK)
    world.stage.projects[STOCK] = entry
    world.monotonic.now += MISSING_S
    assert await world.projects.project_exists(STOCK)
    del world.stage.projects[STOCK]
    world.monotonic.now += KNOWN_S
    assert not await world.projects.project_exists(STOCK)
    assert await world.projects.resolve([STOCK, "stock"]) == {}


async def test_a_project_cannot_be_looked_up_while_keystone_fails(world: World) -> None:
    await world.identity.authenticate("good")

    async def broken(writer: asyncio.StreamWriter) -> None:
        await send(writer, 500, b"")

    world.stage.respond = broken
    assert await world.projects.project_exists(SHOP)  # its own token said so
    with pytest.raises(HeliometerError) as caught:
        await world.projects.resolve([SHOP, STOCK])
    assert caught.value.code is Code.UNAVAILABLE


@pytest.mark.parametrize(
    ("name", "domain", "kept"),
    [
        ("shop", ("default", "Default"), "shop"),
        ("shop", ("default", "default"), "shop"),
        ("shop", ("d" * 32, "acme"), "shop@acme"),
        ("shop@acme", ("default", "Default"), "shop@acme@Default"),
        ("shop", ("d" * 32, "acme@Default"), f"shop@{'d' * 32}"),
        ("shop", ("d" * 32, "e" * 32), f"shop@{'d' * 32}"),
        ("5" * 32, ("default", "Default"), f"{'5' * 32}@Default"),
        ("a\nb", ("default", "Default"), "a?b"),
        ("  ", ("default", "Default"), "@Default"),
        ("x" * 64, ("default", "Default"), "x" * 64),
        ("x" * 64, ("d" * 32, "acme"), "x" * 53 + "~" + SHOP[:10]),
    ],
)
def test_names_here(name: str, domain: tuple[str, str], kept: str) -> None:
    assert local_project(SHOP, name, Named(*domain), "Default") == Project(SHOP, kept)


def test_settings_know_the_same_roles() -> None:
    assert tuple(ROLES) == ROLE_NAMES


def test_roles_add_up() -> None:
    roles = Roles(parse_roles("Reader=reader, service=agent,member=member,boss=admin"))
    agent = roles.of([Named("1", "SERVICE"), Named("2", "member")])
    assert agent.role == "agent"
    assert {Permission.POST_RESERVED, Permission.MANAGE} <= agent.permissions
    assert Permission.ADMINISTER not in agent.permissions
    assert roles.of([Named("1", "boss"), Named("2", "reader")]).role == "admin"
    assert roles.of([Named("1", "admin")]) == ("", frozenset())


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "is not KEYSTONE=HERE"),
        ("member", "'member' is not KEYSTONE=HERE"),
        ("=member", "is not KEYSTONE=HERE"),
        ("a=member,", "'' is not KEYSTONE=HERE"),
        ("a=owner", "'owner' is no role here; allowed: reader, member, agent, admin"),
        ("a=member,A=reader", "'A' is given twice"),
    ],
)
def test_wrong_roles(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        parse_roles(text)
