"""Which of apprise's URLs are accepted."""

import re
from collections.abc import Collection

from heliometer.core.errors import Invalid

LOCAL = {
    "blink1": ("blink1",),
    "dbus": ("dbus", "kde", "qt"),
    "glib": ("glib", "gio"),
    "gnome": ("gnome",),
    "macosx": ("macosx",),
    "syslog": ("syslog",),
    "windows": ("windows",),
}
"""Modules of apprise that reach the machine itself, and their schemes. They are never loaded,
whatever the operator allows."""
LOCAL_SCHEMES = frozenset(scheme for schemes in LOCAL.values() for scheme in schemes)

_ONE_URL = re.compile(r"([A-Za-z0-9][A-Za-z0-9+.-]*)://[!-~]+")


def apprise_url(text: str, schemes: Collection[str]) -> str:
    """The URL as given, if it is one and has one of the schemes; raises INVALID.

    Where it leads is decided at each sending, by the addresses that its plugin connects to.
    """
    scheme = scheme_of(text)
    if scheme is None:
        # It is not repeated: what is in it is secret.
        raise Invalid(
            "address: must be one URL of printable ASCII, such as slack://TOKEN_A/TOKEN_B/TOKEN_C.",
            details="A URL inside of it is percent-encoded (%3A%2F%2F for ://). "
            "Each further destination is a notification method of its own.",
        )
    if scheme in LOCAL_SCHEMES:
        raise Invalid(
            f"address: {scheme}:// is never sent to: it reaches the server's own machine."
        )
    if scheme not in schemes:
        raise Invalid(
            f"address: the operator has not allowed {scheme[:40]!r}.",
            details=f"Allowed are: {', '.join(sorted(schemes)) or 'none'} "
            "(setting notify.apprise_schemes).",
        )
    return text


def scheme_of(text: str) -> str | None:
    """The scheme in lower case; ``None`` for what is not exactly one URL."""
    found = _ONE_URL.fullmatch(text)
    if found is None or text.count("://") != 1:
        return None
    return found[1].lower()
