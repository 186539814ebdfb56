"""Strict JSON: equal to the standard library where that is right, and refusing elsewhere."""

import json
import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Struct

from effort import effort
from heliometer.core.errors import Code, HeliometerError, Malformed
from heliometer.http.json import DEPTH, convert, strict_loads

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
NUMBERS = st.integers(-(10**300), 10**300) | st.floats(allow_nan=False, allow_infinity=False)
DOCUMENTS = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=20,
)


@given(DOCUMENTS, st.booleans())
def test_what_can_be_said_clearly_is_read(document: Any, escaped: bool) -> None:
    body = json.dumps(document, ensure_ascii=escaped).encode()
    assert strict_loads(body) == document


@given(st.binary(max_size=60) | st.text('{}[]",:0123456789eE+-.\\u dfnatrulse', max_size=40).map(
    lambda text: text.encode()
))  # fmt: skip
@settings(max_examples=effort(400, 30000))
@pytest.mark.reliability(14)
def test_anything_else_is_refused_and_nothing_else_is(body: bytes) -> None:
    try:
        expected = json.loads(body.decode("utf-8"))
    except ValueError:
        with pytest.raises(Malformed):
            strict_loads(body)
        return
    try:
        assert repr(strict_loads(body)) == repr(expected)
    except Malformed:
        pairs = json.loads(body.decode(), object_pairs_hook=list)
        assert _ambiguous(pairs) or _unkeepable(expected)


def _ambiguous(pairs: Any) -> bool:
    if isinstance(pairs, list) and all(isinstance(p, tuple) for p in pairs):
        keys = [key for key, _ in pairs]
        return len(set(keys)) < len(keys) or any(_ambiguous(value) for _, value in pairs)
    return isinstance(pairs, list) and any(_ambiguous(item) for item in pairs)


def _unkeepable(item: Any) -> bool:
    if isinstance(item, float):
        return not math.isfinite(item)
    if isinstance(item, str):
        return any("\ud800" <= c <= "\udfff" for c in item)
    if isinstance(item, dict):
        return any(_unkeepable(k) or _unkeepable(v) for k, v in item.items())
    return isinstance(item, list) and any(_unkeepable(i) for i in item)


def nested(depth: int, opening: str = "[", closing: str = "]") -> bytes:
    return (opening * depth + "1" + closing * depth).encode()


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "The body is empty"),
        (b" \n", "The body is empty"),
        (b"\xff{}", "byte 0"),
        (b'{"a":"\xed\xa0\x80"}', "byte 6"),
        (b"\xef\xbb\xbf{}", "BOM"),
        (b'{"a": 1,\n "b" 2}', "line 2, column 6"),
        (b"{'a': 1}", "column 2"),
        (b"[1, 2", "line 1"),
        (b'{"a": 1} x', "extra data"),
        (b'{"auth": {"n": NaN}}', "auth.n: NaN is not"),
        (b"[1, -Infinity]", "[1]: -Infinity"),
        (b"[Infinity]", "[0]: Infinity"),
        (b'[{"value": 1e999}]', "[0].value: the number 1e999 is out of range"),
        (b'{"v": -1e999}', "v: the number -1e999"),
        (b"[" + b"9" * 310 + b"]", "[0]: the number 9999"),
        (b"[" + b"9" * 5000 + b"]", "5000 characters"),
        (b"[0." + b"1" * 2000 + b"]", "2002 characters"),
        (b'{"a": {"b": 1, "b": 2}}', "a: the key b occurs twice"),
        (b'[{}, {"k": 1, "\\u006b": 2}]', "[1]: the key k occurs twice"),
        (b'{"a": [0, "x\\ud800"]}', "a[1]: the text has half a surrogate pair"),
        (b'{"\\uDFFF": 1}', "half a surrogate pair"),
        (nested(DEPTH + 1), "deeper than 32"),
        (nested(100_000), "deeper than 32"),
        (nested(DEPTH + 1, '{"k":', "}"), "deeper than 32"),
        (b"[" * 33 + b"]" * 33, "deeper than 32"),
        (b"[" * 1_000_000, "deeper than 32"),
    ],
)
def test_the_message_says_where(body: bytes, message: str) -> None:
    with pytest.raises(HeliometerError) as caught:
        strict_loads(body)
    assert caught.value.code is Code.MALFORMED
    assert message in caught.value.message
    assert len(caught.value.message) < 300


@pytest.mark.parametrize(
    "body",
    [
        nested(DEPTH),
        b"[" * 32 + b"]" * 32,
        b'["' + b"1" * 5000 + b'"]',
        b'"\\\\ud800 \\ud83d\\ude00 [[[["',
        b"[1e308, -1e308, 1e-999]",
        b'[{"a": 1}, {"a": 1}]',
        b'"' + b"[" * 1000 + b'"',
    ],
)
def test_what_only_looks_wrong_is_read(body: bytes) -> None:
    assert strict_loads(body) == json.loads(body)


class Inner(Struct):
    name: str


class Outer(Struct):
    items: list[Inner]


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ({"items": [{"name": "a"}, {"name": 1}]}, "items[1].name: expected str, got int."),
        ({"items": [{}]}, "items[0]: object missing required field name."),
        ([], "body: expected object, got array."),
        ({}, "body: object missing required field items."),
    ],
)
def test_conversion_names_the_path(document: Any, message: str) -> None:
    with pytest.raises(Malformed) as caught:
        convert(document, Outer)
    assert caught.value.message == message


def test_conversion() -> None:
    assert convert({"items": [{"name": "a", "more": 1}]}, Outer) == Outer([Inner("a")])
