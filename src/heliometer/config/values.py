"""Settings whose text has a form of its own; each parser raises ValueError for anything else."""

from ipaddress import IPv4Network, IPv6Network, ip_network
from urllib.parse import urlsplit

Network = IPv4Network | IPv6Network

ROLE_NAMES = ("reader", "member", "agent", "admin")
"""The roles that a user may hold in a project; ``identity.model.ROLES`` says what each allows."""


def parse_address(text: str) -> tuple[str, int]:
    """``host:port`` or ``[v6]:port`` as a pair."""
    parts = urlsplit(f"//{text}")
    whole = parts.netloc == text and "@" not in text
    if not whole or not parts.hostname or parts.port is None:
        raise ValueError(f"{text!r} is not HOST:PORT")
    return parts.hostname, parts.port


def parse_networks(text: str) -> tuple[Network, ...]:
    """Addresses and networks, separated by commas."""
    return tuple(ip_network(part.strip()) for part in text.split(",") if part.strip())


def parse_roles(text: str) -> dict[str, str]:
    """``THEIRS=OURS,…`` as a mapping from Keystone's roles, case-folded, to ours."""
    pairs: dict[str, str] = {}
    for part in text.split(","):
        theirs, sign, ours = (each.strip() for each in part.partition("="))
        if not (theirs and sign and ours):
            raise ValueError(f"{part.strip()[:64]!r} is not KEYSTONE=HERE, such as member=member")
        if ours not in ROLE_NAMES:
            raise ValueError(f"{ours[:64]!r} is no role here; allowed: {', '.join(ROLE_NAMES)}")
        if theirs.casefold() in pairs:
            raise ValueError(f"{theirs[:64]!r} is given twice")
        pairs[theirs.casefold()] = ours
    return pairs
