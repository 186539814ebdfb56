"""Errors that all stores of measurements share."""

from heliometer.core.errors import UnusableData


class StoreUnusable(UnusableData):
    """The store cannot be opened. The message says why and what to do, in one line."""
