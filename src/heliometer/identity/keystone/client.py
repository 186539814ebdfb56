"""Talks to Keystone, with bounds on time, size and connections, and renews its service token."""

import asyncio
import logging
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeVar

import httpx
import msgspec
from msgspec import Struct

from heliometer.config import IdentitySettings, WrongSetting
from heliometer.core.errors import Code, HeliometerError
from heliometer.identity.keystone.documents import (
    Issue,
    Named,
    TokenReply,
    Unintelligible,
    decode,
    fault_message,
)

log = logging.getLogger(__name__)

CONNECT_S = 3.0
TOTAL_S = 10.0
"""The longest that one request may take, including the renewal of the service token."""
CONNECTIONS = 32
REPLY_BYTES = 4 << 20
MARGIN_S = 120.0
"""How long before its end the service token is renewed."""
LONG_TOKEN = 2000
"""Web servers before Keystone may refuse tokens of so many characters; its own have up to 1000."""
REFUSED_S = 10.0
"""How long after a refusal the service user does not try its password again: Keystone may lock
users who try too often."""
RETRY_AFTER_S = 5
BROKEN = (httpx.RemoteProtocolError, httpx.ReadError, httpx.WriteError, httpx.CloseError)
"""The errors of a connection that Keystone closed while it was idle."""

PROJECT = "project"
SYSTEM = "system"
"""What a service token is scoped to: its project, or the system, which lets it read projects."""

T = TypeVar("T", bound=Struct)


class Answer(NamedTuple):
    """Keystone's reply to a request."""

    status: int
    headers: httpx.Headers
    body: bytes

    def read(self, type_: type[T]) -> T:
        """The decoded body. Raises UNAVAILABLE for one that Keystone would not send."""
        try:
            return decode(self.body, type_)
        except Unintelligible as error:
            log.error("Keystone's reply (%s) cannot be read: %s", self.status, error)
            raise unavailable() from error


@dataclass(slots=True)
class _Held:
    """A token of the service user."""

    scope: dict[str, Any]
    token: str = ""
    ends_at: float = 0.0
    """When the token expires, by the wall clock in seconds."""
    refused_until: float = 0.0
    """By the monotonic clock."""
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


class Keystone:
    """A client of Keystone's v3 API. ``clock`` is the wall clock, ``monotonic`` a
    monotonic one, both in seconds. Raises WrongSetting for authorities that cannot be read."""

    def __init__(
        self,
        settings: IdentitySettings,
        clock: Callable[[], float],
        monotonic: Callable[[], float],
        *,
        total_s: float = TOTAL_S,
    ) -> None:
        self.url = base_url(settings.keystone_url)
        self._settings = settings
        self._clock = clock
        self._monotonic = monotonic
        self._total_s = total_s
        self._http = httpx.AsyncClient(
            verify=_authorities(settings.keystone_ca),
            timeout=httpx.Timeout(total_s, connect=min(CONNECT_S, total_s)),
            limits=httpx.Limits(max_connections=CONNECTIONS, max_keepalive_connections=CONNECTIONS),
            # A compressed reply may be larger than it looks.
            headers={"Accept": "application/json", "Accept-Encoding": "identity"},
        )
        domain = {"name": settings.keystone_domain}
        self._held = {
            PROJECT: _Held({"project": {"name": settings.keystone_project, "domain": domain}}),
            SYSTEM: _Held({"system": {"all": True}}),
        }
        self._slow = False
        self._probing = False
        self.failing = ""
        """What is wrong with Keystone, for the operator; empty while it works."""
        self.domain: Named | None = None
        """The domain of the service user, once it has signed in."""
        self.service_roles: frozenset[str] = frozenset()
        """The service user's roles in its project, in lower case."""

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def ping(self) -> None:
        """Check a token for real; raise UNAVAILABLE when that fails."""
        token = await self._service_token(PROJECT, self._deadline())
        answer = await self.as_service("GET", "/auth/tokens?nocatalog", subject=token)
        if answer.status == 404:
            # Revoked since, or Keystone's keys were changed.
            self._held[PROJECT].token = ""
        elif answer.status != 200:
            raise self._refused(PROJECT, answer)

    async def as_service(
        self, method: str, path: str, *, subject: str = "", scope: str = PROJECT
    ) -> Answer:
        """Ask as the service user. Raises UNAVAILABLE, also when its password is refused."""
        deadline = self._deadline()
        token = await self._service_token(scope, deadline)
        answer = await self._ask(method, path, token, subject, None, deadline)
        if answer.status == 401:
            # It ended before its time: revoked, or Keystone's keys were changed.
            token = await self._service_token(scope, deadline, not_this=token)
            answer = await self._ask(method, path, token, subject, None, deadline)
            if answer.status == 401:
                raise self._refused(scope, answer)
        return answer

    async def ask(
        self, method: str, path: str, *, token: str = "", subject: str = "", document: Any = None,
        receipt: str = "",
    ) -> Answer:  # fmt: skip
        """Ask with a user's token, or none. Raises UNAVAILABLE."""
        return await self._ask(method, path, token, subject, document, self._deadline(), receipt)

    def _deadline(self) -> float:
        return asyncio.get_running_loop().time() + self._total_s

    async def _ask(
        self,
        method: str,
        path: str,
        token: str,
        subject: str,
        document: Any,
        deadline: float,
        receipt: str = "",
    ) -> Answer:
        names = {
            "X-Auth-Token": token,
            "X-Subject-Token": subject,
            "OpenStack-Auth-Receipt": receipt,
        }
        headers = {name: value for name, value in names.items() if value}
        content = None
        if document is not None:
            content = msgspec.json.encode(document)
            headers["Content-Type"] = "application/json"
        with self._admitted():
            try:
                async with asyncio.timeout_at(deadline):
                    try:
                        answer = await self._send(method, path, headers, content)
                    except BROKEN:
                        answer = await self._send(method, path, headers, content)
            except (TimeoutError, httpx.TimeoutException) as error:
                self._slow = True
                raise self.failed(f"did not answer within {self._total_s:g} s") from error
            except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError, ValueError) as error:
                raise self.failed(f"cannot be asked: {error or type(error).__name__}") from error
        if answer.status >= 500 or answer.status == 429 or 300 <= answer.status < 400:
            raise self.failed(f"answers {answer.status} to {method} {path.partition('?')[0]}")
        if answer.status >= 400 and method != "HEAD" and not self._is_own(answer, subject):
            # Something else answers there: a proxy whose Keystone is down, or a wrong URL.
            raise self.failed(f"answers {answer.status}, but not in Keystone's words")
        self._slow = False
        if self.failing and answer.status not in (401, 403):
            log.warning("Keystone at %s answers again", self.url)
            self.failing = ""
        return answer

    @staticmethod
    def _is_own(answer: Answer, subject: str) -> bool:
        """Whether a refusal is Keystone's, or that of a web server for too long a token."""
        too_long = len(subject) > LONG_TOKEN and answer.status in (400, 413, 414, 431)
        return too_long or answer.status == 401 or fault_message(answer.body) is not None

    async def _send(
        self, method: str, path: str, headers: dict[str, str], content: bytes | None
    ) -> Answer:
        url = self.url + path
        async with self._http.stream(method, url, headers=headers, content=content) as reply:
            parts: list[bytes] = []
            size = 0
            async for part in reply.aiter_raw():
                size += len(part)
                if size > REPLY_BYTES:
                    raise ValueError(f"its reply is larger than {REPLY_BYTES} bytes")
                parts.append(part)
            return Answer(reply.status_code, reply.headers, b"".join(parts))

    @contextmanager
    def _admitted(self) -> Iterator[None]:
        """After Keystone was too slow, one request at a time tries whether it still is; the others
        are refused at once."""
        probing = self._slow
        if probing:
            if self._probing:
                raise unavailable()
            self._probing = True
        try:
            yield
        finally:
            if probing:
                self._probing = False

    def complain(self, why: str) -> None:
        """Log, once, what is wrong with Keystone or with our rights there."""
        if why != self.failing:
            self.failing = why
            log.error("Keystone at %s %s", self.url, why)

    def failed(self, why: str) -> HeliometerError:
        """UNAVAILABLE; the reason is logged for the operator."""
        self.complain(why)
        return unavailable()

    def _refused(self, scope: str, answer: Answer) -> HeliometerError:
        said = fault_message(answer.body) or f"it answers {answer.status}"
        return self.failed(
            f"refuses the service user {self._settings.keystone_user} ({scope}): {said}"
        )

    async def _service_token(self, scope: str, deadline: float, not_this: str = "") -> str:
        held = self._held[scope]
        try:
            async with asyncio.timeout_at(deadline):
                await held.lock.acquire()
        except TimeoutError as error:
            raise unavailable() from error
        try:
            fresh = self._clock() < held.ends_at - MARGIN_S
            if held.token and held.token != not_this and fresh:
                return held.token
            if self._monotonic() < held.refused_until:
                raise unavailable()
            held.token = ""
            answer = await self._ask(
                "POST", "/auth/tokens?nocatalog", "", "", self._password(held), deadline
            )
            if answer.status != 201:
                held.refused_until = self._monotonic() + REFUSED_S
                raise self._refused(scope, answer)
            token, issue = issued(answer)
            held.token, held.ends_at = token, issue.expires_at.timestamp()
            self.domain = issue.user.domain
            if scope == PROJECT:
                self.service_roles = frozenset(role.name.casefold() for role in issue.roles)
            return held.token
        finally:
            held.lock.release()

    def _password(self, held: _Held) -> Any:
        user = {
            "name": self._settings.keystone_user,
            "domain": {"name": self._settings.keystone_domain},
            "password": self._settings.keystone_password,
        }
        identity = {"methods": ["password"], "password": {"user": user}}
        return {"auth": {"identity": identity, "scope": held.scope}}


def issued(answer: Answer) -> tuple[str, Issue]:
    """A new token and its description. Raises UNAVAILABLE if the answer has none."""
    issue = answer.read(TokenReply).token
    token = answer.headers.get("x-subject-token", "")
    if not token:
        log.error("Keystone's reply has no X-Subject-Token")
        raise unavailable()
    return token, issue


def base_url(url: str) -> str:
    """Keystone's URL with its version, without a final slash."""
    url = url.rstrip("/")
    return url if url.endswith("/v3") else f"{url}/v3"


def unavailable() -> HeliometerError:
    """The error while Keystone does not answer."""
    return HeliometerError(
        Code.UNAVAILABLE,
        "Who you are cannot be checked now: Keystone does not answer as it should.",
        details="Try again; if it lasts, the operator finds the cause with heliometer doctor.",
        retry_after=RETRY_AFTER_S,
    )


def _authorities(path: str) -> ssl.SSLContext | bool:
    if not path:
        return True
    try:
        return ssl.create_default_context(cafile=path)
    except (OSError, ssl.SSLError) as error:
        reason = getattr(error, "strerror", None) or error
        raise WrongSetting(
            f"identity.keystone_ca: {path!r} is not allowed: it cannot be read: {reason}"
        ) from error
