"""What is refused, with the reply codes of AMQP 0-9-1 (§1.2 of its reference)."""

from typing import Final

CONNECTION_FORCED: Final = 320
ACCESS_REFUSED: Final = 403
NOT_FOUND: Final = 404
PRECONDITION_FAILED: Final = 406
FRAME_ERROR: Final = 501
SYNTAX_ERROR: Final = 502
COMMAND_INVALID: Final = 503
CHANNEL_ERROR: Final = 504
UNEXPECTED_FRAME: Final = 505
NOT_ALLOWED: Final = 530
NOT_IMPLEMENTED: Final = 540
INTERNAL_ERROR: Final = 541

NAMES = {code: name for name, code in list(globals().items()) if isinstance(code, int)}
TEXT_BYTES = 255


class Fault(Exception):
    """A refusal. ``hard``: it ends the connection, else only the channel."""

    def __init__(self, code: int, text: str, *, hard: bool = False) -> None:
        # In RabbitMQ's manner, which clients' users know.
        said = f"{NAMES[code]} - {text}".encode("ascii", "backslashreplace")
        super().__init__(said[:TEXT_BYTES].decode())
        self.code = code
        self.hard = hard or code in HARD

    @property
    def text(self) -> str:
        """The reply text for the client."""
        return str(self)


HARD = frozenset(
    {
        CONNECTION_FORCED,
        FRAME_ERROR,
        SYNTAX_ERROR,
        COMMAND_INVALID,
        CHANNEL_ERROR,
        UNEXPECTED_FRAME,
        NOT_ALLOWED,
        NOT_IMPLEMENTED,
        INTERNAL_ERROR,
    }
)
"""Codes that always end the connection."""
