"""The messages of a queue that are in memory."""

from bisect import bisect_right

from heliometer.feed.model import Chunk

RECENT = 4096
"""The newest messages, which are kept in memory for consumers that keep up."""


class MessageCache:
    """The newest chunks, and one page of older messages."""

    def __init__(self) -> None:
        self.page: Chunk | None = None
        """The older chunk that was read last."""
        self._recent: list[Chunk] = []
        self._count = 0

    @property
    def first_recent(self) -> int | None:
        """The number of the first message among the newest chunks."""
        return self._recent[0].first if self._recent else None

    def add(self, chunk: Chunk) -> None:
        """Add a chunk that follows the newest one."""
        self._recent.append(chunk)
        self._count += len(chunk.bodies)

    def find(self, number: int) -> Chunk | None:
        """The chunk with the message, if it is in memory."""
        if self._recent and number >= self._recent[0].first:
            return self._recent[bisect_right(self._recent, number, key=lambda c: c.first) - 1]
        page = self.page
        if page is not None and page.first <= number < page.first + len(page.bodies):
            return page
        return None

    def trim(self, keep_from: int, keep: int | None) -> None:
        """Drop the oldest chunks that end before ``keep_from``, and then those beyond ``keep``
        messages. ``None``: no such bound."""
        drop = 0
        for chunk in self._recent:
            over = chunk.first + len(chunk.bodies) <= keep_from
            if not over and (keep is None or self._count <= keep):
                break
            self._count -= len(chunk.bodies)
            drop += 1
        del self._recent[:drop]
