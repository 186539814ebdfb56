"""The rules of HTTP requests that channels send: which addresses may be called, that a request
reaches the address that was checked, and what an answer means."""

import asyncio
import ipaddress
import logging
import socket
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import httpx

from heliometer.core.public_address import IpAddress, is_public
from heliometer.notifications.channels.channel import Rejected, TryLater

log = logging.getLogger(__name__)

TOO_MANY_REQUESTS = 429
TEMPORARY = (408, 425, TOO_MANY_REQUESTS)
"""Refusals below 500 that may be different later."""
LONGEST_WAIT_S = 6 * 3600.0
"""For which a receiver is left alone, whatever it asks for."""


async def post(
    url: httpx.URL,
    content: bytes,
    headers: Mapping[str, str],
    *,
    allow_private: bool,
    timeout_s: float,
) -> str:
    """Post to a URL that a tenant chose; return the status, which alone says how it went: a
    receiver that took the message may never finish its answer.

    The connection goes to the very address that was checked; TLS still verifies the name.
    Redirects and, unless allowed, private addresses are refused for good: Rejected.
    """
    port = url.port or (443 if url.scheme == "https" else 80)
    address = await _resolve(url.host, port, allow_private=allow_private)
    async with httpx.AsyncClient(
        timeout=timeout_s, follow_redirects=False, trust_env=False
    ) as client:
        request = client.build_request(
            "POST",
            url.copy_with(host=str(address)),
            content=content,
            headers={"Host": url.netloc.decode("ascii"), **headers},
            extensions={"sni_hostname": url.host},
        )
        response = await client.send(request, stream=True)
        await response.aclose()
    return judge(response)


def judge(response: httpx.Response) -> str:
    """What an answer means for a message; raises Rejected, TryLater or ConnectionError."""
    status = response.status_code
    said = f"HTTP {status}"
    if 200 <= status < 300:
        return said
    if 300 <= status < 400:
        raise Rejected(f"{said}: redirects are not followed")
    if status < 500 and status not in TEMPORARY:
        raise Rejected(said)
    wait_s = retry_after_s(response.headers.get("Retry-After", ""))
    if wait_s or status == TOO_MANY_REQUESTS:
        raise TryLater(said, wait_s)
    raise ConnectionError(said)


def retry_after_s(header: str, now: datetime | None = None) -> float:
    """The seconds that ``Retry-After`` asks to wait, as a number or a date; 0: it asks for none."""
    text = header.strip()
    if text.isascii() and text.isdigit():
        seconds = float(text[:10])
    else:
        try:
            at = parsedate_to_datetime(text)
        except ValueError:
            return 0.0
        at = at if at.tzinfo else at.replace(tzinfo=UTC)
        seconds = (at - (now or datetime.now(UTC))).total_seconds()
    return min(max(seconds, 0.0), LONGEST_WAIT_S)


async def _resolve(host: str, port: int, *, allow_private: bool) -> IpAddress:
    """The address to connect to; raises Rejected when any of the host's is private."""
    loop = asyncio.get_running_loop()
    try:
        found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except socket.gaierror as error:
        raise ConnectionError(f"{host} cannot be resolved: {error.strerror}") from error
    addresses = [ipaddress.ip_address(str(entry[4][0]).partition("%")[0]) for entry in found]
    if not allow_private:
        for address in addresses:
            if not is_public(address):
                # The tenant is not told which one: it may be the operator's.
                log.warning("a webhook to %s is refused: it is %s", host, address)
                raise Rejected(f"{host} is not a public address (setting webhook.allow_private)")
    return addresses[0]
