"""Times on the command line, in files and in tables."""

import math
import re
from datetime import UTC, datetime, timedelta

UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_RELATIVE = re.compile(r"-?(\d+(?:\.\d+)?)([smhdw])")
LATEST_S = 1e11
"""Unix seconds so late that milliseconds must be meant."""


def parse_ms(text: str) -> int:
    """Milliseconds since the epoch of Unix seconds or an ISO 8601 time; without a zone it is UTC.

    Raises ValueError with the reason.
    """
    try:
        seconds = float(text)
    except ValueError:
        return round(_iso(text).timestamp() * 1000)
    if not math.isfinite(seconds):
        raise ValueError(f"{text!r} is not a time")
    if abs(seconds) > LATEST_S:
        raise ValueError(f"{text!r} is not Unix time in seconds; is it in milliseconds?")
    return round(seconds * 1000)


def parse_moment(text: str, now: datetime) -> datetime:
    """A time relative to ``now`` (``30m``, ``24h``, ``14d`` ago; ``now``), or as in parse_ms."""
    text = text.strip()
    if text == "now":
        return now
    if match := _RELATIVE.fullmatch(text):
        seconds = float(match[1]) * UNITS[match[2]]
        try:
            return now - timedelta(seconds=seconds)
        except OverflowError as error:
            raise ValueError(f"{text!r} is too long ago") from error
    try:
        return datetime.fromtimestamp(parse_ms(text) / 1000, UTC)
    except ValueError as error:
        raise ValueError(
            f"{text!r} is not a time; use how long ago (30m, 24h, 14d) or when (2026-11-20T12:00Z)"
        ) from error
    except OverflowError as error:
        raise ValueError(f"{text!r} is out of range") from error


def iso(moment: datetime) -> str:
    """The time in UTC as the API takes it."""
    text = moment.astimezone(UTC).isoformat(timespec="milliseconds")
    return text.removesuffix("+00:00").removesuffix(".000") + "Z"


def show(timestamp_s: float, *, seconds: bool = True) -> str:
    """``2026-11-20 12:00:00Z``, without seconds or with fractions as they are needed."""
    moment = datetime.fromtimestamp(timestamp_s, UTC)
    if moment.microsecond:
        return f"{moment:%Y-%m-%d %H:%M:%S}.{moment.microsecond // 1000:03}Z"
    return f"{moment:%Y-%m-%d %H:%M:%S}Z" if seconds else f"{moment:%Y-%m-%d %H:%M}Z"


def _iso(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text.strip())
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        return moment.astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise ValueError(
            f"{text[:40]!r} is neither Unix time in seconds nor an ISO 8601 time"
        ) from error
