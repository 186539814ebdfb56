"""Queries to ClickHouse and their results, with one log message for each outage."""

import logging
import time
from collections.abc import Awaitable, Mapping, Sequence
from typing import Any, TypeVar

import msgspec
import numpy as np

from heliometer.core.errors import Code, HeliometerError
from heliometer.metrics.model import Batch, Series
from heliometer.storage.clickhouse import native
from heliometer.storage.clickhouse.http import Address, Client, Trouble
from heliometer.storage.clickhouse.schema import QUERY_S, Server

T = TypeVar("T")
log = logging.getLogger(__name__)

RETRY_S = 5
"""When a refused caller may try again, in seconds."""


class Session:
    """A client of one ClickHouse that knows the capabilities of its ``server``. Every method raises
    UNAVAILABLE when ClickHouse does not answer or refuses."""

    def __init__(self, address: Address) -> None:
        self.address = address
        self.client = Client(address)
        self.server = Server()
        self._down: dict[str, float] = {}

    async def batch(self, text: str) -> Batch:
        """The measurements that a query selects; none for an empty text."""
        if not text:
            return Batch(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0))
        return Batch(*await self.columns(text, [np.int64, np.int64, np.float64]))

    async def columns(
        self,
        text: str,
        dtypes: Sequence[type[np.generic]],
        settings: Mapping[str, Any] | None = None,
    ) -> list[Any]:
        """The columns of a reply in the Native format."""
        body = await self.ask(text, settings)
        try:
            return list(native.decode(body, dtypes))
        except native.NotNative as error:
            log.error("ClickHouse's answer cannot be read: %s", error)
            raise unavailable("The measurements could not be read.") from error

    async def json(self, text: str, row: type[T]) -> list[T]:
        """The rows of a reply in the format JSONCompact."""
        answer = msgspec.json.decode(await self.ask(text), type=_Answer)
        return msgspec.json.decode(answer.data, type=list[row])  # type: ignore[valid-type]

    async def series(self, text: str) -> list[Series]:
        """The series that a query selects."""
        rows = await self.json(text, tuple[int, str, str, str])
        pairs = msgspec.json.Decoder(tuple[tuple[str, str], ...]).decode
        return [Series(i, p, n, pairs(d)) for i, p, n, d in rows]

    async def ask(self, text: str, settings: Mapping[str, Any] | None = None) -> bytes:
        """The whole reply to a query, undecoded."""
        params = self.server.only_known({**self.server.asking, **(settings or {})})
        return await self.result_of(
            "answer queries",
            # Longer than ClickHouse's own limit, whose message says more.
            self.client.ask(text, params, deadline_s=QUERY_S + 5),
        )

    async def result_of(self, what: str, work: Awaitable[T]) -> T:
        """The result of ``work``. Raises UNAVAILABLE for Trouble; ``what`` is for the log."""
        try:
            result = await work
        except Trouble as error:
            if what not in self._down:
                self._down[what] = time.monotonic()
                log.error("ClickHouse at %s does not %s: %s", self.address.url, what, error)
            done = {"store": "stored", "drop": "removed"}.get(what.split()[0], "read")
            raise unavailable(f"The measurements cannot be {done} now.") from error
        if self._down and (since := self._down.pop(what, None)) is not None:
            seconds = time.monotonic() - since
            log.warning("after %.0f s, ClickHouse does %s again", seconds, what)
        return result


class _Answer(msgspec.Struct):
    """The data of the format JSONCompact, without its metadata."""

    data: msgspec.Raw


def unavailable(message: str) -> HeliometerError:
    """UNAVAILABLE with this message."""
    return HeliometerError(
        Code.UNAVAILABLE,
        message,
        details="Send the request again a little later; if it goes on, tell the operator.",
        retry_after=RETRY_S,
    )
