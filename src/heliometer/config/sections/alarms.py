"""Evaluation of alarms."""

from typing import Annotated

from msgspec import Meta, Struct


class AlarmSettings(Struct, frozen=True, forbid_unknown_fields=True):
    grace: Annotated[
        int,
        Meta(
            ge=0,
            le=55,
            description="Seconds after each minute at which alarms are evaluated, for measurements "
            "that arrive late.",
        ),
    ] = 5
    at_once: Annotated[
        bool,
        Meta(
            description="Whether an alarm goes off as soon as a measurement makes it certain, "
            "without waiting for the minute."
        ),
    ] = True
    flapping_changes: Annotated[
        int,
        Meta(
            ge=2,
            le=100,
            description="State changes within the span below beyond which an alarm is flapping.",
        ),
    ] = 4
    flapping_span: Annotated[
        int, Meta(ge=60, le=86_400, description="Seconds in which those changes are counted.")
    ] = 600
