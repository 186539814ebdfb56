"""The server with its users, as the tests of v1.1 have it."""

from hp.conftest import people

__all__ = ["people"]
