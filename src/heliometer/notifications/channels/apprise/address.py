"""Which of apprise's URLs are accepted."""

from collections.abc import Collection

from heliometer.core.errors import Invalid


def apprise_url(text: str, schemes: Collection[str]) -> str:
    """The URL as given, if it has one of the schemes; raises INVALID."""
    scheme, _, rest = text.partition("://")
    if not rest:
        raise Invalid(f"address: {text[:60]!r} is not a URL.")
    if scheme.lower() not in schemes:
        raise Invalid(
            f"address: the operator has not allowed {scheme[:40]!r}.",
            details=f"Allowed are: {', '.join(sorted(schemes)) or 'none'} "
            "(setting notify.apprise_schemes).",
        )
    return text
