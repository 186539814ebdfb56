"""Dictionaries with a bound."""

from heliometer.core.bounded import put_newest


def test_the_oldest_entry_goes_first() -> None:
    entries: dict[str, int] = {}
    for value, key in enumerate("abac"):
        put_newest(entries, key, value, 2)
    assert entries == {"a": 2, "c": 3}
