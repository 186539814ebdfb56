"""Errors of the domain. Each dialect translates the code into its own fault format."""

from enum import Enum


class Code(Enum):
    """The kind of an error, whatever a dialect calls it."""

    MALFORMED = "malformed"
    """The request cannot be read at all, or a parameter has a wrong value."""
    UNAUTHENTICATED = "unauthenticated"
    FORBIDDEN = "forbidden"
    NOT_FOUND = "not_found"
    METHOD_NOT_ALLOWED = "method_not_allowed"
    NOT_ACCEPTABLE = "not_acceptable"
    CONFLICT = "conflict"
    TOO_LARGE = "too_large"
    UNSUPPORTED_MEDIA_TYPE = "unsupported_media_type"
    INVALID = "invalid"
    """The request can be read, but what it says breaks a rule."""
    RATE_LIMITED = "rate_limited"
    HEADERS_TOO_LARGE = "headers_too_large"
    INTERNAL = "internal"
    UNAVAILABLE = "unavailable"
    """Nothing is wrong with the request; the same one may succeed later."""


class UnusableData(Exception):
    """A store cannot be opened. The message is one line for the operator: what, why, what to do."""


class HeliometerError(Exception):
    """An error with a message that is safe and useful to show to the caller.

    ``details`` says what to do about it; ``retry_after`` is in seconds.
    """

    def __init__(
        self, code: Code, message: str, *, details: str = "", retry_after: int | None = None
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.details = details
        self.retry_after = retry_after


class Malformed(HeliometerError):
    """Shorthand for the most common error."""

    def __init__(self, message: str, *, details: str = "") -> None:
        super().__init__(Code.MALFORMED, message, details=details)


class Invalid(HeliometerError):
    """The request can be read but breaks a rule. The message starts with the item's path."""

    def __init__(self, message: str, *, details: str = "") -> None:
        super().__init__(Code.INVALID, message, details=details)
