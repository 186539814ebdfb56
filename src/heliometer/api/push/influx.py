"""InfluxDB's line protocol, as its versions 1 (``/write``) and 2 (``/api/v2/write``) take it."""

import asyncio
import re
from functools import partial

import msgspec
from starlette.responses import Response

from heliometer.api.push.intake import MOST_SAMPLES, Intake, too_many
from heliometer.api.push.naming import name_of, namespace_of
from heliometer.core.errors import Code, HeliometerError, Malformed
from heliometer.http.operation import STATUS, Call, Dialect, Operation, Parameter
from heliometer.identity.model import Permission
from heliometer.metrics.series_index import Name
from heliometer.metrics.service import Metrics

FORM = "influx"
PRECISIONS = {
    "n": (1, 1_000_000), "ns": (1, 1_000_000), "u": (1, 1000), "us": (1, 1000), "µ": (1, 1000),
    "ms": (1, 1), "s": (1000, 1), "m": (60_000, 1), "h": (3_600_000, 1),
}  # fmt: skip
"""Milliseconds of each unit that timestamps may be in, as a fraction."""
LONGEST_LINE = 65_536
LONGEST_SERIES = 8192
AT_ONCE = 32 << 10
"""Bytes of a request from which on it is read in a thread."""
PLAIN_FIELD = "value"
"""A field of this name is what its measurement is about: the metric has the measurement's name."""
VERSION = "1.8.10"
"""The dialect that is spoken, for clients that ask."""

_KEY = r"(?:[^,= \\]|\\.)+"
_TEXT = r'"(?:[^"\\]|\\.)*"'
_VALUE = rf'(?:{_TEXT}|[^\s,"][^\s,]*)'
"""Text or something else, never both: what could be read in two ways takes for ever."""
_SERIES = rf"(?:[^, \\]|\\.)+(?:,{_KEY}={_KEY})*"
_LINE = re.compile(
    rf"(?P<series>{_SERIES}) +(?P<fields>{_KEY}={_VALUE}(?:,{_KEY}={_VALUE})*)"
    r"(?: +(?P<stamp>-?\d{1,19}))? *\r?"
)
_UNCLOSED = re.compile(rf'{_SERIES} +(?:{_KEY}={_VALUE},)*{_KEY}="(?:[^"\\]|\\.)*')
"""A line that ends within a text: the rest follows on the next ones."""
_CLOSING = re.compile(r'(?:[^"\\]|\\.)*"')
_TEXT_LINES = 100
"""Lines that a text may have."""
_FIELD = re.compile(rf"(?P<key>{_KEY})=(?:(?P<text>{_TEXT})|(?P<value>[^\s,]+))")
_TAG = re.compile(rf",(?P<key>{_KEY})=(?P<value>{_KEY})")
_MEASUREMENT = re.compile(r"(?:[^, \\]|\\.)+")
_ESCAPED = re.compile(r"\\([,= ])")
_FLOAT = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?|NaN|nan")
_INTEGER = re.compile(r"[+-]?[0-9]{1,20}[iu]")
_BROKEN = re.compile("[\udc80-\udcff]")
"""What is left of bytes that are not UTF-8."""
_TRUTH = {
    **dict.fromkeys(("t", "T", "true", "True", "TRUE"), 1.0),
    **dict.fromkeys(("f", "F", "false", "False", "FALSE"), 0.0),
}
_SHOWN = 80


def dialect(metrics: Metrics) -> Dialect:
    """The dialect over the use cases of metrics."""

    async def write(call: Call) -> Response:
        query = call.request.query_params
        database = query.get("bucket") or query.get("db")
        if not database:
            raise Malformed("database is required", details="Say ?db=NAME, or ?bucket=NAME.")
        precision = query.get("precision") or "ns"
        if precision not in PRECISIONS:
            raise Malformed(
                f"precision: {precision[:20]!r} is none.",
                details=f"Any of {', '.join(PRECISIONS)}.",
            )
        project = await metrics.target(call.caller, call.request.headers.get("x-tenant-id"))
        namespace = namespace_of(
            database, reserved_allowed=Permission.POST_RESERVED in call.caller.permissions
        )
        body = await call.body()
        intake = Intake(project, FORM, metrics.now_ms())
        if len(body) > AT_ONCE:  # reading takes long: others are answered meanwhile
            await asyncio.to_thread(read, body, namespace, PRECISIONS[precision], intake)
        else:
            read(body, namespace, PRECISIONS[precision], intake)
        where = f"{FORM} {precision} {namespace}"
        await intake.store(metrics, intake.columns(), body, where)
        if intake.complaint:
            raise Malformed(f"partial write: {intake.complaint} dropped={intake.left_out}")
        return Response(status_code=204, headers={"X-Influxdb-Version": VERSION})

    async def ping(_: Call) -> Response:
        return Response(status_code=204, headers={"X-Influxdb-Version": VERSION})

    parameters = (
        Parameter("db", "Namespace of the series (version 1)."),
        Parameter("bucket", "The same (version 2)."),
        Parameter("precision", "Unit of timestamps: ns, us, ms, s, m or h; ns without."),
        Parameter("project", "With a password: the project, by name or id."),
    )
    return Dialect(
        "influx",
        "InfluxDB line protocol",
        "/api/v2",
        (
            Operation(
                "POST", "/write", "Write points", "InfluxDB 1.8 and 2.x API, line protocol", write,
                Permission.POST_METRICS, 204, (413, 415), parameters, foreign=True,
            ),
            Operation("GET", "/ping", "Say that the service is there", "InfluxDB 1.8 and 2.x API",
                      ping, success=204, foreign=True),
        ),
        render_fault,
        ("",),
    )  # fmt: skip


def render_fault(error: HeliometerError, request_id: str) -> Response:
    """Version 1's ``error``, and version 2's ``code`` and ``message``, in one."""
    codes = {
        Code.UNAUTHENTICATED: "unauthorized", Code.FORBIDDEN: "forbidden",
        Code.NOT_FOUND: "not found", Code.TOO_LARGE: "request too large",
        Code.RATE_LIMITED: "too many requests", Code.UNAVAILABLE: "unavailable",
        Code.INTERNAL: "internal error",
    }  # fmt: skip
    text = f"{error.message} {error.details}".strip()
    document = {
        "error": text, "code": codes.get(error.code, "invalid"), "message": text, "id": request_id
    }  # fmt: skip
    return Response(
        msgspec.json.encode(document),
        STATUS[error.code],
        headers={"X-Influxdb-Error": re.sub(r"[^ -~]", "?", text)[:200]},
        media_type="application/json",
    )


def read(body: bytes, namespace: str, unit: tuple[int, int], intake: Intake) -> None:
    """Decode lines; those that cannot be read, and what cannot be stored, are left out.

    ``unit`` is that of timestamps, in milliseconds as a fraction. Raises TOO_LARGE for more than
    MOST_SAMPLES.
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
    """Behind the line in which the text ends that ``line`` leaves open; 0: it leaves none."""
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
    for field in _FIELD.finditer(found["fields"]):
        if field["text"] is not None:
            continue  # no number, and no metric
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
            for tag in _TAG.finditer(series, measurement.end())
        ],
    )


def _number(text: str) -> float | None:
    if _FLOAT.fullmatch(text):
        return float(text)
    if _INTEGER.fullmatch(text):
        return float(text[:-1])
    return _TRUTH.get(text)


def _unescaped(text: str) -> str:
    return _ESCAPED.sub(r"\1", text) if "\\" in text else text


def _why(line: str) -> str:
    """What is wrong with a line, as far as that is easily said."""
    start = re.match(rf"(?:[^, \\]|\\.)+(?:,{_KEY}={_KEY})*", line)
    if start is None or start.end() == len(line):
        return "missing fields" if start else "missing measurement"
    if line[start.end()] == ",":
        return "missing tag value"
    rest = line[start.end() :].strip()
    if "=" not in rest:
        return "missing fields" if not rest else "invalid field format"
    return "bad timestamp" if re.match(rf"{_KEY}=\S+ +\S", rest) else "invalid field format"
