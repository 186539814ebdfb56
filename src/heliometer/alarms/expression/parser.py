r"""Reads alarm expressions (v1.1 §2.5).

The grammar; words are case-insensitive, blanks and line ends may stand between any two tokens::

    expression    : conjunction (('or' | '||') conjunction)*
    conjunction   : operand (('and' | '&&') operand)*
    operand       : '(' expression ')' | subexpression
    subexpression : metric comparison threshold
                  | function '(' metric (',' period)? ')' comparison threshold ('times' number)?
    function      : 'min' | 'max' | 'sum' | 'count' | 'avg'
    metric        : namespace ('{' (key '=' value (',' key '=' value)*)? '}')?
    comparison    : '<' | '>' | '<=' | '>=' | 'lt' | 'gt' | 'lte' | 'gte' | '≤' | '≥'

Beyond the document, values and namespaces may stand in double quotes, with ``\"`` and ``\\`` for
the two characters themselves. Quotes are needed

- for a value that has a comma, a brace, a quotation mark, or a blank at either end, that starts
  with ``=`` or a quotation mark of any kind, or that has both a blank and ``=``: without quotes
  these are slips far more often than meant;
- for a namespace that is a word of the language: ``"and"``, ``"or"``, ``"times"``, ``"lt"``,
  ``"lte"``, ``"gt"``, ``"gte"``, in any case of letters.

A function's name is one only before a parenthesis: ``max > 3`` is about the namespace ``max``.
"""

from collections.abc import Callable
from typing import Literal

from heliometer.alarms.expression import hints
from heliometer.alarms.expression.nodes import (
    DEFAULT_PERIOD_S,
    FUNCTIONS,
    KEYWORDS,
    OPERATORS,
    Expression,
    Function,
    Logical,
    Metric,
    Operator,
    Subexpression,
)
from heliometer.alarms.expression.reader import NUMBER, Reader
from heliometer.core.errors import Invalid
from heliometer.metrics.validation import LARGEST, check_dimension, check_namespace

LENGTH = 4096
"""Bytes of an expression in UTF-8."""
DEPTH = 32
"""Depth of nested parentheses, not counting those of functions."""
SUBEXPRESSIONS = 100
LONGEST_S = 14 * 86_400
"""The longest ``period`` × ``times``, in seconds."""

_JOINTS: dict[str, Literal["and", "or"]] = {"and": "and", "&&": "and", "or": "or", "||": "or"}


def parse(text: str) -> Expression:
    """The expression that the text says.

    Bounded: 4096 bytes, 32 parentheses inside each other, 100 subexpressions. The canonical text
    of an expression (``str``) has more blanks than the shortest, and may exceed the first bound
    when the text itself is near it.

    Raises INVALID with what is wrong and what is expected, followed by the text, or the part
    around the place when it is long, and a caret under the place, each on a line of its own.
    """
    length = len(text.encode("utf-8", "surrogatepass"))
    if length > LENGTH:
        raise Invalid(
            f"expression: it has {length} bytes, and at most {LENGTH} are allowed.",
            details="Make several alarms of it, or name fewer dimensions.",
        )
    return _Parser(Reader(text)).whole()


class _Parser:
    """Has a method for each rule of the grammar, which consumes from the reader what it stands
    for."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._depth = 0
        self._subexpressions = 0

    def whole(self) -> Expression:
        reader = self._reader
        if reader.ended:
            raise Invalid("expression: it is empty; write one such as avg(cpu{host=a}) > 90.")
        expression = self._expression()
        if reader.next_is(")"):
            raise reader.fault(reader.at, "this ) closes nothing")
        if not reader.ended:
            raise reader.fault(reader.at, hints.no_end(reader))
        return expression

    def _expression(self) -> Expression:
        return self._joined("or", lambda: self._joined("and", self._operand))

    def _joined(self, joint: Literal["and", "or"], operand: Callable[[], Expression]) -> Expression:
        reader = self._reader
        operands = [operand()]
        while _JOINTS.get((found := reader.symbol() or reader.word()).lower()) == joint:
            reader.take(len(found))
            operands.append(operand())
        return operands[0] if len(operands) == 1 else Logical(joint, tuple(operands))

    def _operand(self) -> Expression:
        reader, opened = self._reader, self._reader.at
        if not reader.took("("):
            return self._subexpression()
        self._depth += 1
        if self._depth > DEPTH:
            raise reader.fault(opened, f"at most {DEPTH} parentheses may stand inside each other")
        inner = self._expression()
        if not reader.took(")"):
            raise reader.fault(reader.at, hints.no_end_of_group(reader, opened))
        self._depth -= 1
        return inner

    def _subexpression(self) -> Subexpression:
        reader, start = self._reader, self._reader.at
        self._subexpressions += 1
        if self._subexpressions > SUBEXPRESSIONS:
            raise reader.fault(start, f"at most {SUBEXPRESSIONS} subexpressions are allowed")
        function: Function | None = None
        period_s, times = DEFAULT_PERIOD_S, 1
        word = reader.word()
        if word and reader.calls(word):
            function = self._function(word)
            opened = reader.at
            reader.take(1)
            metric = self._metric()
            if reader.took(","):
                period_s = self._period()
            if not reader.took(")"):
                raise reader.fault(reader.at, hints.no_end_of_function(reader, opened))
        else:
            metric = self._metric()
        operator = self._comparison(function is not None)
        threshold = self._threshold()
        if reader.word().lower() == "times":
            if function is None:
                extreme = "max" if operator in (">", ">=") else "min"
                raise reader.fault(
                    reader.at,
                    "'times' belongs to a function; "
                    f"this comparison is the same as {extreme}({hints.short(str(metric))})",
                )
            times = self._times(period_s)
        span = (start, reader.last)
        return Subexpression(metric, operator, threshold, function, period_s, times, span)

    def _function(self, name: str) -> Function:
        function = FUNCTIONS.get(name.lower())
        if function is None:
            raise self._reader.fault(self._reader.at, hints.no_function(name))
        self._reader.take(len(name))
        return function

    def _metric(self) -> Metric:
        reader, place = self._reader, self._reader.at
        if reader.next_is('"'):
            namespace = reader.take_quoted()
        else:
            namespace = reader.word()
            if not namespace or namespace.lower() in KEYWORDS:
                raise reader.fault(place, hints.no_metric(reader))
            reader.take(len(namespace))
        self._check(place, lambda: check_namespace(namespace))
        dimensions = self._dimensions() if reader.next_is("{") else {}
        return Metric(namespace, tuple(sorted(dimensions.items())))

    def _dimensions(self) -> dict[str, str]:
        reader, opened = self._reader, self._reader.at
        dimensions: dict[str, str] = {}
        reader.take(1)
        if reader.took("}"):
            return dimensions
        while True:
            key = self._key()
            if key in dimensions:
                raise reader.fault(reader.at, f"the dimension {hints.short(key)} stands twice")
            reader.take(len(key))
            if not reader.took("="):
                raise reader.fault(reader.at, hints.no_equals(reader, key))
            dimensions[key] = self._value(key, opened)
            if reader.took("}"):
                return dimensions
            if not reader.took(","):
                raise reader.fault(reader.at, hints.no_end_of_dimension(reader, opened))

    def _key(self) -> str:
        reader = self._reader
        key = reader.word()
        if not key:
            raise reader.fault(reader.at, "the key of a dimension is expected, such as host=a")
        self._check(reader.at, lambda: check_dimension(key, "any"))
        return key

    def _value(self, key: str, opened: int) -> str:
        reader, place = self._reader, self._reader.at
        if reader.next_is('"'):
            value = reader.take_quoted()
        else:
            value = reader.until(',{}"')
            wrong = hints.no_bare_value(reader, value, opened)
            if wrong:
                raise reader.fault(*wrong)
            value = value.rstrip()
            reader.take(len(value))
        self._check(place, lambda: check_dimension(key, value))
        return value

    def _period(self) -> int:
        reader, place = self._reader, self._reader.at
        period_s = self._whole_number("the seconds of a period, a multiple of 60")
        if period_s > LONGEST_S:
            raise reader.fault(place, f"a period is at most two weeks, which is {LONGEST_S}")
        if period_s < 60 or period_s % 60:
            nearest = max(60, (period_s + 30) // 60 * 60)
            raise reader.fault(
                place, f"a period is a multiple of 60 seconds, and {nearest} is the nearest"
            )
        return period_s

    def _comparison(self, is_function: bool) -> Operator:
        reader = self._reader
        found = reader.symbol() or reader.word()
        operator = OPERATORS.get(found.lower())
        if operator is None:
            raise reader.fault(reader.at, hints.no_comparison(reader, is_function))
        reader.take(len(found))
        return operator

    def _threshold(self) -> float:
        reader = self._reader
        token = reader.token()
        if not NUMBER.fullmatch(token):
            raise reader.fault(reader.at, hints.no_threshold(reader))
        threshold = float(token)
        if abs(threshold) > LARGEST:
            raise reader.fault(
                reader.at, f"a threshold is at most {LARGEST:e} in magnitude, like the values"
            )
        reader.take(len(token))
        return threshold

    def _times(self, period_s: int) -> int:
        reader = self._reader
        reader.take(len("times"))
        place = reader.at
        times = self._whole_number("how many periods in a row")
        if times < 1:
            raise reader.fault(place, "'times' is at least 1")
        if period_s * times > LONGEST_S:
            raise reader.fault(
                place,
                "the periods in a row are at most two weeks together: "
                f"{LONGEST_S // period_s} with a period of {period_s}",
            )
        return times

    def _whole_number(self, what: str) -> int:
        reader = self._reader
        token = reader.token()
        if not (token.isascii() and token.isdigit()):
            raise reader.fault(reader.at, hints.no_whole_number(reader, what))
        reader.take(len(token))
        # Ten digits exceed every bound here, and int() refuses thousands of digits.
        return int(token.lstrip("0")[:10] or "0")

    def _check(self, place: int, check: Callable[[], None]) -> None:
        """Turn a fault that the model raises into one that points at a place in the text."""
        try:
            check()
        except Invalid as error:
            what = error.message.partition(": ")[2].removesuffix(".")
            raise self._reader.fault(place, what) from None
