"""Checking files before anything is sent."""

import gzip
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from heliometer.cli.errors import CommandError
from heliometer.cli.file_check import MARGIN_MS, Survey, shift_to, step_of, survey
from heliometer.cli.file_rows import Filling
from heliometer.cli.input_files import open_source
from heliometer.metrics.validation import PAST_MS

NOW_MS = 1_800_000_123_456
NAB = Path(__file__).parents[4] / "shared" / "data" / "nab"


def check(path: Path, *, shift: bool = False, skip_old: bool = False) -> Survey:
    return survey(
        open_source(str(path), None), Filling(namespace="n", now_ms=NOW_MS),
        shift=shift, skip_old=skip_old, progress=lambda _: None,
    )  # fmt: skip


def write(path: Path, times: list[int]) -> Path:
    path.write_text("timestamp,value\n" + "".join(f"{t},1\n" for t in times))
    return path


@given(
    st.integers(1, 3600),
    st.integers(0, 2 * 10**9),
    st.integers(1, 5000),
    st.integers(1_500_000_000_000, 2_000_000_000_000),
)
def test_the_shift_is_of_whole_minutes_and_ends_at_now(
    step_s: int, first_s: int, count: int, now_ms: int
) -> None:
    times = (np.arange(count, dtype=np.int64) * step_s + first_s) * 1000
    shift = shift_to(times, now_ms)
    step = step_s * 1000 if count > 1 else 60_000
    assert step_of(times) == step
    assert shift % 60_000 == 0
    last = int(times[-1]) + shift
    assert now_ms - step - 60_000 < last <= now_ms


def test_a_file_of_two_weeks_fits_whenever_it_is_shifted() -> None:
    times = np.arange(4032, dtype=np.int64) * 300_000
    for second in range(0, 600, 7):
        now = NOW_MS + second * 1000
        assert int(times[0]) + shift_to(times, now) >= now - PAST_MS + MARGIN_MS


def test_old_measurements_are_an_error_or_left_out(tmp_path: Path) -> None:
    now = NOW_MS // 1000
    path = write(tmp_path / "m.csv", [now - 15 * 86400, now - 86400, now])
    with pytest.raises(CommandError, match=r"m\.csv: 1 measurement is older .* --skip-old"):
        check(path)
    found = check(path, skip_old=True)
    assert (found.rows, found.left_out, found.series) == (2, 1, 1)
    assert found.filling.dimensions == {"metric_name": "m"}


def test_measurements_of_the_future_are_an_error(tmp_path: Path) -> None:
    path = write(tmp_path / "m.csv", [NOW_MS // 1000 + 3600])
    with pytest.raises(CommandError, match="1 measurement is more than two minutes in the future"):
        check(path, skip_old=True)


def test_a_wrong_line_says_where_and_how_many_more(tmp_path: Path) -> None:
    path = tmp_path / "m.csv"
    path.write_text("timestamp,value\n1,x\n2,y\n3,1\n")
    with pytest.raises(CommandError) as caught:
        check(path)
    assert caught.value.message == (
        f"{path}:2: value 'x' is not a number (1 more lines are wrong); nothing was sent"
    )


def test_an_empty_file_and_one_with_only_a_header(tmp_path: Path) -> None:
    assert check(write(tmp_path / "m.csv", []), shift=True).rows == 0
    (tmp_path / "m.csv").write_text("")
    with pytest.raises(CommandError, match="no column 'timestamp'"):
        check(tmp_path / "m.csv")


def test_gzip_by_what_it_is_not_by_its_name(tmp_path: Path) -> None:
    plain = write(tmp_path / "load.csv", [NOW_MS // 1000])
    zipped = tmp_path / "load.csv.gz"
    zipped.write_bytes(gzip.compress(plain.read_bytes()))
    assert check(zipped).filling.dimensions == {"metric_name": "load"}
    assert check(zipped).rows == 1
    zipped.write_bytes(zipped.read_bytes()[:-9])
    with pytest.raises(CommandError, match="not complete and valid gzip"):
        check(zipped)


def test_bytes_that_are_no_utf8_have_a_line(tmp_path: Path) -> None:
    path = tmp_path / "m.csv"
    path.write_bytes(b"timestamp,value,host\n1,1,ok\n1,1,\xff\xfe\n")
    with pytest.raises(CommandError, match=r"m\.csv:3: dimensions\.host"):
        check(path, skip_old=True)


@pytest.mark.skipif(not NAB.is_dir(), reason="the real data is not here")
def test_real_files() -> None:
    rows = 0
    for path in sorted(NAB.glob("*.csv")):
        found = check(path, shift=True, skip_old=True)
        rows += found.rows
        assert found.shift_ms % 60_000 == 0
        assert NOW_MS - 300_000 - 60_000 < found.last_ms <= NOW_MS
    assert rows > 25_000
