"""Keystone's projects: looked up there, and copied here so that rows can refer to them."""

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from urllib.parse import quote

from heliometer.core.bounded import put_newest
from heliometer.core.errors import Code, HeliometerError
from heliometer.core.single_flight import SingleFlight
from heliometer.identity.accounts import Project, is_id, normalized
from heliometer.identity.keystone.client import SYSTEM, Answer, Keystone, unavailable
from heliometer.identity.keystone.documents import (
    PROJECT_ID,
    DomainReply,
    Named,
    Of,
    ProjectEntry,
    ProjectReply,
    ProjectsReply,
    local_project,
)
from heliometer.identity.ports import ProjectMirror
from heliometer.projects.model import Found
from heliometer.projects.ports import ProjectStore

log = logging.getLogger(__name__)

KNOWN_S = 300.0
"""For how many seconds a project that was looked up is not looked up again."""
MISSING_S = 30.0
"""The same for a project that is missing or disabled."""
REMEMBERED = 50_000
AT_ONCE = 8
"""The most lookups at the same time."""


class KeystoneProjects:
    """Implements ``projects.ports.ProjectStore``; monitoring levels are stored here.

    Raises UNAVAILABLE when Keystone does not answer.
    """

    def __init__(
        self,
        keystone: Keystone,
        store: ProjectStore,
        mirror: ProjectMirror,
        default_domain: str,
        monotonic: Callable[[], float],
    ) -> None:
        self._keystone = keystone
        self._store = store
        self._mirror = mirror
        self._default_domain = default_domain
        self._monotonic = monotonic
        self._known: dict[str, tuple[float, Project | None]] = {}
        self._domains: dict[str, str] = {}
        self._lookups: SingleFlight[str, Project | None] = SingleFlight()
        self._at_once = asyncio.Semaphore(AT_ONCE)

    async def seen(self, project: Of) -> Project:
        """Remember a project that a valid token is scoped to."""
        self._domains[project.domain.id] = project.domain.name
        asked_at = self._monotonic()
        kept = await self._keep(project.id, project.name, project.domain, enabled=True)
        self._remember(project.id, asked_at, kept)
        return kept

    async def find(self, reference: str) -> Project | None:
        """The enabled project of this id or name, as it is now or was within ``KNOWN_S``."""
        reference = normalized(reference)
        if not reference.isprintable() or not 0 < len(reference) <= 255:
            return None
        if PROJECT_ID.fullmatch(reference):
            found = await self._by_id(reference)
            if found is not None or is_id(reference):
                return found
        row = await self._mirror.named(reference)
        if row is not None:
            found = await self._by_id(row.id)
            if found is not None and found.name == reference:
                return found
        return await self._by_name(reference)

    async def project_exists(self, project_id: str) -> bool:
        """Whether the project exists and is enabled."""
        if not PROJECT_ID.fullmatch(project_id):
            return False
        return await self._by_id(project_id) is not None

    async def resolve(self, references: Sequence[str]) -> Mapping[str, Found]:
        """The enabled projects among these ids and names, by the reference that was given."""
        wanted = list(dict.fromkeys(references))
        found = await asyncio.gather(*(self.find(reference) for reference in wanted))
        ids = {r: project.id for r, project in zip(wanted, found, strict=True) if project}
        rows = await self._store.resolve(list(dict.fromkeys(ids.values())))
        return {reference: rows[id_] for reference, id_ in ids.items() if id_ in rows}

    async def levels(self) -> Mapping[str, str]:
        """The levels that differ from the default, by project id and again by project name."""
        return await self._store.levels()

    async def monitoring_level(self, project_id: str) -> str:
        """The project's level, or the default if none was set."""
        return await self._store.monitoring_level(project_id)

    async def set_monitoring_level(self, project_id: str, level: str, by: str) -> None:
        """Set the level and record who did so."""
        await self._store.set_monitoring_level(project_id, level, by)

    async def _by_id(self, id_: str) -> Project | None:
        known = self._known.get(id_)
        if known is not None:
            asked_at, project = known
            if self._monotonic() - asked_at < (KNOWN_S if project else MISSING_S):
                return project
        return await self._lookups.of(id_, lambda: self._look_up(id_))

    async def _look_up(self, id_: str) -> Project | None:
        asked_at = self._monotonic()
        answer = await self._read(f"/projects/{quote(id_, safe='')}")
        project = None
        if answer.status == 200:
            project = await self._keep_entry(answer.read(ProjectReply).project)
        elif answer.status != 404:
            raise self._forbidden(answer)
        else:
            await self._mirror.disable(id_)
        self._remember(id_, asked_at, project)
        return project

    async def _by_name(self, name: str) -> Project | None:
        """The project of the default domain with this name."""
        known = self._known.get(f"name {name}")
        if known is not None and self._monotonic() - known[0] < MISSING_S:
            return known[1]
        if self._keystone.domain is None:
            await self._keystone.ping()
        domain = self._keystone.domain
        if domain is None:
            raise unavailable()
        asked_at = self._monotonic()
        answer = await self._read(f"/projects?name={quote(name, safe='')}&domain_id={domain.id}")
        if answer.status != 200:
            raise self._forbidden(answer)
        found: Project | None = None
        for entry in answer.read(ProjectsReply).projects:
            if entry.name == name and entry.domain_id == domain.id:
                found = await self._keep_entry(entry)
        self._remember(f"name {name}", asked_at, found)
        return found

    async def _read(self, path: str) -> Answer:
        async with self._at_once:
            answer = await self._keystone.as_service("GET", path)
            if answer.status == 403:
                # The role "service" may check tokens but not read projects.
                answer = await self._keystone.as_service("GET", path, scope=SYSTEM)
            return answer

    async def _keep_entry(self, entry: ProjectEntry) -> Project | None:
        id_ = entry.domain_id or entry.id
        domain = Named(id_, await self._domain_name(id_))
        kept = await self._keep(entry.id, entry.name, domain, enabled=entry.enabled)
        return kept if entry.enabled else None

    async def _domain_name(self, id_: str) -> str:
        if self._keystone.domain is not None and self._keystone.domain.id == id_:
            return self._keystone.domain.name
        if id_ not in self._domains:
            answer = await self._keystone.as_service("GET", f"/domains/{quote(id_, safe='')}")
            self._domains[id_] = (
                answer.read(DomainReply).domain.name if answer.status == 200 else ""
            )
        return self._domains[id_]

    async def _keep(self, id_: str, name: str, domain: Named, *, enabled: bool) -> Project:
        if not PROJECT_ID.fullmatch(id_):
            raise HeliometerError(
                Code.FORBIDDEN,
                f"The project's id {id_[:64]!a} is not one that can be kept here.",
                details="Ids have up to 32 letters and digits.",
            )
        project = local_project(id_, name, domain, self._default_domain)
        project = Project(project.id, project.name, enabled)
        await self._mirror.keep(project)
        return project

    def _remember(self, key: str, asked_at: float, project: Project | None) -> None:
        put_newest(self._known, key, (asked_at, project), REMEMBERED)

    def _forbidden(self, answer: Answer) -> HeliometerError:
        log.error(
            "Keystone does not let the service user read projects (%s): give it the role reader "
            "in the system (openstack role add --system all …)",
            answer.status,
        )
        return unavailable()
