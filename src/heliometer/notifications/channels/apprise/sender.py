"""Messages through the library apprise, which is an extra: ``heliometer[apprise]``."""

import asyncio
import json
import os
import sys
from collections.abc import Collection

from heliometer.notifications.channels.apprise.address import LOCAL_SCHEMES, scheme_of
from heliometer.notifications.channels.channel import Rejected
from heliometer.notifications.messages import Message
from heliometer.notifications.model import Delivery

AT_ONCE = 4
"""Processes that send, of some 60 MiB and half a second of work each."""
ANSWER_BYTES = 65_536
PASSED_ON = ("PATH", "LANG", "SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE")
"""Variables that those processes get. They get no others, because these may hold secrets."""


class AppriseSender:
    """Sends to URLs with one of the schemes, which are in lower case, from a process for each
    message that reaches only what webhooks reach."""

    def __init__(self, schemes: Collection[str], *, allow_private: bool) -> None:
        self._schemes = schemes
        self._allow_private = allow_private
        self._turns = asyncio.Semaphore(AT_ONCE)

    async def send(self, message: Message, delivery: Delivery, secret: str) -> str:
        """Return that the service took it. Raises Rejected for what is not one URL of a service
        that apprise knows, is no longer allowed, or leads to what is not public."""
        scheme = scheme_of(delivery.address)
        if scheme is None:
            raise Rejected("the address is not one URL")
        if scheme not in self._schemes or scheme in LOCAL_SCHEMES:
            raise Rejected(f"{scheme}:// is not allowed (setting notify.apprise_schemes)")
        order = {
            "url": delivery.address,
            "title": message.subject,
            "body": message.text,
            "allow_private": self._allow_private,
        }
        async with self._turns:
            answer = await _run(json.dumps(order).encode())
        if answer["outcome"] == "refused":
            raise Rejected(answer["why"])
        if answer["outcome"] != "sent":
            raise ConnectionError(answer["why"])
        return answer["why"]

    async def close(self) -> None:
        """Do nothing: no connection is kept open."""


async def _run(order: bytes) -> dict[str, str]:
    """What the process answered; it ends with this call, however that ends."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-I", "-m", "heliometer.notifications.channels.apprise.child"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        env={name: os.environ[name] for name in PASSED_ON if name in os.environ},
        cwd="/",
    )
    try:
        said, _ = await process.communicate(order)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    try:
        answer: dict[str, str] = json.loads(said[:ANSWER_BYTES])
    except ValueError:
        raise ConnectionError(
            f"the process that sends ended with status {process.returncode}"
        ) from None
    return answer
