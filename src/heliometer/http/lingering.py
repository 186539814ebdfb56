"""Lets a client that is refused read why before its connection closes.

Most clients send a whole request before they read. If the connection closed while they still
send, the system would answer them with a reset, which discards the reply on its way.
"""

import asyncio
from contextlib import suppress

from starlette.types import Message, Receive, Send

DRAIN_BYTES = 64 << 20
DRAIN_S = 15.0
"""Most that is read and thrown away after a refusal, and the longest that this takes."""


def lingering(receive: Receive, send: Send) -> Send:
    """``send`` for the last response of a connection whose request was not read completely: the
    response is complete for the client, but ends only when the rest of the request has come."""

    async def send_and_drain(message: Message) -> None:
        if message["type"] == "http.response.body" and not message.get("more_body", False):
            await send({**message, "more_body": True})
            with suppress(TimeoutError):
                await asyncio.wait_for(_drain(receive), DRAIN_S)
            message = {"type": "http.response.body", "body": b""}
        await send(message)

    return send_and_drain


async def _drain(receive: Receive) -> None:
    drained = 0
    while drained <= DRAIN_BYTES:
        message = await receive()
        drained += len(message.get("body", b""))
        if message["type"] != "http.request" or not message.get("more_body", False):
            return
