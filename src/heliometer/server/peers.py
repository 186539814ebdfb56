"""What the service needs of other processes, and the answer where there are none."""

from collections.abc import Callable, Mapping
from typing import Protocol


class Peers(Protocol):
    """The other processes of the service."""

    @property
    def any(self) -> bool:
        """Whether others may change what this process knows."""
        ...

    def failed(self) -> Mapping[str, str]:
        """What others found not to work, and why."""
        ...

    def report(self, failed: Mapping[str, str]) -> None:
        """Tell them what does not work here, and why."""
        ...

    async def meters_changed(self, project_id: str) -> None:
        """Tell them of a project whose custom meters changed; return when they know."""
        ...

    def on_meters_changed(self, forget: Callable[[str], None]) -> None:
        """Have ``forget`` called with a project whose custom meters changed elsewhere, or with an
        empty id when that may be any."""
        ...


class NoPeers:
    """This process is the whole service."""

    any = False

    def failed(self) -> Mapping[str, str]:
        """Nothing: there is no other process."""
        return {}

    def report(self, failed: Mapping[str, str]) -> None:
        """There is no other process to be told."""

    async def meters_changed(self, project_id: str) -> None:
        """There is no other process to be told."""

    def on_meters_changed(self, forget: Callable[[str], None]) -> None:
        """No other process changes any."""
