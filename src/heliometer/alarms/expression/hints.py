"""Common mistakes in expressions, and the messages for them."""

import difflib

from heliometer.alarms.expression.nodes import FUNCTIONS, KEYWORDS, is_bare
from heliometer.alarms.expression.reader import NUMBER, Reader

_MEANT = {
    "mean": "avg", "average": "avg", "maximum": "max", "highest": "max",
    "minimum": "min", "lowest": "min", "total": "sum", "number": "count",
}  # fmt: skip
_COMPARISONS = "<, <=, > or >="
_NAMES = "a-z A-Z 0-9 . - _"
_LONGEST = 40


def short(text: str) -> str:
    """Text from the expression in a form that is fit for a message."""
    text = "".join(c if c.isprintable() else f"U+{ord(c):04X}" for c in text[: _LONGEST + 1])
    return text if len(text) <= _LONGEST else text[:_LONGEST] + "…"


def no_function(name: str) -> str:
    """For a word before a parenthesis that is not a function."""
    lower = name.lower()
    if lower in ("and", "or"):
        return f"'{name}' joins two subexpressions, and none stands before it"
    if lower == "not":
        return "there is no 'not'; turn the comparison round, such as <= for >"
    meant = _MEANT.get(lower) or next(
        iter(difflib.get_close_matches(lower[:_LONGEST], FUNCTIONS, 1)), ""
    )
    rest = f"did you mean {meant}?" if meant else f"the functions are {', '.join(FUNCTIONS)}"
    return f"'{short(name)}' is not a function; {rest}"


def no_metric(reader: Reader) -> str:
    """For a place where a metric or a subexpression should start."""
    word = reader.word()
    if word.lower() in KEYWORDS:
        return (
            f"a metric is expected before '{word}'; "
            f'as the name of a namespace it stands in quotes, "{word}"'
        )
    if reader.next_is("!"):
        return "there is no 'not'; turn the comparison round, such as <= for >"
    if reader.next_is("{"):
        return "a namespace is expected before the {, such as cpu{host=a}"
    return f"a metric is expected, such as cpu{{host=a}}{_instead(reader)}"


def no_end_of_function(reader: Reader, opened: int) -> str:
    """For a place where a function's arguments should end."""
    if reader.next_is("("):
        return "a function takes a metric, and not another function"
    if reader.next_is(","):
        return "a function takes a metric and a period, and nothing more"
    if reader.symbol() or reader.word().lower() in KEYWORDS:
        return f"the comparison stands outside the function's parentheses; {_opened('(', opened)}"
    return _expected(reader, "a comma and a period, or a )", "(", opened)


def no_end_of_group(reader: Reader, opened: int) -> str:
    """For a place where a parenthesis around an expression should end."""
    return _after_subexpression(reader) or _expected(reader, "'and', 'or' or a )", "(", opened)


def no_end(reader: Reader) -> str:
    """For a place where the expression should end."""
    return _after_subexpression(reader) or f"'and', 'or' or the end is expected{_instead(reader)}"


def no_end_of_dimension(reader: Reader, opened: int) -> str:
    """For a place behind a quoted value."""
    return _expected(reader, "a comma and a dimension, or a }", "{", opened)


def no_equals(reader: Reader, key: str) -> str:
    """For a place behind a dimension's key."""
    if reader.next_is(":"):
        return f"= is expected after the dimension {short(key)}, not a colon"
    if reader.symbol():
        return "a dimension is given by =, and by no other comparison"
    if _goes_on(reader):
        return f"the key of a dimension has only {_NAMES}{_instead(reader)}"
    return f"= and a value are expected after the dimension {short(key)}{_instead(reader)}"


def no_bare_value(reader: Reader, value: str, opened: int) -> tuple[int, str] | None:
    """The fault of an unquoted value that ends where the reader's ``until`` stopped, if any."""
    end = reader.at + len(value)
    if end == len(reader.text):
        return opened, "this { is not closed; a } is expected behind the dimensions"
    if reader.text[end] == "{":
        return end, (
            f"a }} is expected before this: {_opened('{', opened)}; "
            "a value that has a brace stands in quotes"
        )
    if reader.text[end] == '"':
        return end, "a value that has a quotation mark stands in quotes as a whole"
    value = value.rstrip()
    if not value:
        return reader.at, "a value is expected after the ="
    if is_bare(value):
        return None
    if value.startswith("="):
        return reader.at, "a single = is expected; a value that starts with = stands in quotes"
    if "=" in value:
        return reader.at, "a comma is missing in this, or the value must stand in quotes"
    return reader.at, f'a value stands in quotes of this kind, ", or in none; {value[0]} is another'


def no_comparison(reader: Reader, is_function: bool) -> str:
    """For a place where a relational operator should stand."""
    symbol, word = reader.symbol(), reader.word().lower()
    if symbol in ("=>", "=<"):
        return f"'{symbol}' is written '{symbol[::-1]}'"
    if symbol and symbol[0] in "=!<>":
        return f"there is no '{symbol}'; a comparison is {_COMPARISONS}"
    if reader.next_is("&lt;") or reader.next_is("&gt;"):
        return "this is escaped for HTML; write < or >"
    if reader.next_is(",") and not is_function:
        return "a period belongs to a function, such as avg(cpu, 120)"
    if word == "times":
        return "'times' stands behind the threshold"
    if _goes_on(reader):
        return f"a namespace has only {_NAMES}{_instead(reader)}"
    return f"a comparison is expected, {_COMPARISONS} (or lt, lte, gt, gte){_instead(reader)}"


def no_threshold(reader: Reader) -> str:
    """For a place where a threshold should stand."""
    token = reader.token()
    number = NUMBER.match(token)
    if number:
        rest = short(token[number.end() :])
        return f"a threshold is a number in the metric's own unit; leave out '{rest}'"
    if token.lower().lstrip("+-") in ("inf", "infinity", "nan"):
        return "a threshold is a finite number"
    rest = "; the metric stands left and the number right" if reader.word() else ""
    return f"a threshold is expected, a number such as 90 or 1.5e6{_instead(reader)}{rest}"


def no_whole_number(reader: Reader, what: str) -> str:
    """For a place where a period or a number of times should stand."""
    return f"a whole number is expected, {what}{_instead(reader)}"


def _after_subexpression(reader: Reader) -> str:
    """A guess at what was meant; empty if there is none."""
    symbol, word = reader.symbol(), reader.word().lower()
    text, last = reader.text, reader.last
    if reader.next_is(",") and reader.at == last and text[last + 1 : last + 2].isdigit():
        return "a number has a point and no commas, such as 1000.5"
    if reader.next_is(","):
        return "subexpressions are joined by 'and' or 'or', not by a comma"
    if symbol in ("&", "|"):
        return f"a single '{symbol}' is not an operator; write '{symbol * 2}'"
    if symbol and symbol[0] in "<>=!≤≥":
        return "a subexpression has one comparison; join two by 'and'"
    if word == "times":
        return "'times' stands once, behind the threshold of its function"
    return ""


def _goes_on(reader: Reader) -> bool:
    """Whether a name seems to go on with a character that no name may have."""
    before = reader.text[reader.last - 1 : reader.last]
    return reader.at == reader.last and bool(reader.token()) and before not in tuple('"})')


def _expected(reader: Reader, what: str, opening: str, opened: int) -> str:
    return f"{what} is expected{_instead(reader)}; {_opened(opening, opened)}"


def _opened(opening: str, opened: int) -> str:
    return f"the {opening} was opened at character {opened + 1}"


def _instead(reader: Reader) -> str:
    if reader.ended:
        return ", but the text ends here"
    found = reader.token() or reader.symbol() or reader.text[reader.at]
    return f", not '{short(found)}'"
