"""Dictionaries with a bound, of which the oldest entry goes first."""

from typing import TypeVar

K = TypeVar("K")
V = TypeVar("V")


def put_newest(entries: dict[K, V], key: K, value: V, size: int) -> None:
    """Set an entry as the newest one. With more than ``size`` entries, the oldest is removed."""
    entries.pop(key, None)
    if len(entries) >= size:
        del entries[next(iter(entries))]
    entries[key] = value
