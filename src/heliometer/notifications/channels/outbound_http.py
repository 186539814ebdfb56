"""The rules of HTTP requests that channels send: which addresses may be called, that a request
reaches the address that was checked, and what an answer means."""

import asyncio
import ipaddress
import logging
import socket
from collections.abc import Mapping

import httpx

from heliometer.core.public_address import IpAddress, is_public
from heliometer.notifications.channels.channel import Rejected

log = logging.getLogger(__name__)

ANSWER_BYTES = 4096
"""Bytes of an answer that are read before the connection is closed."""
TEMPORARY = (408, 425, 429)
"""Refusals below 500 that may be different later."""


async def post(
    url: httpx.URL,
    content: bytes,
    headers: Mapping[str, str],
    *,
    allow_private: bool,
    timeout_s: float,
) -> str:
    """Post to a URL that a tenant chose; return the status.

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
        try:
            read = 0
            async for chunk in response.aiter_raw():
                read += len(chunk)
                if read > ANSWER_BYTES:
                    break
        finally:
            await response.aclose()
    return judge(response.status_code)


def judge(status: int) -> str:
    """What an HTTP status means for a message; raises Rejected or ConnectionError."""
    said = f"HTTP {status}"
    if 200 <= status < 300:
        return said
    if 300 <= status < 400:
        raise Rejected(f"{said}: redirects are not followed")
    if status < 500 and status not in TEMPORARY:
        raise Rejected(said)
    raise ConnectionError(said)


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
