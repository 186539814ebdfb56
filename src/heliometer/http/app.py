"""The ASGI application: finds the operation, lets the caller in, answers, and keeps count."""

import itertools
import logging
import re
import secrets
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import compile_path
from starlette.types import Receive, Scope, Send

from heliometer.core.errors import Code, HeliometerError
from heliometer.core.instruments import Instruments
from heliometer.http.credentials import Password, read_credentials
from heliometer.http.limits import RateLimit
from heliometer.http.operation import STATUS, BodyBudget, Call, Dialect, Operation
from heliometer.http.proxies import TrustedProxies
from heliometer.identity.model import Caller
from heliometer.identity.ports import Authenticator

log = logging.getLogger(__name__)
access_log = logging.getLogger("heliometer.access")

SLOW_S = 1.0
"""A request that takes longer is logged as a problem."""
TOKEN_LENGTH = 8192
HEADER_BYTES = 65_536
UNREAD_BODY_BYTES = 65_536
"""After a refusal, an unread body larger than this is not waited for: the connection closes."""


_PROCESS = secrets.token_hex(6)
_NUMBERS = itertools.count(1)
"""Together they name a request; random numbers for each would cost a system call."""


_LONG_SEGMENT = re.compile(r"[^/]{24,}")


@dataclass(slots=True)
class _Route:
    """One path: its operations by method."""

    path: str
    """With ``{name}`` for what varies."""
    dialect: Dialect
    operations: dict[str, Operation] = field(default_factory=dict)


class HttpApp:
    """Serves dialects. Prefixes may nest; the longest that fits answers."""

    def __init__(
        self,
        dialects: Iterable[Dialect],
        authenticator: Authenticator,
        *,
        body_limit: int,
        bodies_bytes: int,
        rate_limit: RateLimit,
        instruments: Instruments,
        proxies: TrustedProxies,
        public_url: str = "",
        access: str = "problems",
    ) -> None:
        self._authenticator = authenticator
        self._body_limit = body_limit
        self._bodies = BodyBudget(max(bodies_bytes, body_limit))
        self._rate_limit = rate_limit
        self._instruments = instruments
        self._proxies = proxies
        self._public_url = public_url.rstrip("/")
        self._access = access
        self._dialects = {d.prefix: d for d in dialects}
        self._static: dict[str, _Route] = {}
        self._dynamic: dict[str, tuple[re.Pattern[str], _Route]] = {}
        for dialect in self._dialects.values():
            for operation in dialect.operations:
                self._add(dialect, operation)

    @property
    def dialects(self) -> list[Dialect]:
        """The dialects that are served, for their description."""
        return list(self._dialects.values())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI's entry; only HTTP is spoken here."""
        if scope["type"] != "http":
            raise ValueError(f"unexpected {scope['type']} connection")
        started = time.perf_counter()
        self._proxies.apply(scope)
        request_id = f"req-{_PROCESS}-{next(_NUMBERS):x}"
        request = Request(scope, receive)
        path: str = scope["path"].rstrip("/")
        route, params = self._find(path)
        dialect = route.dialect if route else self._dialect_of(path)
        operation: Operation | None = None
        call = Call(
            request, request_id, params, self._base_url(request), self._body_limit, self._bodies
        )
        try:
            _check_headers(scope)
            operation = _operation(route, scope["method"], path)
            _check_accept(request, operation)
            if operation.permission is not None:
                caller = await self._authenticate(request, operation)
                self._rate_limit.take(caller.project_id)
                caller.require(operation.permission)
                call.caller_or_none = caller
            elif operation.knows_caller and "x-auth-token" in request.headers:
                caller = await self._authenticator.authenticate(_token(scope))
                self._rate_limit.take(caller.project_id)
                call.caller_or_none = caller
            response = await operation.handler(call)
        except HeliometerError as error:
            response = _refusal(dialect, error, request_id, request, route)
        except Exception:
            log.exception(
                "a request failed", extra={"request_id": request_id, "path": _loggable(route, path)}
            )
            failure = HeliometerError(
                Code.INTERNAL,
                "The service failed to process the request.",
                details="Tell the operator the internal code; the log says what happened.",
            )
            response = _refusal(dialect, failure, request_id, request, route)
        finally:
            self._bodies.give_back(call.held_bytes)
        response.raw_headers.append((b"x-request-id", request_id.encode()))
        response.raw_headers.append((b"x-content-type-options", b"nosniff"))
        await response(scope, receive, send)
        self._count(dialect, operation, _loggable(route, path), response.status_code, started, call)

    async def _authenticate(self, request: Request, operation: Operation) -> Caller:
        credentials = None
        if operation.foreign and "x-auth-token" not in request.headers:
            credentials = read_credentials(request)
        if isinstance(credentials, Password):
            client = request.client.host if request.client else None
            return await self._authenticator.authenticate_basic(
                credentials.user, credentials.password, client, request.query_params.get("project")
            )
        return await self._authenticator.authenticate(credentials or _token(request.scope))

    def _add(self, dialect: Dialect, operation: Operation) -> None:
        for prefix in (dialect.prefix, *dialect.aliases):
            path = prefix + operation.path
            if "{" not in path:
                route = self._static.setdefault(path, _Route(path, dialect))
            else:
                pattern, _, _ = compile_path(path)
                _, route = self._dynamic.setdefault(path, (pattern, _Route(path, dialect)))
            route.operations[operation.method] = operation

    def _find(self, path: str) -> tuple[_Route | None, Mapping[str, str]]:
        route = self._static.get(path)
        if route is not None:
            return route, {}
        for pattern, candidate in self._dynamic.values():
            match = pattern.match(path)
            if match:
                return candidate, match.groupdict()
        return None, {}

    def _dialect_of(self, path: str) -> Dialect:
        """The dialect that says no for a path that nobody has."""
        while path and path not in self._dialects:
            path = path.rpartition("/")[0]
        return self._dialects[path]

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
        if self._access == "all" or (self._access == "problems" and problem):
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


def _loggable(route: _Route | None, path: str) -> str:
    """A path without what may be secret in it: Keystone v2.0 has tokens in its paths."""
    return route.path if route else _LONG_SEGMENT.sub("…", path)


def _operation(route: _Route | None, method: str, path: str) -> Operation:
    if route is None:
        raise HeliometerError(
            Code.NOT_FOUND, f"There is nothing at {path[:100] or '/'}.",
            details="GET /docs shows what there is.",
        )  # fmt: skip
    operation = route.operations.get(method)
    if operation is None and method == "HEAD":
        operation = route.operations.get("GET")
    if operation is None:
        raise HeliometerError(
            Code.METHOD_NOT_ALLOWED,
            f"{method[:20]} is not possible here.",
            details=f"Possible are {_allowed(route)}.",
        )
    return operation


def _allowed(route: _Route) -> str:
    methods = set(route.operations)
    return ", ".join(sorted(methods | {"HEAD"} if "GET" in methods else methods))


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
        if media.strip().lower() in wanted and not re.search(
            r"q\s*=\s*0(\.0*)?\s*(;|$)", parameters
        ):
            return
    raise HeliometerError(
        Code.NOT_ACCEPTABLE,
        f"Accept: {accept[:60]!r} leaves nothing that this answers with.",
        details=f"The answer is {operation.media_type}.",
    )


def _token(scope: Scope) -> str:
    tokens = [value for name, value in scope["headers"] if name == b"x-auth-token"]
    if len(tokens) != 1 or not 0 < len(tokens[0]) <= TOKEN_LENGTH or not tokens[0].isascii():
        raise HeliometerError(
            Code.UNAUTHENTICATED,
            "A valid token is required."
            if not tokens
            else "X-Auth-Token must be given once, and hold a token.",
            details="Get one with POST /identity/v2.0/tokens or POST /identity/v3/auth/tokens, "
            "and send it as X-Auth-Token.",
        )
    token: str = tokens[0].decode("ascii")
    return token


def _refusal(
    dialect: Dialect,
    error: HeliometerError,
    request_id: str,
    request: Request,
    route: _Route | None,
) -> Response:
    if dialect.render_fault_of is not None:
        response = dialect.render_fault_of(error, request_id, request)
    else:
        response = dialect.render_fault(error, request_id)
    if error.retry_after is not None:
        response.headers["Retry-After"] = str(error.retry_after)
    if error.code is Code.METHOD_NOT_ALLOWED and route is not None:
        response.headers["Allow"] = _allowed(route)
    length = request.headers.get("content-length", "0")
    unread = int(length[:20]) if length.isdecimal() else 0
    if STATUS[error.code] in (413, 431) or unread > UNREAD_BODY_BYTES:
        response.headers["Connection"] = "close"
    return response
