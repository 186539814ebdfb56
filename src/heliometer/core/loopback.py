"""Addresses that only this machine reaches."""

LOOPBACK = ("127.0.0.1", "::1", "localhost")
_ANY = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 (compared with, not bound)


def reachable(host: str) -> str:
    """Where this machine reaches a listener that is bound to ``host``."""
    return _ANY.get(host, host)
