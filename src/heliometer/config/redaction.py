"""Messages about settings end up in logs, so they must not carry passwords."""

import re
from typing import Any

_SECRET_SUFFIXES = ("password", "authorization")
# Up to the last @: a password that should have been percent-encoded may contain one, or a slash.
_PASSWORD = re.compile(r"(//[^:@]*:|^[^:/]*:(?!//)).*@", re.DOTALL)
_PARAMETER = re.compile(r"((?:password|passwd|secret|token)=)[^&\s'\"]*", re.IGNORECASE)


def redacted_value(name: str, value: Any) -> str:
    """The value of the setting ``section.key`` as it may stand in a message."""
    return "'…'" if name.endswith(_SECRET_SUFFIXES) and value else redacted(repr(value))


def redacted(text: str) -> str:
    """The text without the password of any URL in it, or of what was meant to be one."""
    return _PARAMETER.sub(r"\1…", _PASSWORD.sub(r"\1…@", text))
