"""Passwords of endpoints, and how they are kept.

They are random and long, so a salted digest keeps them; the form is that of RabbitMQ
(``rabbit_password_hashing_sha256``), which can be handed to a broker as it is.
"""

import base64
import binascii
import hashlib
import hmac
import secrets

SALT_BYTES = 4
PASSWORD_BYTES = 18


def new_password() -> str:
    """144 random bits that need no escaping in a URL or a shell."""
    return secrets.token_urlsafe(PASSWORD_BYTES).replace("-", "A").replace("_", "z")


def hash_password(password: str, salt: bytes | None = None) -> str:
    """Base64 of the salt and the SHA-256 of salt and password."""
    salt = secrets.token_bytes(SALT_BYTES) if salt is None else salt
    return base64.b64encode(salt + hashlib.sha256(salt + password.encode()).digest()).decode()


def is_password(password: str, password_hash: str) -> bool:
    """Whether the hash is of this password, compared in constant time."""
    try:
        salt = base64.b64decode(password_hash, validate=True)[:SALT_BYTES]
    except (ValueError, binascii.Error):
        return False
    return hmac.compare_digest(hash_password(password, salt), password_hash)
