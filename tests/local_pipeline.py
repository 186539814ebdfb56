"""The pipeline of one process over whatever store a test has; nobody subscribed to anything."""

from heliometer.metrics.idempotency import Receipts
from heliometer.metrics.model import Batch
from heliometer.metrics.ports import MeasurementWriter
from heliometer.metrics.series_index import SeriesIndex
from heliometer.pipeline.group_commit import GroupCommit
from heliometer.pipeline.shard import Shard


class NoFeed:
    """Nobody subscribed."""

    async def prepare(self, shard: int, batch: Batch) -> None: ...
    async def commit(self, prepared: None) -> None: ...
    async def abort(self, prepared: None) -> None: ...


def local_shard(store: MeasurementWriter, series_index: SeriesIndex) -> Shard[None]:
    """The only shard of a process."""
    return Shard(
        0,
        store=store,
        series_index=series_index,
        receipts=Receipts(()),
        feed=NoFeed(),
        series_stored=series_index.saved,
    )


def local_writer(
    store: MeasurementWriter, series_index: SeriesIndex, *, limit: int
) -> GroupCommit[None]:
    """The same behind a group commit."""
    return GroupCommit(local_shard(store, series_index), series_index, limit=limit)
