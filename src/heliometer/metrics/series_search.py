"""Finding series: completing what a user types, and listing series page by page."""

from collections import Counter
from collections.abc import Mapping
from heapq import nsmallest
from itertools import islice

from heliometer.metrics.model import Dimensions, Series
from heliometer.metrics.series_index import SeriesIndex

COMPLETIONS = 50
"""At most so many completions are proposed."""
COUNTED = 20_000
"""The most series that are looked at for them."""


def complete(
    series_index: SeriesIndex,
    project_id: str,
    namespace: str,
    chosen: Mapping[str, str],
    key: str | None,
    part: str,
) -> list[tuple[str, int]]:
    """Proposals for the next word of a search, with their number of series, most frequent first.

    Without a namespace these are namespaces; without ``key``, dimension keys; else values of that
    key. ``part`` must occur in each, in upper or lower case.
    """
    project = series_index.project(project_id)
    part = part.lower()
    counts: Counter[str] = Counter()
    if not namespace:
        for name, size in project.sizes():
            if part in name.lower():
                counts[name] = size
    elif not chosen:
        counts = project.count(namespace, key)
    else:
        found = series_index.matching(project_id, namespace, chosen)
        for series in islice(found, COUNTED):
            if key is None:
                counts.update(k for k, _ in series.dimensions)
            else:
                counts.update(v for k, v in series.dimensions if k == key)
    if key is None:
        for taken in chosen:
            counts.pop(taken, None)
    ranked = sorted(counts.items(), key=lambda each: (-each[1], each[0]))
    return [each for each in ranked if part in each[0].lower()][:COMPLETIONS]


def list_series(
    series_index: SeriesIndex,
    project_id: str,
    namespace: str | None,
    dimensions: Mapping[str, str],
    after: tuple[str, Dimensions] | None,
    limit: int,
) -> list[Series]:
    """A page of the project's series, ordered by namespace and dimensions, behind ``after``."""
    project = series_index.project(project_id)
    found: list[Series] = []
    for each in [namespace] if namespace is not None else list(project.namespaces()):
        if after is not None and each < after[0]:
            continue
        series = series_index.matching(project_id, each, dimensions)
        if after is not None:
            series = (s for s in series if (s.namespace, s.dimensions) > after)
        # Unlike sorting, it keeps no more than it returns.
        found += nsmallest(limit - len(found), series, key=lambda s: s.dimensions)
        if len(found) >= limit:
            break
    return found
