"""The ASGI application: authenticates the caller, runs the operation, logs and counts."""

import itertools
import logging
import re
import secrets
import time
from collections.abc import Iterable
from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from heliometer.core.errors import Code, HeliometerError
from heliometer.core.instruments import Instruments
from heliometer.http.answers import AnswerBudget, write
from heliometer.http.credentials import Password, read_credentials, read_token
from heliometer.http.decoding import Decoder
from heliometer.http.limits import RateLimit
from heliometer.http.lingering import lingering
from heliometer.http.operation import STATUS, BodyBudget, Call, Dialect, Operation
from heliometer.http.proxies import TrustedProxies
from heliometer.http.routing import Route, Router, loggable, operation_of
from heliometer.identity.model import Caller
from heliometer.identity.ports import Authenticator

log = logging.getLogger(__name__)
access_log = logging.getLogger("heliometer.access")

SLOW_S = 1.0
"""The access log takes a slower request for a problem."""
HEADER_BYTES = 65_536
UNREAD_BODY_BYTES = 65_536
"""After a refusal, the connection closes rather than wait for an unread body larger than this."""

_PROCESS = secrets.token_hex(6)
_NUMBERS = itertools.count(1)
"""With ``_PROCESS`` they name a request; a random number for each would cost a system call."""
_REFUSED = re.compile(r"q\s*=\s*0(\.0*)?\s*(;|$)")


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpOptions:
    """The operator's choices for everything that is served over HTTP."""

    body_bytes: int
    """Most bytes of one body, uncompressed."""
    bodies_bytes: int
    """Most bytes of the bodies of all requests in progress."""
    answers: AnswerBudget
    """For what clients have not read yet."""
    rate_limit: RateLimit
    proxies: TrustedProxies
    hsts_s: int = 0
    """How long browsers shall use nothing but TLS once they have; 0: they are not told."""
    public_url: str = ""
    """Where clients reach the service; empty: as their Host header says."""
    access: str = "problems"
    """Requests in the access log: ``all``, ``problems`` or none."""


class HttpApp:
    """Serves dialects: the ASGI application of every process."""

    def __init__(
        self,
        dialects: Iterable[Dialect],
        authenticator: Authenticator,
        options: HttpOptions,
        instruments: Instruments,
    ) -> None:
        self._router = Router(dialects)
        self._authenticator = authenticator
        self._options = options
        self._public_url = options.public_url.rstrip("/")
        self._hsts = f"max-age={options.hsts_s}".encode()
        self._bodies = BodyBudget(max(options.bodies_bytes, options.body_bytes))
        self._answers = options.answers
        self._decoder = Decoder()
        self._instruments = instruments

    @property
    def dialects(self) -> list[Dialect]:
        """The dialects that are served."""
        return self._router.dialects

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one HTTP request."""
        if scope["type"] != "http":
            raise ValueError(f"unexpected {scope['type']} connection")
        started = time.perf_counter()
        self._options.proxies.apply(scope)
        request_id = f"req-{_PROCESS}-{next(_NUMBERS):x}"
        request = Request(scope, receive)
        path: str = scope["path"].rstrip("/")
        route, params = self._router.find(path)
        dialect = route.dialect if route else self._router.dialect_of(path)
        operation: Operation | None = None
        call = Call(
            request, request_id, params, self._base_url(request), self._options.body_bytes,
            self._bodies, self._decoder,
        )  # fmt: skip
        try:
            _check_headers(scope)
            operation = operation_of(route, scope["method"], path)
            _check_accept(request, operation)
            if operation.permission is not None:
                caller = await self._authenticate(request, operation)
                self._options.rate_limit.take(caller.project_id)
                caller.require(operation.permission)
                call.caller_or_none = caller
            elif operation.knows_caller and "x-auth-token" in request.headers:
                caller = await self._authenticator.authenticate(read_token(request))
                self._options.rate_limit.take(caller.project_id)
                call.caller_or_none = caller
            response = await operation.handler(call)
        except HeliometerError as error:
            response = _refusal(dialect, error, request_id, request, route)
        except Exception:
            log.exception(
                "a request failed", extra={"request_id": request_id, "path": loggable(route, path)}
            )
            failure = HeliometerError(
                Code.INTERNAL,
                "The service failed to process the request.",
                details="Tell the operator the internal code; the log says what happened.",
            )
            response = _refusal(dialect, failure, request_id, request, route)
        finally:
            self._bodies.give_back(call.held_bytes)
        project_id = call.caller_or_none.project_id if call.caller_or_none else ""
        try:
            reserved = self._answers.reserve(project_id, response)
        except HeliometerError as error:
            response = _refusal(dialect, error, request_id, request, route)
            reserved = 0
        response.raw_headers.append((b"x-request-id", request_id.encode()))
        response.raw_headers.append((b"x-content-type-options", b"nosniff"))
        if self._options.hsts_s and scope["scheme"] == "https":
            response.raw_headers.append((b"strict-transport-security", self._hsts))
        if response.headers.get("connection") == "close":
            send = lingering(receive, send)
        try:
            await write(response, scope, receive, send)
        finally:
            if reserved:
                self._answers.give_back(project_id, reserved)
        self._count(dialect, operation, loggable(route, path), response.status_code, started, call)

    async def _authenticate(self, request: Request, operation: Operation) -> Caller:
        credentials = None
        if operation.foreign and "x-auth-token" not in request.headers:
            credentials = read_credentials(request)
        if isinstance(credentials, Password):
            client = request.client.host if request.client else None
            return await self._authenticator.authenticate_basic(
                credentials.user, credentials.password, client, request.query_params.get("project")
            )
        return await self._authenticator.authenticate(credentials or read_token(request))

    def _base_url(self, request: Request) -> str:
        if self._public_url:
            return self._public_url
        host = request.headers.get("host") or "{}:{}".format(*request.scope["server"])
        return f"{request.scope['scheme']}://{host}"

    def _count(
        self,
        dialect: Dialect,
        operation: Operation | None,
        path: str,
        status: int,
        started: float,
        call: Call,
    ) -> None:
        request, caller = call.request, call.caller_or_none
        seconds = time.perf_counter() - started
        name = operation.summary if operation else "none"
        self._instruments.requests.labels(dialect.name, name, str(status)).inc()
        self._instruments.latency.labels(dialect.name, name).observe(seconds)
        problem = status >= 400 or seconds > SLOW_S
        access = self._options.access
        if access == "all" or (access == "problems" and problem):
            access_log.info(
                "%s %s %s",
                request.method,
                path,
                status,
                extra={
                    "request_id": call.request_id,
                    "milliseconds": round(seconds * 1000, 1),
                    "project_id": caller.project_id if caller else "",
                    "client": request.client.host if request.client else "",
                },
            )


def _check_headers(scope: Scope) -> None:
    if sum(len(name) + len(value) for name, value in scope["headers"]) > HEADER_BYTES:
        raise HeliometerError(
            Code.HEADERS_TOO_LARGE, f"The headers are larger than {HEADER_BYTES} bytes."
        )


def _check_accept(request: Request, operation: Operation) -> None:
    if operation.foreign:
        return
    accept = ",".join(request.headers.getlist("accept"))
    if not accept:
        return
    kind = operation.media_type.partition("/")[0]
    wanted = {operation.media_type, f"{kind}/*", "*/*"}
    for part in accept.split(","):
        media, _, parameters = part.partition(";")
        if media.strip().lower() in wanted and not _REFUSED.search(parameters):
            return
    raise HeliometerError(
        Code.NOT_ACCEPTABLE,
        f"Accept: {accept[:60]!r} leaves nothing that this answers with.",
        details=f"The answer is {operation.media_type}.",
    )


def _refusal(
    dialect: Dialect,
    error: HeliometerError,
    request_id: str,
    request: Request,
    route: Route | None,
) -> Response:
    if dialect.render_fault_of is not None:
        response = dialect.render_fault_of(error, request_id, request)
    else:
        response = dialect.render_fault(error, request_id)
    if error.retry_after is not None:
        response.headers["Retry-After"] = str(error.retry_after)
    if error.code is Code.METHOD_NOT_ALLOWED and route is not None:
        response.headers["Allow"] = route.allowed
    length = request.headers.get("content-length", "0")
    unread = int(length[:20]) if length.isdecimal() else 0
    if STATUS[error.code] in (413, 431) or unread > UNREAD_BODY_BYTES:
        response.headers["Connection"] = "close"
    return response
