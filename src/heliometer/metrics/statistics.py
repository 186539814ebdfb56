"""The statistics that a query may ask for (v1.1 §4.4.7.3)."""

MINUTE_MS = 60_000
"""The shortest period: alarms are evaluated, and charts are drawn, by whole minutes."""
STATISTICS: tuple[str, ...] = ("avg", "sum", "min", "max", "count")
AGGREGATES: tuple[str, ...] = (*STATISTICS, "stddev", "first_ms", "last_ms")
"""What a store computes of the measurements of one series and period: the statistics, and for
Telemetry v2 the population's standard deviation and the times of the first and the last."""
