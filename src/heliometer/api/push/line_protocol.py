"""Decodes InfluxDB's line protocol."""

import re
from collections.abc import Iterator
from functools import partial

from heliometer.api.push.intake import MOST_SAMPLES, Intake, too_many
from heliometer.api.push.naming import name_of
from heliometer.metrics.series_index import Name

FORM = "influx"
LONGEST_LINE = 65_536
LONGEST_SERIES = 8192
PLAIN_FIELD = "value"
"""The metric of a field with this name is called as its measurement, without a suffix."""

# Every repetition is possessive: none gives back what it took, so that matching takes linear time.
_KEY = r"(?:[^,= \\]|\\.)++"
_TEXT = r'"(?:[^"\\]|\\.)*+"'
_VALUE = rf'(?:{_TEXT}|[^\s,"][^\s,]*+)'
_SERIES = rf"(?:[^, \\]|\\.)++(?:,{_KEY}={_KEY})*+"
_LINE = re.compile(
    rf"(?P<series>{_SERIES}) ++(?P<fields>{_KEY}={_VALUE}(?:,{_KEY}={_VALUE})*+)"
    r"(?: ++(?P<stamp>-?\d{1,19}+))?+ *+\r?"
)
_UNCLOSED = re.compile(rf'{_SERIES} ++(?:{_KEY}={_VALUE},)*+{_KEY}="(?:[^"\\]|\\.)*+')
"""A line that ends inside a text, which continues on the next lines."""
_CLOSING = re.compile(r'(?:[^"\\]|\\.)*+"')
_TEXT_LINES = 100
"""Most lines that a text may span."""
_FIELD = re.compile(rf"(?P<key>{_KEY})=(?:(?P<text>{_TEXT})|(?P<value>[^\s,]++))")
_TAG = re.compile(rf",(?P<key>{_KEY})=(?P<value>{_KEY})")
_MEASUREMENT = re.compile(r"(?:[^, \\]|\\.)++")
_ESCAPED = re.compile(r"\\([,= ])")
_FLOAT = re.compile(r"[+-]?([0-9]++(\.[0-9]*+)?|\.[0-9]++)([eE][+-]?[0-9]++)?|NaN|nan")
_INTEGER = re.compile(r"[+-]?[0-9]{1,20}[iu]")
_BROKEN = re.compile("[\udc80-\udcff]")
"""Stands for bytes that are not UTF-8."""
_TRUTH = {
    **dict.fromkeys(("t", "T", "true", "True", "TRUE"), 1.0),
    **dict.fromkeys(("f", "F", "false", "False", "FALSE"), 0.0),
}
_SHOWN = 80


def read(body: bytes, namespace: str, unit: tuple[int, int], intake: Intake) -> None:
    """Decode lines; invalid ones, and values that cannot be stored, are left out.

    ``unit`` is that of the timestamps, in milliseconds as a fraction. Raises TOO_LARGE for more
    than MOST_SAMPLES.
    """
    if body.count(b"\n") > MOST_SAMPLES:
        raise too_many()
    text = body.decode("utf-8", "surrogateescape")
    lines = text.split("\n")
    at = 0
    while at < len(lines):
        line = lines[at].lstrip(" \t\0")
        number = at = at + 1
        if not line or line.startswith("#") or line == "\r":
            continue
        if len(line) > LONGEST_LINE:
            intake.leave_out(f"line {number} is longer than {LONGEST_LINE} characters")
            continue
        if _BROKEN.search(line):
            intake.leave_out(f"line {number} is not UTF-8")
            continue
        found = _LINE.fullmatch(line)
        if found is None and (end := _end_of_text(line, lines, at)):
            line = "\n".join([line, *lines[at:end]])
            found = _LINE.fullmatch(line)
            at = end if found else at
        if found is None:
            short = line if len(line) <= _SHOWN else f"{line[: _SHOWN - 1]}…"
            intake.leave_out(f"unable to parse line {number} ({short!r}): {_why(line)}")
            continue
        _read_line(found, number, namespace, unit, intake)


def _end_of_text(line: str, lines: list[str], at: int) -> int:
    """The index after the line that closes the text left open by ``line``; 0 if none is open."""
    if not _UNCLOSED.fullmatch(line):
        return 0
    for end in range(at, min(at + _TEXT_LINES, len(lines))):
        if _CLOSING.match(lines[end]):
            return end + 1
    return 0


def _read_line(
    found: re.Match[str], number: int, namespace: str, unit: tuple[int, int], intake: Intake
) -> None:
    series = found["series"]
    if len(series) > LONGEST_SERIES:
        intake.leave_out(f"line {number}: measurement and tags are too long")
        return
    stamp = None if found["stamp"] is None else int(found["stamp"]) * unit[0] // unit[1]
    for field in _each(_FIELD, found["fields"]):
        if field["text"] is not None:
            continue  # text is not a metric
        value = _number(field["value"])
        key = field["key"]
        if value is None:
            intake.leave_out(
                f"unable to parse line {number}: field {key[:_SHOWN]!a}: "
                f"{field['value'][:_SHOWN]!r} is no value"
            )
            continue
        name = partial(_name, namespace, series, key)
        intake.add(namespace, f"{series} {key}".encode(), name, stamp, value)


def _name(namespace: str, series: str, field: str) -> Name:
    measurement = _MEASUREMENT.match(series)
    assert measurement is not None
    metric, key = _unescaped(measurement[0]), _unescaped(field)
    return name_of(
        namespace,
        metric if key == PLAIN_FIELD else f"{metric}_{key}",
        [
            (_unescaped(tag["key"]), _unescaped(tag["value"]))
            for tag in _each(_TAG, series, measurement.end(), 0)
        ],
    )


def _each(
    pattern: re.Pattern[str], text: str, at: int = 0, between: int = 1
) -> Iterator[re.Match[str]]:
    """The matches from ``at`` on, one after the other, with so many characters between them."""
    while found := pattern.match(text, at):
        yield found
        at = found.end() + between


def _number(text: str) -> float | None:
    if _FLOAT.fullmatch(text):
        return float(text)
    if _INTEGER.fullmatch(text):
        return float(text[:-1])
    return _TRUTH.get(text)


def _unescaped(text: str) -> str:
    return _ESCAPED.sub(r"\1", text) if "\\" in text else text


def _why(line: str) -> str:
    """The likely error in a line that does not match."""
    start = re.match(_SERIES, line)
    if start is None or start.end() == len(line):
        return "missing fields" if start else "missing measurement"
    if line[start.end()] == ",":
        return "missing tag value"
    rest = line[start.end() :].strip()
    if "=" not in rest:
        return "missing fields" if not rest else "invalid field format"
    return "bad timestamp" if re.match(rf"{_KEY}=\S++ ++\S", rest) else "invalid field format"
