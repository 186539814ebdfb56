"""The wall clock of a running server is set by an hour and by a day, either way, while clients
post by their own clocks and by the server's: no alarm changes, and what expires does so in time."""

import re
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import httpx
import pytest

from conftest import RunningServer
from effort import effort
from eventually import eventually
from soak.recording import Measured

pytestmark = pytest.mark.engines

HOUR, DAY = 3600, 86_400
LIFETIME_S = 4 * HOUR
LIBRARY = "/usr/$LIB/faketime/libfaketime.so.1"  # ld.so knows where libraries are
STEPS = {"an hour ahead": HOUR, "an hour back": -HOUR, "a day ahead": DAY, "a day back": -DAY}
PACE_S = 2.0
"""Between two measurements of a sender: thirty a minute, each of 10, when all is well."""
SECOND = 52
"""Of the minute that the clock is set to: the minute that is cut short is soon evaluated."""
WATCHED_S = effort(170, 1800)
"""After the clock was set: the minute that was cut short and two whole ones are evaluated, and a
value that is missing has been missing for long enough."""

STEADY = {
    "server's time is silent": ("count(served) < 1", "OK"),
    "client's time is silent": ("count(own) < 1", "OK"),
    "silent for three minutes": ("count(served) < 1 times 3", "OK"),
    "fewer than usual": ("count(served, 120) < 12", "OK"),
    "alive": ("count(served) > 6", "ALARM"),
    "client alive": ("count(own) > 0", "ALARM"),
    "too little": ("sum(served) < 60", "OK"),
    "too much": ("sum(served) > 450", "OK"),
    "enough": ("sum(served) > 60", "ALARM"),
    "low": ("avg(own) < 5", "OK"),
    "high": ("avg(own) > 5 and max(served) > 5", "ALARM"),
    "direct": ("served > 20 or own > 20", "OK"),
}
"""Alarms by name, and the state that each is in as long as measurements come as they should."""


@dataclass
class SetClock:
    """A server whose wall clock, and no other, can be set."""

    server: RunningServer
    offset: Path

    @classmethod
    def start(cls, folder: Path) -> "SetClock":
        folder.mkdir()
        offset = folder / "offset"
        offset.write_text("+0\n")
        server = RunningServer(
            folder / "var",
            {
                "HELIOMETER_COLLECTOR_ENABLED": "false",
                "HELIOMETER_EMAIL_URL": f"maildir:{folder / 'mail'}",
                "HELIOMETER_IDENTITY_TOKEN_LIFETIME": str(LIFETIME_S),
                "LD_PRELOAD": LIBRARY,
                "FAKETIME_TIMESTAMP_FILE": str(offset),
                "FAKETIME_CACHE_DURATION": "1",
                # The kernel never sets the steady clock, and files keep their times.
                "DONT_FAKE_MONOTONIC": "1",
                "NO_FAKE_STAT": "1",
            },
        )
        return cls(server.start(), offset)

    def set(self, seconds: int) -> None:
        """Set the clock by so much, to late in a minute."""
        there = time.time() + seconds
        by = seconds + (SECOND - there) % 60
        self.offset.write_text(f"{by:+.0f}\n")


class Senders(threading.Thread):
    """Post a measurement each to two namespaces: one without a time, which is the server's then,
    and one with the time that it really is."""

    def __init__(self, client: httpx.Client) -> None:
        super().__init__(daemon=True)
        self.client = client
        self.ending = threading.Event()
        self.failed: list[str] = []

    def run(self) -> None:
        while not self.ending.wait(PACE_S):
            for body in (
                {"namespace": "served", "value": 10},
                {"namespace": "own", "value": 10, "timestamp": time.time()},
            ):
                reply = self.client.post("/v1.1/metrics", json=body)
                if reply.status_code == 401:
                    continue  # until it has a new token
                # What comes from the future is refused, and the client told.
                if reply.status_code != 204 and "timestamp" not in reply.text:
                    self.failed.append(reply.text)


def code_by_mail(client: httpx.Client, mails: Path) -> str:
    """The validation code of a new address."""
    fields = {"name": "Joe", "type": "EMAIL", "address": "joe@mail.com"}
    client.post("/v1.1/notification-methods", json={"notification_method": fields})
    made = client.post("/v1.1/notification-addresses", json={"notification_address": fields})
    assert made.status_code == 201, made.text

    def code() -> str:
        texts = [mail.read_text() for mail in mails.glob("new/*")]
        found = re.search(r"^ {4}(\d{10})\r?$", "".join(texts), re.M)
        return found[1] if found else ""

    return eventually(code)


def clock_of(server: RunningServer) -> float:
    """What time it is to the server, by a new token."""
    credentials = {"username": server.username, "password": server.password}
    auth = {"tenantName": server.project, "passwordCredentials": credentials}
    reply = httpx.post(f"{server.url}/identity/v2.0/tokens", json={"auth": auth}, timeout=60)
    expires = reply.json()["access"]["token"]["expires"]
    return datetime.fromisoformat(expires).timestamp() - LIFETIME_S


def expiries(client: httpx.Client, step: int) -> list[str]:
    """What was wrong about what was valid for four hours before the clock was set: a token."""
    wrong = []
    is_signed_in = client.get("/v1.1/alarms").status_code == 200
    if is_signed_in != (step < LIFETIME_S):
        wrong.append(f"the token from before is accepted: {is_signed_in}")
    return wrong


def transitions(client: httpx.Client, alarms: dict[str, str]) -> dict[str, list[str]]:
    return {
        name: [
            f"{h['old_state']} to {h['new_state']} at {h['minute']}: "
            f"{[[w['value'] for w in part['windows']] for part in h['reason']]}"
            for h in client.get(f"/v1.1/alarms/{alarm_id}/history").json()["history"]
        ]
        for name, alarm_id in alarms.items()
    }


def live_through(folder: Path, step: int) -> list[str]:
    """What was wrong about a server whose clock was set by so much."""
    clock = SetClock.start(folder)
    server = clock.server
    client = server.client()
    senders = Senders(client)
    senders.start()
    try:
        code = code_by_mail(client, folder / "mail")
        alarms = {}
        for name, (expression, _) in STEADY.items():
            made = client.post(
                "/v1.1/alarms", json={"alarm": {"name": name, "expression": expression}}
            )
            assert made.status_code == 201, made.text
            alarms[name] = made.json()["alarm"]["id"]

        def states() -> dict[str, str]:
            listed = client.get("/v1.1/alarms").json()["alarms"]
            return {a["name"]: a["state"] for a in listed}

        wanted = {name: state for name, (_, state) in STEADY.items()}
        eventually(lambda: states() == wanted, 400, states, pause_s=1)
        before = transitions(client, alarms)
        clock.set(step)
        eventually(lambda: abs(clock_of(server) - time.time()) > HOUR / 2, why=server.log)
        until = time.monotonic() + WATCHED_S
        # A token that the clock made expire is replaced, as clients do it.
        new = server.client(server.token())
        senders.client = new
        wrong = expiries(client, step)
        if (done := use(new, code)) != (204 if step < DAY else 404):
            wrong.append(f"the code from before: {done}")
        while time.monotonic() < until:
            time.sleep(1)
        after = transitions(new, alarms)
        for name in alarms:
            wrong += [f"{name}: {h}" for h in after[name] if h not in before[name]]
        if "the clock was set" not in server.log():
            wrong.append("the log does not say that the clock was set")
        return wrong + senders.failed
    finally:
        senders.ending.set()
        senders.join()
        server.stop()


def use(client: httpx.Client, code: str) -> int:
    fields = {"validation_code": code}
    return client.post("/v1.1/notification-addresses/validate", json=fields).status_code


@pytest.mark.reliability(6)
def test_no_alarm_changes_and_what_expires_does(tmp_path: Path, measured: Measured) -> None:
    with ThreadPoolExecutor(len(STEPS)) as threads:
        found = threads.map(
            lambda name: live_through(tmp_path / name.replace(" ", "-"), STEPS[name]), STEPS
        )
        wrong = {name: each for name, each in zip(STEPS, found, strict=True) if each}
    measured(
        servers=len(STEPS),
        alarms=len(STEPS) * len(STEADY),
        wrong=sum(map(len, wrong.values())),
        watched_for=f"{WATCHED_S} s each",
    )
    assert not wrong, "\n".join(f"{n}: {w}" for n, each in wrong.items() for w in each)
