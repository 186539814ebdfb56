"""The server with a user of every role, as the tests of the HP dialects have it."""

from hp_v1_1.conftest import people

__all__ = ["people"]
