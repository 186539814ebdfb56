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
        """Report to the others what does not work here, and why."""
        ...

    async def meters_changed(self, project_id: str) -> None:
        """Tell the others that a project's custom meters changed; returns when they know."""
        ...

    def on_meters_changed(self, forget: Callable[[str], None]) -> None:
        """Have ``forget`` called with the id of a project whose custom meters changed elsewhere;
        empty if any may have changed."""
        ...


class NoPeers:
    """This process is the whole service."""

    any = False

    def failed(self) -> Mapping[str, str]:
        """Nothing: there is no other process."""
        return {}

    def report(self, failed: Mapping[str, str]) -> None:
        """Do nothing: there is no other process."""

    async def meters_changed(self, project_id: str) -> None:
        """Do nothing: there is no other process."""

    def on_meters_changed(self, forget: Callable[[str], None]) -> None:
        """No other process changes any."""
