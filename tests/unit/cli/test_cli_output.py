"""Times, tables, charts and query parameters."""

import math
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heliometer.api.hp import wire
from heliometer.cli.plot import draw, scaled, unit_of, with_gaps
from heliometer.cli.query import SeriesStatistics, escape, number
from heliometer.cli.table import label, table
from heliometer.cli.time_formats import iso, parse_moment, parse_ms, show

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("now", "2026-11-20T12:00:00Z"),
        ("30m", "2026-11-20T11:30:00Z"),
        ("-1.5h", "2026-11-20T10:30:00Z"),
        ("14d", "2026-11-06T12:00:00Z"),
        ("1w", "2026-11-13T12:00:00Z"),
        ("2026-11-20T12:00Z", "2026-11-20T12:00:00Z"),
        ("2026-11-20", "2026-11-20T00:00:00Z"),
        ("2026-11-20 12:00:00.25", "2026-11-20T12:00:00.250Z"),
        ("2026-11-20T12:00+02:00", "2026-11-20T10:00:00Z"),
        ("0", "1970-01-01T00:00:00Z"),
    ],
)
def test_times_as_people_write_them(text: str, expected: str) -> None:
    assert iso(parse_moment(text, NOW)) == expected


@pytest.mark.parametrize("text", ["", "yesterday", "5y", "99999999999999d", "inf", "1e300"])
def test_what_is_no_time(text: str) -> None:
    with pytest.raises(ValueError):
        parse_moment(text, NOW)


@given(st.integers(0, 4_000_000_000_000))
def test_what_is_shown_is_read(ms: int) -> None:
    assert parse_ms(show(ms / 1000).replace("Z", "+00:00")) == ms


@given(
    st.dictionaries(
        st.text("abc_", min_size=1, max_size=5),
        st.text("ab:,\\ é=", min_size=1, max_size=12).filter(lambda t: t == t.strip()),
        max_size=4,
    )
)
def test_the_server_reads_the_dimensions_that_were_escaped(pairs: dict[str, str]) -> None:
    assert wire.dimensions([escape(pairs)]) == pairs


def test_table_and_labels() -> None:
    assert table(["A", "BB"], [["x", "1"], ["long", "22"]], "<>") == "A     BB\nx      1\nlong  22"
    assert label({"b": "2", "a": "x y"}) == 'a="x y" b=2'
    assert [number(v) for v in (3.0, 0.1 + 0.2, 1e300, -2.0)] == ["3", "0.3", "1e+300", "-2"]


def series(host: str, values: list[float], metric: str = "cpu_percent") -> SeriesStatistics:
    times = [1_800_000_000 + 300 * i for i in range(len(values))]
    return SeriesStatistics(
        {"host": host, "metric_name": metric},
        {"timestamp": list(times), "avg": list(values), "max": [v * 2 for v in values]},
    )


WAVE = [50 + 30 * math.sin(i / 20) for i in range(288)]


@pytest.mark.parametrize("columns", [40, 80, 200])
@pytest.mark.parametrize("unicode", [True, False])
def test_a_chart_fits_the_terminal(columns: int, unicode: bool) -> None:
    text = draw(
        "ns", [series("a", WAVE)], ["avg"], 300, columns=columns, unicode=unicode, color=False
    )
    lines = text.splitlines()
    assert lines[0] == "ns  host=a metric_name=cpu_percent"
    assert all(len(line) <= columns for line in lines[1:-2])
    assert text.isascii() is not unicode
    assert "%" in text
    assert "UTC" in text


def test_lines_are_told_apart_with_and_without_colours() -> None:
    both = [series("a", WAVE), series("b", [v / 2 for v in WAVE])]
    plain = draw("ns", both, ["avg", "max"], 300, columns=80, unicode=True, color=False)
    assert plain.splitlines()[-4:] == [
        "** avg host=a",
        "++ max host=a",
        "xx avg host=b",
        "## max host=b",
    ]
    assert all(mark in plain for mark in "*+x#")
    colored = draw("ns", both, ["avg", "max"], 300, columns=80, unicode=True, color=True)
    assert all(f"\x1b[{code}m" in colored for code in (36, 35, 32, 33))


def test_too_many_lines_are_said() -> None:
    many = [series(str(i), WAVE) for i in range(9)]
    text = draw("ns", many, ["avg"], 300, columns=80, unicode=False, color=False)
    assert text.endswith("3 more lines are not drawn; narrow the dimensions, or use --csv")


@given(
    st.lists(st.floats(-1e108, 1e108), min_size=1, max_size=50),
    st.integers(1, 86_400),
    st.booleans(),
)
def test_any_values_can_be_drawn(values: list[float], period: int, unicode: bool) -> None:
    text = draw(
        "ns", [series("a", values)], ["avg"], period, columns=80, unicode=unicode, color=False
    )
    assert "UTC" in text


def test_gaps_units_and_scales() -> None:
    times, values = with_gaps([0, 300, 1200], [1, 2, 3], 300)
    assert times == [0, 300, 600, 1200]
    assert math.isnan(values[2])
    assert unit_of("disk_read_bytes", ["avg"]) == " B"
    assert unit_of("disk_read_bytes", ["count"]) == ""
    assert unit_of("orders", ["avg"]) == ""
    assert scaled([[5e9, 1e9]], " B")[:2] == ([[5.0, 1.0]], " GB")
    assert scaled([[0.132]], "")[1] == ""
