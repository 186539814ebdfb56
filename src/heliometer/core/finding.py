"""What a check of ``heliometer doctor`` found. Checks live beside what they check."""

from dataclasses import dataclass

OK = "ok"
WARN = "warn"
FAIL = "FAIL"


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report: what was checked, its level, and what to do unless it is OK."""

    check: str
    level: str
    message: str
    advice: str = ""

    def line(self) -> str:
        """The finding as printed: level, check, message, advice."""
        advice = f" — {self.advice}" if self.advice else ""
        return f"{self.level:<4}  {self.check}: {self.message}{advice}"


def size(count: int) -> str:
    """A number of bytes in decimal units, such as ``1.5 MB``."""
    amount = float(count)
    for unit in ("bytes", "kB", "MB", "GB"):
        if amount < 1000:
            return f"{amount:.0f} {unit}" if unit == "bytes" else f"{amount:.1f} {unit}"
        amount /= 1000
    return f"{amount:.1f} TB"
