"""The audit trail: who changed what, and when; and who may read it."""

from dataclasses import dataclass, replace
from typing import NamedTuple, Protocol

from heliometer.core.errors import Code, HeliometerError
from heliometer.identity.model import Caller, Permission


class AuditEntry(NamedTuple):
    """One change. Times are milliseconds since the epoch."""

    id: int
    at_ms: int
    actor: str
    """The name of the user; ``operator`` for a command on the server's machine."""
    project_id: str | None
    """``None`` for a change that concerns no project."""
    action: str
    details: str


@dataclass(frozen=True, slots=True)
class AuditFilter:
    """Which entries are wanted; ``None`` for any."""

    project_id: str | None = None
    actor: str | None = None
    action: str | None = None
    start_ms: int | None = None
    """Inclusive."""
    end_ms: int | None = None
    """Exclusive."""


class AuditStore(Protocol):
    """Keeps the audit trail. What makes a change adds its entry, in the same transaction."""

    async def find(
        self, wanted: AuditFilter, before_id: int | None, limit: int
    ) -> list[AuditEntry]:
        """Entries, newest first, older than the one with this id. Raises UNAVAILABLE."""
        ...

    async def forget(self, before_ms: int, limit: int) -> int:
        """Remove up to ``limit`` entries of before then; return how many."""
        ...


class AuditTrail:
    """Reads it for operators, and a project's part of it for its administrators."""

    def __init__(self, store: AuditStore) -> None:
        self._store = store

    async def find(
        self, caller: Caller, wanted: AuditFilter, before_id: int | None, limit: int
    ) -> list[AuditEntry]:
        """Entries, newest first. Raises FORBIDDEN for who is neither, and NOT_FOUND for a project
        that an administrator does not administer, whether it exists or not."""
        if Permission.OPERATE not in caller.permissions:
            caller.require(Permission.ADMINISTER)
            if wanted.project_id not in (None, caller.project_id):
                raise HeliometerError(
                    Code.NOT_FOUND, f"There is no project {(wanted.project_id or '')[:40]}."
                )
            wanted = replace(wanted, project_id=caller.project_id)
        return await self._store.find(wanted, before_id, limit)
