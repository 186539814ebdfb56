"""How an agent delivers: every report is written down first, and sent until the server took it."""

import asyncio
import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from email.utils import parsedate_to_datetime
from enum import Enum

import httpx
import msgspec

from heliometer.cli.client import Client
from heliometer.cli.errors import CommandError
from heliometer.cli.replies import fault_message
from heliometer.collect import Measurement
from heliometer.collect.report import reports_of
from heliometer.collect.spool import Entry, Spool
from heliometer.model.errors import Code, HeliometerError

log = logging.getLogger(__name__)

PAST_MS = 14 * 86_400_000
FUTURE_MS = 110_000
"""The server takes two weeks past to two minutes future (v1.1 §4.4.7.1); a little less here, for
the way there."""
REPLAY_S = 30.0
"""How long one round may replay what waits: then the next round is due soon."""
SKEW_S = 30.0
"""A clock that is so far from the server's is worth a word."""


class _Fate(Enum):
    """What became of a report that was sent."""

    TAKEN = "taken"
    LATER = "later"
    NEVER = "never"


class Sender:
    """Delivers rounds to a server, the newest first, then what waited, the oldest first.

    ``counts`` has ``reports_sent``, ``reports_dropped``, ``refused`` (parts of projects) and
    ``send_errors``.
    """

    def __init__(
        self, client: Client, spool: Spool, clock: Callable[[], float] = time.time
    ) -> None:
        self._client = client
        self._spool = spool
        self._clock = clock
        self._told: set[str] = set()
        self.counts: Counter[str] = Counter()
        self.skew_s = 0.0
        """How far this machine's clock is ahead of the server's, in seconds."""
        self._intervals: dict[str, int] = {}
        self._turn = threading.Lock()
        """Several collectors share one connection."""

    async def intervals(self) -> Mapping[str, int]:
        """Seconds between rounds of each project, as the server last said."""
        return self._intervals

    async def deliver(self, measurements: list[Measurement]) -> None:
        """Write a round down and send what can be sent. Raises UNAVAILABLE when it could not even
        be written down."""
        await asyncio.to_thread(self.deliver_now, measurements)

    def deliver_now(self, measurements: list[Measurement]) -> None:
        """The same, in the calling thread."""
        with self._turn:
            self._deliver(measurements)

    def _deliver(self, measurements: list[Measurement]) -> None:
        for body in reports_of(measurements):
            try:
                dropped = self._spool.add(body, measurements[0].timestamp_ms)
            except OSError as error:
                raise HeliometerError(
                    Code.UNAVAILABLE,
                    f"{self._spool.folder}: {error.strerror or error}.",
                    details="Make room there, or say another folder with --spool.",
                ) from error
            if dropped:
                self.counts["reports_dropped"] += dropped
                self._tell(
                    "full",
                    "the spool %s is full: the oldest reports give way; make the server reachable "
                    "or say more with --spool-bytes",
                    self._spool.folder,
                )
        self.send_waiting()

    def send_waiting(self) -> None:
        """Send what waits until the server does not take more, or REPLAY_S are over."""
        entries = self._spool.entries()
        until = self._clock() + REPLAY_S
        for entry in [*entries[-1:], *entries[:-1]]:
            age_ms = (self._clock() - self.skew_s) * 1000 - entry.timestamp_ms
            if age_ms < -FUTURE_MS:
                continue  # by a clock that is ahead: the server will take it when its time comes
            if age_ms > PAST_MS:
                self._drop(entry, "is older than two weeks, which the server does not take")
                continue
            try:
                body = entry.read()
            except OSError as error:
                self._drop(entry, f"cannot be read: {error.strerror or error}")
                continue
            fate, why = self._send(entry, body)
            if fate is _Fate.LATER:
                self.counts["send_errors"] += 1
                self._tell("away", "reports wait in %s: %s", self._spool.folder, why)
                return
            if fate is _Fate.NEVER:
                self._drop(entry, f"was refused: {why}")
            else:
                self.counts["reports_sent"] += 1
                self._spool.remove(entry)
                self._again("away", "reports are delivered again")
            if self._clock() > until:
                return

    def _send(self, entry: Entry, body: bytes) -> tuple[_Fate, str]:
        headers = {
            "Content-Type": "application/json",
            "Content-Encoding": "gzip",
            "Idempotency-Key": entry.key,
        }
        try:
            response = self._client.request(
                "POST", "/metrics/reports", content=body, headers=headers
            )
        except CommandError as error:
            return _Fate.LATER, error.message
        self._compare_clocks(response)
        text = fault_message(response.content) or response.reason_phrase
        status = response.status_code
        if response.is_success:
            self._read(response)
            return _Fate.TAKEN, ""
        if status in (400, 413, 415, 422):
            return _Fate.NEVER, f"{text} ({status})"
        if status == 409:
            text += " Give this agent's user the role agent."
        return _Fate.LATER, f"{text} ({status})"

    def _read(self, response: httpx.Response) -> None:
        try:
            answer = msgspec.json.decode(response.content)
            self._intervals |= {str(k): int(v) for k, v in answer["intervals"].items()}
            refused = answer["refused"]
        except (msgspec.DecodeError, KeyError, TypeError, ValueError, AttributeError):
            self._tell("answer", "the server answers as no Heliometer does: %a", response.text[:80])
            return
        for each in refused:
            self.counts["refused"] += 1
            self._tell(
                f"refused {each.get('project')}",
                "nothing is stored for project %s: %s",
                each.get("project"),
                each.get("message"),
            )

    def _compare_clocks(self, response: httpx.Response) -> None:
        try:
            there = parsedate_to_datetime(response.headers["Date"]).timestamp()
        except (KeyError, ValueError):
            return
        # The header is cut to whole seconds.
        self.skew_s = self._clock() - (there + 0.5)
        if abs(self.skew_s) > SKEW_S:
            self._tell(
                "skew",
                "this machine's clock is %.0f s %s the server's: let both follow a time server",
                abs(self.skew_s),
                "ahead of" if self.skew_s > 0 else "behind",
            )
        else:
            self._again("skew", "this machine's clock agrees with the server's")

    def _drop(self, entry: Entry, why: str) -> None:
        self.counts["reports_dropped"] += 1
        self._tell(f"drop {why[:40]}", "a report is dropped: it %s", why)
        self._spool.remove(entry)

    def _tell(self, what: str, message: str, *values: object) -> None:
        if what not in self._told:
            self._told.add(what)
            log.warning(f"{message} (said once)", *values)  # noqa: G004

    def _again(self, what: str, message: str) -> None:
        if what in self._told:
            self._told.discard(what)
            log.info(message)
