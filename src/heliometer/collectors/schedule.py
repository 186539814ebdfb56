"""When the next round is, and for whom: every project has the interval of its monitoring level."""

from collections.abc import Awaitable, Callable, Mapping

DEFAULT_S = 300
"""Seconds between rounds of a project whose level is not known: that of level basic."""

FORGOTTEN_S = 3600

Read = Callable[[], Awaitable[Mapping[str, int]]]
"""The intervals of the projects that have another than the default, in seconds."""


class Schedule:
    """Remembers who was reported when.

    ``fixed_s`` is the interval of all projects, unless it is 0. Rounds begin at multiples of the
    interval plus ``offset_s``, so that many machines need not begin at once.
    """

    def __init__(self, read: Read, *, fixed_s: int = 0, offset_s: float = 0.0) -> None:
        self._read = read
        self._fixed_s = fixed_s
        self._offset_s = offset_s
        self._intervals: Mapping[str, int] = {}
        self._last: dict[str, float] = {}

    async def refresh(self) -> None:
        """Learn of levels that changed. Raises what reading them raises."""
        if not self._fixed_s:
            self._intervals = await self._read()

    @property
    def seconds(self) -> int:
        """The shortest interval of those that are reported."""
        return min((self._interval(project) for project in self._last), default=self._interval(""))

    def remaining(self, last: float, now: float) -> float:
        """Seconds until the first beginning of a round after ``last``; not above 0: it is due."""
        begin = self._begin(last, self.seconds) + self.seconds
        return begin - now

    def due(self, project_id: str, now: float) -> bool:
        """Whether a round began for the project since it was last reported."""
        last = self._last.get(project_id)
        seconds = self._interval(project_id)
        # Set back meanwhile, the clock says nothing about how long ago that was.
        return last is None or last > now or self._begin(last, seconds) != self._begin(now, seconds)

    def reported(self, project_ids: set[str], now: float) -> None:
        """They were, now."""
        # Who is gone for long does not set the pace any more.
        self._last = {name: at for name, at in self._last.items() if now - at < FORGOTTEN_S}
        self._last |= dict.fromkeys(project_ids, now)

    def again(self) -> None:
        """A round that comes early is due for all."""
        self._last = dict.fromkeys(self._last, float("inf"))

    def _interval(self, project_id: str) -> int:
        return max(1, self._fixed_s or self._intervals.get(project_id, DEFAULT_S))

    def _begin(self, at: float, seconds: int) -> float:
        offset = self._offset_s % seconds
        return (at - offset) // seconds * seconds + offset
