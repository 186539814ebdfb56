"""What a shard needs of the feed; of the store it needs ``metrics.ports.MeasurementWriter``."""

from typing import Protocol, TypeVar

from heliometer.metrics.model import Batch

Prepared = TypeVar("Prepared")
"""What a feed hands from ``prepare`` to ``commit`` or ``abort``."""


class FeedWriter(Protocol[Prepared]):
    """Takes what tenants subscribed to, so that it flows exactly when it is stored.

    A shard handles one batch at a time: ``prepare``, then the measurements are stored, then
    ``commit`` or ``abort``.
    """

    async def prepare(self, shard: int, batch: Batch) -> Prepared:
        """Do what must not fail once the measurements are stored; nobody sees any of it yet.

        Raises UNAVAILABLE when that cannot be done; the measurements are not stored then.
        """
        ...

    async def commit(self, prepared: Prepared) -> None:
        """The measurements are stored: return when what is subscribed to is safe."""
        ...

    async def abort(self, prepared: Prepared) -> None:
        """The measurements could not be stored: nobody ever sees what was prepared."""
        ...
