"""A load of posts at a steady rate, and the ledger of what was acknowledged."""

import random
import threading
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field

import httpx

NAMESPACE = "load"
SERIES = 100
"""Series of each post; each has as many measurements as fill it."""
GIVE_UP_S = 180.0


@dataclass
class Load:
    """Posts ``points`` at a time, ``rate`` points a second, to API processes in turn.

    Those with an idempotency key are sent again until they are taken; the others once, into series
    of their own.
    """

    urls: Sequence[str]
    token: str
    rate: int = 20_000
    points: int = 1000
    threads: int = 12
    refused: list[httpx.Response] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)
    """Posts that got no answer."""
    slowest_s: float = 0.0
    keyed: int = 0
    """Posts with a key that were taken."""
    taken: set[str] = field(default_factory=set)
    """Values of dimension ``post`` of those without a key that were taken."""
    tried: set[str] = field(default_factory=set)
    late_s: float = 0.0
    _give_up_s: float = GIVE_UP_S

    def start(self) -> "Load":
        """Begin."""
        self._began = time.monotonic()
        self._next = 0
        self._ending = threading.Event()
        self._lock = threading.Lock()
        self._running = [threading.Thread(target=self._run, args=(i,)) for i in range(self.threads)]
        for thread in self._running:
            thread.start()
        return self

    def stop(self) -> None:
        """Begin no new post, and wait for those that are under way."""
        self._ending.set()
        for thread in self._running:
            thread.join(GIVE_UP_S + 30)
            assert not thread.is_alive(), "a post never ended"

    def abandon(self) -> None:
        """Stop, whatever is under way."""
        self._give_up_s = 0.0
        self.stop()

    def _run(self, number: int) -> None:
        headers = {"X-Auth-Token": self.token, "Content-Type": "application/json"}
        clients = [httpx.Client(base_url=u, headers=headers, timeout=60) for u in self.urls]
        each_s = self.points / self.rate
        while not self._ending.is_set():
            with self._lock:
                turn = self._next
                self._next += 1
            wait = self._began + turn * each_s - time.monotonic()
            if wait > 0 and self._ending.wait(wait):
                break
            self.late_s = max(self.late_s, -wait)
            client = clients[turn % len(clients)]
            if turn % 4:
                self._with_key(client, turn)
            else:
                self._once(client, turn)
        for client in clients:
            client.close()

    def _with_key(self, client: httpx.Client, turn: int) -> None:
        content = self._body("")
        key = f"{turn}-{uuid.uuid4()}"
        until = time.monotonic() + self._give_up_s
        while time.monotonic() < until and self._give_up_s:
            reply = self._post(client, content, {"Idempotency-Key": key})
            if reply is not None and reply.status_code == 204:
                with self._lock:
                    self.keyed += 1
                return
            time.sleep(random.uniform(0.5, 1.0))
        self.broken.append("a post with a key was not taken in time")

    def _once(self, client: httpx.Client, turn: int) -> None:
        name = str(turn)
        with self._lock:
            self.tried.add(name)
        reply = self._post(client, self._body(name), {})
        if reply is not None and reply.status_code == 204:
            with self._lock:
                self.taken.add(name)

    def _post(
        self, client: httpx.Client, content: bytes, headers: dict[str, str]
    ) -> httpx.Response | None:
        began = time.monotonic()
        try:
            reply = client.post("/v1.1/metrics", content=content, headers=headers)
        except httpx.HTTPError as error:
            self.broken.append(repr(error))
            return None
        finally:
            self.slowest_s = max(self.slowest_s, time.monotonic() - began)
        if reply.status_code != 204:
            self.refused.append(reply)
        return reply

    def _body(self, post: str) -> bytes:
        """``post``: goes into a series of its own."""
        now = time.time()
        if post:
            times = ",".join(f"[{now - i / 1000:.3f},{i}]" for i in range(self.points))
            dimensions = f'{{"post":"{post}"}}'
            return _metric("once", dimensions, times).encode()
        each = self.points // SERIES
        times = ",".join(f"[{now - i / 1000:.3f},{i}]" for i in range(each))
        metrics = (_metric(NAMESPACE, f'{{"host":"h{n}"}}', times) for n in range(SERIES))
        return f"[{','.join(metrics)}]".encode()


def _metric(namespace: str, dimensions: str, pairs: str) -> str:
    return (
        f'{{"namespace":"{namespace}","dimensions":{dimensions},'
        f'"time_values":[{pairs}]}}'
    )  # fmt: skip
