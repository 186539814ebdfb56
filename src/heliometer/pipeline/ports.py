"""The port of the feed that a shard needs; that of the store is
``metrics.ports.MeasurementWriter``."""

from typing import Protocol, TypeVar

from heliometer.metrics.model import Batch

Prepared = TypeVar("Prepared")
"""What a feed passes from ``prepare`` to ``commit`` or ``abort``."""


class FeedWriter(Protocol[Prepared]):
    """Publishes the measurements that projects subscribe to, if and only if they are stored.

    A shard handles one batch at a time: ``prepare``, then the measurements are stored, then
    ``commit`` or ``abort``.
    """

    async def prepare(self, shard: int, batch: Batch) -> Prepared:
        """Do everything that could fail, without making any of it visible yet. Raises UNAVAILABLE
        if that is impossible; then the measurements are not stored."""
        ...

    async def commit(self, prepared: Prepared) -> None:
        """The measurements are stored: return once those that are subscribed to are safe."""
        ...

    async def abort(self, prepared: Prepared) -> None:
        """The measurements could not be stored: drop what was prepared."""
        ...
