"""One change of a project at a time, whatever other projects do."""

import asyncio
from weakref import WeakValueDictionary


class KeyedLock:
    """A lock for each project, as long as somebody holds or awaits it."""

    def __init__(self) -> None:
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    def of(self, project_id: str) -> asyncio.Lock:
        """To be held with ``async with``."""
        return self._locks.setdefault(project_id, asyncio.Lock())
