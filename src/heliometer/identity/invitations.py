"""Invitations: how an administrator gets somebody into the project who agrees to it.

An invitation is a code that is shown once, to hand over by whatever way. Whoever has it joins the
project with the user they have, or with a new one.
"""

import hashlib
import re
import secrets
from collections.abc import Callable
from typing import NamedTuple, Protocol

from heliometer.core.errors import Code, HeliometerError
from heliometer.identity.accounts import User, check_role
from heliometer.identity.model import SERVICE_WIDE, Caller, Permission

LIFE_MS = 7 * 86_400_000
OPEN = 100
"""Most invitations of a project that wait to be accepted."""
CODE = re.compile(r"[A-Za-z0-9_-]{43}")


class Invitation(NamedTuple):
    """An open invitation, without its code. Times are milliseconds since the epoch."""

    id: str
    project_id: str
    project_name: str
    role: str
    created_by: str
    created_ms: int
    expires_ms: int


class InvitationStore(Protocol):
    """Stores open invitations by the digest of their code; one that is used is removed.

    Every method raises UNAVAILABLE when the store does not answer.
    """

    async def add(self, invitation: Invitation, digest: bytes, limit: int) -> None:
        """Store an invitation, instead of expired ones. Raises RATE_LIMITED when the project has
        ``limit`` open ones."""
        ...

    async def list(self, project_id: str, now_ms: int) -> list[Invitation]:
        """The open invitations of a project, oldest first."""
        ...

    async def remove(self, project_id: str, invitation_id: str, by: str) -> None:
        """Withdraw an invitation. Raises NOT_FOUND."""
        ...

    async def find(self, digest: bytes, now_ms: int) -> Invitation | None:
        """The open invitation with this code, if its project is enabled."""
        ...

    async def accept(self, digest: bytes, user: User, now_ms: int, *, is_new: bool) -> Invitation:
        """Use the invitation up and give the user its role, in one transaction; a new user is
        stored too. Raises NOT_FOUND for one that is no longer open, and CONFLICT for a user who
        belongs to the project already, or a name that is taken."""
        ...


class Invitations:
    """Invitations to the caller's project, and accepting one.

    ``new_user`` checks the name and the password of a user, and makes it without storing it.
    """

    def __init__(
        self,
        store: InvitationStore,
        clock: Callable[[], float],
        find_user: "FindUser",
        new_user: "NewUser",
    ) -> None:
        self._store = store
        self._clock = clock
        self._find_user = find_user
        self._new_user = new_user

    async def create(self, caller: Caller, role: str) -> tuple[Invitation, str]:
        """An invitation and its code, which is not shown again. Raises FORBIDDEN, INVALID and
        RATE_LIMITED."""
        caller.require(Permission.ADMINISTER)
        check_role(role)
        if role in SERVICE_WIDE:
            raise HeliometerError(
                Code.FORBIDDEN,
                f"The role {role} reaches beyond the project: only operators grant it.",
            )
        code, now = secrets.token_urlsafe(32), self._now_ms()
        invitation = Invitation(
            secrets.token_hex(16), caller.project_id, caller.project_name, role,
            caller.user_name, now, now + LIFE_MS,
        )  # fmt: skip
        await self._store.add(invitation, _digest(code), OPEN)
        return invitation, code

    async def list(self, caller: Caller) -> list[Invitation]:
        """The open invitations to the project. Raises FORBIDDEN."""
        caller.require(Permission.ADMINISTER)
        return await self._store.list(caller.project_id, self._now_ms())

    async def withdraw(self, caller: Caller, invitation_id: str) -> None:
        """Raises FORBIDDEN and NOT_FOUND."""
        caller.require(Permission.ADMINISTER)
        await self._store.remove(caller.project_id, invitation_id, caller.user_name)

    async def show(self, code: str) -> Invitation:
        """What a code invites to. Raises NOT_FOUND for one that is used, withdrawn or expired."""
        found = None
        if CODE.fullmatch(code):
            found = await self._store.find(_digest(code), self._now_ms())
        if found is None:
            raise no_invitation()
        return found

    async def accept(self, caller: Caller, code: str) -> Invitation:
        """Join with the user that one has. Raises NOT_FOUND and CONFLICT."""
        await self.show(code)
        user = await self._find_user(caller.user_id)
        if user is None:
            raise no_invitation()
        return await self._store.accept(_digest(code), user, self._now_ms(), is_new=False)

    async def accept_new(self, code: str, name: str, password: str) -> Invitation:
        """Join as a new user. Raises NOT_FOUND, CONFLICT for a name that is taken, and INVALID."""
        await self.show(code)  # nobody without a code has a password hashed
        user = await self._new_user(name, password)
        return await self._store.accept(_digest(code), user, self._now_ms(), is_new=True)

    def _now_ms(self) -> int:
        return int(self._clock() * 1000)


class FindUser(Protocol):
    """Finds a user by id."""

    async def __call__(self, reference: str) -> User | None: ...


class NewUser(Protocol):
    """Makes a user that is not stored yet. Raises INVALID."""

    async def __call__(self, name: str, password: str) -> User: ...


def no_invitation() -> HeliometerError:
    """The error for a code that is none, or no longer."""
    return HeliometerError(
        Code.NOT_FOUND,
        "There is no such invitation, or it has expired, was withdrawn or is used.",
        details="Ask for a new one.",
    )


def _digest(code: str) -> bytes:
    return hashlib.sha256(code.encode()).digest()
