"""What of a notification method is stored encrypted: its secret, and addresses that are secret.

An address is encrypted in the same way wherever it is stored, so that what an alarm queues is a
copy, and equal addresses can be found.
"""

from heliometer.core.errors import Code, HeliometerError
from heliometer.core.secret_box import KeyMissing, SecretBox
from heliometer.notifications.channels import has_secret_address

ADDRESS, SECRET = "address", "secret"


def seal_address(box: SecretBox, type_: str, address: str) -> str:
    """The address as it is stored. Raises UNAVAILABLE when the key is missing."""
    return _seal(box, address, ADDRESS) if has_secret_address(type_) else address


def seal_secret(box: SecretBox, secret: str) -> str:
    """The secret as it is stored. Raises UNAVAILABLE when the key is missing."""
    return _seal(box, secret, SECRET)


def _seal(box: SecretBox, text: str, purpose: str) -> str:
    try:
        return box.seal(text, purpose)
    except KeyMissing as error:
        raise HeliometerError(
            Code.UNAVAILABLE,
            "Nothing secret can be stored: the key that this service encrypts it with is missing.",
            details="The operator finds more with heliometer doctor.",
        ) from error
