"""What both sides have, counted by project and namespace."""

from collections import Counter
from dataclasses import dataclass, field

import numpy as np

from heliometer.metrics.model import Int64s
from heliometer.migrate.digests import Digests
from heliometer.migrate.journal import CopiedDay
from heliometer.migrate.series_matching import Group, Groups


@dataclass(slots=True)
class Comparison:
    """Grows by a day at a time."""

    series: int = 0
    """Series that the source has."""
    missing_series: int = 0
    """Those that the target does not know."""
    here: Counter[Group] = field(default_factory=Counter)
    there: Counter[Group] = field(default_factory=Counter)
    different: Counter[Group] = field(default_factory=Counter)
    """Days of series, counted, whose digests differ."""
    read: int = 0
    """Measurements of the source that were read and compared; the others are of days that an
    earlier pass found equal."""
    copied: int = 0
    unknown: int = 0
    """Measurements whose series the source does not know; they are not copied."""
    expired_days: int = 0
    """Days that the target has and the source's retention has removed."""

    @property
    def equal(self) -> bool:
        """Whether both sides have the same."""
        return not (self.missing_series or self.different or self.unknown)

    def add_day(self, here: Digests, there: Digests, groups: Groups) -> list[tuple[str, str, int]]:
        """Count a day; return what the source has of it by project and namespace."""
        counted = _count(here, groups)
        self.here.update(counted)
        self.there.update(_count(there, groups))
        count, total = there.find(here.series)
        wrong = (count != here.number) | (total != here.sum)
        self._mark(here.series[wrong], groups)
        self._mark(np.setdiff1d(there.series, here.series), groups)
        return [(project, namespace, n) for (project, namespace), n in counted.items()]

    def add_equal_day(self, known: CopiedDay) -> None:
        """Count a day that an earlier pass found equal and that has not changed since."""
        for project, namespace, number in known.counts:
            self.here[project, namespace] += number
            self.there[project, namespace] += number

    def _mark(self, series: Int64s, groups: Groups) -> None:
        self.different.update(groups.names[i] for i in groups.of(series).tolist())


def _count(found: Digests, groups: Groups) -> Counter[Group]:
    totals = np.bincount(groups.of(found.series), found.number, len(groups.names))
    return Counter({groups.names[i]: int(totals[i]) for i in np.flatnonzero(totals).tolist()})
