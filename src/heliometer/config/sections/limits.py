"""What one request and one project may use."""

from typing import Annotated

from msgspec import Meta, Struct


class LimitSettings(Struct, frozen=True, forbid_unknown_fields=True):
    body_bytes: Annotated[
        int, Meta(ge=1024, description="Largest request body after decompression, in bytes (413).")
    ] = 16 << 20
    bodies_bytes: Annotated[
        int,
        Meta(
            ge=1024,
            description="Memory for the bodies of all requests in progress, in bytes (503 beyond "
            "that).",
        ),
    ] = 256 << 20
    answers_bytes: Annotated[
        int,
        Meta(
            ge=1024,
            description="Memory for long answers that clients are reading, in bytes (503 beyond "
            "that).",
        ),
    ] = 128 << 20
    answers_bytes_per_project: Annotated[
        int,
        Meta(
            ge=1024,
            description="The same for the clients of one project, in bytes (503 beyond that).",
        ),
    ] = 32 << 20
    requests_per_second: Annotated[
        float,
        Meta(
            ge=0,
            description="Requests per second of one project, with a burst of twice as many (429); "
            "0: no limit.",
        ),
    ] = 20_000.0
    series_per_project: Annotated[
        int, Meta(ge=1, description="Series that one project may have (429 beyond that).")
    ] = 250_000
    series_per_query: Annotated[
        int, Meta(ge=1, description="Series that one query may return (400).")
    ] = 5_000
    datapoints_per_query: Annotated[
        int, Meta(ge=1, description="Datapoints that one query may return (400).")
    ] = 1_000_000
    pending_measurements: Annotated[
        int,
        Meta(ge=1000, description="Measurements that may wait to be stored before posts get 503."),
    ] = 2_000_000
    alarms_per_project: Annotated[
        int, Meta(ge=1, description="Alarms that one project may have (429 beyond that).")
    ] = 10_000
    alarm_minutes_per_project: Annotated[
        int,
        Meta(
            ge=1000,
            description="Minutes of windows that are kept in memory for one project's alarms, 32 "
            "bytes each (429 beyond that); long periods need many.",
        ),
    ] = 5_000_000
    methods_per_project: Annotated[
        int,
        Meta(
            ge=1,
            description="Notification methods, and likewise addresses, that one project may have "
            "(429 beyond that).",
        ),
    ] = 1_000
    subscriptions_per_project: Annotated[
        int, Meta(ge=1, description="Subscriptions that one project may have (429 beyond that).")
    ] = 10_000
    custom_meters_per_project: Annotated[
        int, Meta(ge=1, description="Custom meters that one project may have (400 beyond that).")
    ] = 500
    active_meters_basic: Annotated[
        int,
        Meta(
            ge=1,
            description="Custom meters that may receive samples within 24 hours at level basic.",
        ),
    ] = 1
    active_meters_premium: Annotated[
        int,
        Meta(
            ge=1,
            description="Custom meters that may receive samples within 24 hours at level premium.",
        ),
    ] = 30
    samples_per_meter_and_day: Annotated[
        int, Meta(ge=1, description="Samples of one custom meter in a UTC day (400 beyond that).")
    ] = 1500
    codes_per_hour: Annotated[
        int, Meta(ge=1, description="Validation codes that one project may send in an hour (429).")
    ] = 20
    codes_per_day: Annotated[
        int, Meta(ge=1, description="Validation codes that one project may send in 24 hours (429).")
    ] = 50
    codes_per_day_overall: Annotated[
        int,
        Meta(
            ge=1,
            description="Validation codes that all projects together may send in 24 hours (429).",
        ),
    ] = 1_000
    test_messages_per_hour: Annotated[
        int, Meta(ge=1, description="Test messages that one project may send in an hour (429).")
    ] = 30
    test_messages_per_day: Annotated[
        int, Meta(ge=1, description="Test messages that one project may send in 24 hours (429).")
    ] = 100
    test_messages_per_day_overall: Annotated[
        int,
        Meta(
            ge=1, description="Test messages that all projects together may send in 24 hours (429)."
        ),
    ] = 2_000
    rescopes_per_hour: Annotated[
        int,
        Meta(
            ge=1,
            description="Tokens that one user may exchange for tokens of another scope in an hour "
            "(429).",
        ),
    ] = 600
    sign_in_failures: Annotated[
        int,
        Meta(
            ge=1,
            description="Consecutive wrong passwords for one user from one address before further "
            "attempts are slowed down (429).",
        ),
    ] = 5
