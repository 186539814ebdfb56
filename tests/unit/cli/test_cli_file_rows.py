"""Reading measurements out of CSV and JSON lines."""

import csv
import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heliometer.cli.file_rows import Fault, Filling, Reader, Row
from heliometer.metrics.validation import LARGEST, SMALLEST

NOW_MS = 1_800_000_000_000
names = st.text("abcXYZ019._-", min_size=1, max_size=20)
values = st.one_of(
    st.just(0.0),
    st.floats(SMALLEST, LARGEST),
    st.floats(-LARGEST, -SMALLEST),
)
texts = st.text(min_size=1, max_size=30).filter(lambda t: t.isprintable() and t == t.strip())


def read_csv(text: str, **filling: object) -> tuple[Reader, list[Row | Fault]]:
    reader = Reader(Filling(now_ms=NOW_MS, **{"namespace": "n", **filling}))  # type: ignore[arg-type]
    return reader, list(reader.csv(io.StringIO(text, newline="")))


def read_json(text: str, **filling: object) -> tuple[Reader, list[Row | Fault]]:
    reader = Reader(Filling(now_ms=NOW_MS, **filling))  # type: ignore[arg-type]
    return reader, list(reader.json_lines(io.BytesIO(text.encode())))


@given(
    st.lists(st.tuples(st.integers(0, 10**10), values, texts), max_size=20),
    names,
)
def test_csv_that_was_written_is_read(rows: list[tuple[int, float, str]], namespace: str) -> None:
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(["host", "timestamp", "value"])
    writer.writerows([host, time, repr(value)] for time, value, host in rows)
    reader, found = read_csv(out.getvalue(), namespace=namespace)
    assert [
        (row.timestamp_ms, row.value, *reader.series[row.series])
        for row in found
        if isinstance(row, Row)
    ] == [(time * 1000, value, namespace, (("host", host),)) for time, value, host in rows]
    assert len(reader.series) == len({host for _, _, host in rows})


@given(st.text(max_size=200))
def test_csv_of_anything_gives_rows_or_faults(text: str) -> None:
    _, found = read_csv("timestamp,value,host\n" + text)
    assert all(isinstance(row, Row | Fault) for row in found)


@given(st.binary(max_size=200))
def test_json_of_anything_gives_rows_or_faults(text: bytes) -> None:
    reader = Reader(Filling(namespace="n"))
    assert all(isinstance(row, Row | Fault) for row in reader.json_lines(io.BytesIO(text)))


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", "1: the header has no column 'timestamp', only nothing; name it with"),
        ("time,value\n", "1: the header has no column 'timestamp', only time, value"),
        ("timestamp,value,value\n", "1: the header has a column twice: value"),
        ("timestamp,value,\n", "1: the header has an unnamed column"),
        ("timestamp,value\n1\n", "2: 1 fields where the header has 2"),
        ("timestamp,value\n1,abc\n", "2: value 'abc' is not a number"),
        ("timestamp,value\n1,1_000\n", "2: value '1_000' is not a number"),
        ("timestamp,value\n1,nan\n", "2: value: nan is out of range"),
        ("timestamp,value\n1,1e200\n", "2: value: 1e+200 is out of range"),
        ("timestamp,value\nnoon,1\n", "2: 'noon' is neither Unix time"),
        ("timestamp,value\n1800000000000,1\n", "2: '1800000000000' is not Unix time in seconds"),
        ("timestamp,value\n1,1\n\n2,x\n", "4: value 'x'"),
        ("timestamp,value,h\n1,1,a\tb\n", "2: dimensions.h: a dimension value may only have"),
        ("timestamp,value,a b\n1,1,x\n", "2: dimensions.a b: a b is not a dimension key"),
        ("timestamp,value,namespace\n1,1,a/b\n", "2: namespace: a/b is not a namespace"),
        ('timestamp,value\n1,"1\n', "2: not CSV"),
    ],
)
def test_faults_of_csv_say_where_and_why(text: str, fault: str) -> None:
    _, found = read_csv(text)
    faults = [f"{row.line}: {row.reason}" for row in found if isinstance(row, Fault)]
    assert len(faults) == 1
    assert faults[0].startswith(fault)


def test_what_the_file_says_wins_over_the_command_line() -> None:
    reader, found = read_csv(
        "namespace,timestamp,value,host\nown,1,2,a\n,1,2,\n",
        dimensions={"host": "given", "metric_name": "m"},
    )
    assert all(isinstance(row, Row) for row in found)
    assert reader.series == [
        ("own", (("host", "a"), ("metric_name", "m"))),
        ("n", (("host", "given"), ("metric_name", "m"))),
    ]


def test_times_of_csv() -> None:
    _, found = read_csv(
        "timestamp,value\n2014-02-14 14:30:00,1\n2014-02-14T14:30Z,1\n1392388200.5,1\n"
        "2014-02-14T15:30:00+01:00,1\n"
    )
    assert [row.timestamp_ms for row in found if isinstance(row, Row)] == [
        1392388200000, 1392388200000, 1392388200500, 1392388200000,
    ]  # fmt: skip


def test_json_lines_scalar_and_vector() -> None:
    lines = [
        {"namespace": "n", "dimensions": {"b": "2", "a": "1"}, "timestamp": 5, "value": 1},
        {"namespace": "n", "value": 2.5},
        {"namespace": "n", "dimensions": {"a": "1", "b": "2"}, "time_values": [[1, 2], [3, 4.5]]},
    ]
    reader, found = read_json("\n".join(map(json.dumps, lines)) + "\n\n")
    assert found == [
        Row(1, 0, 5000, 1.0), Row(2, 1, NOW_MS, 2.5), Row(3, 0, 1000, 2.0), Row(3, 0, 3000, 4.5),
    ]  # fmt: skip
    assert reader.series == [("n", (("a", "1"), ("b", "2"))), ("n", ())]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ('{"value": 1}', "no namespace; use --namespace"),
        ('{"namespace": "n"}', "a metric has either value or time_values"),
        ('{"namespace": "n", "value": 1, "time_values": []}', "a metric has either"),
        ('{"namespace": "n", "value": "1"}', "Expected `float | null`, got `str`"),
        ('{"namespace": "n", "value": 1', "Input data was truncated"),
        ('{"namespace": "n", "value": 1, "timestamp": 1e13}', "timestamp 10000000000000.0 is not"),
        ("[" * 5000, ""),
    ],
)
def test_faults_of_json_lines(line: str, reason: str) -> None:
    _, found = read_json("\n" + line)
    assert len(found) == 1
    assert isinstance(found[0], Fault)
    assert found[0].line == 2
    assert found[0].reason.startswith(reason)
