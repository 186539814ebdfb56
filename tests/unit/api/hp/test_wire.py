"""Query parameters of the HP dialects."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heliometer.api.hp import wire
from heliometer.core.errors import HeliometerError

values = st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1)


@given(st.dictionaries(st.from_regex(r"[a-z.]{1,5}", fullmatch=True), values, max_size=4))
def test_escaped_dimensions_read_back_as_they_were(pairs: dict[str, str]) -> None:
    text = ", ".join(f"{k}:{wire.escaped(v)}" for k, v in pairs.items())
    assert wire.dimensions([text]) == pairs


def test_blanks_belong_to_a_value_but_not_to_a_key() -> None:
    assert wire.dimensions(["a: x y , b:z,c:\\\\\\,"]) == {"a": " x y ", "b": "z", "c": "\\,"}


@pytest.mark.parametrize("text", ["a", ":b", "a:1,b", "a:1,a:2"])
def test_what_is_no_dimension_is_refused(text: str) -> None:
    with pytest.raises(HeliometerError, match="dimensions: "):
        wire.dimensions([text])


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("2013-11-01T12:00Z", 1383307200),
        ("2013-11-01T12:00", 1383307200),
        ("2013-11-01T13:00:00+01:00", 1383307200),
        ("2013-11-01T13:00:00 01:00", 1383307200),
        ("2013-11-01T12:00:00.250Z", 1383307200.25),
        ("2013-11-01", 1383264000),
        ("20131101T120000Z", 1383307200),
    ],
)
def test_times_are_iso_8601_and_utc_without_a_zone(text: str, seconds: float) -> None:
    assert wire.time_ms("start_time", text) == seconds * 1000


@given(st.text(max_size=30))
def test_any_other_text_is_refused_and_never_an_error_of_ours(text: str) -> None:
    for read in (
        lambda: wire.time_ms("t", text),
        lambda: wire.dimensions([text]),
        lambda: wire.whole_number("n", text, 1, 10),
    ):
        try:
            read()
        except HeliometerError as error:
            error.message.encode()
