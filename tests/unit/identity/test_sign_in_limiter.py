"""The throttle, with a clock that tests turn."""

import random

import pytest

from heliometer.core.errors import Code, HeliometerError
from heliometer.identity.sign_in_limiter import (
    ADDRESS_FACTOR,
    PAIR_REFILL_S,
    USER_FACTOR,
    Throttle,
    network,
)
from identity.conftest import Clock

FAILURES = 5


def fail(throttle: Throttle, user: str, address: str) -> bool:
    """Try a wrong password; whether that was admitted."""
    try:
        attempt = throttle.begin(user, address)
    except HeliometerError as error:
        return error.code is not Code.RATE_LIMITED or not error.retry_after
    assert attempt is not None
    attempt.failed()
    return True


def succeed(throttle: Throttle, user: str, address: str) -> None:
    attempt = throttle.begin(user, address)
    assert attempt is not None
    attempt.succeeded()


@pytest.fixture
def clock() -> Clock:
    return Clock(0.0)


@pytest.fixture
def throttle(clock: Clock) -> Throttle:
    return Throttle(FAILURES, clock)


def test_a_pair_has_its_budget_and_earns_it_back(throttle: Throttle, clock: Clock) -> None:
    assert [fail(throttle, "ann", "a") for _ in range(7)] == [True] * 5 + [False] * 2
    clock.now += PAIR_REFILL_S - 1
    assert not fail(throttle, "ann", "a")
    clock.now += 1
    assert [fail(throttle, "ann", "a") for _ in range(2)] == [True, False]
    clock.now += 5 * PAIR_REFILL_S
    assert [fail(throttle, "ann", "a") for _ in range(6)] == [True] * 5 + [False]


def test_refused_tries_do_not_prolong_the_wait(throttle: Throttle, clock: Clock) -> None:
    for _ in range(1000):
        fail(throttle, "ann", "a")
    clock.now += PAIR_REFILL_S
    assert fail(throttle, "ann", "a")


def test_success_resets_the_pair(throttle: Throttle) -> None:
    for _ in range(10):
        for _ in range(FAILURES - 1):
            assert fail(throttle, "ann", "a")
        succeed(throttle, "ann", "a")


def test_an_address_has_a_budget_over_all_users(throttle: Throttle) -> None:
    tries = [fail(throttle, f"user{i}", "a") for i in range(200)]
    assert sum(tries) == FAILURES * ADDRESS_FACTOR
    assert fail(throttle, "user1", "b")


def test_own_success_does_not_refill_the_address(throttle: Throttle) -> None:
    admitted = 0
    for i in range(200):
        admitted += fail(throttle, f"user{i}", "a")
        if i < 10:
            succeed(throttle, "mallory", "a")
    assert admitted == FAILURES * ADDRESS_FACTOR


def test_a_user_has_a_budget_over_all_addresses(throttle: Throttle) -> None:
    tries = [fail(throttle, "ann", f"a{i}") for i in range(500)]
    assert sum(tries) == FAILURES * USER_FACTOR


def test_guessing_from_elsewhere_does_not_keep_the_user_out(throttle: Throttle) -> None:
    succeed(throttle, "ann", "home")
    for i in range(500):
        fail(throttle, "ann", f"a{i}")
    assert fail(throttle, "ann", "home")
    succeed(throttle, "ann", "home")
    with pytest.raises(HeliometerError):
        throttle.begin("ann", "elsewhere")


def test_tries_in_flight_count(throttle: Throttle) -> None:
    attempts = [throttle.begin("ann", "a") for _ in range(100)]
    flying = [attempt for attempt in attempts if attempt is not None]
    assert len(flying) == FAILURES
    flying.pop().withdrawn()
    last = throttle.begin("ann", "a")
    assert last is not None
    for attempt in flying:
        attempt.failed()
    assert throttle.begin("ann", "a") is None
    last.failed()
    assert not fail(throttle, "ann", "a")


def test_settling_twice_counts_once(throttle: Throttle) -> None:
    attempt = throttle.begin("ann", "a")
    assert attempt is not None
    attempt.succeeded()
    attempt.failed()
    assert [fail(throttle, "ann", "a") for _ in range(5)] == [True] * 5


def test_memory_is_bounded(clock: Clock) -> None:
    throttle = Throttle(FAILURES, clock, size=50)
    for i in range(2000):
        fail(throttle, f"user{i}", f"address{i}")
        succeed(throttle, f"friend{i}", f"home{i}")
    assert len(throttle) <= 4 * 50


def test_no_sequence_admits_more_than_the_budget(clock: Clock) -> None:
    random.seed(7)
    for _ in range(50):
        throttle = Throttle(FAILURES, clock)
        start, admitted, flying = clock.now, 0, []
        for _ in range(300):
            clock.now += random.choice([0, 0, 0, 1, 30])
            try:
                attempt = throttle.begin("ann", "a")
            except HeliometerError:
                attempt = None
            if attempt is not None:
                flying.append(attempt)
                admitted += 1
            while flying and random.random() < 0.5:
                flying.pop(random.randrange(len(flying))).failed()
            assert admitted <= FAILURES + (clock.now - start) / PAIR_REFILL_S + 1e-9


@pytest.mark.parametrize(
    ("address", "counts_as"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("", ""),
        ("x" * 100, "x" * 64),
    ],
)
def test_what_counts_as_one_address(address: str, counts_as: str) -> None:
    assert network(address) == counts_as
