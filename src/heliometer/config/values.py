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


PROCESS_ROLES = ("api", "evaluator", "notifier", "feed", "collector")
"""The roles of processes (``serve --roles``)."""
MOST_PROCESSES = 10_000


def parse_expected(text: str) -> dict[str, int]:
    """``ROLE=NUMBER,…`` as how many processes should have each role."""
    expected: dict[str, int] = {}
    for part in filter(str.strip, text.split(",")):
        role, _, number = (each.strip() for each in part.partition("="))
        if role not in PROCESS_ROLES:
            raise ValueError(f"{role[:64]!r} is no role; allowed: {', '.join(PROCESS_ROLES)}")
        if not (number.isascii() and number.isdecimal()) or int(number[:9]) > MOST_PROCESSES:
            raise ValueError(f"{part.strip()[:64]!r} is not ROLE=NUMBER, such as evaluator=2")
        if role in expected:
            raise ValueError(f"{role} is given twice")
        expected[role] = int(number)
    return expected


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
