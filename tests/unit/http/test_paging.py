"""Which items are on a page, and whether another follows."""

import pytest

from heliometer.http.paging import NumberedPage, cut


@pytest.mark.parametrize(
    ("found", "limit", "page", "last"),
    [
        ([], 2, [], None),
        ([1, 2], 2, [1, 2], None),
        ([1, 2, 3], 2, [1, 2], 2),
        ([1, 2, 3], None, [1, 2, 3], None),
    ],
)
def test_a_page_ends_at_its_limit(
    found: list[int], limit: int | None, page: list[int], last: int | None
) -> None:
    assert cut(found, limit) == (page, last)


@pytest.mark.parametrize(
    ("number", "size", "total", "items", "last"),
    [
        (1, 2, 0, [], 1),
        (1, 2, 3, [0, 1], 2),
        (2, 2, 3, [2], 2),
        (3, 2, 3, [], 2),
        (2, 2, 4, [2, 3], 2),
    ],
)
def test_a_numbered_page(number: int, size: int, total: int, items: list[int], last: int) -> None:
    page = NumberedPage(number, size, total)
    assert (list(page.of(range(total))), page.last) == (items, last)


@pytest.mark.parametrize(("number", "within"), [(0, 1), (1, 1), (2, 2), (9, 2)])
def test_a_number_beyond_the_ends_is_the_nearest_page(number: int, within: int) -> None:
    assert NumberedPage(number, 2, 3).within().number == within
