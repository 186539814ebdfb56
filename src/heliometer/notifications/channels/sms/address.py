"""Which telephone numbers are accepted."""

import re

import phonenumbers

from heliometer.core.errors import Invalid


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


def _no_number(text: str, region: str | None) -> Invalid:
    form = "E.164, such as +12063823454" if region is None else "a US number or E.164"
    return Invalid(f"address: {text[:40]!r} is not a telephone number that exists, in {form}.")
