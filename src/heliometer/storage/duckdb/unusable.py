"""What every store of measurements raises when it cannot be opened."""


class StoreUnusable(Exception):
    """The store cannot be opened. The message says why and what to do, in one line."""
