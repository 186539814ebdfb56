"""Which id each series has on the other side."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from heliometer.metrics.model import Int64s, Series
from heliometer.metrics.series_ids import shared_id

Group = tuple[str, str]
"""A project and a namespace."""
UNKNOWN: Group = ("", "")
"""The group of measurements whose series is unknown."""


@dataclass(frozen=True, slots=True)
class Matched:
    """The series of both sides, matched by name."""

    shared_ids: Int64s
    """The target's ids by the source's; 0 if there is none."""
    new: list[Series]
    """Those that the target lacks, with the ids that it is to know them by."""
    groups: "Groups"

    def orphans(self, series: Int64s, counts: Int64s) -> int:
        """How many of these measurements have a series that the source does not know."""
        known = (series > 0) & (series < len(self.shared_ids))
        known[known] = self.shared_ids[series[known]] > 0
        return int(counts[~known].sum())


class Groups:
    """The project and namespace of each series of the target."""

    def __init__(self, every: Sequence[Series]) -> None:
        numbers: dict[Group, int] = {UNKNOWN: 0}
        of = [numbers.setdefault((s.project_id, s.namespace), len(numbers)) for s in every]
        ids = np.array([s.id for s in every], np.int64)
        order = np.argsort(ids)
        self._known, self._group_of = ids[order], np.array(of, np.int64)[order]
        self.names = list(numbers)
        """Names of the groups, by number."""

    def of(self, series: Int64s) -> Int64s:
        """The number of each series' group."""
        if not len(self._known):
            return np.zeros(len(series), np.int64)
        at = np.minimum(np.searchsorted(self._known, series), len(self._known) - 1)
        found: Int64s = np.where(self._known[at] == series, self._group_of[at], 0)
        return found


def match(here: Sequence[Series], there: Sequence[Series]) -> Matched:
    """Match the source's series with the target's."""
    named = {(s.project_id, s.namespace, s.dimensions): s.id for s in there}
    taken = set(named.values())
    shared_ids = np.zeros(max((s.id for s in here), default=0) + 1, np.int64)
    new: list[Series] = []
    for series in here:
        found = named.get((series.project_id, series.namespace, series.dimensions))
        if found is None:
            attempt, found = 0, shared_id(series)
            while found in taken:
                attempt += 1
                found = shared_id(series, attempt)
            taken.add(found)
            new.append(series._replace(id=found))
        shared_ids[series.id] = found
    return Matched(shared_ids, new, Groups([*there, *new]))
