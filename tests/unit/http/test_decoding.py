"""What is decoded at all, and where."""

import asyncio
import threading
from collections.abc import Callable

import pytest

from heliometer.api.hp.metrics_json import read_inline, read_metrics
from heliometer.api.push import otlp_decoding, remote_write
from heliometer.api.push.intake import Intake
from heliometer.core.errors import Code, HeliometerError
from heliometer.http.decoding import MOST_FIELDS, MOST_VALUES, Decoder
from heliometer.http.json import strict_loads
from heliometer.metrics.series_index import ProjectSeries

ARRAYS = b"[" + b"[]," * (MOST_VALUES // 2 + 1) + b"[]]"
PAIRS = b'{"namespace": "n", "time_values": [' + b"[0,1]," * (MOST_VALUES // 3) + b"[0,1]]}"
FIELDS = b"\x0a\x00" * (MOST_FIELDS + 1)


def read_posted(body: bytes) -> object:
    return read_metrics(body, ProjectSeries("p"), 10**12, reserved_allowed=False)


def read_written(body: bytes) -> object:
    return remote_write.read(body, "n", Intake(ProjectSeries("p"), "prometheus", 10**12))


@pytest.mark.parametrize(
    ("read", "body"),
    [
        (strict_loads, ARRAYS),
        (read_posted, ARRAYS),
        (read_posted, PAIRS),
        (lambda body: otlp_decoding.decode(body, is_json=True), ARRAYS),
        (lambda body: otlp_decoding.decode(body, is_json=False), FIELDS),
        (read_written, FIELDS),
    ],
)
def test_too_many_values_are_refused_before_they_are_made(
    read: Callable[[bytes], object], body: bytes
) -> None:
    with pytest.raises(HeliometerError, match="There are more than") as caught:
        read(body)
    assert caught.value.code is Code.TOO_LARGE


def test_what_is_large_is_not_read_on_the_event_loop() -> None:
    large = b"[" + b'{"namespace":"n","value":1},' * 20_000 + b'{"namespace":"n","value":1}]'
    assert read_inline(large, ProjectSeries("p"), 10**12, False) is None
    small = b'[{"namespace":"n","value":1}]'
    assert read_inline(small, ProjectSeries("p"), 10**12, False) is not None


def test_a_project_is_decoded_one_at_a_time_and_others_meanwhile() -> None:
    async def scenario() -> None:
        decoder, goes_on, begun = Decoder(), threading.Event(), threading.Event()

        def wait() -> str:
            begun.set()
            goes_on.wait(60)
            return threading.current_thread().name

        first = asyncio.create_task(decoder.run("busy", wait))
        second = asyncio.create_task(decoder.run("busy", lambda: "next"))
        await asyncio.to_thread(begun.wait, 60)
        assert await decoder.run("other", lambda: "at once") == "at once"
        assert not second.done()
        goes_on.set()
        assert await first != threading.current_thread().name
        assert await second == "next"

    asyncio.run(scenario())
