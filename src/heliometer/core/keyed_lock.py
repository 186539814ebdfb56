"""One change of a project at a time, independently of other projects."""

import asyncio
from weakref import WeakValueDictionary


class KeyedLock:
    """A lock for each project, which exists while it is held or awaited."""

    def __init__(self) -> None:
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    def of(self, project_id: str) -> asyncio.Lock:
        """The project's lock, for ``async with``."""
        return self._locks.setdefault(project_id, asyncio.Lock())
