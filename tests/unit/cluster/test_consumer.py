"""Which parts an owner gives up so that all have as many."""

from collections.abc import Sequence

import pytest

from heliometer.cluster.events import Member
from heliometer.cluster.owned_shards import too_many


def member(name: str, *parts: int) -> Member:
    return Member(name, ["evaluator"], "host", 1, "1", "", list(parts), 0.0, {}, 8)


@pytest.mark.parametrize(
    ("mine", "others", "given"),
    [
        (range(8), [()], [4, 5, 6, 7]),
        (range(8), [(), ()], [4, 5, 6, 7]),
        (range(5), [(5, 6, 7)], [4]),
        (range(4), [(4, 5, 6, 7)], []),
        (range(4), [(4, 5, 6)], []),
        ((), [range(8)], []),
        (range(8), [], []),
    ],
)
def test_half_of_what_another_has_less_is_given(
    mine: Sequence[int], others: list[Sequence[int]], given: list[int]
) -> None:
    known = [member("me", *mine), *(member(str(n), *each) for n, each in enumerate(others))]
    assert too_many(list(mine), known, "me") == given


def test_what_was_told_before_the_parts_came_here_counts_for_nothing() -> None:
    """Of a process that was killed is heard no more; what it had is ours now."""
    mine = list(range(8))
    assert too_many(mine, [member("me", 0, 1, 2, 3), member("killed", 4, 5, 6, 7)], "me") == []
