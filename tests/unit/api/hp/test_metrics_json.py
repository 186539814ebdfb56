"""Reading the metrics JSON: what is refused and where, and that the fast reader agrees."""

import json
import math
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from effort import effort
from heliometer.api.hp import metrics_json
from heliometer.core.errors import Code, HeliometerError
from heliometer.metrics.columns import Columns
from heliometer.metrics.model import Series
from heliometer.metrics.series_index import ProjectSeries

NOW = 1_795_000_000_000
GOOD = {"namespace": "ns", "dimensions": {"host": "a"}, "timestamp": NOW / 1000, "value": 1.5}


def read(body: bytes | Any, *, reserved_allowed: bool = False) -> Columns:
    text = body if isinstance(body, bytes) else json.dumps(body).encode()
    return metrics_json.read_metrics(
        text, ProjectSeries("p"), NOW, reserved_allowed=reserved_allowed
    )


def refusal(body: bytes | Any) -> HeliometerError:
    with pytest.raises(HeliometerError) as refused:
        read(body)
    return refused.value


def changed(**fields: Any) -> dict[str, Any]:
    return {**GOOD, **fields}


@pytest.mark.parametrize(
    ("body", "path"),
    [
        (7, "the body"),
        ([7], "[0]: a metric must be an object, not a number"),
        ([GOOD, None], "[1]: a metric must be an object, not null"),
        (changed(namespace=1), "namespace: must be a string"),
        ({"value": 1}, "namespace: is missing"),
        (changed(namespace=""), "namespace: a namespace must have 1 to 64 characters, not 0"),
        (changed(namespace="x" * 65), "namespace: a namespace must have 1 to 64"),
        (changed(namespace="a b"), "namespace: a b is not a namespace"),
        ([GOOD] * 17 + [changed(dimensions={"host": ""})], "[17].dimensions.host: "),
        (changed(dimensions=[]), "dimensions: must be an object, not an array"),
        (changed(dimensions={"host": 3}), "dimensions.host: must be a string, not a number"),
        (changed(dimensions={"a b": "x"}), "dimensions.a b: a b is not a dimension key"),
        (changed(dimensions={"k" * 51: "x"}), f"dimensions.{'k' * 50}…: a dimension key must"),
        (changed(dimensions={"k": "x" * 301}), "dimensions.k: a dimension value must have 1 to"),
        (changed(dimensions={"k": "a\u0000b"}), "dimensions.k: a dimension value may only have"),
        (changed(value=True), "value: must be a number, not true"),
        (changed(value="1"), "value: must be a number, not a string"),
        (changed(value=1e-110), "value: 1e-110 is out of range"),
        (changed(value=-1.2e108), "value: -1.2e+108 is out of range"),
        (changed(value=None), "value: one of value and time_values must be given; both"),
        (changed(time_values=[[NOW / 1000, 1]]), "value: one of value and time_values"),
        (changed(timestamp=NOW / 1000 + 121), "timestamp: "),
        (changed(timestamp=NOW / 1000 - 14 * 86400 - 1), "timestamp: "),
        (changed(timestamp="now"), "timestamp: must be a number, not a string"),
        (changed(timestamp=1e300), "timestamp: "),
        (changed(value=None, time_values=[]), "time_values: must be an array"),
        (changed(value=None, time_values=[[1]]), "time_values[0]: must be a pair"),
        (changed(value=None, time_values=[[0, 1], [0, "x"]]), "time_values[1][1]: must be a"),
        (changed(value=None, time_values=[[5, 1]]), "time_values[0][0]: "),
        (changed(dimension={"a": "b"}), "dimension: is not a field of a metric"),
    ],
)
def test_a_wrong_metric_is_refused_with_the_path_of_what_is_wrong(body: Any, path: str) -> None:
    error = refusal(body)
    assert error.code is Code.INVALID
    assert error.message.startswith(path)


@pytest.mark.parametrize(
    "body",
    [
        b"", b"{", b"[1,]", b"\xff", b"NaNll", b"[-Infinity0]", b'{"namespace":"a","value":NaN}',
        b'{"namespace":"a","value":Infinity}', b'{"namespace":"a","value":1e999}',
        b'{"namespace":"a","value":' + b"1" * 5000 + b"}", b"[" * 100_000,
        b'{"namespace":"a","dimensions":' + b'{"a":' * 5000 + b"}",
        b'{"namespace":"a","value":1,"value":2}',
        b'{"namespace":"a","dimensions":{"k":"1","k":"2"},"value":1}',
        b'{"namespace":"a","n\\u0061mespace":"b","value":1}',
        b'{"namespace":"a","dimensions":{"k":"\\ud800"},"value":1}',
        b'{"namespace":"a","dimensions":{"k":"\xff"},"value":1}',
    ],
)  # fmt: skip
def test_what_is_not_json_or_is_ambiguous_is_malformed(body: bytes) -> None:
    assert refusal(body).code is Code.MALFORMED


def test_of_ten_thousand_metrics_the_one_that_is_wrong_is_named() -> None:
    body = [changed(dimensions={"host": f"h{i}"}) for i in range(10_000)]
    body[7_654] = changed(dimensions={"host": "h", "rack": ""})
    assert refusal(body).message.startswith("[7654].dimensions.rack: a dimension value must have")


def test_reserved_namespaces_are_a_conflict_unless_allowed() -> None:
    body = [GOOD, changed(namespace="hpcs.compute")]
    error = refusal(body)
    assert error.code is Code.CONFLICT
    assert error.message.startswith("[1].namespace: ")
    assert len(read(body, reserved_allowed=True).value) == 2


def test_a_spelling_that_an_agent_taught_does_not_open_the_namespace_to_others() -> None:
    project = ProjectSeries("p")
    raw = b'{"host": "a"}'
    project.learn("hpcs.compute", raw, 1)
    body = json.dumps(changed(namespace="hpcs.compute")).encode()
    with pytest.raises(HeliometerError):
        metrics_json.read_metrics(body, project, NOW, reserved_allowed=False)


def test_missing_or_zero_timestamps_mean_now_and_vectors_are_split() -> None:
    columns = read(
        [
            {"namespace": "a", "value": 1},
            {"namespace": "a", "value": 2, "timestamp": 0},
            {"namespace": "b", "time_values": [[NOW / 1000 - 1.5, 3], [0, 4]], "timestamp": 5},
        ]
    )
    assert columns.timestamp.tolist() == [NOW, NOW, NOW - 1500, NOW]
    assert columns.value.tolist() == [1, 2, 3, 4]
    assert columns.repeats == [1, 1, 2]


def test_dimensions_in_any_order_and_spelling_are_one_series() -> None:
    columns = read(
        b'[{"namespace":"a","dimensions":{"x":"1","y":"2"},"value":1},'
        b'{"namespace":"a","dimensions":{ "y":"2", "x":"\\u0031" },"value":1}]'
    )
    (first, _), (second, _) = columns.names[0], columns.names[1]
    assert first == second


numbers = st.one_of(
    st.floats(allow_nan=False, allow_infinity=False), st.integers(), st.just(0),
    st.floats(-1e100, 1e100), st.sampled_from([1e-110, -0.0, 1.2e108, 2**70]),
)  # fmt: skip
stamps = st.one_of(
    st.none(), st.just(0), st.floats(NOW / 1000 - 15 * 86400, NOW / 1000 + 200), numbers,
    st.integers(NOW // 1000 - 1000, NOW // 1000 + 100),
)  # fmt: skip
texts = st.one_of(st.text(max_size=8), st.sampled_from(["ns", "a.b", "hpcs.x", "x" * 65]))
dimensions = st.one_of(
    st.none(), st.dictionaries(st.sampled_from(["a", "b", "c d", ""]), texts, max_size=3), texts
)
vectors = st.lists(st.one_of(st.tuples(stamps, numbers), st.just([1])), max_size=3)
anything = st.recursive(st.one_of(st.none(), st.booleans(), numbers, texts), st.lists, max_leaves=3)
metric = st.one_of(
    st.fixed_dictionaries({"namespace": st.just("ns"), "value": st.floats(-1e9, 1e9)},
                          optional={"dimensions": dimensions, "timestamp": stamps}),
    st.fixed_dictionaries({}, optional={
        "namespace": texts, "dimensions": dimensions, "timestamp": st.one_of(stamps, anything),
        "value": st.one_of(numbers, anything), "time_values": st.one_of(vectors, anything),
        "extra": anything,
    }),
)  # fmt: skip
document = st.one_of(metric, st.lists(metric, max_size=4), anything)
edit = st.tuples(st.integers(0, 200), st.integers(0, 3), st.sampled_from(
    [b"", b'"', b",", b"\\", b"\xff", b"0", b'"value":1,', b'"namespace":"q",', b"NaN", b"{"]
))  # fmt: skip


@settings(max_examples=effort(200, 12000), deadline=None, derandomize=True)
@given(document, st.lists(edit, max_size=2), st.booleans(), st.booleans())
@example({"namespace": "ns", "value": 1.0}, [(1, 0, b'"value":1,')], False, False)
def test_the_fast_reader_never_differs_from_the_strict_one(
    written: Any, edits: list[tuple[int, int, bytes]], ascii_only: bool, reserved: bool
) -> None:
    body = json.dumps(written, ensure_ascii=ascii_only).encode("utf-8", "surrogatepass")
    for at, removed, inserted in edits:
        body = body[:at] + inserted + body[at + removed :]
    project = ProjectSeries("p")
    project.add(Series(1, "p", "ns", ()))
    project.learn("ns", b"", 1)
    fast = metrics_json.read_fast(body, project, NOW, reserved)
    try:
        strict = metrics_json.read_strictly(body, project, NOW, reserved)
    except HeliometerError:
        assert fast is None, "the fast reader took what the strict one refuses"
        return
    if fast is None:
        return
    assert fast.timestamp.tolist() == strict.timestamp.tolist()
    assert fast.value.tolist() == strict.value.tolist()
    assert (fast.repeats or [1] * len(fast.series)) == strict.repeats
    for i in range(len(fast.series)):
        known = fast.series[i]
        if known is None:
            assert fast.names[i][0] == (strict.names[i][0] if i in strict.names else None) or (
                project.get(fast.names[i][0]) == strict.series[i]
            )
        else:
            assert known == strict.series[i]


def test_the_fast_reader_takes_what_is_ordinary() -> None:
    """Else it would be of no use, and nobody would notice."""
    ordinary = [changed(value=math.pi * k) for k in range(100)]
    for body in (GOOD, ordinary, [{"namespace": "ns", "time_values": [[NOW // 1000, 1]]}]):
        text = json.dumps(body).encode()
        assert metrics_json.read_fast(text, ProjectSeries("p"), NOW, False) is not None
