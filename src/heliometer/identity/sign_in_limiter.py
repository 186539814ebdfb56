"""Slows down the guessing of passwords.

``Throttle`` decides and is pure: the clock is an argument. ``SignInLimiter`` has callers wait.

Three budgets of wrong passwords: one for each pair of user and address, larger ones for each
address and for each user. A budget refills slowly, so a try is refused for a while, never for
good. A pair that has signed in before uses only its own budget, so that guesses from elsewhere
cannot lock the user out; such pairs are remembered across restarts. Where there are several
processes, they count failures together (``SharedFailures``). A try in flight counts as a failure
until its result is known, so that parallel tries of one process get no more guesses than
sequential ones.
"""

import asyncio
import ipaddress
import math
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass

from heliometer.core.bounded import put_newest
from heliometer.core.errors import Code, HeliometerError
from heliometer.core.quotas import Quota, Quotas, Use

PAIR_REFILL_S = 60.0
"""Seconds after which a pair gets one more try."""
ADDRESS_FACTOR = 10
ADDRESS_REFILL_S = 10.0
USER_FACTOR = 20
USER_REFILL_S = 30.0
"""An address has 10 times the failures of a pair and a user 20 times; both refill faster."""
SIZE = 10_000
"""The most budgets of each kind, and known pairs, that are remembered."""
GOOD_S = 90 * 86_400
"""For how long a network is remembered from which a user has signed in."""

Key = tuple[str, str]


class Budgets:
    """What is left of each key's budget; an unknown key has all of it."""

    def __init__(self, failures: int, refill_s: float, size: int) -> None:
        self.failures = failures
        self._refill_s = refill_s
        self._size = size
        self._full_at: dict[Key, float] = {}
        """When each budget will be full again, which determines what is left of it now."""
        self.in_flight: Counter[Key] = Counter()

    def wait_s(self, key: Key, now: float) -> float:
        """Seconds until the key may fail again; 0 if it may now."""
        spent_s = self._full_at.get(key, now) - now
        return max(0.0, spent_s - (self.failures - 1) * self._refill_s)

    def left(self, key: Key, now: float) -> int:
        """How often the key may fail now if all tries in flight fail."""
        spent_s = max(0.0, self._full_at.get(key, now) - now)
        return self.failures - math.ceil(spent_s / self._refill_s) - self.in_flight[key]

    def start(self, key: Key) -> None:
        """Count a try as in flight."""
        self.in_flight[key] += 1

    def finish(self, key: Key, now: float, *, failed: bool) -> None:
        """Count the result of a try."""
        self.in_flight[key] -= 1
        if not self.in_flight[key]:
            del self.in_flight[key]
        if failed:
            if key not in self._full_at and len(self._full_at) >= self._size:
                self._make_room()
            self._full_at[key] = max(self._full_at.get(key, now), now) + self._refill_s

    def refill(self, key: Key) -> None:
        """Forget the key's failures."""
        self._full_at.pop(key, None)

    def __len__(self) -> int:
        return len(self._full_at)

    def _make_room(self) -> None:
        # The ones that are full soonest lose least by being forgotten.
        by_time = sorted(self._full_at, key=self._full_at.__getitem__)
        for key in by_time[: max(1, self._size // 10)]:
            del self._full_at[key]


class Throttle:
    """Decides whether a password may be tried now. Times are in seconds."""

    def __init__(self, failures: int, clock: Callable[[], float], size: int = SIZE) -> None:
        self._clock = clock
        self._size = size
        self._pairs = Budgets(failures, PAIR_REFILL_S, size)
        self._addresses = Budgets(failures * ADDRESS_FACTOR, ADDRESS_REFILL_S, size)
        self._users = Budgets(failures * USER_FACTOR, USER_REFILL_S, size)
        self._good: dict[Key, None] = {}
        """Pairs that have signed in, the latest last."""

    def begin(self, user: str, address: str) -> "Attempt | None":
        """Admit a try, whose result must be reported. ``None``: wait until another try has ended.

        Raises RATE_LIMITED, with the seconds to wait, when a budget is spent.
        """
        address = network(address)
        pair = (user, address)
        spends = [(self._pairs, pair)]
        if pair not in self._good:
            spends += [(self._addresses, ("", address)), (self._users, (user, ""))]
        now = self._clock()
        wait_s = max(budgets.wait_s(key, now) for budgets, key in spends)
        if wait_s > 0:
            raise HeliometerError(
                Code.RATE_LIMITED,
                "Too many sign-ins have failed.",
                details=f"Try again in {math.ceil(wait_s)} seconds.",
                retry_after=math.ceil(wait_s),
            )
        if any(budgets.left(key, now) < 1 for budgets, key in spends):
            return None
        for budgets, key in spends:
            budgets.start(key)
        return Attempt(self, pair, tuple(spends))

    def is_good(self, user: str, address: str) -> bool:
        """Whether the user has signed in from there."""
        return (user, network(address)) in self._good

    def know(self, user: str, address: str) -> None:
        """Note that the user has signed in from there before."""
        put_newest(self._good, (user, network(address)), None, self._size)

    def settle(self, attempt: "Attempt", *, failed: bool, proven: bool) -> None:
        """Count the result of a try; ``proven``: the password was right."""
        now = self._clock()
        for budgets, key in attempt.spends:
            budgets.finish(key, now, failed=failed)
        if proven:
            self._pairs.refill(attempt.pair)
            put_newest(self._good, attempt.pair, None, self._size)

    def __len__(self) -> int:
        """How many entries are remembered."""
        return len(self._pairs) + len(self._addresses) + len(self._users) + len(self._good)


@dataclass(slots=True, eq=False)
class Attempt:
    """One try of a password, which counts as failed unless it is reported otherwise."""

    throttle: Throttle
    pair: Key
    spends: tuple[tuple[Budgets, Key], ...]
    settled: bool = False
    proven: bool | None = None
    """Whether the password was right; ``None``: that is not known."""

    def succeeded(self) -> None:
        """The password was right: the pair's failures are forgotten."""
        self._settle(failed=False, proven=True)

    def withdrawn(self) -> None:
        """The password could not be checked."""
        self._settle(failed=False, proven=False)

    def failed(self) -> None:
        """The password was wrong, or the caller is gone."""
        self._settle(failed=True, proven=False)

    def _settle(self, *, failed: bool, proven: bool) -> None:
        if not self.settled:
            self.settled = True
            self.proven = proven if failed or proven else None
            self.throttle.settle(self, failed=failed, proven=proven)


def network(address: str) -> str:
    """What counts as one address. Of IPv6 it is the /64, which one subscriber gets."""
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address[:64]
    if isinstance(parsed, ipaddress.IPv4Address):
        return str(parsed)
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return str(ipaddress.IPv6Network((parsed, 64), strict=False))


class SignInLimiter:
    """A throttle whose callers wait for each other. ``monotonic`` is in seconds."""

    def __init__(
        self, failures: int, monotonic: Callable[[], float], quotas: Quotas | None = None
    ) -> None:
        self._throttle = Throttle(failures, monotonic)
        self._kept = SharedFailures(quotas, failures) if quotas is not None else None
        self._quotas = quotas
        self._settled = asyncio.Event()

    @asynccontextmanager
    async def admitted(self, user: str, address: str) -> AsyncIterator[Attempt]:
        """A try of a password. It counts as failed unless the block reports another result or
        raises UNAVAILABLE. Raises RATE_LIMITED after too many failures."""
        was_good = self._throttle.is_good(user, address)
        if self._kept is not None:
            if not was_good and await self._kept.is_good(user, address):
                self._throttle.know(user, address)
                was_good = True
            await self._kept.check(user, address, good=was_good)
        while (attempt := self._begin(user, address)) is None:
            await self._settled.wait()
        try:
            yield attempt
        except HeliometerError as error:
            if error.code is Code.UNAVAILABLE:
                attempt.withdrawn()
            raise
        finally:
            attempt.failed()  # unless another result was reported
            self._settled.set()  # those who wait now look again; later ones wait for the next event
            self._settled = asyncio.Event()
            if self._kept is not None and attempt.proven is not None:
                await self._kept.settle(user, address, good=was_good, proven=attempt.proven)

    def _begin(self, user: str, address: str) -> Attempt | None:
        try:
            return self._throttle.begin(user, address)
        except HeliometerError:
            if self._quotas is not None:
                self._quotas.refused["sign_in"] += 1
            raise


class SharedFailures:
    """What outlives a process, and what all processes count together. While the store does not
    answer, each process has its own budgets alone."""

    def __init__(self, quotas: Quotas, failures: int) -> None:
        self._quotas = quotas
        message = "Too many sign-ins have failed."
        self._pairs, self._addresses, self._users = (
            Quota(name, most, round(most * refill_s), message)
            for name, most, refill_s in (
                ("sign_in_pair", failures, PAIR_REFILL_S),
                ("sign_in_address", failures * ADDRESS_FACTOR, ADDRESS_REFILL_S),
                ("sign_in_user", failures * USER_FACTOR, USER_REFILL_S),
            )
        )
        self._good = Quota("signed_in", 1, GOOD_S, "")

    async def is_good(self, user: str, address: str) -> bool:
        """Whether the user has signed in from there, also before this process was started."""
        with _unless_unavailable():
            return await self._quotas.is_used_up(self._good.of(_pair(user, address)))
        return False

    async def check(self, user: str, address: str, *, good: bool) -> None:
        """Raise RATE_LIMITED after too many failures in all processes together."""
        if self._quotas.shared:
            with _unless_unavailable():
                await self._quotas.check(*self._uses(user, address, good))

    async def settle(self, user: str, address: str, *, good: bool, proven: bool) -> None:
        """Count a failure, or note that the password was right."""
        with _unless_unavailable():
            if not proven:
                if self._quotas.shared:
                    await self._quotas.count(*self._uses(user, address, good))
                return
            if not good:
                await self._quotas.count(self._good.of(_pair(user, address)))
            if self._quotas.shared:
                await self._quotas.forget(self._pairs.of(_pair(user, address)))

    def _uses(self, user: str, address: str, good: bool) -> list[Use]:
        uses = [self._pairs.of(_pair(user, address))]
        if not good:
            uses += [self._addresses.of(network(address)), self._users.of(user)]
        return uses


def _pair(user: str, address: str) -> str:
    return f"{user}\0{network(address)}"


@contextmanager
def _unless_unavailable() -> Iterator[None]:
    try:
        yield
    except HeliometerError as error:
        if error.code is not Code.UNAVAILABLE:
            raise
