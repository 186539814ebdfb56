"""The server with a user of every role, as the tests of the HP dialects have it."""

from hp.conftest import people

__all__ = ["people"]
