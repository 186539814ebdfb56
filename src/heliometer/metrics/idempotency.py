"""Idempotency keys: a repeated post is answered, and not stored again."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass

from heliometer.core.errors import Code, HeliometerError, Malformed
from heliometer.metrics.receipts import Receipt

KEY_LENGTH = 255


@dataclass(slots=True)
class _Taken:
    fingerprint: bytes
    ends_ms: int
    under_way: asyncio.Future[None] | None = None


class Receipts:
    """The idempotency keys that are remembered."""

    def __init__(self, receipts: Iterable[Receipt]) -> None:
        self._taken = {_name(r): _Taken(r.fingerprint, r.ends_ms) for r in receipts}

    async def once(self, receipt: Receipt, store: Callable[[Receipt], Awaitable[None]]) -> None:
        """Call ``store`` unless the receipt's key was used before.

        A second request with the key of one that is still under way shares its result. Raises
        INVALID when the key was used with another body, MALFORMED when it is not a key, and what
        ``store`` raises, after which the key is free again.
        """
        if not 1 <= len(receipt.key) <= KEY_LENGTH or not receipt.key.isprintable():
            raise Malformed(f"Idempotency-Key must have 1 to {KEY_LENGTH} printable characters.")
        name = _name(receipt)
        while (before := self._find(receipt)) is not None:
            if before.under_way is None:
                return
            await asyncio.wait({before.under_way})
        under_way = asyncio.get_running_loop().create_future()
        taken = self._taken[name] = _Taken(receipt.fingerprint, receipt.ends_ms, under_way)

        async def run() -> None:
            try:
                await store(receipt)
                taken.under_way = None
            except BaseException:
                del self._taken[name]
                raise
            finally:
                under_way.set_result(None)

        # The caller may go away; whether the receipt was stored must still become known.
        await asyncio.shield(asyncio.create_task(run()))

    def known(self, receipt: Receipt) -> bool:
        """Whether a request with this key is stored. Raises INVALID if it had another body."""
        before = self._find(receipt)
        return before is not None and before.under_way is None

    def remember(self, receipt: Receipt) -> None:
        """Remember that a receipt's key was used."""
        name = _name(receipt)
        self._taken[name] = _Taken(receipt.fingerprint, receipt.ends_ms)

    def _find(self, receipt: Receipt) -> _Taken | None:
        before = self._taken.get(_name(receipt))
        if before is None or receipt.at_ms >= before.ends_ms:
            return None
        if before.fingerprint != receipt.fingerprint:
            raise HeliometerError(
                Code.INVALID,
                "Idempotency-Key: this key was used in the last 24 hours with another body.",
                details="Use a new key for each request; repeat one only to retry.",
            )
        return before

    def forget(self, now_ms: int) -> None:
        """Drop the keys whose time is over."""
        old = [
            name
            for name, taken in self._taken.items()
            if taken.under_way is None and now_ms >= taken.ends_ms
        ]
        for name in old:
            del self._taken[name]


def _name(receipt: Receipt) -> tuple[str, str]:
    return receipt.project_id, receipt.encoded_key
