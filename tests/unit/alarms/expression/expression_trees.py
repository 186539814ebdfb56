"""Expressions made at random, other spellings of them, and what they say of given facts."""

from collections.abc import Callable

from hypothesis import strategies as st

from heliometer.alarms.expression import Expression, Logical, Metric, Subexpression
from heliometer.metrics.validation import LARGEST

_NAMES = "abMAX01.-_"
_WORDS = ["and", "Or", "TIMES", "lt", "gte", "max", "avg", "60", "hpcs.compute", "not"]
_AWKWARD = ", {}\"\\='“:()<>&|a機é0"

names = st.text(_NAMES, min_size=1, max_size=8) | st.sampled_from(_WORDS)
values = st.text(_AWKWARD, min_size=1, max_size=8) | st.text(
    st.characters(exclude_categories=("C", "Z")), min_size=1, max_size=12
).filter(str.isprintable)
metrics = st.builds(
    lambda namespace, dimensions: Metric(namespace, tuple(sorted(dimensions.items()))),
    names,
    st.dictionaries(names, values, max_size=3),
)
thresholds = st.floats(-LARGEST, LARGEST) | st.integers(-1000, 1000).map(float)
operators = st.sampled_from(["<", "<=", ">", ">="])
leaves = st.builds(Subexpression, metrics, operators, thresholds) | st.builds(
    Subexpression,
    metrics,
    operators,
    thresholds,
    st.sampled_from(["min", "max", "sum", "count", "avg"]),
    st.integers(1, 60).map(lambda minutes: minutes * 60),
    st.integers(1, 10),
)


def joined(of: st.SearchStrategy[Expression]) -> st.SearchStrategy[Expression]:
    """Two to four of them, joined."""
    return st.builds(
        Logical,
        st.sampled_from(["and", "or"]),
        st.lists(of, min_size=2, max_size=4).map(tuple),
    )


expressions: st.SearchStrategy[Expression] = st.recursive(leaves, joined, max_leaves=10)


def holds(expression: Expression, fact: Callable[[Subexpression], bool]) -> bool:
    """Whether the expression is true when the subexpressions are as given."""
    if isinstance(expression, Subexpression):
        return fact(expression)
    return {"and": all, "or": any}[expression.operator](
        holds(each, fact) for each in expression.operands
    )


def respelled(draw: Callable[[st.SearchStrategy[object]], object], expression: Expression) -> str:
    """Other text of the same meaning."""

    def one_of(*choices: str) -> str:
        return str(draw(st.sampled_from(choices)))

    def blank() -> str:
        return one_of("", " ", "\n\t ")

    def metric(of: Metric) -> str:
        pairs = draw(st.permutations([str(Metric("x", (pair,)))[2:-1] for pair in of.dimensions]))
        assert isinstance(pairs, list)
        name = str(Metric(of.namespace))
        if not pairs:
            return name + one_of("", "{}", " { }")
        return f"{name}{blank()}{{{blank()}{f'{blank()},{blank()}'.join(pairs)}{blank()}}}"

    def subexpression(of: Subexpression) -> str:
        measured, times = metric(of.metric), ""
        plain = (of.period_s, of.times) == (60, 1)
        if of.function is not None or one_of("direct", "function") == "function":
            function = one_of(of.effective_function, of.effective_function.upper())
            period = f",{blank()}{of.period_s}" if of.period_s != 60 else one_of("", ", 60")
            measured = f"{function}{blank()}({blank()}{measured}{period}{blank()})"
            times = f" times {of.times}" if of.times != 1 else one_of("", " TIMES 1")
        if plain and of.function is not None and of.function == _extreme(of):
            measured, times = metric(of.metric), ""
        words = {"<": "LT", "<=": "lte", ">": "gt", ">=": "Gte"}
        operator = one_of(f" {of.operator}", f" {words[of.operator]} ")
        number = one_of(repr(of.threshold), f"{of.threshold:.17e}", f"{of.threshold:.25E}")
        return f"{measured}{operator}{blank()}{number}{times}"

    def group(parts: list[str], joint: str) -> str:
        """Joined, some of the parts in parentheses of their own."""
        if len(parts) > 2 and one_of("flat", "nested") == "nested":
            cut = len(parts) // 2
            return group([f"({group(parts[:cut], joint)})", *parts[cut:]], joint)
        return joint.join(parts)

    if isinstance(expression, Subexpression):
        text = subexpression(expression)
    else:
        operands = draw(st.permutations([*expression.operands, expression.operands[0]]))
        assert isinstance(operands, list)
        joint = one_of(*{"and": (" and ", " AND\n", "&&"), "or": (" or ", "||", " oR ")}[
            expression.operator
        ])  # fmt: skip
        parts = [respelled(draw, each) for each in operands]
        text = group(
            [
                p if isinstance(o, Subexpression) else f"({p})"
                for o, p in zip(operands, parts, strict=True)
            ],
            joint,
        )
    return one_of(text, f"({blank()}{text}{blank()})")


def _extreme(of: Subexpression) -> str:
    return "max" if of.operator in (">", ">=") else "min"
