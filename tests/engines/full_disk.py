"""Run with a small disk mounted at the folder that is given: fill it, and see what happens."""

import sys
import time
from pathlib import Path

import httpx

sys.path.insert(0, str(Path(__file__).parents[1]))

from conftest import RunningServer
from eventually import eventually

MIB = 1 << 20


def post(client: httpx.Client, value: float) -> httpx.Response:
    """Post one measurement."""
    return client.post("/v1.1/metrics", json={"namespace": "full", "value": value})


def health(client: httpx.Client, status: int) -> None:
    """Wait until the health check says so, and names the store of the measurements."""

    def answered() -> httpx.Response | None:
        reply = client.get("/v2/health")
        return reply if reply.status_code == status else None

    # Twice what is promised: the machine has other work.
    reply = eventually(answered, within_s=20, why=lambda: client.get("/v2/health").text)
    assert reply is not None
    if status == 503:
        assert "metrics" in reply.json()["failed"], reply.text


def count(client: httpx.Client) -> int:
    """How many measurements are stored."""
    query = {"namespace": "full", "statistics": "count", "start_time": "2020-01-01T00:00Z",
             "period": "86400"}  # fmt: skip
    reply = client.get("/v1.1/metrics", params=query)
    assert reply.status_code == 200, reply.text
    return sum(sum(each["datapoints"]["count"]) for each in reply.json())


def main(folder: Path) -> None:
    """See above."""
    server = RunningServer(
        folder / "var",
        {"HELIOMETER_METRICS_MIN_FREE_BYTES": str(32 * MIB), "HELIOMETER_COLLECTOR_ENABLED": "0"},
    ).start()
    try:
        taken = 0
        with server.client() as client:
            for cycle in range(5):
                first = post(client, 1.0)
                assert first.status_code == 204, first.text
                taken += 1
                filler = folder / "filler"
                filler.write_bytes(b"\0" * (70 * MIB))
                time.sleep(0.3)  # the free space is looked at five times a second
                refused = post(client, 2.0)
                assert refused.status_code == 503, refused.text
                assert "disk is almost full" in refused.json()["fault"]["faultstring"]
                assert "Retry-After" in refused.headers
                assert count(client) == taken, cycle
                health(client, 503)
                filler.unlink()
                time.sleep(0.3)
                health(client, 200)
        assert server.stop() == 0
        server.start()
        with server.client(server.token()) as client:
            assert count(client) == taken
    finally:
        server.stop()
    print("ok")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
