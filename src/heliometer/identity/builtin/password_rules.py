"""What a new password must be, as NIST SP 800-63B has it: long enough, and not known to guessers.

There are no rules about kinds of characters, and passwords do not expire. The rules are for new
passwords: one that was set before them goes on working.
"""

import functools
from importlib.resources import files

from heliometer.core.errors import Invalid
from heliometer.identity.accounts import check_password

SHORTEST = 8
"""Characters, of whatever script."""
LEAKED = "leaked_passwords.txt"
"""The passwords of at least this length among the 20 000 most frequent leaked ones, in lower case,
as Django 5.1 carries them (``leaked_passwords.LICENSE``)."""
SERVICE = "heliometer"


def check_new_password(password: str, user_name: str) -> None:
    """Raise INVALID for a password that may not be chosen, with the reason."""
    check_password(password)
    if len(password) < SHORTEST:
        raise Invalid(
            f"password: it must have at least {SHORTEST} characters, not {len(password)}.",
            details="A few words make a good one; spaces are allowed.",
        )
    folded = password.casefold()
    if len(set(folded)) == 1:
        raise Invalid("password: it is one character repeated.", details="Choose another one.")
    if folded in (user_name.casefold(), SERVICE, user_name.casefold()[::-1]):
        raise Invalid(
            "password: it is the name of the user or of the service.", details="Choose another one."
        )
    if folded in _leaked():
        raise Invalid(
            "password: it is on a list of leaked passwords, which are tried first.",
            details="Choose another one; a few words make a good one.",
        )


@functools.cache
def _leaked() -> frozenset[str]:
    text = files("heliometer.identity.builtin").joinpath(LEAKED).read_text("utf-8")
    return frozenset(text.splitlines())
