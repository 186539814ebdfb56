"""What a check of ``heliometer doctor`` found."""

from dataclasses import dataclass

OK = "ok"
WARN = "warn"
FAIL = "FAIL"


@dataclass(frozen=True, slots=True)
class Finding:
    """One line: what was looked at, how it is, and what to do unless it is well."""

    check: str
    level: str
    message: str
    advice: str = ""

    def line(self) -> str:
        """The finding as it is shown."""
        advice = f" — {self.advice}" if self.advice else ""
        return f"{self.level:<4}  {self.check}: {self.message}{advice}"


def size(count: int) -> str:
    """Bytes as people read them."""
    amount = float(count)
    for unit in ("bytes", "kB", "MB", "GB"):
        if amount < 1000:
            return f"{amount:.0f} {unit}" if unit == "bytes" else f"{amount:.1f} {unit}"
        amount /= 1000
    return f"{amount:.1f} TB"
