"""Numbers as people read them."""

from decimal import Decimal

DIGITS = 6
"""Significant digits of a value that is told apart from others by them."""
PLAIN = (1e-4, 1e15)
"""Magnitudes that are written without an exponent."""


def readable(value: float, beside: float | None = None) -> str:
    """A value with six significant digits, or with as many more as tell it from ``beside``, such
    as the threshold that it crossed."""
    value, digits = float(value), DIGITS
    if beside is not None and value != beside:
        while digits < 17 and _rounded(value, digits) == _rounded(beside, digits):
            digits += 1
    rounded = _rounded(value, digits)
    # Nobody counts in thousands of a large whole number that is known exactly.
    if value.is_integer() and abs(value) < PLAIN[1]:
        rounded = value
    if rounded and not PLAIN[0] <= abs(rounded) < PLAIN[1]:
        return f"{rounded:.{digits}g}"
    text = format(Decimal(repr(rounded)), "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


def _rounded(value: float, digits: int) -> float:
    return float(f"{value:.{digits}g}")
