"""How much the tests try: enough on every run, much more by hand (``make soak``)."""

import os
from typing import TypeVar

T = TypeVar("T")

SOAK = os.environ.get("HELIOMETER_TEST_PROFILE") == "soak"


def effort(quick: T, soak: T) -> T:
    """What a test does on every run, and what it does by hand: examples, rounds, seconds."""
    return soak if SOAK else quick
