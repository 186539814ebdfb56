"""Metrics of the service itself, in Prometheus' text format at ``/metrics``."""

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.gc_collector import GCCollector
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

from heliometer import __version__

_LATENCIES = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10)


class Instruments:
    """All instruments, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = r = CollectorRegistry()
        ProcessCollector(registry=r)
        PlatformCollector(registry=r)
        GCCollector(registry=r)
        Gauge("heliometer_build_info", "Version.", ["version"], registry=r).labels(__version__).set(
            1
        )
        self.requests = Counter(
            "heliometer_http_requests", "Requests answered.",
            ["dialect", "operation", "status"], registry=r,
        )  # fmt: skip
        self.latency = Histogram(
            "heliometer_http_request_duration_seconds", "Time to answer.",
            ["dialect", "operation"], buckets=_LATENCIES, registry=r,
        )  # fmt: skip
        self.measurements = Counter(
            "heliometer_measurements", "Measurements stored durably.", registry=r
        )
        self.commits = Histogram(
            "heliometer_commit_duration_seconds", "Time of one durable commit.",
            buckets=_LATENCIES, registry=r,
        )  # fmt: skip
        self.handovers = Histogram(
            "heliometer_handover_duration_seconds",
            "From a message to RabbitMQ until it is stored.", buckets=_LATENCIES, registry=r,
        )  # fmt: skip
        self.accepted = Counter(
            "heliometer_measurements_accepted", "Measurements handed over safely.", registry=r
        )

    def watch(self, name: str, description: str, read: Callable[[], float]) -> None:
        """Add a gauge that is read whenever the metrics are."""
        Gauge(f"heliometer_{name}", description, registry=self.registry).set_function(read)

    def count(self, name: str, description: str, read: Callable[[], float]) -> None:
        """Add a counter, of what only grows while the process runs, that is read whenever the
        metrics are; its name ends in ``_total``."""
        family = partial(CounterMetricFamily, f"heliometer_{name}", description)
        self.registry.register(_Each(family, lambda: {None: read()}))

    def watch_each(
        self, name: str, description: str, label: str, read: Callable[[], Mapping[str, float]]
    ) -> None:
        """Add a gauge for each value of a label, read whenever the metrics are."""
        family = partial(GaugeMetricFamily, f"heliometer_{name}", description, labels=[label])
        self.registry.register(_Each(family, read))

    def count_each(
        self, name: str, description: str, label: str, read: Callable[[], Mapping[str, float]]
    ) -> None:
        """The same for counters; their names end in ``_total``."""
        family = partial(CounterMetricFamily, f"heliometer_{name}", description, labels=[label])
        self.registry.register(_Each(family, read))

    def committed(self, measurements: int, seconds: float) -> None:
        """Count one durable commit."""
        self.measurements.inc(measurements)
        self.commits.observe(seconds)

    def handed_over(self, measurements: int, seconds: float) -> None:
        """Count one message that another process has stored."""
        self.accepted.inc(measurements)
        self.handovers.observe(seconds)

    def text(self, accept: str = "") -> tuple[bytes, str]:
        """All metrics, and their media type: OpenMetrics if an ``Accept`` header asks for it, else
        Prometheus' text format."""
        encode, media_type = choose_encoder(accept)
        return encode(self.registry), media_type


class _Each(Collector):
    """A family of metrics that is made anew for each reader."""

    def __init__(
        self,
        family: Callable[[], GaugeMetricFamily | CounterMetricFamily],
        read: Callable[[], Mapping[Any, float]],
    ) -> None:
        self._family = family
        self._read = read

    def collect(self) -> Iterator[Metric]:
        family = self._family()
        for value, number in self._read().items():
            family.add_metric([] if value is None else [value], number)
        yield family
