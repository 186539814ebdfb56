"""Long lists in pages: after a marker, or by number.

Each dialect has its own form for asking and linking (HP's ``limit`` and ``marker``, telemetry's
``page`` and ``per_page``, the console's buttons); which items are on a page is decided here.
"""

from collections.abc import Sequence
from typing import NamedTuple, TypeVar
from urllib.parse import quote, urlencode

from heliometer.http.operation import Call

T = TypeVar("T")


def cut(found: Sequence[T], limit: int | None) -> tuple[Sequence[T], T | None]:
    """The page out of up to ``limit + 1`` items, and its last item if another page follows.

    The next page is the one after that item, whose id is the marker. Without a limit everything
    is on one page.
    """
    if limit is None or len(found) <= limit:
        return found, None
    return found[:limit], found[limit - 1]


class NumberedPage(NamedTuple):
    """The place of a page among ``total`` items, ``size`` to a page; the first page is 1."""

    number: int
    size: int
    total: int

    @property
    def last(self) -> int:
        """The number of the last page; an empty list has one."""
        return max(1, -(-self.total // self.size))

    @property
    def start(self) -> int:
        """Items before this page."""
        return (self.number - 1) * self.size

    def of(self, found: Sequence[T]) -> Sequence[T]:
        """The items of this page."""
        return found[self.start : self.start + self.size]

    def within(self) -> "NumberedPage":
        """The same page, or the first or last one where there is no such number."""
        return self._replace(number=min(max(self.number, 1), self.last))


def same_request(call: Call, path: str, **changed: object) -> str:
    """The absolute URL of ``path`` with the request's own parameters, but for those changed."""
    kept = [(k, v) for k, v in call.request.query_params.multi_items() if k not in changed]
    query = urlencode([*kept, *changed.items()], quote_via=quote)
    return f"{call.base_url}{path}?{query}"
