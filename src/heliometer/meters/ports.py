"""What meters need of a store, and of other processes."""

from collections.abc import Sequence
from typing import Protocol

from heliometer.meters.model import CustomMeter, Put, Quota


class MeterStore(Protocol):
    """Stores custom meters and counts their samples."""

    async def list_meters(self, project_id: str) -> list[CustomMeter]:
        """The project's custom meters in order of creation."""
        ...

    async def take(
        self,
        project_id: str,
        new: Sequence[CustomMeter],
        puts: Sequence[Put],
        quota: Quota,
        now_ms: int,
        by: str,
    ) -> None:
        """Store new meters and count samples, all or nothing.

        Raises MALFORMED, with the documented messages (002, Response Code), beyond the quota.
        """
        ...

    async def give_back(self, new: Sequence[CustomMeter], puts: Sequence[Put]) -> None:
        """Undo ``take`` after the samples could not be stored."""
        ...


class MeterPeers(Protocol):
    """Other processes of the service, which make custom meters too."""

    @property
    def any(self) -> bool:
        """Whether there may be any."""
        ...

    async def meters_changed(self, project_id: str) -> None:
        """Tell the others that a project's custom meters changed; returns when they know."""
        ...
