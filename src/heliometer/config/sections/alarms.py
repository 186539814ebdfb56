"""Settings of the evaluation of alarms."""

from typing import Annotated

from msgspec import Meta, Struct


class AlarmSettings(Struct, frozen=True, forbid_unknown_fields=True):
    grace: Annotated[
        int,
        Meta(
            ge=0,
            le=55,
            description="Seconds to wait for late measurements after each minute before alarms "
            "are evaluated.",
        ),
    ] = 5
    at_once: Annotated[
        bool,
        Meta(
            description="Whether an alarm triggers as soon as a measurement makes the result "
            "certain, without waiting for the end of the minute."
        ),
    ] = True
    flapping_changes: Annotated[
        int,
        Meta(
            ge=2,
            le=100,
            description="State changes within flapping_span beyond which an alarm is flapping.",
        ),
    ] = 4
    flapping_span: Annotated[
        int,
        Meta(
            ge=60,
            le=86_400,
            description="Seconds over which state changes are counted for flapping.",
        ),
    ] = 600
