"""Pauses between tries."""

import pytest

from heliometer.core.retry import Backoff, pause_s


@pytest.mark.parametrize(
    ("failures", "expected"), [(1, 0.5), (2, 1), (3, 2), (6, 16), (7, 30), (10_000, 30)]
)
def test_pauses_double_up_to_the_longest(failures: int, expected: float) -> None:
    assert pause_s(failures, 0.5, 30, spread=0) == expected


def test_pauses_vary_within_the_spread() -> None:
    pauses = [pause_s(2, 0.5, 30) for _ in range(1000)]
    assert 0.75 <= min(pauses) < max(pauses) <= 1.25


def test_a_success_starts_over() -> None:
    backoff = Backoff(1, 60, spread=0)
    assert not backoff.failed
    assert [backoff.next_s() for _ in range(3)] == [1, 2, 4]
    assert backoff.failed
    backoff.reset()
    assert not backoff.failed
    assert backoff.next_s() == 1
