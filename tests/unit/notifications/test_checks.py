"""What may be sent and when it is tried again, decided without storage or network."""

from dataclasses import replace

import pytest

from heliometer.core.errors import Code, HeliometerError
from heliometer.notifications.checks import (
    as_of,
    check_replay,
    confirmations,
    is_confirmed,
)
from heliometer.notifications.hosts import (
    FAILURES_BEFORE_PAUSE,
    PAUSE_S,
    QUEUE_OF_A_HOST,
    Host,
    Hosts,
)
from heliometer.notifications.model import (
    CODE_MESSAGE,
    FAILED,
    IN_PROGRESS,
    PENDING,
    TEST_MESSAGE,
    TIMED_OUT,
    VERIFIED,
    Delivery,
    NotificationAddress,
    NotificationMethod,
)
from heliometer.notifications.outcomes import LONGEST_RETRY_S, after_failure, reason_of

JOE = NotificationAddress("a", "p", "EMAIL", "joe@mail.com", "Joe", IN_PROGRESS, 0, 1000)
NEW = Delivery.new(TEST_MESSAGE, "p", "EMAIL", "joe@mail.com", 0)


def test_an_address_is_confirmed_by_its_type_address_and_state() -> None:
    verified = replace(JOE, state=VERIFIED)
    assert is_confirmed("EMAIL", "joe@mail.com", [JOE, verified])
    assert not is_confirmed("EMAIL", "joe@mail.com", [JOE])
    assert not is_confirmed("SMS", "joe@mail.com", [verified])
    assert not is_confirmed("EMAIL", "bo@mail.com", [verified])
    method = NotificationMethod("m", "p", "n", "EMAIL", "joe@mail.com", 0)
    other = replace(method, id="o", type="SMS")
    assert confirmations([method, other], [JOE]) == {"m": JOE, "o": None}
    assert confirmations([method], []) == {"m": None}


def test_an_address_times_out_with_its_newest_code() -> None:
    assert as_of(JOE, 999).state == IN_PROGRESS
    assert as_of(JOE, 1000).state == TIMED_OUT
    assert as_of(replace(JOE, state=VERIFIED), 1000).state == VERIFIED


def test_only_what_failed_is_sent_again_and_no_code() -> None:
    check_replay(replace(NEW, status=FAILED))
    for refused in (NEW, replace(NEW, status=FAILED, kind=CODE_MESSAGE)):
        with pytest.raises(HeliometerError) as conflict:
            check_replay(refused)
        assert conflict.value.code is Code.CONFLICT


@pytest.mark.parametrize(("attempts", "delay_s"), [(0, 5), (1, 10), (3, 40), (10, LONGEST_RETRY_S)])
def test_pauses_double_up_to_the_longest(attempts: int, delay_s: float) -> None:
    tried = replace(NEW, attempts=attempts)
    end = after_failure(tried, "busy", 0, 86_400, jitter=lambda low, high: high)
    assert (end.status, end.reason) == (PENDING, "busy")
    assert end.next_attempt_ms == delay_s * 1000
    sooner = after_failure(tried, "busy", 0, 86_400, jitter=lambda low, high: low)
    assert sooner.next_attempt_ms == delay_s * 500


def test_after_the_retry_period_it_has_failed() -> None:
    def end(now_s: int) -> str:
        return after_failure(NEW, "busy", now_s * 1000, 60, jitter=lambda low, high: high).status

    assert (end(54), end(55)) == (PENDING, FAILED)


def test_a_failure_has_a_reason() -> None:
    assert reason_of(TimeoutError()) == "no answer in time"
    assert reason_of(ConnectionError("refused")) == "refused"
    assert reason_of(ConnectionError()) == "ConnectionError"


def test_a_host_that_fails_is_left_alone_for_a_while() -> None:
    host = Host("h")
    logged = [host.failed(0.0) for _ in range(FAILURES_BEFORE_PAUSE)]
    assert logged == [True, False, False, False, True]
    assert host.wait_s(0.0) == PAUSE_S
    assert host.wait_s(PAUSE_S - 0.1) == 1.0
    assert host.wait_s(PAUSE_S) == 0.0


async def test_a_host_has_room_for_so_many() -> None:
    hosts = Hosts()
    host = hosts.get("h")
    assert host is hosts.get("h")
    host.queue = QUEUE_OF_A_HOST - 1
    async with hosts.queued(host):
        assert host.wait_s(0.0) == 1.0
    assert host.wait_s(0.0) == 0.0
    host.queue = 0
    async with hosts.queued(host):
        pass
    assert hosts.get("h") is not host, "forgotten once nothing is under way"
