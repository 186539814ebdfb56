"""Refuses writes before the disk is full."""

import shutil
import time
from collections.abc import Callable
from pathlib import Path

from heliometer.core.errors import Code, HeliometerError

_GOOD_FOR_S = 0.2
"""How long a measured value is reused, in seconds."""


def free_bytes(folder: Path) -> int:
    """Free bytes on the folder's disk."""
    return shutil.disk_usage(folder).free


class FreeSpace:
    """Guards the free space of a folder's disk, of which ``least`` bytes must stay free."""

    def __init__(
        self, folder: Path, least: int, measure: Callable[[Path], int] = free_bytes
    ) -> None:
        self._folder = folder
        self._least = least
        self._measure = measure
        self._free, self._measured_at = 0, float("-inf")

    def require(self) -> None:
        """Raise UNAVAILABLE while too little space is free."""
        if time.monotonic() - self._measured_at > _GOOD_FOR_S:
            self._free, self._measured_at = self._measure(self._folder), time.monotonic()
        if self._free < self._least:
            raise HeliometerError(
                Code.UNAVAILABLE,
                "The service's disk is almost full; nothing can be stored until its operator "
                "makes room.",
                details=f"{self._free >> 20} MiB are free, {self._least >> 20} MiB "
                "must stay free (metrics.min_free_bytes).",
                retry_after=30,
            )
