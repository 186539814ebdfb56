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
        raise Invalid(f"address: {text[:60]!r} is not a URL.") from error
    if (
        not text.isascii()
        or re.search(r"\s", text)
        or parts.scheme not in schemes
        or not parts.hostname
        or port == 0
    ):
        raise Invalid(
            f"address: {text[:60]!r} is not a URL that starts with "
            f"{' or '.join(s + '://' for s in schemes)}."
        )
    if parts.username is not None:
        raise Invalid("address: must not hold a user name or password.")
    return text
