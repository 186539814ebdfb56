"""When the next round is due, and for which projects, by the intervals of monitoring levels."""

from collections.abc import Awaitable, Callable, Mapping

DEFAULT_S = 300
"""Seconds between rounds of a project whose level is unknown: those of level basic."""

FORGOTTEN_S = 3600

Read = Callable[[], Awaitable[Mapping[str, int]]]
"""The intervals, in seconds, of projects that do not have the default one."""


class Schedule:
    """Remembers when each project was last reported. ``fixed_s`` is the interval of all projects,
    unless it is 0. Rounds start at multiples of the interval plus ``offset_s``, so that many
    machines do not start at once."""

    def __init__(self, read: Read, *, fixed_s: int = 0, offset_s: float = 0.0) -> None:
        self._read = read
        self._fixed_s = fixed_s
        self._offset_s = offset_s
        self._intervals: Mapping[str, int] = {}
        self._last: dict[str, float] = {}

    async def refresh(self) -> None:
        """Read the levels again. Raises whatever reading them raises."""
        if not self._fixed_s:
            self._intervals = await self._read()

    @property
    def seconds(self) -> int:
        """The shortest interval of the reported projects."""
        return min((self._interval(project) for project in self._last), default=self._interval(""))

    def remaining(self, last: float, now: float) -> float:
        """Seconds until the first start of a round after ``last``; 0 or less if it is due."""
        begin = self._begin(last, self.seconds) + self.seconds
        return begin - now

    def due(self, project_id: str, now: float) -> bool:
        """Whether a round has started for the project since it was last reported."""
        last = self._last.get(project_id)
        seconds = self._interval(project_id)
        # If the clock was set back meanwhile, the time since then is unknown.
        return last is None or last > now or self._begin(last, seconds) != self._begin(now, seconds)

    def reported(self, project_ids: set[str], now: float) -> None:
        """Note that these projects were reported now."""
        # A project that has been gone for long no longer sets the pace.
        self._last = {name: at for name, at in self._last.items() if now - at < FORGOTTEN_S}
        self._last |= dict.fromkeys(project_ids, now)

    def again(self) -> None:
        """Make an early round due for all projects."""
        self._last = dict.fromkeys(self._last, float("inf"))

    def _interval(self, project_id: str) -> int:
        return max(1, self._fixed_s or self._intervals.get(project_id, DEFAULT_S))

    def _begin(self, at: float, seconds: int) -> float:
        offset = self._offset_s % seconds
        return (at - offset) // seconds * seconds + offset
