"""Translates Keystone's refusals into this service's errors."""

from heliometer.core.errors import Code, HeliometerError
from heliometer.identity.keystone.client import Answer, unavailable
from heliometer.identity.keystone.documents import fault_message
from heliometer.identity.model import unauthenticated

CODES = {
    400: Code.MALFORMED,
    401: Code.UNAUTHENTICATED,
    403: Code.FORBIDDEN,
    404: Code.NOT_FOUND,
    409: Code.CONFLICT,
    413: Code.TOO_LARGE,
}


def refusal(answer: Answer) -> HeliometerError:
    """The error for a refusal, with Keystone's message."""
    if receipt_of(answer):
        return unauthenticated("A password alone does not do for this user: sign in at Keystone.")
    code = CODES.get(answer.status)
    if code is None:
        return unavailable()
    message = fault_message(answer.body) or "Keystone refuses the request."
    return HeliometerError(code, message)


def receipt_of(answer: Answer) -> str:
    """The receipt of a sign-in whose password was right but which needs another factor."""
    receipt: str = answer.headers.get("openstack-auth-receipt", "")
    return receipt if answer.status == 401 else ""
