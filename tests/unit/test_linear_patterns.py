"""Every pattern and parser that meets what people send takes linear time, whatever the text."""

import ast
import importlib
import inspect
import itertools
import pkgutil
import re
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from ipaddress import ip_network
from typing import Any

import pytest
from starlette.datastructures import QueryParams

import heliometer
from effort import effort
from heliometer.alarms.expression.parser import LENGTH, parse
from heliometer.api.hp import wire
from heliometer.api.hp.metrics_json import read_metrics
from heliometer.api.push import line_protocol
from heliometer.api.push.intake import Intake
from heliometer.api.telemetry.query import conditions
from heliometer.console import feed
from heliometer.http.json import strict_loads
from heliometer.http.proxies import TrustedProxies
from heliometer.metrics.series_index import ProjectSeries
from heliometer.notifications.channels.webhook.address import webhook_url
from heliometer.statsd import listener as statsd

SHORT, GROWTH = 100, 4
LARGEST = effort(6400, 25_600)
MOST_GROWTH = 9.0
"""What is linear grows by 4 from n to 4n, what is quadratic by 16; noise has the room between."""
LEAST_S = 0.02
"""What is quicker says nothing; 6 400 characters of quadratic work take many times as long."""
PUMPS = [
    " ", "a", "0", "=",
    ",", '"', "\\", ".", ":", "|", "[", "(", "/", "\n", "a=", ",a=b", 'a="', '\\"',
    "\\,", "a ", "= ", "0.", ":0",
]  # fmt: skip
STARTS = ["", 'a b="', "a="]
ENDS = ["", "\0", " x"]
CARE = 5
SETTINGS = {"heliometer.config.redaction._PASSWORD"}
"""These read only what the operator wrote."""
ANYWHERE = ("search", "sub", "subn", "split", "findall", "finditer")


def modules() -> Iterator[Any]:
    for found in pkgutil.walk_packages(heliometer.__path__, "heliometer."):
        if not found.name.endswith("__main__"):
            try:
                yield importlib.import_module(found.name)
            except (ImportError, AttributeError):  # an optional library, or a stand-in for it
                continue


def patterns() -> dict[str, re.Pattern[Any]]:
    """All patterns in the program by where they stand: those with a name, and those in a call of
    ``re``. Those that are searched for anywhere in a text begin with a star."""
    found: dict[str, tuple[bool, re.Pattern[Any]]] = {}
    sources = {module: inspect.getsource(module) for module in modules()}
    used = "\n".join(sources.values())
    searched = set(re.findall(rf"\b(\w+)\.(?:{'|'.join(ANYWHERE)})\(", used))
    for module, source in sources.items():
        for name, value in vars(module).items():
            if isinstance(value, re.Pattern):
                found[f"{module.__name__}.{name}"] = name in searched, value
        for node in ast.walk(ast.parse(source)) if "re." in source else ():
            match node:
                case ast.Call(ast.Attribute(ast.Name("re"), how), [ast.Constant(text), *_]) if (
                    how != "compile"
                ):
                    found[f"{module.__name__}:{node.lineno}"] = how in ANYWHERE, re.compile(text)
    unique = {(anywhere, p.pattern): (name, p) for name, (anywhere, p) in found.items()}
    return {
        ("*" if anywhere else "") + name: pattern
        for (anywhere, _), (name, pattern) in unique.items()
        if name not in SETTINGS
    }


def seconds(work: Callable[[Any], object], text: Any, times: int = 1) -> float:
    """How long it takes in this thread: the shortest of so many times."""
    taken = []
    for _ in range(times):
        started = time.thread_time()
        with suppress(Exception):  # that it is refused is no matter
            work(text)
        taken.append(time.thread_time() - started)
    return min(taken)


def is_linear(work: Callable[[Any], object], make: Callable[[int], Any]) -> bool:
    """Whether four times the text never takes much more than four times as long."""
    size = SHORT
    while size < LARGEST:
        size *= GROWTH
        if seconds(work, make(size)) < LEAST_S:
            continue
        # Only what takes long is measured with care.
        before, now = (seconds(work, make(n), CARE) for n in (size // GROWTH, size))
        if now > LEAST_S and now > MOST_GROWTH * before:
            return False
    return True


def pumped(start: str, pump: str, end: str) -> Callable[[int], str]:
    return lambda n: start + pump * (n // len(pump)) + end


def texts() -> Iterator[Callable[[int], str]]:
    for start, pump, end in itertools.product(STARTS, PUMPS, ENDS):
        yield pumped(start, pump, end)


PATTERNS = patterns()


def test_the_patterns_are_found() -> None:
    names = {name.lstrip("*") for name in PATTERNS}
    assert {"heliometer.api.push.line_protocol._LINE", "heliometer.console.feed._PAIR"} <= names


def test_what_is_not_linear_is_found() -> None:
    assert not is_linear(re.compile(r"[0-9]+\.?[0-9]*").fullmatch, pumped("", "0", "x"))
    assert not is_linear(re.compile(r"\s*=\s*$").search, pumped("", " ", "x"))


@pytest.mark.parametrize("name", sorted(PATTERNS))
def test_a_pattern_takes_linear_time(name: str) -> None:
    pattern = PATTERNS[name]
    work = pattern.search if name.startswith("*") else pattern.fullmatch
    for make in texts():
        as_bytes = isinstance(pattern.pattern, bytes)
        given = (lambda n, m=make: m(n).encode()) if as_bytes else make
        assert is_linear(work, given), (name, pattern.pattern, make(20))


def read_lines(text: str) -> None:
    line_protocol.read(text.encode(), "n", (1, 1), Intake(ProjectSeries("p"), "influx", NOW_MS))


def read_metric(text: str) -> None:
    read_metrics(text.encode(), ProjectSeries("p"), NOW_MS, reserved_allowed=False)


NOW_MS = 1_700_000_000_000
PARSERS: list[Callable[[str], object]] = [
    read_lines,
    read_metric,
    statsd.parse,
    lambda text: wire.dimensions([text]),
    lambda text: wire.time_ms("start_time", text),
    lambda text: parse(text[:LENGTH]),
    lambda text: strict_loads(text.encode()),
    lambda text: strict_loads(f'{{"a": 1, "b": 1e999, "c": "{text}"}}'.encode()),
    lambda text: feed.read_pairs(text),
    lambda text: conditions(QueryParams([("q.field", text), ("q.value", text)])),
    lambda text: conditions(QueryParams([("q", text)])),
    lambda text: webhook_url(f"https://{text}", ["https"]),
    lambda text: TrustedProxies([ip_network("127.0.0.1/32")]).apply(
        {"client": ("127.0.0.1", 1), "headers": [(b"x-forwarded-for", text.encode())]}
    ),
]


@pytest.mark.parametrize("number", range(len(PARSERS)))
def test_a_parser_takes_linear_time(number: int) -> None:
    for make in texts():
        assert is_linear(PARSERS[number], make), make(20)
