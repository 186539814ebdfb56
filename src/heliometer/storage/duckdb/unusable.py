"""What every store of measurements raises when it cannot be opened."""

from heliometer.core.errors import UnusableData


class StoreUnusable(UnusableData):
    """The store cannot be opened. The message says why and what to do, in one line."""
