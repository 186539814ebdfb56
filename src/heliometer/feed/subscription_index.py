"""Which series are subscribed to: computed once per series, looked up for whole batches."""

from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from heliometer.feed.model import Subscription
from heliometer.metrics.model import Dimensions, Int64s, Series
from heliometer.metrics.validation import RESERVED_PREFIX

Select = Callable[[str, str, Mapping[str, str]], Sequence[Series]]
"""The known series of a project and namespace that have at least some dimensions."""


class SubscriptionIndex:
    """A flag for each series. A batch of series without subscribers costs one look at them."""

    def __init__(self, select: Select) -> None:
        self._select = select
        self._flags = np.zeros(1024, np.bool_)
        self._exact: dict[tuple[str, str], set[Dimensions]] = {}
        self._subset: dict[tuple[str, str], list[frozenset[tuple[str, str]]]] = {}
        self._wanted = 0

    def __len__(self) -> int:
        """How many subscriptions there are."""
        return self._wanted

    def add(self, subscription: Subscription) -> None:
        """Have what it matches flow from now on."""
        self._wanted += 1
        key = subscription.project_id, subscription.namespace
        if subscription.namespace.startswith(RESERVED_PREFIX):
            self._subset.setdefault(key, []).append(frozenset(subscription.dimensions))
        else:
            self._exact.setdefault(key, set()).add(subscription.dimensions)
        self.know(self._select(*key, dict(subscription.dimensions)))

    def remove(self, subscription: Subscription) -> None:
        """Stop what no other subscription matches."""
        self._wanted -= 1
        key = subscription.project_id, subscription.namespace
        if subscription.namespace.startswith(RESERVED_PREFIX):
            self._subset[key].remove(frozenset(subscription.dimensions))
        else:
            self._exact[key].discard(subscription.dimensions)
        for group in (self._subset, self._exact):
            if not group.get(key, True):
                del group[key]
        for series in self._select(*key, dict(subscription.dimensions)):
            if series.id < len(self._flags):
                self._flags[series.id] = False
        self.know(self._select(*key, dict(subscription.dimensions)))

    def know(self, series: Iterable[Series]) -> None:
        """Work out the flags of series that are new."""
        if not self._wanted:
            return
        for each in series:
            if self._is_wanted(each):
                if each.id >= len(self._flags):
                    size = max(each.id + 1, 2 * len(self._flags))
                    self._flags = np.pad(self._flags, (0, size - len(self._flags)))
                self._flags[each.id] = True

    def wanted(self, series: Int64s) -> NDArray[np.intp]:
        """Positions in a batch whose series are subscribed to."""
        if not self._wanted:
            return np.zeros(0, np.intp)
        known = np.minimum(series, len(self._flags) - 1)
        return np.flatnonzero(self._flags[known] & (known == series))

    def _is_wanted(self, series: Series) -> bool:
        key = series.project_id, series.namespace
        if series.dimensions in self._exact.get(key, ()):
            return True
        groups = self._subset.get(key)
        if not groups:
            return False
        has = set(series.dimensions)
        return any(group <= has for group in groups)
