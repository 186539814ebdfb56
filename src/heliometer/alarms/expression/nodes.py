"""The tree of an alarm expression (v1.1 §2.5). Nodes print themselves in canonical form."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

from heliometer.metrics.model import Dimensions

Function = Literal["min", "max", "sum", "count", "avg"]
Operator = Literal["<", "<=", ">", ">="]
FUNCTIONS: dict[str, Function] = {
    "min": "min", "max": "max", "sum": "sum", "count": "count", "avg": "avg",
}  # fmt: skip
OPERATORS: dict[str, Operator] = {
    "<": "<", "<=": "<=", ">": ">", ">=": ">=", "≤": "<=", "≥": ">=",
    "lt": "<", "lte": "<=", "gt": ">", "gte": ">=",
}  # fmt: skip
KEYWORDS = frozenset({"and", "or", "times", "lt", "lte", "gt", "gte"})
"""Reserved words; a namespace of this name must be quoted."""
DEFAULT_PERIOD_S = 60


@dataclass(frozen=True, slots=True)
class Metric:
    """Selects the series of a namespace that have at least these dimensions."""

    namespace: str
    dimensions: Dimensions = ()
    """Pairs of key and value, sorted by key."""

    def __str__(self) -> str:
        name = f'"{self.namespace}"' if self.namespace.lower() in KEYWORDS else self.namespace
        pairs = ", ".join(f"{k}={v if is_bare(v) else _quoted(v)}" for k, v in self.dimensions)
        return f"{name}{{{pairs}}}" if pairs else name


@dataclass(frozen=True, slots=True)
class Subexpression:
    """A function of a metric compared with a threshold; without a function a direct comparison."""

    metric: Metric
    operator: Operator
    threshold: float
    function: Function | None = None
    period_s: int = DEFAULT_PERIOD_S
    """Seconds of a window, a multiple of 60. A direct comparison has the default."""
    times: int = 1
    """Windows in a row that must satisfy the comparison. A direct comparison has one."""
    span: tuple[int, int] = field(default=(0, 0), compare=False)
    """The range of characters in the text that it was read from: [start, end)."""

    @property
    def effective_function(self) -> Function:
        """The function; a direct comparison holds when any measurement crosses."""
        if self.function is not None:
            return self.function
        return "max" if self.operator in (">", ">=") else "min"

    def __str__(self) -> str:
        measured = str(self.metric)
        if self.function is not None:
            period = "" if self.period_s == DEFAULT_PERIOD_S else f", {self.period_s}"
            measured = f"{self.function}({measured}{period})"
        times = "" if self.times == 1 else f" times {self.times}"
        return f"{measured} {self.operator} {_number(self.threshold)}{times}"


@dataclass(frozen=True, slots=True)
class Logical:
    """Two or more operands joined by one operator. Nested operands of the same operator are
    flattened, since ``a and (b and c)`` means the same as ``a and b and c``."""

    operator: Literal["and", "or"]
    operands: tuple["Expression", ...]

    def __post_init__(self) -> None:
        flat: list[Expression] = []
        for each in self.operands:
            same = isinstance(each, Logical) and each.operator == self.operator
            flat.extend(each.operands if isinstance(each, Logical) and same else [each])
        object.__setattr__(self, "operands", tuple(flat))

    def __str__(self) -> str:
        # "and" binds tighter, so only an "or" within it needs parentheses.
        return f" {self.operator} ".join(
            f"({each})" if self.operator == "and" and isinstance(each, Logical) else str(each)
            for each in self.operands
        )


Expression = Subexpression | Logical


def subexpressions(expression: Expression) -> list[Subexpression]:
    """All subexpressions, in the order in which they appear."""
    return list(_walk(expression))


def longest_period_s(expression: Expression) -> int:
    """The longest period of any subexpression, in seconds."""
    return max(each.period_s for each in _walk(expression))


def is_bare(value: str) -> bool:
    """Whether a dimension value needs no quotes. It does when it could be taken for a mistake: a
    quotation mark, a brace or comma that belongs to the dimensions around it, ``==``, or a missing
    comma between two dimensions."""
    return not (
        value != value.strip()
        or value.startswith(("=", "'", "‘", "’", "“", "”", "„", "«", "»"))
        or any(mark in value for mark in ',{}"')
        or ("=" in value and any(character.isspace() for character in value))
    )


def _walk(expression: Expression) -> Iterator[Subexpression]:
    if isinstance(expression, Subexpression):
        yield expression
    else:
        for each in expression.operands:
            yield from _walk(each)


def _number(value: float) -> str:
    """The shortest spelling that reads back as the same number; never a negative zero."""
    return repr(value + 0.0).removesuffix(".0")


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
