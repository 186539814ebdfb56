"""The part of ClickHouse's HTTP interface that the store needs.

ClickHouse reports an error by the status only if it occurs before the reply starts, so
``wait_end_of_query`` makes it finish first. The password is sent in a header, so that no URL
contains it.
"""

import asyncio
import re
import socket
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote, urlsplit

import httpx

CONNECT_S = 5.0
CONNECTIONS = 32
STALE_S = 10.0
"""Shorter than RabbitMQ takes to reassign the shards of a stalled process."""
IDLE_S = 2.0
"""How long an idle connection is kept: shorter than the server keeps it, which is 3 s by default in
old versions."""
BUFFER_BYTES = 64 << 20
"""Bytes of a reply that the server buffers in memory until it is complete; more goes to its
disk."""
DATABASE = "heliometer"
_PORTS = {"clickhouse": 8123, "clickhouses": 8443}
_SHOWN = 400

_KEEPALIVE = [(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)]
for _name, _seconds in (("TCP_KEEPIDLE", 10), ("TCP_KEEPINTVL", 5), ("TCP_KEEPCNT", 3)):
    if hasattr(socket, _name):
        _KEEPALIVE.append((socket.IPPROTO_TCP, getattr(socket, _name), _seconds))


class Trouble(Exception):
    """A request failed, or its result is unknown. The message is one line without secrets; ``code``
    is ClickHouse's error number, 0 if the error is not ClickHouse's."""

    def __init__(self, message: str, code: int = 0) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True, slots=True)
class Address:
    """ClickHouse's address, and the credentials for it."""

    url: str
    """``http://host:port``; shown to people."""
    user: str
    password: str = field(repr=False)
    database: str

    @staticmethod
    def parse(text: str) -> "Address":
        """Read ``clickhouse[s]://[user[:password]@]host[:port][/database]``.

        Raises ValueError, whose message has no password in it.
        """
        try:
            parts = urlsplit(text)
            port = parts.port or _PORTS[parts.scheme]
        except (ValueError, KeyError):
            raise ValueError("not clickhouse://user:password@host:8123/database") from None
        if not parts.hostname or parts.query or parts.fragment:
            raise ValueError("not clickhouse://user:password@host:8123/database")
        database = unquote(parts.path.strip("/")) or DATABASE
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]{0,63}", database):
            raise ValueError("the database's name may only have the characters A-Z a-z 0-9 _")
        host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
        scheme = "https" if parts.scheme == "clickhouses" else "http"
        user = unquote(parts.username or "default")
        return Address(f"{scheme}://{host}:{port}", user, unquote(parts.password or ""), database)


class Client:
    """Connections to one ClickHouse. Every method raises Trouble."""

    def __init__(self, address: Address) -> None:
        self.address = address
        self._http = httpx.AsyncClient(
            base_url=address.url,
            auth=httpx.BasicAuth(address.user.encode(), address.password.encode()),
            timeout=httpx.Timeout(None, connect=CONNECT_S),
            # A proxy or a .netrc in the environment must not apply here.
            trust_env=False,
            transport=httpx.AsyncHTTPTransport(
                verify=ssl.create_default_context(),
                limits=httpx.Limits(
                    max_connections=CONNECTIONS,
                    max_keepalive_connections=CONNECTIONS,
                    keepalive_expiry=IDLE_S,
                ),
                socket_options=_KEEPALIVE,
            ),
        )

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def ask(
        self,
        text: str,
        settings: Mapping[str, Any] | None = None,
        *,
        deadline_s: float,
        database: bool = True,
    ) -> bytes:
        """The complete reply to a query or command that may be sent twice. ``database``: whether
        names without a database belong to the address's database."""
        params: dict[str, Any] = {"wait_end_of_query": 1, "buffer_size": BUFFER_BYTES}
        if database:
            params["database"] = self.address.database
        params |= settings or {}
        try:
            async with asyncio.timeout(deadline_s):
                try:
                    return await self._post(params, text.encode())
                except _Cut:
                    # The server may have closed the connection just as it was reused.
                    return await self._post(params, text.encode())
        except TimeoutError:
            raise Trouble(f"no answer within {deadline_s:g} s") from None

    async def insert(
        self,
        table: str,
        block: bytes,
        settings: Mapping[str, Any],
        *,
        deadline_s: float,
        since: float | None = None,
    ) -> None:
        """Insert one block of the Native format. After Trouble, it may have been stored or not.
        ``table`` may be followed by a list of columns. Nothing is sent later than ``STALE_S`` after
        ``since``, by ``time.monotonic``."""
        params = {
            "database": self.address.database,
            "query": f"INSERT INTO {table} FORMAT Native",
            **settings,
        }

        async def look(event: str, _: object) -> None:
            if since is not None and event.endswith("send_request_headers.started"):
                waited_s = time.monotonic() - since
                if waited_s > STALE_S:
                    raise Trouble(f"it could not be sent for {waited_s:.0f} s")

        try:
            async with asyncio.timeout(deadline_s):
                await self._post(params, block, {"trace": look})
        except TimeoutError:
            raise Trouble(f"no answer within {deadline_s:g} s") from None

    async def _post(
        self, params: Mapping[str, Any], content: bytes, extensions: dict[str, Any] | None = None
    ) -> bytes:
        try:
            response = await self._http.post(
                "/", params=params, content=content, extensions=extensions
            )
        except (httpx.ReadError, httpx.WriteError, httpx.RemoteProtocolError) as error:
            raise _Cut(f"the connection was cut ({error or type(error).__name__})") from error
        except httpx.ConnectTimeout as error:
            raise Trouble(f"no connection within {CONNECT_S:g} s") from error
        except httpx.HTTPError as error:
            raise Trouble(f"{error or type(error).__name__}") from error
        body = response.content
        if response.status_code != 200 or "X-ClickHouse-Exception-Code" in response.headers:
            raise _said(body, response.status_code)
        return body


class _Cut(Trouble):
    """The connection ended before the reply was complete."""


def _said(body: bytes, status: int) -> Trouble:
    text = " ".join(body[: 4 * _SHOWN].decode("utf-8", "replace").split())
    text = text.partition(", e.what()")[0].replace("e.displayText() = ", "")
    found = re.match(r"Code: (\d+)", text)
    return Trouble(text[:_SHOWN] or f"HTTP status {status}", int(found[1]) if found else 0)
