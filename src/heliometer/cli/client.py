"""The HTTP client of the client commands: signs in, keeps the connection, retries safely."""

import time
import uuid
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from types import TracebackType
from typing import Any, Self

import httpx

from heliometer import __version__
from heliometer.cli.credentials import Credentials
from heliometer.cli.errors import CommandError
from heliometer.cli.responses import checked, decode
from heliometer.cli.sign_in import Session, sign_in
from heliometer.core.retry import pause_s

RETRIED = (429, 503)
ATTEMPTS = 8
BACKOFF_S, LONGEST_BACKOFF_S = 0.25, 8.0
LONGEST_WAIT_S = 30.0
TIMEOUT_S = 60.0


class Client:
    """Talks to one server as one user; a context manager.

    Every method raises CommandError, with one line, when the server cannot be reached or refuses.
    """

    def __init__(
        self,
        access: Credentials,
        transport: httpx.BaseTransport | None = None,
        *,
        attempts: int = ATTEMPTS,
        timeout_s: float = TIMEOUT_S,
    ) -> None:
        self.access = access
        self._attempts = attempts
        self._http = httpx.Client(
            headers={"User-Agent": f"heliometer/{__version__}", "Accept": "application/json"},
            timeout=timeout_s,
            verify=_verify(access),
            transport=transport,
        )
        self._session: Session | None = None
        self._reached = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._http.close()

    @property
    def session(self) -> Session:
        """The token and what came with it; signs in the first time."""
        if self._session is None:
            self._session = sign_in(self.access, self.send)
        return self._session

    def get(self, path: str, query: Mapping[str, str] | None = None) -> Any:
        """The JSON that is at ``path`` below the monitoring endpoint, or at an absolute URL."""
        return decode(self.call("GET", path, query=query))

    def post(self, path: str, body: bytes) -> None:
        """Post JSON below the monitoring endpoint. However often it is retried, the server stores
        it once: an Idempotency-Key goes with it."""
        self.call(
            "POST",
            path,
            content=body,
            headers={"Content-Type": "application/json", "Idempotency-Key": uuid.uuid4().hex},
        )

    def call(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        content: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> httpx.Response:
        """``request``; raise CommandError with the server's message when that is a fault."""
        response = self.request(method, path, query=query, content=content, headers=headers)
        if response.status_code == 401 and self.access.token:
            raise CommandError(
                "the token is invalid or has expired; get one with heliometer token issue"
            )
        return checked(response)

    def request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        content: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> httpx.Response:
        """Send a request with the token; sign in again, once, when the token is stale."""
        for again in (False, True):
            session = self.session
            url = path if "://" in path else f"{session.endpoint}{path}"
            response = self.send(
                method,
                url,
                params=query,
                content=content,
                headers={**(headers or {}), "X-Auth-Token": session.token},
            )
            if response.status_code != 401 or again or not self.access.password:
                break
            self._session = None
        return response

    def send(self, method: str, url: str, **request: Any) -> httpx.Response:
        """Send one request, again while the server is overloaded or restarts."""
        for attempt in range(1, self._attempts + 1):
            try:
                response = self._http.request(method, url, **request)
            except httpx.TransportError as error:
                # A server that was never reached is a wrong address, not one that restarts.
                if attempt == self._attempts or not self._reached:
                    raise CommandError(_unreachable(url, error)) from error
                wait = pause_s(attempt, BACKOFF_S, LONGEST_BACKOFF_S)
            except httpx.InvalidURL as error:
                raise CommandError(f"{url!r} is not a URL: {error}") from error
            else:
                self._reached = True
                if response.status_code not in RETRIED or attempt == self._attempts:
                    return response
                pause = pause_s(attempt, BACKOFF_S, LONGEST_BACKOFF_S)
                wait = max(_retry_after(response), pause)
                if wait > LONGEST_WAIT_S:
                    return response
            time.sleep(wait)
        raise AssertionError("unreachable")


def _verify(access: Credentials) -> Any:
    import ssl

    if access.insecure:
        return False
    if not access.cacert:
        return True
    try:
        return ssl.create_default_context(cafile=access.cacert)
    except (OSError, ssl.SSLError) as error:
        raise CommandError(f"cannot use the CA certificates in {access.cacert}: {error}") from error


def _unreachable(url: str, error: httpx.TransportError) -> str:
    root = httpx.URL(url).copy_with(path="/", query=None, fragment=None, userinfo=b"")
    server = str(root).rstrip("/")
    if isinstance(error, httpx.UnsupportedProtocol):
        return f"{url!r} is not an http:// or https:// URL"
    if isinstance(error, httpx.TimeoutException):
        return f"the server at {server} did not answer in time"
    if "CERTIFICATE_VERIFY_FAILED" in str(error):
        return (
            f"the certificate of {server} is not trusted: name its authority with --cacert, "
            "or, for a test, use --insecure"
        )
    if isinstance(error, httpx.ConnectError):
        hint = "start one with heliometer serve or use --url"
        refused = "refused" in str(error).lower()
        reason = "" if refused else f" ({error})"
        return f"no server answers at {server}{reason}; {hint}"
    return f"the connection to {server} failed: {error or type(error).__name__}"


def _retry_after(response: httpx.Response) -> float:
    """Seconds that the server asks to wait (RFC 9110 §10.2.3), 0 when it does not."""
    text = str(response.headers.get("Retry-After", "")).strip()
    if text.isdecimal():
        return float(text[:9])
    try:
        moment: float = parsedate_to_datetime(text).timestamp()
        return max(0.0, moment - time.time())
    except ValueError:
        return 0.0
