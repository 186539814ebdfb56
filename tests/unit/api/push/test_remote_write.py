"""Remote write is read the same way whether its series are known or not."""

import math
from contextlib import suppress

import pytest
from benchmarks.remote_write_body import field, label, packed, sample, time_series
from hypothesis import given, settings
from hypothesis import strategies as st

from effort import effort
from heliometer.api.push.intake import Intake
from heliometer.api.push.remote_write import FORM, read, unpack
from heliometer.core.errors import Malformed
from heliometer.metrics.columns import Columns
from heliometer.metrics.series_index import Name, SeriesIndex

NOW = 1_790_000_000_000
Taken = list[tuple[Name, int, float]]


class Reader:
    """Reads as the service does, and learns as it does when something was stored."""

    def __init__(self) -> None:
        self.series_index = SeriesIndex([], 1000)
        self.project = self.series_index.project("p")
        self.intake = Intake(self.project, FORM, NOW)

    def read(self, body: bytes) -> Taken:
        self.intake = Intake(self.project, FORM, NOW)
        columns = read(body, "prometheus", self.intake)
        self.learn(columns)
        found: Taken = []
        for id_, stamp, value in zip(
            columns.series, columns.timestamp.tolist(), columns.value.tolist(), strict=True
        ):
            assert id_ is not None
            series = self.series_index[id_]
            found.append((Name(series.namespace, series.dimensions), stamp, value))
        return sorted(found)

    def learn(self, columns: Columns) -> None:
        ids = self.series_index.intern("p", [name for name, _ in columns.names.values()])
        for position, (name, spelling) in columns.names.items():
            columns.series[position] = ids[name]
            if spelling is not None:
                self.project.learn(name.namespace, spelling, ids[name], FORM)


texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12)
series = st.tuples(
    st.dictionaries(st.sampled_from(["__name__", "job", "le", "b"]), texts, max_size=4),
    st.lists(
        st.tuples(
            st.one_of(
                st.integers(NOW - 1000, NOW + 1000), st.sampled_from([0, -1, 1 << 50, NOW // 2])
            ),
            st.one_of(
                st.floats(-1e6, 1e6).filter(lambda v: v == 0 or abs(v) > 1e-100),
                st.sampled_from([0.0, -0.0, math.nan, math.inf, -math.inf, 1e300, 5e-324]),
            ),
        ),
        max_size=3,
    ),
)


@given(st.lists(series, max_size=6))
@settings(max_examples=effort(100, 6000))
def test_what_is_known_by_its_bytes_is_read_as_at_first(
    many: list[tuple[dict[str, str], list[tuple[int, float]]]],
) -> None:
    body = b"".join(time_series(labels, samples) for labels, samples in many)
    reader = Reader()
    first, left_out = reader.read(body), reader.intake.left_out
    assert reader.read(body) == first
    assert reader.intake.left_out == left_out
    good = sum(
        NOW - 14 * 86_400_000 <= t <= NOW + 120_000 and (v == 0 or 1e-100 < abs(v) < 1e100)
        for _, samples in many
        for t, v in samples
    )
    bad = sum(not math.isnan(v) for _, samples in many for _, v in samples) - good
    assert (len(first), left_out) == (good, bad)


def test_a_second_sample_is_not_taken_for_the_labels() -> None:
    labels, reader = {"__name__": "up", "job": "a"}, Reader()
    name = Name("prometheus", (("job", "a"), ("metric_name", "up")))
    assert reader.read(time_series(labels, [(NOW, 1.5)])) == [(name, NOW, 1.5)]
    both = [(NOW - 5, 2.5), (NOW, 0.0)]
    assert reader.read(time_series(labels, both)) == [(name, NOW - 5, 2.5), (name, NOW, 0.0)]


def test_fields_that_nobody_knows_are_passed_over() -> None:
    reader = Reader()
    exemplar = field(3, b"\x12\x10\x09" + bytes(8) + b"\x10\x80\x80\x80\x80\x80\x01")
    body = field(1, label("__name__", "up") + sample(1.0, NOW) + exemplar)
    for _ in range(2):
        assert [taken[1:] for taken in reader.read(body)] == [(NOW, 1.0)]


def test_native_histograms_are_left_out_and_said() -> None:
    reader = Reader()
    assert reader.read(field(1, label("__name__", "h") + field(4, b""))) == []
    assert "native histograms" in reader.intake.complaint


@given(st.binary(max_size=200))
def test_whatever_comes_is_read_or_refused(body: bytes) -> None:
    with suppress(Malformed):
        Reader().read(body)


@given(st.binary(max_size=200))
def test_whatever_is_unpacked_is_read_or_refused(body: bytes) -> None:
    with suppress(Malformed):
        unpack(body, 1 << 20)


def test_a_bomb_is_not_unpacked() -> None:
    bomb = packed(bytes(10 << 20))
    assert len(bomb) < 1 << 20
    assert unpack(bomb, (10 << 20) - 1) is None
    assert unpack(bomb, 10 << 20) == bytes(10 << 20)
    with pytest.raises(Malformed, match="snappy"):
        unpack(b"\x05nonsense", 1 << 20)
