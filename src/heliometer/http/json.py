"""Strict reading of JSON bodies: what is ambiguous or cannot be kept is refused, and where."""

import json
import math
import re
from typing import Any, NoReturn, TypeVar

import msgspec

from heliometer.model.errors import Malformed

DEPTH = 32
"""Objects and arrays that may be nested in each other."""
NUMBER_LENGTH = 1_000
SHOWN = 40
"""Characters of a key or number that a message shows."""

T = TypeVar("T")

_ZEROS = bytes(ord("0") if chr(c).isdigit() and c < 128 else c for c in range(256))
_MANY_DIGITS = b"0" * NUMBER_LENGTH
_LARGEST = int(1.7976931348623157e308)
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")
_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[{}\[\]:,]|[^\s{}\[\]:,"]+')


def strict_loads(body: bytes) -> Any:
    """Read a JSON document; raise MALFORMED with the place of the first thing that is wrong.

    Refused besides what is no JSON: other encodings than UTF-8, NaN and infinities, numbers too
    large for a float or absurdly long, keys that occur twice, lone surrogates, deep nesting.
    """
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
    except ValueError as error:  # One of the hooks, or an integer that Python does not convert.
        raise _Inspection(text).fault() from error
    if _is_suspect(document) or _SURROGATE.search(body) or _MANY_DIGITS in body.translate(_ZEROS):
        fault = _Inspection(text).find()
        if fault is not None:
            raise fault
    return document


def convert(document: Any, type_: type[T]) -> T:
    """Turn a document into a value of a msgspec type; raise MALFORMED with the path otherwise."""
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
    """Whether the document is too deep or has a number out of range: quick, and by level."""
    level = [document]
    for _ in range(DEPTH + 2):
        below: list[Any] = []
        for item in level:
            kind = type(item)
            if kind is dict:
                below.extend(item.values())
            elif kind is list:
                below.extend(item)
            elif (kind is int and not -_LARGEST <= item <= _LARGEST) or (
                kind is float and math.isinf(item)
            ):
                return True
        if not below:
            return False
        level = below
    return True


class _Inspection:
    """Goes through well-formed JSON token by token, only to say where the fault is."""

    def __init__(self, text: str) -> None:
        self._tokens = _TOKEN.finditer(text)
        self._path: list[str | int] = []
        self._keys: list[set[str] | None] = []
        """For each open object its keys so far; ``None`` for each open array."""

    def fault(self) -> Malformed:
        """The first fault of a text that has one."""
        return self.find() or Malformed("The body is not JSON that can be read.")

    def find(self) -> Malformed | None:
        """The first fault, if any."""
        expects_key = False
        for match in self._tokens:
            token = match[0]
            if token in "{[":
                self._keys.append(set() if token == "{" else None)
                self._path.append("" if token == "{" else 0)
                expects_key = token == "{"
                if len(self._keys) > DEPTH:
                    return Malformed(_too_deep(self._place()))
            elif token in "}]":
                self._keys.pop()
                self._path.pop()
                expects_key = False
            elif token == ",":
                expects_key = self._keys[-1] is not None
                if not expects_key:
                    self._path[-1] += 1  # type: ignore[operator]
            elif token == ":":
                expects_key = False
            else:
                reason = self._key(token) if expects_key else _scalar(token)
                if reason:
                    return Malformed(f"{self._place() or 'body'}: {reason}")
        return None

    def _key(self, token: str) -> str:
        key = json.loads(token)
        keys = self._keys[-1]
        assert keys is not None
        reason = _scalar(token)
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
        return place.lstrip(".")


def _scalar(token: str) -> str:
    """What is wrong with a string, number or word; empty if nothing."""
    if token.startswith('"'):
        try:
            json.loads(token).encode("utf-8")
        except UnicodeEncodeError:
            return "the text has half a surrogate pair (\\ud800 to \\udfff)."
        return ""
    if token in ("true", "false", "null"):
        return ""
    if token in ("NaN", "Infinity", "-Infinity"):
        return f"{token} is not a number in JSON."
    if len(token) > NUMBER_LENGTH:
        return f"the number has {len(token)} characters; {NUMBER_LENGTH} are allowed."
    if math.isinf(float(token)):
        return f"the number {_shown(token)} is out of range."
    return ""


def _too_deep(place: str) -> str:
    where = f"{place}: " if place else ""
    return f"{where}the body is nested deeper than {DEPTH} levels."


def _shown(text: str) -> str:
    plain = text if text.isprintable() else ascii(text)[1:-1]
    return plain if len(plain) <= SHOWN else plain[:SHOWN] + "…"
