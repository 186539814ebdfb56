"""Which URLs a webhook may have."""

import re
from collections.abc import Collection
from urllib.parse import urlsplit

from heliometer.core.errors import Invalid


def webhook_url(text: str, schemes: Collection[str]) -> str:
    """The URL as given; raises INVALID. Whether it may be called is decided at each call, by what
    its host resolves to then."""
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError as error:
        raise _no_url(schemes) from error
    if (
        not text.isascii()
        or re.search(r"\s", text)
        or parts.scheme not in schemes
        or not parts.hostname
        or port == 0
    ):
        raise _no_url(schemes)
    if parts.username is not None:
        raise Invalid("address: must not hold a user name or password.")
    return text


def _no_url(schemes: Collection[str]) -> Invalid:
    # It is not repeated: URLs of webhooks hold secrets.
    allowed = " or ".join(f"{scheme}://" for scheme in schemes)
    return Invalid(f"address: must be a URL that starts with {allowed}.")
