"""Receipts: that a request was stored, so that its repetition is answered and not stored again."""

from dataclasses import dataclass
from enum import Enum

RECEIPT_LIFE_MS = 86_400_000
"""How long a receipt is remembered, in milliseconds."""
PUSH_LIFE_MS = 900_000
"""The same for pushed requests: programs repeat one at once or never."""


class ReceiptKind(Enum):
    """Who chose a receipt's key. The value begins the encoded key; no client can send it."""

    CLIENT = ""
    """The client, with the header ``Idempotency-Key``."""
    PUSH = "\x01push "
    """This service, for a request of a program that pushes: a digest of its body."""
    HANDOVER = "\x02"
    """The service itself, for messages between processes. Stores look it up only for possible
    duplicates; it is never loaded."""


@dataclass(frozen=True, slots=True)
class Receipt:
    """Records that a request was stored."""

    project_id: str
    key: str
    fingerprint: bytes
    """Digest of the request's body: a key belongs to one body."""
    at_ms: int
    kind: ReceiptKind = ReceiptKind.CLIENT

    @property
    def ends_ms(self) -> int:
        """When it may be forgotten."""
        is_push = self.kind is ReceiptKind.PUSH
        return self.at_ms + (PUSH_LIFE_MS if is_push else RECEIPT_LIFE_MS)

    @property
    def encoded_key(self) -> str:
        """Kind and key as one text: what stores keep and messages between processes carry."""
        return self.kind.value + self.key

    @classmethod
    def decode(cls, project_id: str, encoded_key: str, fingerprint: bytes, at_ms: int) -> "Receipt":
        """The receipt with this ``encoded_key``."""
        for kind in (ReceiptKind.PUSH, ReceiptKind.HANDOVER):
            if encoded_key.startswith(kind.value):
                key = encoded_key.removeprefix(kind.value)
                return cls(project_id, key, fingerprint, at_ms, kind)
        return cls(project_id, encoded_key, fingerprint, at_ms)
