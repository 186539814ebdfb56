"""Encryption of single texts, for secrets that must be sent on and so cannot be hashed.

AES-256-SIV: equal texts of one purpose give equal ciphertexts, so that a database can still tell
whether two destinations are the same, and nothing else of them; a changed ciphertext, or one that
was put into the place of another purpose, is refused.
"""

import base64
import hashlib
import secrets
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # loaded when the first secret is
    from cryptography.hazmat.primitives.ciphers.aead import AESSIV

KEY_BYTES = 64
_PREFIX = "enc:1:"


class KeyMissing(Exception):
    """The key is missing with which a text was, or is to be, encrypted. The message says which, and
    what of it."""


def new_key() -> bytes:
    """A random key."""
    return secrets.token_bytes(KEY_BYTES)


def fingerprint(key: bytes) -> str:
    """By which a key is known: 16 hexadecimal digits, from which the key cannot be found."""
    return hashlib.sha256(b"heliometer secret key" + key).hexdigest()[:16]


def fingerprint_of(text: str) -> str | None:
    """The fingerprint of the key that encrypted the text; ``None``: it is not encrypted."""
    if not text.startswith(_PREFIX):
        return None
    return text.removeprefix(_PREFIX).partition(":")[0]


class SecretBox:
    """Encrypts with one key, and decrypts with that and former ones.

    ``current`` is the fingerprint of the key to encrypt with. Empty: texts are not encrypted, as
    long as the operator has not given all processes a key.
    """

    def __init__(self, keys: Sequence[bytes], current: str) -> None:
        self._keys = {fingerprint(key): key for key in keys}
        self.current = current

    @property
    def encrypts(self) -> bool:
        """Whether there is a key to encrypt with, here or elsewhere."""
        return bool(self.current)

    @property
    def is_usable(self) -> bool:
        """Whether secrets can be stored."""
        return not self.current or self.current in self._keys

    def seal(self, text: str, purpose: str) -> str:
        """The text, encrypted with the current key. What is empty or encrypted already stays as it
        is. Raises KeyMissing."""
        if not text or not self.current or fingerprint_of(text) is not None:
            return text
        sealed = self._cipher(self.current).encrypt(text.encode(), [purpose.encode()])
        return f"{_PREFIX}{self.current}:{base64.urlsafe_b64encode(sealed).decode()}"

    def open(self, text: str, purpose: str) -> str:
        """The text in the clear; one that is not encrypted is returned as it is. Raises
        KeyMissing, also when it was not encrypted for this purpose, or has been changed."""
        used = fingerprint_of(text)
        if used is None:
            return text
        from cryptography.exceptions import InvalidTag

        try:
            sealed = base64.urlsafe_b64decode(text.rpartition(":")[2])
            return self._cipher(used).decrypt(sealed, [purpose.encode()]).decode()
        except (InvalidTag, ValueError) as error:
            raise KeyMissing(f"a text encrypted with key {used[:16]} is damaged") from error

    def open_or_empty(self, text: str, purpose: str) -> str:
        """The same, but empty when it cannot be decrypted."""
        try:
            return self.open(text, purpose)
        except KeyMissing:
            return ""

    def _cipher(self, wanted: str) -> "AESSIV":
        from cryptography.hazmat.primitives.ciphers.aead import AESSIV

        key = self._keys.get(wanted)
        if key is None:
            raise KeyMissing(f"the key with fingerprint {wanted[:16]} is missing")
        return AESSIV(key)
