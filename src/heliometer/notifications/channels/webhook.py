"""Webhooks: a signed POST to a URL that a tenant chose, and to no place that it should not reach
(RELIABILITY, trap 3)."""

import asyncio
import hashlib
import hmac
import ipaddress
import json
import logging
import socket
import time

import httpx

from heliometer.config import WebhookSettings
from heliometer.notifications.channels import Rejected
from heliometer.notifications.channels.sms import judge
from heliometer.notifications.messages import Message
from heliometer.notifications.model import Delivery

log = logging.getLogger(__name__)

TIMEOUT_S = 15
ANSWER_BYTES = 4096

_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_REFUSED = [
    ipaddress.ip_network(n)
    for n in ("64:ff9b:1::/48", "fec0::/10", "100::/64", "::/96", "2001::/23", "192.88.99.0/24")
]
"""Networks that are not public, whatever the standard library holds of them."""

IpAddress = ipaddress.IPv4Address | ipaddress.IPv6Address


class WebhookKind:
    """Posts the message's document.

    Headers: ``X-Heliometer-Id``, ``X-Heliometer-Timestamp`` (seconds since the epoch) and
    ``X-Heliometer-Signature``, which is ``sha256=`` and the hexadecimal HMAC-SHA256, by the
    method's secret, of timestamp, a full stop and the body.
    """

    def __init__(self, settings: WebhookSettings) -> None:
        self._allow_private = settings.allow_private

    async def send(self, message: Message, delivery: Delivery, secret: str) -> str:
        """Return the receiver's status; redirects and private addresses are refused for good."""
        url = httpx.URL(delivery.address)
        host = url.host
        address = await self._resolve(host, url.port or (443 if url.scheme == "https" else 80))
        body = json.dumps(message.document, ensure_ascii=False).encode()
        at = str(int(time.time()))
        headers = {
            "Host": url.netloc.decode("ascii"),
            "Content-Type": "application/json",
            "User-Agent": "heliometer",
            "X-Heliometer-Id": message.id,
            "X-Heliometer-Timestamp": at,
            "X-Heliometer-Signature": f"sha256={sign(secret, at, body)}",
        }
        # To the address that was judged, and no other; TLS still checks the name.
        async with httpx.AsyncClient(
            timeout=TIMEOUT_S, follow_redirects=False, trust_env=False
        ) as client:
            request = client.build_request(
                "POST", url.copy_with(host=str(address)), content=body, headers=headers,
                extensions={"sni_hostname": host},
            )  # fmt: skip
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

    async def close(self) -> None:
        """Nothing is held."""

    async def _resolve(self, host: str, port: int) -> IpAddress:
        """The address to connect to; raises Rejected when any of the host's is private."""
        loop = asyncio.get_running_loop()
        try:
            found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except socket.gaierror as error:
            raise ConnectionError(f"{host} cannot be resolved: {error.strerror}") from error
        addresses = [ipaddress.ip_address(str(entry[4][0]).partition("%")[0]) for entry in found]
        if not self._allow_private:
            for address in addresses:
                if not is_public(address):
                    # Which one, the tenant is not told: it may be the operator's.
                    log.warning("a webhook to %s is refused: it is %s", host, address)
                    raise Rejected(
                        f"{host} is not a public address (setting webhook.allow_private)"
                    )
        return addresses[0]


def sign(secret: str, timestamp: str, body: bytes) -> str:
    """The signature of a body, in hexadecimal."""
    return hmac.new(secret.encode(), timestamp.encode() + b"." + body, hashlib.sha256).hexdigest()


def is_public(address: IpAddress) -> bool:
    """Whether an address, and every one that it wraps, is public."""
    if isinstance(address, ipaddress.IPv6Address):
        inner: list[IpAddress] = [
            a for a in (address.ipv4_mapped, address.sixtofour, *(address.teredo or ())) if a
        ]
        if address in _NAT64:
            inner.append(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF))
        if inner:
            return all(is_public(a) for a in inner)
    if any(address in network for network in _REFUSED if network.version == address.version):
        return False
    return address.is_global and not address.is_multicast
