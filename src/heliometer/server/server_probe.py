"""Asks the server that may be running what the doctor's checks want to know."""

from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import httpx

from heliometer.config import Settings
from heliometer.core.errors import HeliometerError
from heliometer.core.loopback import reachable
from heliometer.core.server_status import ServerStatus
from heliometer.server.control_client import is_in_use

TIMEOUT_S = 5.0


def probe(settings: Settings) -> ServerStatus:
    """Ask the address that the settings name. Never raises."""
    host, port = settings.address
    host = reachable(host)
    url = f"{settings.scheme}://{f'[{host}]' if ':' in host else host}:{port}"
    try:
        has_data_dir = is_in_use(settings.data_dir)
    except HeliometerError:
        has_data_dir = False
    try:
        # The certificate names the public host, not the address asked here, which is our own.
        with httpx.Client(base_url=url, timeout=TIMEOUT_S, verify=False, trust_env=False) as client:  # noqa: S501
            instruments = client.get("/metrics")
            health = client.get("/v2/health")
    except (httpx.HTTPError, httpx.InvalidURL):
        return ServerStatus(url, has_data_dir)
    known = health.status_code in (200, 503)
    return ServerStatus(
        url,
        has_data_dir,
        ours="heliometer_" in instruments.text,
        date=_date(health.headers.get("Date", "")),
        asked_at=datetime.now(UTC),
        health=health.status_code if known else None,
        health_body=health.text if known else "",
    )


def _date(text: str) -> datetime | None:
    try:
        return parsedate_to_datetime(text)
    except ValueError:
        return None
