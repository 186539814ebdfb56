"""The types and times that Telemetry v2 allows."""

from heliometer.core.errors import Malformed
from heliometer.meters.model import TYPES
from heliometer.metrics.validation import FUTURE_MS, PAST_MS


def check_type(type_: str) -> None:
    """Raise MALFORMED unless this is a type of meters."""
    if type_ not in TYPES:
        raise Malformed("Invalid counter_type.")


def check_recorded(recorded_ms: int, now_ms: int) -> None:
    """Raise MALFORMED unless measurements of this time are accepted."""
    if not now_ms - PAST_MS <= recorded_ms <= now_ms + FUTURE_MS:
        raise Malformed("Invalid recorded_at.")
