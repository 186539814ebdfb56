"""Reads the text of an expression from left to right, and points at faults in it."""

import re
import unicodedata

from heliometer.core.errors import Invalid

NUMBER = re.compile(r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")

_BLANKS = re.compile(r"\s*")
_WORD = re.compile(r"[A-Za-z0-9._-]+")
_TOKEN = re.compile(r"[^\s(),{}\"<>=!&|]+")
_SYMBOL = re.compile(r"[<>=!]+|[≤≥]|[&|]+")

_SHOWN = 72
"""How many characters around a fault a message shows."""


class Reader:
    """A position in a text, never on a blank. No pattern here backtracks, so that reading takes
    linear time."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.last = 0
        """The end of what was consumed last, before the blanks after it."""
        self.take(0)

    @property
    def ended(self) -> bool:
        """Whether the end of the text is reached."""
        return self.at == len(self.text)

    def take(self, length: int) -> None:
        """Skip so many characters and the blanks after them."""
        self.last = self.at + length
        self.at = self._end_of_blanks(self.last)

    def next_is(self, text: str) -> bool:
        """Whether the text is next."""
        return self.text.startswith(text, self.at)

    def took(self, text: str) -> bool:
        """Consume the text if it is next."""
        here = self.next_is(text)
        if here:
            self.take(len(text))
        return here

    def word(self) -> str:
        """The letters, digits, dots, hyphens and underscores that come next; may be empty."""
        return self._match(_WORD)

    def token(self) -> str:
        """The text up to a blank or a symbol of the language; may be empty."""
        return self._match(_TOKEN)

    def symbol(self) -> str:
        """The symbols of comparison and conjunction that come next; may be empty."""
        return self._match(_SYMBOL)

    def calls(self, word: str) -> bool:
        """Whether a parenthesis follows the next word."""
        return self.text.startswith("(", self._end_of_blanks(self.at + len(word)))

    def until(self, ends: str) -> str:
        """The text up to any of the characters, or to the end."""
        end = self.at
        while end < len(self.text) and self.text[end] not in ends:
            end += 1
        return self.text[self.at : end]

    def take_quoted(self) -> str:
        """Consume a text in double quotes, in which a backslash escapes ``"`` and itself."""
        opened, end, characters = self.at, self.at + 1, []
        while not self.text.startswith('"', end):
            if self.text.startswith("\\", end):
                end += 1
                if not self.text.startswith(('"', "\\"), end):
                    raise self.fault(end - 1, r'in quotes a backslash is written \\, and a " is \"')
            if end >= len(self.text):
                raise self.fault(opened, "this quotation mark is not closed")
            characters.append(self.text[end])
            end += 1
        self.take(end + 1 - opened)
        return "".join(characters)

    def fault(self, place: int, what: str) -> Invalid:
        """The fault at a place, with the text around it and a caret below."""
        stop = "" if what.endswith("?") else "."
        return Invalid(
            f"expression: character {place + 1}: {what}{stop}\n{self._pointed(place)}",
            details="Alarm expressions are described in the API document v1.1, section 2.5.",
        )

    def _pointed(self, place: int) -> str:
        first = max(0, min(place - _SHOWN // 2, len(self.text) - _SHOWN))
        last = first + _SHOWN
        before, after = "…" * (first > 0), "…" * (last < len(self.text))
        left, right = _shown(self.text[first:place]), _shown(self.text[place:last])
        return f"  {before}{left}{right}{after}".rstrip() + f"\n  {' ' * _width(before + left)}^"

    def _match(self, pattern: re.Pattern[str]) -> str:
        found = pattern.match(self.text, self.at)
        return found[0] if found else ""

    def _end_of_blanks(self, at: int) -> int:
        found = _BLANKS.match(self.text, at)
        return found.end() if found else at


def _shown(text: str) -> str:
    """The text on one line, without characters that are invisible or cannot be sent."""
    return "".join(c if c.isprintable() else " " if c.isspace() else "\N{REPLACEMENT CHARACTER}"
                   for c in text)  # fmt: skip


def _width(text: str) -> int:
    """The width of the text in a terminal, in columns."""
    return sum(
        0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1
        for c in text
    )
