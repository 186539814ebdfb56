"""InfluxDB's line protocol, compared with what its own client writes."""

import time

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from influxdb_client.client.write.point import Point

from heliometer.api.push.intake import Intake
from heliometer.api.push.line_protocol import FORM, read
from heliometer.api.push.naming import name_of
from heliometer.core.errors import HeliometerError
from heliometer.metrics.series_index import SeriesIndex

NOW = 1_790_000_000_000


def intake_of(text: str, unit: tuple[int, int] = (1, 1_000_000)) -> Intake:
    intake = Intake(SeriesIndex([], 1000).project("p"), FORM, NOW)
    read(text.encode("utf-8", "surrogateescape"), "db", unit, intake)
    return intake


def taken(
    text: str, unit: tuple[int, int] = (1, 1_000_000)
) -> list[tuple[dict[str, str], int, float]]:
    intake = intake_of(text, unit)
    assert not intake.complaint, intake.complaint
    return [
        (dict(intake.names[i][0].dimensions), stamp, value)
        for i, (stamp, value) in enumerate(zip(intake.stamps, intake.values, strict=True))
    ]


def test_a_line() -> None:
    assert taken(f'cpu,host=a,region=eu idle=12.5,user=3i,on=true,name="x, y=1" {NOW}000000') == [
        ({"metric_name": "cpu_idle", "host": "a", "region": "eu"}, NOW, 12.5),
        ({"metric_name": "cpu_user", "host": "a", "region": "eu"}, NOW, 3.0),
        ({"metric_name": "cpu_on", "host": "a", "region": "eu"}, NOW, 1.0),
    ]


@pytest.mark.parametrize(
    ("line", "name", "value"),
    [
        ("m value=1", "m", 1.0),
        ("m value=1e3", "m", 1000.0),
        ("m value=-1.5E-2", "m", -0.015),
        ("m value=.5", "m", 0.5),
        ("m value=5.", "m", 5.0),
        ("m value=7u", "m", 7.0),
        ("m value=F", "m", 0.0),
        ("  m value=1  ", "m", 1.0),
        ("m value=1\r", "m", 1.0),
        (r"my\ metric f\,g=1", "my metric_f,g", 1.0),
        (r"a\=b value=1", "a=b", 1.0),
        ('m text="a\nb \\" c",f=1', "m_f", 1.0),
        (r"c:\temp value=1", r"c:\temp", 1.0),
    ],
)
def test_forms_of_a_line(line: str, name: str, value: float) -> None:
    [(dimensions, stamp, found)] = taken(line)
    assert (dimensions, stamp, found) == ({"metric_name": name}, NOW, value)


def test_units_of_time() -> None:
    units = ((NOW // 1000, (1000, 1)), (NOW, (1, 1)), (NOW * 1000, (1, 1000)))
    for stamp, unit in units:
        assert [t for _, t, _ in taken(f"m value=1 {stamp}", unit)] == [NOW]
    for millisecond in range(1000):  # none of them falls a millisecond early
        assert taken(f"m value=1 {NOW + millisecond}000000")[0][1] == NOW + millisecond


def test_nan_is_no_value() -> None:
    assert taken("m value=NaN,other=1")[0][0] == {"metric_name": "m_other"}


def test_one_line_that_is_not_text_is_told_and_the_others_are_kept() -> None:
    intake = intake_of("good value=1\nbad,t=\udce4 value=1\ngood value=2")
    assert intake.values == [1.0, 2.0]
    assert "line 2 is not UTF-8" in intake.complaint


def test_a_request_has_only_so_many_lines() -> None:
    with pytest.raises(HeliometerError, match="100000 samples"):
        intake_of("m value=1\n" * 100_001)


def test_comments_and_empty_lines_are_nothing() -> None:
    assert taken("# m value=1\n\n   \nm value=2\n") == [({"metric_name": "m"}, NOW, 2.0)]


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("m", "missing fields"),
        ("m,host=a", "missing fields"),
        ("m,host= value=1", "missing tag value"),
        ("m,host value=1", "missing tag value"),
        ("m value", "invalid field format"),
        ("m value= 1", "invalid field format"),
        ("m value=1 soon", "bad timestamp"),
        ("m value=one", "'one' is no value"),
        ('m text="open', "invalid field format"),
        ("m value=inf", "'inf' is no value"),
        ("m value=1 1", "timestamp"),
        ("m value=1e300", "out of range"),
    ],
)
def test_a_bad_line_is_told_and_the_others_are_kept(line: str, why: str) -> None:
    intake = intake_of(f"good value=1\n{line}\ngood value=2")
    assert intake.values == [1.0, 2.0]
    assert why in intake.complaint
    assert intake.left_out == 1


def test_a_crafted_line_takes_no_time() -> None:
    fields = ",".join(f'f{i}="x"' for i in range(5000))
    open_texts = "\n".join(['m f="open'] * 20_000)
    escapes = "m" + "\\" * 50_000
    started = time.process_time()
    long_tag = "m,a=" + "x" * 8000 + " " + ",".join(f"f{i}=1" for i in range(5000))
    many = (f"m {fields} !", open_texts, escapes, "m," + "a=b," * 20_000, '"' * 100_000)
    for text in (*many, long_tag, "a" * (1 << 20), "m value=1 1\n" * 50_000):
        intake_of(text)
    assert time.process_time() - started < 5


text = st.text(
    st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="\\"), min_size=1, max_size=20
).filter(lambda t: t.strip() == t and not t.startswith("#"))


storable = st.floats(-1e9, 1e9).filter(lambda v: v == 0 or abs(v) > 1e-100)
numbers = st.one_of(storable, st.booleans(), st.integers(-1000, 1000))
fields_of = st.dictionaries(text, st.one_of(numbers, text), min_size=1, max_size=4)


@given(text, st.dictionaries(text, text, max_size=3), fields_of)
@example("m", {"a": "b"}, {"f": 'a "quoted" text, and=more'})
def test_what_influxdbs_client_writes_is_read(
    measurement: str, tags: dict[str, str], fields: dict[str, float | bool | str]
) -> None:
    point = Point(measurement)
    for key, tag in tags.items():
        point.tag(key, tag)
    for key, value in fields.items():
        point.field(key, value)
    point.time(NOW * 1_000_000)
    expected = []
    for key, value in fields.items():
        if not isinstance(value, str):
            metric = measurement if key == "value" else f"{measurement}_{key}"
            dimensions = name_of("db", metric, sorted(tags.items())).dimensions
            expected.append((dict(dimensions), NOW, float(value)))
    # Of two tags whose keys are the same once they are legal, one is kept, whichever came first.
    legal = {dict(name_of("db", "", [(key, "x")]).dimensions).popitem()[0] for key in tags}
    if len(legal) == len(tags):
        found = taken(point.to_line_protocol())
        assert sorted(found, key=str) == sorted(expected, key=str)


@given(st.text(max_size=100))
def test_whatever_comes_is_read_or_told(body: str) -> None:
    intake_of(body.encode("utf-8", "replace").decode())
