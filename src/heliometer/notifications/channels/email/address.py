"""Which e-mail addresses are accepted. Whether one exists is shown by its code."""

from email_validator import EmailNotValidError, validate_email

from heliometer.core.errors import Invalid
from heliometer.notifications.model import ADDRESS_LENGTH


def email_address(text: str) -> str:
    """The address in the form that is sent to; raises INVALID."""
    try:
        found = validate_email(
            text, check_deliverability=False, allow_smtputf8=False, globally_deliverable=False
        )
    except EmailNotValidError as error:
        raise Invalid(f"address: is not an e-mail address. {error}") from error
    address = found.ascii_email or found.normalized
    if len(address) > ADDRESS_LENGTH:  # an internationalised domain is longer in ASCII
        raise Invalid(f"address: is longer than {ADDRESS_LENGTH} characters as it is sent to.")
    return address
