"""StatsD over UDP, with the tags of DogStatsD and InfluxDB: aggregated, then stored.

The protocol has neither replies nor authentication: the listener is off unless the settings name
an address, and everything goes to one project.
"""

import asyncio
import logging
import math
import re
import socket
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from heliometer.api.push.naming import name_of
from heliometer.config import StatsdSettings, WrongSetting, parse_address
from heliometer.core.errors import Code, HeliometerError
from heliometer.metrics.series_index import Name
from heliometer.metrics.service import Metrics
from heliometer.metrics.validation import check_value

log = logging.getLogger(__name__)

MOST_SERIES = 100_000
MOST_TIMINGS = 200_000
"""Most in one interval; further ones are dropped and counted."""
LONGEST_LINE = 1000
RECEIVE_BYTES = 4 << 20
FIGURES = {
    "statsd_samples": "Samples that came over StatsD.",
    "statsd_malformed": "Lines that could not be read.",
    "statsd_dropped": "Samples that could not be kept or stored.",
}

_LINE = re.compile(
    r"(?P<name>[^:|\n]+)(?P<values>(?::[^:|\n]*)+)\|(?P<type>c|g|ms|h|d|s)(?P<rest>(?:\|[^|\n]*)*)"
)


_NUMBER = re.compile(r"[+-]?([0-9]++(\.[0-9]*+)?|\.[0-9]++)([eE][+-]?[0-9]++)?")


@dataclass(frozen=True, slots=True)
class Sample:
    """A parsed line of a datagram."""

    name: str
    """As sent, with the tags that InfluxDB's style puts into it."""
    values: tuple[str, ...]
    type: str
    rate: float
    tags: str


@dataclass(slots=True)
class Gathered:
    """Everything that arrived in one interval, aggregated."""

    counters: dict[Name, float] = field(default_factory=dict)
    gauges: dict[Name, float] = field(default_factory=dict)
    timings: list[tuple[Name, float]] = field(default_factory=list)
    sets: dict[Name, set[str]] = field(default_factory=dict)
    members: int = 0
    """Total number of members of all sets."""

    def __len__(self) -> int:
        return len(self.counters) + len(self.gauges) + len(self.sets)


@dataclass(frozen=True, slots=True)
class Point:
    """A measurement on its way to the store."""

    name: Name
    timestamp_ms: int
    value: float

    @property
    def namespace(self) -> str:
        """The namespace of the series."""
        return self.name.namespace

    @property
    def dimensions(self) -> dict[str, str]:
        """The dimensions of the series."""
        return dict(self.name.dimensions)


def parse(line: str) -> Sample:
    """Parse a line, ``name:value|type|@rate|#tags``. Raises ValueError."""
    if len(line) > LONGEST_LINE:
        raise ValueError(f"it is longer than {LONGEST_LINE} characters")
    found = _LINE.fullmatch(line)
    if found is None:
        raise ValueError("it is not name:value|type")
    rate, tags = 1.0, ""
    for part in found["rest"].split("|")[1:]:
        if part.startswith("@"):
            rate = float(part[1:])
        elif part.startswith("#"):
            tags = part[1:]
    if not 0 < rate <= 1:
        raise ValueError("a sample rate must lie between 0 and 1")
    values = tuple(found["values"][1:].split(":"))
    if found["type"] != "s" and not all(map(_NUMBER.fullmatch, values)):
        raise ValueError("a value must be a number")
    return Sample(found["name"], values, found["type"], rate, tags)


def series_of(namespace: str, sample: Sample) -> Name:
    """The series of a sample: its name becomes ``metric_name``, its tags become dimensions.

    Tags follow ``#`` as ``key:value`` (without a value: ``true``), or the name as ``,key=value``.
    """
    metric, *inner = sample.name.split(",")
    pairs = [tag.partition("=")[::2] for tag in inner]
    if sample.tags:
        for tag in sample.tags.split(","):
            key, colon, value = tag.partition(":")
            pairs.append((key, value if colon else "true"))
    return name_of(namespace, metric, pairs)


class Statsd(asyncio.DatagramProtocol):
    """Receives datagrams, and stores their aggregates at the end of each interval.

    Stored are the sum of a counter (a delta, scaled up by its sample rate), the last value of a
    gauge, the number of distinct members of a set, and every single timing, so that all statistics
    can be queried.
    """

    def __init__(
        self,
        settings: StatsdSettings,
        metrics: Metrics,
        project_id: str,
        clock: Callable[[], float],
    ) -> None:
        self._settings = settings
        self._metrics = metrics
        self._project_id = project_id
        self._clock = clock
        self._names: dict[tuple[str, str], Name] = {}
        self._levels: dict[Name, float] = {}
        """The current value of each gauge, which samples with a sign change."""
        self._gathered = Gathered()
        self._waiting: list[Point] = []
        self._transport: asyncio.DatagramTransport | None = None
        self._logged: set[str] = set()
        self.counts: Counter[str] = Counter()

    async def start(self) -> None:
        """Start to listen. Raises WrongSetting if the address cannot be used."""
        address = parse_address(self._settings.listen)
        try:
            self._transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(
                lambda: self, local_addr=address
            )
        except OSError as error:
            raise WrongSetting(
                f"statsd.listen: cannot listen on {self._settings.listen}: "
                f"{error.strerror or error}; does another program take StatsD there?"
            ) from error
        with suppress(OSError):  # as much as the system allows
            self._transport.get_extra_info("socket").setsockopt(
                socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BYTES
            )
        log.info("StatsD listens on %s:%s", *self.address)

    @property
    def address(self) -> tuple[str, int]:
        """The host and port of the socket."""
        assert self._transport is not None
        host, port = self._transport.get_extra_info("sockname")[:2]
        return host, port

    async def run(self) -> None:
        """Store at the end of each interval, until cancelled."""
        while True:
            await asyncio.sleep(self._settings.interval - self._clock() % self._settings.interval)
            await self.flush()

    async def stop(self) -> None:
        """Stop listening, and store what has been gathered."""
        if self._transport is not None:
            self._transport.close()
        await self.flush()

    def datagram_received(self, data: bytes, addr: Any) -> None:
        """Take the lines of a datagram, ignoring invalid ones."""
        for line in data.decode("utf-8", "replace").split("\n"):
            if not line.strip():
                continue
            try:
                sample = parse(line.strip())
            except ValueError as error:
                self.counts["statsd_malformed"] += 1
                self._log_once(
                    "line", "a line from %s is invalid: %s: %a", addr[0], error, line[:80]
                )
                continue
            try:
                self._take(sample)
            except HeliometerError as error:
                self._drop(len(sample.values), error.message)
            else:
                self.counts["statsd_samples"] += 1

    def _take(self, sample: Sample) -> None:
        name = self._names.get((sample.name, sample.tags))
        if name is None:
            if len(self._names) >= MOST_SERIES:
                self._names.clear()
            name = series_of(self._settings.namespace, sample)
            self._names[sample.name, sample.tags] = name
        gathered = self._gathered
        full = len(gathered) >= MOST_SERIES or len(gathered.timings) >= MOST_TIMINGS
        if full and name not in gathered.counters and name not in gathered.gauges:
            self._drop(1, "more comes in one interval than is gathered")
            return
        for value in sample.values:
            if sample.type == "c":
                total = gathered.counters.get(name, 0.0) + float(value) / sample.rate
                if not math.isfinite(total):
                    self._drop(1, "a number is too large")
                    continue
                gathered.counters[name] = total
            elif sample.type == "g":
                level = self._levels.get(name, 0.0) if value[:1] in ("+", "-") else 0.0
                if not math.isfinite(level + float(value)):
                    self._drop(1, "a number is too large")
                    continue
                self._levels[name] = gathered.gauges[name] = level + float(value)
                if len(self._levels) > MOST_SERIES:
                    self._levels.clear()
            elif sample.type == "s":
                members = gathered.sets.setdefault(name, set())
                if gathered.members < MOST_TIMINGS and value not in members:
                    gathered.members += 1
                    members.add(value)
            else:
                gathered.timings.append((name, float(value)))

    async def flush(self) -> None:
        """Store what was gathered; on failure it is kept for the next interval."""
        gathered, self._gathered = self._gathered, Gathered()
        stamp = int(self._clock()) * 1000
        found = [
            *gathered.counters.items(),
            *gathered.gauges.items(),
            *((name, float(len(members))) for name, members in gathered.sets.items()),
            *gathered.timings,
        ]
        self._waiting += [Point(n, stamp, v) for n, v in found if self._storable(v)]
        if len(self._waiting) > MOST_SERIES + MOST_TIMINGS:
            extra = len(self._waiting) - MOST_SERIES - MOST_TIMINGS
            self._drop(extra, "the store took nothing for long")
            del self._waiting[:extra]
        if not self._waiting:
            return
        points, self._waiting = self._waiting, []
        try:
            await self._store(points)
        except HeliometerError as error:
            self._log_once(error.code.value, "cannot be stored now and is kept: %s", error.message)
            self._waiting = points + self._waiting

    async def _store(self, points: list[Point]) -> None:
        try:
            await self._metrics.post_collected(self._project_id, points)
        except HeliometerError as error:
            if error.code is not Code.RATE_LIMITED:
                raise
            # At the limit of series, known ones are still stored.
            known = self._metrics.known(self._project_id, [point.name for point in points])
            old = [point for point in points if point.name in known]
            self._drop(len(points) - len(old), error.message)
            if old:
                await self._metrics.post_collected(self._project_id, old)

    def _storable(self, value: float) -> bool:
        try:
            check_value(value)
        except HeliometerError as error:
            self._drop(1, error.message)
            return False
        return True

    def _drop(self, samples: int, why: str) -> None:
        self.counts["statsd_dropped"] += samples
        self._log_once(why.split(":")[0], "dropped %s: %s", samples, why)

    def _log_once(self, kind: str, message: str, *values: object) -> None:
        if kind not in self._logged:
            self._logged.add(kind)
            log.warning(f"StatsD: {message} (logged once)", *values)  # noqa: G004
