"""SQL text that every store of measurements understands. All numbers in it are our own."""

from collections.abc import Sequence


def matching(series: Sequence[int], start_ms: int, end_ms: int) -> str:
    """Condition for the measurements of some series, at least one, in [start, end)."""
    low, high = min(series), max(series)
    # The range lets a store skip most of what it has; where the ids have no gap it says it all.
    condition = f"series BETWEEN {low} AND {high} AND ts >= {start_ms} AND ts < {end_ms}"
    if high - low + 1 != len(set(series)):
        condition += f" AND series IN ({', '.join(map(str, series))})"
    return condition
