"""Where notifications can go: what is accepted as an address, and the form that is sent to."""

import re
from collections.abc import Collection
from urllib.parse import urlsplit

import phonenumbers
from email_validator import EmailNotValidError, validate_email

from heliometer.core.errors import Invalid
from heliometer.notifications.model import ADDRESS_LENGTH


def check_text(field: str, text: str, most: int) -> None:
    """Raise INVALID unless a text is one printable line of 1 to ``most`` characters."""
    if not 1 <= len(text) <= most:
        raise Invalid(f"{field}: must have 1 to {most} characters, not {len(text)}.")
    if not text.isprintable() or not text.strip():
        raise Invalid(f"{field}: must be one line of printable characters, and not blank.")


def email_address(text: str) -> str:
    """An e-mail address as it is sent to; raises INVALID. Whether it exists, its code shows."""
    try:
        found = validate_email(
            text, check_deliverability=False, allow_smtputf8=False, globally_deliverable=False
        )
    except EmailNotValidError as error:
        raise Invalid(f"address: is not an e-mail address. {error}") from error
    address = found.ascii_email or found.normalized
    if len(address) > ADDRESS_LENGTH:  # a domain of other letters is longer in ASCII
        raise Invalid(f"address: is longer than {ADDRESS_LENGTH} characters as it is sent to.")
    return address


def phone_number(text: str, region: str | None) -> str:
    """A telephone number in E.164; raises INVALID.

    ``region`` is the country whose national form is understood too, such as US (v1.0 §4.4.4.2);
    ``None``: only E.164 with its ``+`` is (v1.1 §4.4.5.1).
    """
    try:
        number = phonenumbers.parse(text, region)
    except phonenumbers.NumberParseException as error:
        raise _no_number(text, region) from error
    if not phonenumbers.is_valid_number(number) or number.extension:
        raise _no_number(text, region)
    if region is None and not re.fullmatch(r"\+[0-9]{7,15}", text):
        raise _no_number(text, region)
    return phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)


def webhook_url(text: str, schemes: Collection[str]) -> str:
    """A webhook's URL; raises INVALID. Whether it may be called is judged when it is."""
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


def apprise_url(text: str, schemes: Collection[str]) -> str:
    """A URL of apprise with one of the schemes; raises INVALID."""
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


def _no_number(text: str, region: str | None) -> Invalid:
    form = "E.164, such as +12063823454" if region is None else "a US number or E.164"
    return Invalid(f"address: {text[:40]!r} is not a telephone number that exists, in {form}.")
