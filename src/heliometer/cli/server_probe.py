"""What the doctor can learn from a running server."""

from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from heliometer.cli.errors import CommandError
from heliometer.cli.running import is_locked, is_running
from heliometer.config import Settings

EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 (compared with, not bound)
TIMEOUT_S = 5.0


@dataclass(frozen=True, slots=True)
class Probe:
    """``url`` answers as Heliometer when ``ours``; ``controls`` when a server has the data
    directory."""

    url: str
    controls: bool
    ours: bool = False
    date: datetime | None = None
    """The server's time, to the second."""
    health: int | None = None
    """Status of ``GET /v2/health``; ``None``: it did not answer, or has no such page."""
    health_body: str = ""
    asked: datetime | None = None
    """Our own time when the server said its."""


def probe(settings: Settings) -> Probe:
    """Ask the address that the settings name. Never raises."""
    import httpx

    host, port = settings.address
    host = EVERYWHERE.get(host, host)
    url = f"{settings.scheme}://{f'[{host}]' if ':' in host else host}:{port}"
    try:
        store = settings.data_dir / "metrics" / "recent.duckdb"
        controls = is_running(settings.data_dir) or is_locked(store)
    except CommandError:
        controls = False
    try:
        # The certificate names the public host, not the address asked here, which is our own.
        with httpx.Client(base_url=url, timeout=TIMEOUT_S, verify=False, trust_env=False) as client:  # noqa: S501
            instruments = client.get("/metrics")
            health = client.get("/v2/health")
    except (httpx.HTTPError, httpx.InvalidURL):
        return Probe(url, controls)
    ours = "heliometer_" in instruments.text
    known = health.status_code in (200, 503)
    return Probe(
        url,
        controls,
        ours,
        _date(health.headers.get("Date", "")),
        health.status_code if known else None,
        health.text if known else "",
        datetime.now(UTC),
    )


def _date(text: str) -> datetime | None:
    try:
        return parsedate_to_datetime(text)
    except ValueError:
        return None
