"""Callers, their project, and what their role allows there."""

from dataclasses import dataclass
from enum import Enum

from heliometer.core.errors import Code, HeliometerError


class Permission(Enum):
    """Something that a role may allow."""

    READ = "read what belongs to the project"
    POST_METRICS = "post measurements"
    POST_RESERVED = "post measurements in reserved namespaces"
    POST_ELSEWHERE = "post measurements for other projects"
    MANAGE = "create, change and delete what belongs to the project"
    ADMINISTER = "administer the members of the project"
    OPERATE = "operate the service"
    """No role allows this: operators are named by command."""


ROLES: dict[str, frozenset[Permission]] = {
    "reader": frozenset({Permission.READ}),
    "member": frozenset({Permission.READ, Permission.POST_METRICS, Permission.MANAGE}),
    "agent": frozenset(
        {
            Permission.READ,
            Permission.POST_METRICS,
            Permission.POST_RESERVED,
            Permission.POST_ELSEWHERE,
        }
    ),
    "admin": frozenset(
        {
            Permission.READ,
            Permission.POST_METRICS,
            Permission.POST_RESERVED,
            Permission.MANAGE,
            Permission.ADMINISTER,
        }
    ),
}
"""What each role allows in its project. A user has one role in each of its projects."""
OPERATOR = frozenset({Permission.OPERATE, Permission.ADMINISTER, Permission.POST_ELSEWHERE})
"""What operators may do besides, whatever their role."""
SERVICE_WIDE = frozenset({"agent"})
"""Roles that reach beyond their project, which only operators grant."""


@dataclass(frozen=True, slots=True)
class Caller:
    """The user behind a valid token, in the project that the token is scoped to.

    ``project_id`` is empty for an unscoped token.
    """

    user_id: str
    user_name: str
    project_id: str
    project_name: str
    permissions: frozenset[Permission]

    def require(self, permission: Permission) -> None:
        """Raise FORBIDDEN unless the caller's role allows ``permission``."""
        if permission is Permission.OPERATE:
            if permission not in self.permissions:
                raise HeliometerError(
                    Code.FORBIDDEN,
                    f"You may not {permission.value}.",
                    details="Operators may; heliometer operator add names one.",
                )
            return
        if not self.project_id:
            raise HeliometerError(
                Code.FORBIDDEN,
                "The token is not scoped to a project.",
                details="Name a project when signing in (v2.0: tenantName; v3: scope).",
            )
        if not self.permissions:
            raise HeliometerError(
                Code.FORBIDDEN,
                f"None of your roles in project {self.project_name} counts here.",
                details="Ask the operator which roles do.",
            )
        if permission not in self.permissions:
            raise HeliometerError(
                Code.FORBIDDEN,
                f"Your role in project {self.project_name} does not allow you to "
                f"{permission.value}.",
                details=f"Roles that do: {', '.join(roles_with(permission))}.",
            )


def roles_with(permission: Permission) -> list[str]:
    """The names of the roles that allow ``permission``."""
    return [name for name, permissions in ROLES.items() if permission in permissions]


def unauthenticated(message: str = "") -> HeliometerError:
    """The refusal of a token or password, which does not say what is wrong with it."""
    return HeliometerError(
        Code.UNAUTHENTICATED,
        message or "The request you have made requires authentication.",
    )
