"""How users and projects are referred to: by id, by name, or as ``DOMAIN\\name``."""

import re
from typing import Any

from heliometer.identity.accounts import normalized

ID = re.compile(r"[0-9a-f]{32}|[0-9a-f]{64}")
"""Ids of users and projects; those of users in LDAP have 64 digits."""
NAME_LENGTH = 255


def user_document(reference: str, default_domain: str) -> dict[str, Any] | None:
    """Keystone's description of a user; ``None`` for what cannot be a reference."""
    reference = normalized(reference)
    if not 0 < len(reference) <= 2 * NAME_LENGTH or not reference.isprintable():
        return None
    if ID.fullmatch(reference):
        return {"id": reference}
    domain = domain_of(reference)
    name = reference.partition("\\")[2] if domain else reference
    return {"name": name, "domain": {"name": domain or default_domain}}


def scope_document(
    reference: str, domain: str | None, default_domain: str
) -> dict[str, Any] | None:
    """Keystone's scope of a project; ``None`` for what cannot be a reference. A name without a
    domain is looked up in ``domain``, or else in the default one."""
    reference = normalized(reference)
    if not 0 < len(reference) <= 2 * NAME_LENGTH or not reference.isprintable():
        return None
    if ID.fullmatch(reference):
        return {"project": {"id": reference}}
    named = domain_of(reference)
    name = reference.partition("\\")[2] if named else reference
    return {"project": {"name": name, "domain": {"name": named or domain or default_domain}}}


def limiter_key(user: Any) -> str:
    """The key under which a user's failures are counted; ``user`` is Keystone's description."""
    if not isinstance(user, dict):
        return "?"
    if isinstance(user.get("id"), str):
        return str(user["id"])[:NAME_LENGTH]
    domain = user.get("domain")
    parts = domain if isinstance(domain, dict) else {}
    where = str(parts.get("name") or parts.get("id") or "").casefold()
    return f"{where}\\{str(user.get('name')).casefold()}"[: 2 * NAME_LENGTH]


def domain_of(reference: str) -> str | None:
    """The domain in ``DOMAIN\\name``."""
    domain, backslash, name = reference.partition("\\")
    return domain if backslash and domain and name else None
