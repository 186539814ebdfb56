"""What one process hands to another, and what comes of bytes that are none of it."""

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from heliometer.cluster.message import (
    VERSION,
    Handover,
    Unit,
    decode,
    encode,
    is_own,
    key_in,
    own_receipt,
    split_units,
)
from heliometer.metrics.model import Batch, Series
from heliometer.metrics.receipts import Receipt, ReceiptKind

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
ID = st.integers(0, 2**63 - 1)
NUMBER = st.integers(-(2**63), 2**63 - 1)
RECEIPT = st.one_of(
    # A client's key without control characters: nothing else is taken from clients.
    st.builds(
        Receipt,
        TEXT,
        TEXT.filter(str.isprintable),
        st.binary(max_size=16),
        NUMBER,
        st.sampled_from(ReceiptKind),
    ),
    st.builds(own_receipt, TEXT, NUMBER),
)
SERIES = st.builds(Series, ID, TEXT, TEXT, st.lists(st.tuples(TEXT, TEXT), max_size=3).map(tuple))


@st.composite
def handovers(draw: st.DrawFn) -> Handover:
    units = [Unit(draw(st.integers(0, 5)), draw(RECEIPT)) for _ in range(draw(st.integers(1, 4)))]
    rows = sum(unit.rows for unit in units)

    def column(each: st.SearchStrategy[float], kind: type) -> np.ndarray:
        return np.array(draw(st.lists(each, min_size=rows, max_size=rows)), kind)

    batch = Batch(column(ID, np.int64), column(NUMBER, np.int64), column(st.floats(), np.float64))
    return Handover(draw(TEXT), draw(st.lists(SERIES, max_size=3)), units, batch)


def same(one: Batch, other: Batch) -> bool:
    return all(
        getattr(one, name).tobytes() == getattr(other, name).tobytes()
        for name in ("series", "timestamp", "value")
    )


@given(handovers())
def test_what_is_encoded_is_decoded(handover: Handover) -> None:
    found = decode(encode(handover))
    assert found[:3] == handover[:3]
    assert same(found.batch, handover.batch)


@given(handovers())
def test_units_have_each_row_once_and_in_order(handover: Handover) -> None:
    parts = split_units(handover)
    assert [part.units for part in parts] == [[unit] for unit in handover.units]
    assert [len(part.batch) for part in parts] == [unit.rows for unit in handover.units]
    assert same(Batch.concatenate([part.batch for part in parts]), handover.batch)


@given(st.binary(max_size=200))
def test_other_bytes_are_refused(body: bytes) -> None:
    with pytest.raises(ValueError, match="a batch"):
        decode(body)


@given(handovers(), st.data())
def test_a_damaged_message_is_refused_or_whole(handover: Handover, data: st.DataObject) -> None:
    body = bytearray(encode(handover))
    at = data.draw(st.integers(0, len(body) - 1))
    body[at] = data.draw(st.integers(0, 255))
    try:
        found = decode(bytes(body[: data.draw(st.integers(0, len(body)))]))
    except ValueError:
        return
    assert sum(len(part.batch) for part in split_units(found)) == len(found.batch)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({0: VERSION + 1}, "version"),
        ({4: b"\0" * 7}, "not a batch"),
        ({4: b""}, "differ in length"),
        ({3: [(1, "", "\x02k", b"", 0)]}, "differ in length"),
        ({3: [(3, "", "\x02k", b"", 0), (-1, "", "\x02l", b"", 0)]}, "differ in length"),
        ({2: [(1, "p")]}, "not a batch"),
        ({4: [1, 2]}, "not a batch"),
    ],
)
def test_a_message_that_contradicts_itself_is_refused(change: dict[int, object], why: str) -> None:
    ones = np.ones(2, np.int64)
    units = [Unit(2, own_receipt("k", 0))]
    body = encode(Handover("t", [], units, Batch(ones, ones, np.ones(2))))
    wire = msgspec.msgpack.decode(body)
    for place, value in change.items():
        wire[place] = value
    with pytest.raises(ValueError, match=why):
        decode(msgspec.msgpack.encode(wire))


def test_what_a_newer_version_adds_at_the_end_does_no_harm() -> None:
    ones = np.ones(1, np.int64)
    handover = Handover("t", [], [Unit(1, own_receipt("k", 0))], Batch(ones, ones, np.ones(1)))
    wire = [*msgspec.msgpack.decode(encode(handover)), "more"]
    assert decode(msgspec.msgpack.encode(wire)).units == handover.units


def test_keys_of_clients_are_never_a_messages_own() -> None:
    assert is_own(own_receipt("t-0", 0))
    assert not is_own(Receipt("p", "t-0", b"", 0))
    assert key_in("k", 3) != key_in("k", 4) != "k"
