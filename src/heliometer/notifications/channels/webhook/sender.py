"""Webhooks: the message's document, signed."""

import hashlib
import hmac
import json
import time

import httpx

from heliometer.config import WebhookSettings
from heliometer.notifications.channels.outbound_http import post
from heliometer.notifications.messages import Message
from heliometer.notifications.model import HEARTBEAT, Delivery

TIMEOUT_S = 15


class WebhookSender:
    """Posts the message's document.

    Headers: ``X-Heliometer-Id``, ``X-Heliometer-Timestamp`` (seconds since the epoch) and
    ``X-Heliometer-Signature``, which is ``sha256=`` and the hexadecimal HMAC-SHA256, by the
    method's secret, of timestamp, a full stop and the body.
    """

    def __init__(self, settings: WebhookSettings) -> None:
        self._allow_private = settings.allow_private

    async def send(self, message: Message, delivery: Delivery, secret: str) -> str:
        """Return the receiver's status. Raises Rejected for redirects, private addresses and a
        receiver that refused for good."""
        body = json.dumps(message.document, ensure_ascii=False).encode()
        at = str(int(time.time()))
        headers = {
            "Content-Type": "application/json",
            "User-Agent": "heliometer",
            "X-Heliometer-Id": message.id,
            "X-Heliometer-Timestamp": at,
            "X-Heliometer-Signature": f"sha256={_sign(secret, at, body)}",
        }
        return await post(
            httpx.URL(delivery.address),
            body,
            headers,
            # The heartbeat's URL is the operator's own.
            allow_private=self._allow_private or delivery.kind == HEARTBEAT,
            timeout_s=TIMEOUT_S,
        )

    async def close(self) -> None:
        """Do nothing: no connection is kept open."""


def _sign(secret: str, timestamp: str, body: bytes) -> str:
    return hmac.new(secret.encode(), timestamp.encode() + b"." + body, hashlib.sha256).hexdigest()
