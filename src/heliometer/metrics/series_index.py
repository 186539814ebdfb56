"""All known series in memory: what is computed once for a series, never for a measurement."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import NamedTuple

from heliometer.core.errors import Code, HeliometerError
from heliometer.metrics.model import Dimensions, Series
from heliometer.metrics.series_ids import SeriesIds

SPELLING_BYTES = 128 << 20
"""Bytes for the spellings of one project; beyond these all are dropped and learnt again."""
_ENTRY_BYTES = 128
"""About the size of an entry without the spelling itself."""


_NONE: Mapping[bytes, int] = {}


class Name(NamedTuple):
    """What identifies a series within its project."""

    namespace: str
    dimensions: Dimensions


class ProjectSeries:
    """The series of one project.

    It also remembers *spellings*: bytes that stood in a request for the dimensions of a series,
    so that a dialect need not decode them again. One is entered only after it was validated.
    """

    def __init__(self, project_id: str) -> None:
        self.project_id = project_id
        self._spellings: dict[tuple[str, str], dict[bytes, int]] = {}
        self._spelt_bytes = 0
        self._by_name: dict[Name, int] = {}
        self.ids: list[int] = []
        """The ids of its series, in the order of their first appearance. It only grows."""
        self._by_namespace: dict[str, list[int]] = {}
        self._by_pair: dict[tuple[str, str, str], list[int]] = {}

    def __len__(self) -> int:
        return len(self._by_name)

    def get(self, name: Name) -> int | None:
        """The id of a series, or ``None`` if the project does not have it."""
        return self._by_name.get(name)

    def spellings(self, namespace: str, form: str = "") -> Mapping[bytes, int]:
        """The ids of a namespace's series, by spelling of their dimensions. Each ``form`` has
        spellings of its own: the same bytes mean one thing in JSON and another elsewhere."""
        return self._spellings.get((namespace, form), _NONE)

    def learn(self, namespace: str, spelling: bytes, series_id: int, form: str = "") -> None:
        """Remember a validated spelling of a series."""
        known = self._spellings.setdefault((namespace, form), {})
        if spelling in known:
            return
        size = len(spelling) + _ENTRY_BYTES
        if self._spelt_bytes + size > SPELLING_BYTES:
            self._spellings.clear()
            self._spelt_bytes = 0
            known = self._spellings.setdefault((namespace, form), {})
        known[spelling] = series_id
        self._spelt_bytes += size

    def add(self, series: Series) -> None:
        """Add a series that is new."""
        self._by_name[Name(series.namespace, series.dimensions)] = series.id
        self.ids.append(series.id)
        self._by_namespace.setdefault(series.namespace, []).append(series.id)
        for key, value in series.dimensions:
            self._by_pair.setdefault((series.namespace, key, value), []).append(series.id)

    def namespaces(self) -> Iterator[str]:
        """The namespaces that have series, sorted."""
        return iter(sorted(self._by_namespace))

    def sizes(self) -> Iterator[tuple[str, int]]:
        """The namespaces and the number of their series."""
        return ((name, len(ids)) for name, ids in self._by_namespace.items())

    def count(self, namespace: str, key: str | None) -> Counter[str]:
        """How many series of a namespace have each key, or each value of one key."""
        counts: Counter[str] = Counter()
        for (where, name, value), ids in self._by_pair.items():
            if where == namespace and key in (None, name):
                counts[name if key is None else value] += len(ids)
        return counts

    def candidates(self, namespace: str, dimensions: Mapping[str, str]) -> Sequence[int]:
        """The shortest list of ids that includes all series of the namespace with the pairs."""
        lists = [self._by_pair.get((namespace, k, v), []) for k, v in dimensions.items()]
        return min(lists, key=len, default=self._by_namespace.get(namespace, []))


class SeriesIndex:
    """All series of all projects. Ids rise as series appear, so that neighbours stay together.

    A series that ``intern`` made exists in the store only with the first batch that was committed
    after it: ``unsaved`` names those still to be written.
    """

    def __init__(
        self, series: Iterable[Series], limit: int, shared: SeriesIds | None = None
    ) -> None:
        """``shared``: the shared ids, if other processes know the same series."""
        self._limit = limit
        self._shared = shared
        self._series: dict[int, Series] = {}
        self._projects: dict[str, ProjectSeries] = {}
        self._unsaved: dict[int, Series] = {}
        self._next = 1
        self.load(series)

    def __len__(self) -> int:
        return len(self._series)

    def __getitem__(self, series_id: int) -> Series:
        return self._series[series_id]

    def load(self, series: Iterable[Series]) -> None:
        """Begin with the series of the store, which have the store's ids."""
        if self._shared is not None:
            self.adopt(series)
            return
        for each in series:
            self._add(each)
        self._next = max(self._series, default=0) + 1

    @property
    def last_id(self) -> int:
        """The highest id that a series has; 0: there is none."""
        return self._next - 1

    def after(self, last_id: int, limit: int) -> list[Series]:
        """Up to ``limit`` series with higher ids, by id."""
        ids = range(last_id + 1, self._next)
        found = (self._series[i] for i in ids if i in self._series)
        return list(islice(found, limit))

    def project(self, project_id: str) -> ProjectSeries:
        """The series of a project, of which there may be none."""
        found = self._projects.get(project_id)
        if found is None:
            found = self._projects[project_id] = ProjectSeries(project_id)
        return found

    def intern(self, project_id: str, names: Iterable[Name]) -> dict[Name, int]:
        """Ids for series, which are added if they are new.

        Raises RATE_LIMITED, and makes none, when the project would have more than it may.
        """
        project = self.project(project_id)
        ids, new = self._known_and_new(project, names)
        self._check(project, new)
        for name in new:
            series = Series(self._next, project_id, name.namespace, name.dimensions)
            self._next += 1
            self._add(series)
            self._unsaved[series.id] = series
            ids[name] = series.id
        return ids

    def check_room(self, project_id: str, names: Iterable[Name]) -> None:
        """Raise RATE_LIMITED if ``intern`` would."""
        project = self.project(project_id)
        self._check(project, self._known_and_new(project, names)[1])

    @staticmethod
    def _known_and_new(
        project: ProjectSeries, names: Iterable[Name]
    ) -> tuple[dict[Name, int], list[Name]]:
        ids: dict[Name, int] = {}
        new: list[Name] = []
        for name in dict.fromkeys(names):
            known = project.get(name)
            if known is None:
                new.append(name)
            else:
                ids[name] = known
        return ids, new

    def _check(self, project: ProjectSeries, new: Sequence[Name]) -> None:
        if new and len(project) + len(new) > self._limit:
            raise HeliometerError(
                Code.RATE_LIMITED,
                f"The project has {len(project)} series and may have {self._limit}; "
                f"this request would add {len(new)}.",
                details="Use dimension values that do not change with every post; what is already "
                "there goes on being accepted.",
                retry_after=3600,
            )

    def adopt(self, series: Iterable[Series]) -> list[Series]:
        """Take in what another process made, with shared ids, under numbers of our own; those that
        were not known yet."""
        new: list[Series] = []
        for each in series:
            if self.project(each.project_id).get(Name(each.namespace, each.dimensions)) is None:
                known = each._replace(id=self._next)
                self._next += 1
                self._add(known, each.id)
                new.append(known)
        return new

    def select(
        self, project_id: str, namespace: str, dimensions: Mapping[str, str]
    ) -> list[Series]:
        """The project's series in a namespace that have at least the given dimensions, ordered by
        dimensions."""
        return sorted(self.matching(project_id, namespace, dimensions), key=lambda s: s.dimensions)

    def matching(
        self, project_id: str, namespace: str, dimensions: Mapping[str, str]
    ) -> Iterator[Series]:
        """The same as an iterator, in no order."""
        wanted = set(dimensions.items())
        candidates = self.project(project_id).candidates(namespace, dimensions)
        found = (self._series[i] for i in candidates)
        return (s for s in found if wanted <= set(s.dimensions))

    def unsaved(self) -> list[Series]:
        """The series that the store does not have yet, by id."""
        return list(self._unsaved.values())

    def saved(self, series: Iterable[Series]) -> None:
        """Note that the store has these series now."""
        for each in series:
            self._unsaved.pop(each.id, None)

    def _add(self, series: Series, shared_id: int = 0) -> None:
        self._series[series.id] = series
        self.project(series.project_id).add(series)
        if self._shared is not None:
            self._shared.add(series, shared_id)
