"""Which e-mail addresses are accepted. Whether one exists is shown by its code."""

from email_validator import EmailNotValidError, validate_email

from heliometer.core.errors import Invalid
from heliometer.notifications.model import ADDRESS_LENGTH

LOCAL = (".local", ".localhost", ".test", ".internal", ".home.arpa", ".invalid", ".onion")
_ELSEWHERE = ".net"
_GOOGLE = ("gmail.com", "googlemail.com")


def email_address(text: str, *, allow_local: bool = False) -> str:
    """The address in the form that is sent to; raises INVALID.

    ``allow_local``: domains that only a local network knows are accepted too.
    """
    is_local = f".{text.rpartition('@')[2].lower()}".endswith(LOCAL)
    if is_local and not allow_local:
        raise Invalid(
            "address: is of a domain that only a local network knows (setting email.allow_local)."
        )
    # The library refuses these domains without exception; below another they are as any.
    suffix = _ELSEWHERE if is_local else ""
    try:
        found = validate_email(
            text + suffix,
            check_deliverability=False,
            allow_smtputf8=False,
            globally_deliverable=False,
        )
    except EmailNotValidError as error:
        raise Invalid(f"address: is not an e-mail address. {error}") from error
    address = (found.ascii_email or found.normalized).removesuffix(suffix)
    if len(address) > ADDRESS_LENGTH:  # an internationalised domain is longer in ASCII
        raise Invalid(f"address: is longer than {ADDRESS_LENGTH} characters as it is sent to.")
    return address


def mailbox(address: str) -> str:
    """Where mail to an address most likely ends up: without what follows a ``+``, in lower case,
    and at Google without dots. Relays may tell apart what is one here, so this is only for counting
    what is sent."""
    local, _, domain = address.lower().rpartition("@")
    local = local.partition("+")[0] or local
    if domain in _GOOGLE:
        local, domain = local.replace(".", "") or local, _GOOGLE[0]
    return f"{local}@{domain}"
