"""Strict JSON: refuses what is ambiguous or cannot be stored, and says where it is."""

import json
import math
import re
from typing import Any, NoReturn, TypeVar

import msgspec

from heliometer.core.errors import Malformed
from heliometer.http.decoding import check_values

DEPTH = 32
"""Deepest nesting of objects and arrays."""
NUMBER_LENGTH = 1_000
SHOWN = 40
"""Most characters of a key or number in a message."""

T = TypeVar("T")

_ZEROS = bytes(ord("0") if chr(c).isdigit() and c < 128 else c for c in range(256))
_MANY_DIGITS = b"0" * (NUMBER_LENGTH // 3)
"""A number that is too long has this many digits in its integer part, fraction or exponent."""
_LARGEST = int(1.7976931348623157e308)
_PIECE = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+(?:"|\Z)|[{}\[\]:,]|[^\s{}\[\]:,"]+')


def strict_loads(body: bytes) -> Any:
    """Read a JSON document. Raises MALFORMED with the place of the first error.

    Besides invalid JSON it refuses encodings other than UTF-8, NaN and infinities, numbers that
    exceed a float or are absurdly long, duplicate keys, lone surrogates and deep nesting. Raises
    TOO_LARGE for too many values.
    """
    check_values(body)
    if not body.strip():
        raise Malformed("The body is empty; a JSON document was expected.")
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError as error:
        raise Malformed(f"The body is not UTF-8: byte {error.start} cannot be read.") from error
    try:
        document = json.loads(text, object_pairs_hook=_object, parse_constant=_constant)
    except json.JSONDecodeError as error:
        reason = error.msg.removesuffix(" (decode using utf-8-sig)")
        raise Malformed(
            f"The body is not JSON: {reason[:1].lower()}{reason[1:]} "
            f"(line {error.lineno}, column {error.colno})."
        ) from error
    except RecursionError as error:
        raise Malformed(_too_deep("")) from error
    except ValueError as error:  # From a hook, or an integer longer than Python converts.
        raise _Inspection(text).fault() from error
    # The slow inspection runs only on suspicion.
    if (
        _is_suspect(document)
        or (b"\\u" in body and _has_surrogates(document))
        or _MANY_DIGITS in body.translate(_ZEROS)
    ):
        fault = _Inspection(text).find()
        if fault is not None:
            raise fault
    return document


def convert(document: Any, type_: type[T]) -> T:
    """A document as a value of a msgspec type. Raises MALFORMED with the path of the error."""
    try:
        return msgspec.convert(document, type_)
    except msgspec.ValidationError as error:
        reason, _, path = str(error).partition(" - at `$")
        path = path.rstrip("`").lstrip(".") or "body"
        raise Malformed(f"{path}: {reason[:1].lower()}{reason[1:].replace('`', '')}.") from error


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        raise ValueError("a key occurs twice")
    return made


def _constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")


def _is_suspect(document: Any) -> bool:
    """Whether the document is too deep or has a number out of range."""
    level, depth = [document], 0
    while level:
        depth += 1
        below: list[Any] = []
        for item in level:
            kind = type(item)
            if kind is dict or kind is list:
                if depth > DEPTH:
                    return True
                below.extend(item.values() if kind is dict else item)
            elif (kind is int and not -_LARGEST <= item <= _LARGEST) or (
                kind is float and math.isinf(item)
            ):
                return True
        level = below
    return False


def _has_surrogates(document: Any) -> bool:
    try:
        json.dumps(document, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError:
        return True
    return False


class _Inspection:
    """Walks through well-formed JSON token by token to locate an error."""

    def __init__(self, text: str) -> None:
        self._pieces = _PIECE.finditer(text)
        self._path: list[str | int] = []
        self._keys: list[set[str] | None] = []
        """The keys so far of each open object; ``None`` for an open array."""

    def fault(self) -> Malformed:
        """The first error of a text that is known to have one."""
        return self.find() or Malformed("The body is not JSON that can be read.")

    def find(self) -> Malformed | None:
        """The first error, or ``None``."""
        expects_key = False
        for match in self._pieces:
            piece = match[0]
            if piece in "{[":
                self._keys.append(set() if piece == "{" else None)
                self._path.append("" if piece == "{" else 0)
                expects_key = piece == "{"
                if len(self._keys) > DEPTH:
                    return Malformed(_too_deep(self._place()))
            elif piece in "}]":
                self._keys.pop()
                self._path.pop()
                expects_key = False
            elif piece == ",":
                expects_key = self._keys[-1] is not None
                if not expects_key:
                    self._path[-1] += 1  # type: ignore[operator]
            elif piece == ":":
                expects_key = False
            else:
                reason = self._key(piece) if expects_key else _scalar(piece)
                if reason:
                    return Malformed(f"{self._place() or 'body'}: {reason}")
        return None

    def _key(self, piece: str) -> str:
        key = json.loads(piece)
        keys = self._keys[-1]
        assert keys is not None
        reason = _scalar(piece)
        if not reason and key in keys:
            self._path[-1] = ""
            reason = f"the key {_shown(key)} occurs twice."
        elif not reason:
            self._path[-1] = key
        keys.add(key)
        return reason

    def _place(self) -> str:
        place = ""
        for step in self._path:
            if isinstance(step, int):
                place += f"[{step}]"
            elif step:
                place += f".{_shown(step)}"
        return _shown(place.lstrip("."), 3 * SHOWN)


def _scalar(piece: str) -> str:
    """The error in a string, number or word; empty if there is none."""
    if piece.startswith('"'):
        try:
            json.loads(piece).encode("utf-8")
        except UnicodeEncodeError:
            return "the text has half a surrogate pair (\\ud800 to \\udfff)."
        return ""
    if piece in ("true", "false", "null"):
        return ""
    if piece in ("NaN", "Infinity", "-Infinity"):
        return f"{piece} is not a number in JSON."
    if len(piece) > NUMBER_LENGTH:
        return f"the number has {len(piece)} characters; {NUMBER_LENGTH} are allowed."
    try:
        if math.isinf(float(piece)):
            return f"the number {_shown(piece)} is out of range."
    except ValueError:  # json stops at NaN and misses what follows it directly.
        return f"{_shown(piece)} is no JSON."
    return ""


def _too_deep(place: str) -> str:
    where = f"{place}: " if place else ""
    return f"{where}the body is nested deeper than {DEPTH} levels."


def _shown(text: str, length: int = SHOWN) -> str:
    plain = text if text.isprintable() else ascii(text)[1:-1]
    return plain if len(plain) <= length else plain[:length] + "…"
