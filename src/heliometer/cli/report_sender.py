"""Delivery by an agent: each report is spooled first, and sent until it is accepted."""

import logging
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Mapping
from email.utils import parsedate_to_datetime
from enum import Enum

import httpx
import msgspec

from heliometer.cli.client import Client
from heliometer.cli.errors import CommandError
from heliometer.cli.responses import fault_message
from heliometer.collectors import Measurement
from heliometer.collectors.report import reports_of
from heliometer.collectors.spool import Entry, Spool
from heliometer.collectors.threads import in_thread

log = logging.getLogger(__name__)

PAST_MS = 14 * 86_400_000
FUTURE_MS = 110_000
"""The server accepts measurements from two weeks old to two minutes ahead (v1.1 §4.4.7.1); a little
less here, to allow for the transfer."""
REPLAY_S = 30.0
"""How long one round may spend on spooled reports, in seconds, before the next one is due."""
MEMORY_BYTES = 64 << 20
"""Most bytes of reports that wait in memory while the spool cannot be written."""
SKEW_S = 30.0
"""A clock that differs from the server's by so many seconds is logged."""


class _Fate(Enum):
    """The outcome of a report that was sent."""

    TAKEN = "taken"
    LATER = "later"
    NEVER = "never"


class Sender:
    """Delivers rounds to a server: the newest first, then the waiting ones, oldest first.

    ``counts`` has ``reports_sent``, ``reports_dropped``, ``refused`` (parts of reports, by project)
    and ``send_errors``.
    """

    def __init__(
        self, client: Client, spool: Spool, clock: Callable[[], float] = time.time
    ) -> None:
        self._client = client
        self._spool = spool
        self._clock = clock
        self._logged: set[str] = set()
        self.counts: Counter[str] = Counter()
        self.skew_s: float | None = None
        """How far this machine's clock is ahead of the server's, in seconds, by the newest reply;
        None if there was none yet."""
        self._intervals: dict[str, int] = {}
        self._unwritten: list[tuple[int, str, bytes]] = []
        """Time, key and body of reports that could not be spooled."""
        self._turn = threading.Lock()
        """Held while sending: several collectors share one connection."""

    async def intervals(self) -> Mapping[str, int]:
        """Seconds between rounds of each project, by the server's last answer."""
        return self._intervals

    async def deliver(self, measurements: list[Measurement]) -> None:
        """Spool a round, and send what can be sent."""
        await in_thread(lambda: self.deliver_now(measurements), "sender")

    def deliver_now(self, measurements: list[Measurement]) -> None:
        """As ``deliver``, in the calling thread."""
        with self._turn:
            stamp = measurements[0].timestamp_ms
            self._unwritten += [(stamp, uuid.uuid4().hex, b) for b in reports_of(measurements)]
            self._write_down()
            self._send_waiting()
            self._write_down()  # sending may have freed space

    def _write_down(self) -> None:
        while self._unwritten:
            stamp, key, body = self._unwritten[0]
            try:
                dropped = self._spool.add(body, stamp, key)
            except OSError as error:
                self._log_once(
                    "write",
                    "%s cannot be written: %s; reports wait in memory: make room there, or choose "
                    "another folder with --spool",
                    self._spool.folder,
                    error.strerror or error,
                )
                while sum(len(b) for _, _, b in self._unwritten) > MEMORY_BYTES:
                    self._unwritten.pop(0)
                    self.counts["reports_dropped"] += 1
                return
            del self._unwritten[0]
            self._again("write", "the spool can be written again")
            if dropped:
                self.counts["reports_dropped"] += dropped
                self._log_once(
                    "full",
                    "the spool %s is full: the oldest reports are dropped; make the server "
                    "reachable, or raise --spool-bytes",
                    self._spool.folder,
                )
            else:
                self._again("full", "the spool has room again")

    def _send_waiting(self) -> None:
        """Send waiting reports until the server accepts no more, or REPLAY_S are over."""
        entries = self._spool.entries()
        until = time.monotonic() + REPLAY_S
        asked = self.skew_s is None
        if (entries or self._unwritten) and asked and not self._ask_the_time():
            return
        for stamp, key, body in list(self._unwritten):
            if not self._settle(*self._send(key, body)):
                return
            self._unwritten.remove((stamp, key, body))
        for entry in [*entries[-1:], *entries[:-1]]:
            if not self._is_in_time(entry):
                # The clock may have been set since the last reply: never judge by an old skew.
                if not asked and not self._ask_the_time():
                    return
                asked = True
                if not self._is_in_time(entry):
                    if self._age_ms(entry) > 0:
                        why = "is older than two weeks, which the server refuses"
                        self._drop(entry, why)
                    continue  # or the server will accept it when its time comes
            try:
                body = entry.read()
            except OSError as error:
                self._drop(entry, f"cannot be read: {error.strerror or error}")
                continue
            fate, why = self._send(entry.key, body)
            if not self._settle(fate, why):
                return
            if not self._remove(entry) or time.monotonic() > until:
                return

    def _settle(self, fate: _Fate, why: str) -> bool:
        """Count the outcome of a report; returns whether it needs no further attempt."""
        if fate is _Fate.LATER:
            self.counts["send_errors"] += 1
            self._log_once(f"away {why[:24]}", "reports wait in %s: %s", self._spool.folder, why)
            return False
        if fate is _Fate.NEVER:
            self.counts["reports_dropped"] += 1
            self._log_once(f"drop {why[:40]}", "a report is dropped: it was refused: %s", why)
            return True
        self.counts["reports_sent"] += 1
        self._again("away", "reports are delivered again")
        return True

    def _age_ms(self, entry: Entry) -> float:
        return (self._clock() - (self.skew_s or 0.0)) * 1000 - entry.timestamp_ms

    def _is_in_time(self, entry: Entry) -> bool:
        """Whether the server accepts this time now, by the server's clock as far as it is known."""
        return -FUTURE_MS <= self._age_ms(entry) <= PAST_MS

    def _ask_the_time(self) -> bool:
        """Make a request just to learn the server's time; returns whether there was a reply."""
        try:
            self._compare_clocks(self._client.request("GET", "/metering"))
        except (CommandError, httpx.HTTPError) as error:
            why = error.message if isinstance(error, CommandError) else str(error)
            return self._settle(_Fate.LATER, why)
        return True

    def _send(self, key: str, body: bytes) -> tuple[_Fate, str]:
        headers = {
            "Content-Type": "application/json",
            "Content-Encoding": "gzip",
            "Idempotency-Key": key,
        }
        try:
            response = self._client.request(
                "POST", "/metrics/reports", content=body, headers=headers
            )
            self._compare_clocks(response)
            said = fault_message(response.content)
        except CommandError as error:
            return _Fate.LATER, error.message
        except httpx.HTTPError as error:
            return _Fate.LATER, f"the answer cannot be read: {error or type(error).__name__}"
        status = response.status_code
        if response.is_success:
            # A proxy in between may answer 200 too, without storing anything.
            good = self._read(response)
            return (
                (_Fate.TAKEN, "")
                if good
                else (_Fate.LATER, "the answer is not a Heliometer server's")
            )
        if said and status in (400, 413, 415, 422):
            return _Fate.NEVER, f"{said} ({status})"
        text = said or response.reason_phrase
        if status == 409:
            text += " Give this agent's user the role agent."
        if status == 401:
            text += " Check user, password and project, or the token."
        return _Fate.LATER, f"{text} ({status})"

    def _read(self, response: httpx.Response) -> bool:
        try:
            answer = msgspec.json.decode(response.content, type=_Answer)
        except msgspec.DecodeError:
            return False
        self._intervals |= answer.intervals
        refused = {each.project: each.message for each in answer.refused}
        for project in answer.intervals:
            if project not in refused:
                self._again(f"refused {project} ", f"project {project or 'own'} is stored again")
        for project, message in refused.items():
            self.counts["refused"] += 1
            whose = f"project {project}" if project else "this agent's own project"
            self._log_once(
                f"refused {project} ",
                "a part of the report of %s is not stored: %s",
                whose,
                message,
            )
        return True

    def _compare_clocks(self, response: httpx.Response) -> None:
        try:
            there = parsedate_to_datetime(response.headers["Date"]).timestamp()
        except (KeyError, ValueError):
            self.skew_s = self.skew_s or 0.0
            return
        # The header is truncated to whole seconds.
        self.skew_s = self._clock() - (there + 0.5)
        if abs(self.skew_s) > SKEW_S:
            self._log_once(
                "skew",
                "this machine's clock is %.0f s %s the server's: synchronize both with NTP",
                abs(self.skew_s),
                "ahead of" if self.skew_s > 0 else "behind",
            )
        else:
            self._again("skew", "this machine's clock agrees with the server's")

    def _drop(self, entry: Entry, why: str) -> None:
        self.counts["reports_dropped"] += 1
        self._log_once(f"drop {why[:40]}", "a report is dropped: it %s", why)
        self._remove(entry)

    def _remove(self, entry: Entry) -> bool:
        try:
            self._spool.remove(entry)
        except OSError as error:
            self._log_once(
                "remove", "%s cannot be removed: %s", entry.path, error.strerror or error
            )
            return False
        return True

    def _log_once(self, what: str, message: str, *values: object) -> None:
        if what not in self._logged:
            self._logged.add(what)
            log.warning(f"{message} (logged once)", *values)  # noqa: G004

    def _again(self, what: str, message: str) -> None:
        over = {told for told in self._logged if told.startswith(what)}
        if over:
            self._logged -= over
            log.info(message)


class _Refusal(msgspec.Struct):
    project: str
    message: str


class _Answer(msgspec.Struct):
    """The server's reply to a report."""

    intervals: dict[str, int]
    refused: list[_Refusal]
