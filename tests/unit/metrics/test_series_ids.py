"""Ids of series that mean the same in every process, also where digests meet."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from heliometer.metrics import series_ids as module
from heliometer.metrics.model import Series
from heliometer.metrics.series_ids import SeriesIds, shared_id
from heliometer.metrics.series_index import Name, SeriesIndex
from heliometer.projects.model import shard_of

PARTS = 7
NAMES = st.lists(
    st.tuples(st.sampled_from(["p", "q", "r"]), st.integers(0, 10**6)),
    min_size=1, max_size=40, unique=True,
)  # fmt: skip


def series_index() -> tuple[SeriesIndex, SeriesIds]:
    ids = SeriesIds(PARTS)
    return SeriesIndex([], 10**9, ids), ids


def number(where: SeriesIndex, project: str, value: int) -> int:
    name = Name("ns", (("host", str(value)),))
    return where.intern(project, [name])[name]


def all_of(where: SeriesIndex, ids: SeriesIds) -> list[Series]:
    """The series as the store has them: with shared ids, in their order."""
    numbers = range(1, len(where) + 1)
    shared = ids.to_shared(np.array(numbers)).tolist()
    return sorted(where[n]._replace(id=i) for n, i in zip(numbers, shared, strict=True))


@given(NAMES)
def test_ids_are_positive_and_lead_back(names: list[tuple[str, int]]) -> None:
    where, ids = series_index()
    numbers = np.array([number(where, *name) for name in names])
    shared = ids.to_shared(numbers)
    assert (shared > 0).all()
    assert ids.to_local(shared).tolist() == numbers.tolist()
    assert ids.shards(numbers).tolist() == [shard_of(project, PARTS) for project, _ in names]
    assert ids.to_local(np.array([0, -5])).tolist() == [0, 0]


@given(NAMES, st.randoms())
def test_processes_agree_in_whatever_order_they_learn(names, random) -> None:  # type: ignore[no-untyped-def]
    one, of_one = series_index()
    other, of_other = series_index()
    for name in names:
        number(one, *name)
    for name in random.sample(names, len(names)):
        number(other, *name)
    assert all_of(one, of_one) == all_of(other, of_other)


@pytest.mark.parametrize("bits", [2, 4])
def test_what_is_stored_keeps_its_id_where_digests_meet(
    bits: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    # So few that most names meet another; the salted attempts find room beyond.
    real = shared_id

    def narrow(series: Series, attempt: int = 0) -> int:
        found = real(series, attempt)
        return 1 + found % (1 << bits) if attempt < 3 else found

    monkeypatch.setattr(module, "shared_id", narrow)
    first, of_first = series_index()
    for value in range(60):
        number(first, "p", value)
    stored = all_of(first, of_first)
    assert len({series.id for series in stored}) == 60
    again, of_again = series_index()
    assert len(again.adopt(stored)) == 60
    assert all_of(again, of_again) == stored
    assert again.adopt(stored) == []
