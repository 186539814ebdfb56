"""What every identity offers to those who sign people in: the port of dialects and console."""

from typing import NamedTuple, Protocol

from heliometer.core.errors import Code, HeliometerError
from heliometer.identity.accounts import Membership, TokenOwner
from heliometer.identity.ports import Authenticator


class Issued(NamedTuple):
    """A new token, and what it stands for. The token itself is kept nowhere."""

    secret: str
    owner: TokenOwner


class Identity(Authenticator, Protocol):
    """Signs users in and out, who are referred to by id or name, as projects are.

    Every method raises UNAVAILABLE when what it needs to know cannot be found out.
    """

    async def validate(self, token: str) -> TokenOwner:
        """What a token stands for, freshly looked up; raise UNAUTHENTICATED if nothing."""
        ...

    async def authenticate_password(
        self, user: str, password: str, address: str | None, project: str | None = None
    ) -> Issued:
        """Sign in; without a project the token is unscoped.

        Raises UNAUTHENTICATED for a wrong name or password, or a project that the user does not
        belong to, RATE_LIMITED after too many failures, and INVALID for impossible passwords.
        """
        ...

    async def authenticate_token(self, token: str, project: str | None = None) -> Issued:
        """Exchange a token for one of another scope, which ends no later than the first.

        Raises UNAUTHENTICATED as ``authenticate_password`` does.
        """
        ...

    async def memberships(self, token: str) -> list[Membership]:
        """The enabled projects of the token's user, by name; raise UNAUTHENTICATED. The answer may
        be 30 s old."""
        ...

    async def revoke(self, token: str) -> None:
        """End a token: at once in this process, within 60 s in others."""
        ...


def unauthenticated(message: str = "") -> HeliometerError:
    """The refusal of a token or password, which does not tell what was wrong with it."""
    return HeliometerError(
        Code.UNAUTHENTICATED,
        message or "The request you have made requires authentication.",
    )
