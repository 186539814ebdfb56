"""What is sent to ClickHouse and read from it, without one."""

import numpy as np
import pytest

from heliometer.metrics.model import Batch
from heliometer.metrics.receipts import Receipt
from heliometer.storage.clickhouse import blocks
from heliometer.storage.clickhouse.http import Address
from heliometer.storage.clickhouse.native import NotNative, decode, encode

DAY = 86_400_000


def test_what_is_encoded_is_decoded_and_nothing_but_whole_blocks() -> None:
    numbers = np.array([1, -(1 << 62), 3], np.int64)
    values = np.array([0.5, -1e108, 0.0])
    block = encode([("series", numbers), ("a long name ö", values)])
    for count in (1, 3):
        found = decode(block * count, [np.int64, np.float64])
        assert found[0].tolist() == numbers.tolist() * count
        assert found[1].tolist() == values.tolist() * count
    assert [len(c) for c in decode(b"", [np.int64, np.float64])] == [0, 0]
    for end in range(1, len(block)):
        with pytest.raises(NotNative):
            decode(block[:end], [np.int64, np.float64])
    # What an old server puts behind the rows when it fails in their middle.
    for said in (b"Code: 241, e.displayText() = DB::Exception: Memory limit", b"\xff" * 20):
        with pytest.raises(NotNative):
            decode(block + said, [np.int64, np.float64])


def test_texts_and_strided_arrays_are_encoded_as_the_format_has_it() -> None:
    long = "x" * 300
    block = encode([("t", ["", "é", long]), ("n", np.arange(6, dtype=np.int64)[::2])])
    texts = b"\x00" + b"\x02\xc3\xa9" + b"\xac\x02" + b"x" * 300
    numbers = b"".join(n.to_bytes(8, "little") for n in (0, 2, 4))
    assert block == b"\x02\x03\x01t\x06String" + texts + b"\x01n\x05Int64" + numbers


@pytest.mark.parametrize("slots", [1, 2, 7])
def test_each_block_has_every_marker_on_every_server_that_gets_rows(slots: int) -> None:
    receipts = [Receipt("p", key, b"", 0) for key in ("a", "b")]
    markers = [blocks.marker(r, slots) for r in receipts]
    assert len({*markers}) == 2
    batch = Batch(
        np.array([slots, 2 * slots, slots + 1, 5]),
        np.array([DAY, DAY + 1, 3 * DAY, 3 * DAY - 1]),
        np.ones(4),
    )
    seen = {}
    for day, rows in blocks.by_day(batch):
        block = blocks.of_day(day, rows, markers, slots)
        series, at, _ = decode(block, [np.int64, np.int64, np.float64])
        real = series > 0  # type: ignore[operator]
        assert sorted(series[real].tolist()) == sorted(rows.series.tolist())
        assert set((at // DAY).tolist()) == {day}
        used = set((series[real] % slots).tolist())
        places = {(int(s), int(abs(s)) % slots) for s in series[~real].tolist()}
        assert places == {(-(m + slot), slot) for m in markers for slot in used}
        seen[day] = len(rows)
    assert seen == {1: 2, 2: 1, 3: 1}


def test_markers_stay_what_they_are() -> None:
    # Another value would double what an older version stored.
    assert blocks.marker(Receipt("p", "k", b"", 0), 1) == 980_943_063_804_477_062


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("clickhouse://h", ("http://h:8123", "default", "", "heliometer")),
        ("clickhouses://u:p%40%3A%2F@h", ("https://h:8443", "u", "p@:/", "heliometer")),
        ("clickhouse://u@[::1]:9/db_1/", ("http://[::1]:9", "u", "", "db_1")),
    ],
)
def test_an_address_is_read(text: str, expected: tuple[str, str, str, str]) -> None:
    address = Address.parse(text)
    assert (address.url, address.user, address.password, address.database) == expected
    assert not address.password or address.password not in repr(address)


@pytest.mark.parametrize(
    "text",
    [
        "clickhouse://u:geheim@",
        "clickhouse://u:geheim@h:x",
        "clickhouse://u:geheim@h/a;b",
        "http://u:geheim@h",
        "clickhouse://u:geheim@h/d?x=1",
        "clickhouse://u:gehe#im@h/d",
    ],
)
def test_what_is_no_address_is_refused_without_telling_the_password(text: str) -> None:
    with pytest.raises(ValueError) as refused:
        Address.parse(text)
    assert "gehe" not in str(refused.value)
