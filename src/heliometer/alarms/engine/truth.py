"""The truth of subexpressions and expressions, over whole arrays. Kleene's logic: false, unknown
and true are 0, 1 and 2, so that ``and`` is the minimum and ``or`` the maximum."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from heliometer.alarms.engine.windows import Windows
from heliometer.alarms.expression import Expression, Logical, Subexpression
from heliometer.metrics.model import Float64s, Int64s

Truths = NDArray[np.int8]
FALSE, UNKNOWN, TRUE = 0, 1, 2
AS_BOOL: dict[int, bool | None] = {FALSE: False, UNKNOWN: None, TRUE: True}

_COMPARE = {"<": np.less, "<=": np.less_equal, ">": np.greater, ">=": np.greater_equal}

Shape = tuple[str, tuple["Shape", ...]] | int
"""A tree whose leaves are numbers instead of subexpressions."""


def values(
    windows: Windows, column: Int64s, function: str, first: int, minutes: int
) -> tuple[Float64s, NDArray[np.bool_]]:
    """The function's value for each column over the minutes from ``first``, and whether there was
    any measurement."""
    count = np.zeros(len(column), np.int64)
    result: Float64s = np.zeros(len(column))
    if function in ("min", "max"):
        result += np.inf if function == "min" else -np.inf
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        for minute in range(first, first + minutes):
            row = minute % windows.depth
            count += windows.count[row, column]
            if function in ("sum", "avg"):
                result += windows.total[row, column]
            elif function == "min":
                np.minimum(result, windows.low[row, column], out=result)
            elif function == "max":
                np.maximum(result, windows.high[row, column], out=result)
        if function == "avg":
            result /= count
        elif function == "count":
            result = count.astype(np.float64)
    return result, count > 0


def value_of(
    windows: Windows, column: int, function: str, first: int, minutes: int
) -> tuple[float, bool]:
    """As ``values``, for a single column."""
    rows = np.arange(first, first + minutes) % windows.depth
    count = int(windows.count[rows, column].sum())
    with np.errstate(over="ignore", invalid="ignore"):
        if function == "count":
            return float(count), count > 0
        if function == "min":
            return float(windows.low[rows, column].min()), count > 0
        if function == "max":
            return float(windows.high[rows, column].max()), count > 0
        # One by one, as for many columns: another order may round differently.
        total = float(np.add.accumulate(windows.total[rows, column])[-1])
    return total / count if function == "avg" and count else total, count > 0


def judge(
    part: Subexpression,
    value: Float64s,
    has_data: NDArray[np.bool_],
    threshold: Float64s,
    *,
    seen: NDArray[np.bool_],
    blind: NDArray[np.bool_],
) -> Truths:
    """Whether one window of each satisfies the comparison. ``seen``: whether the metric was ever
    seen, so that an empty window counts as 0 and not as unknown. ``blind``: not all of the window
    was seen, so that what a further measurement could undo proves nothing."""
    with np.errstate(invalid="ignore"):
        satisfied = _COMPARE[part.operator](value, threshold)
    known = seen if part.function == "count" else has_data
    truth: Truths = np.where(known, np.where(satisfied, TRUE, FALSE), UNKNOWN).astype(np.int8)
    undone = _undone_by_more(part)
    if undone is not None and blind.any():
        truth[blind & (truth == undone)] = UNKNOWN
    return truth


def judge_one(part: Subexpression, value: float, *, known: bool, blind: bool) -> int:
    """As ``judge``, for a single window."""
    if not known:
        return UNKNOWN
    truth = TRUE if _COMPARE[part.operator](value, part.threshold) else FALSE
    return UNKNOWN if blind and truth == _undone_by_more(part) else truth


def _undone_by_more(part: Subexpression) -> int | None:
    """What is not believed where measurements are missing: a small number or sum, and that values
    are low."""
    low = TRUE if part.operator in ("<", "<=") else FALSE
    if part.function in ("count", "sum"):
        return low
    return TRUE if low == TRUE and not is_irreversible(part) else None


def is_irreversible(part: Subexpression) -> bool:
    """Whether it stays true, once it is, whatever further measurements arrive."""
    if part.operator in (">", ">="):
        return part.effective_function in ("max", "count")
    return part.effective_function == "min"


def shape(expression: Expression) -> Shape:
    """The shape of a tree: equal for all trees that are evaluated by the same steps."""
    return _shape(expression, [0])


def combine(form: Shape, leaves: Sequence[Truths]) -> Truths:
    """The truth of trees of the same shape, from the truth of their leaves."""
    if isinstance(form, int):
        return leaves[form]
    operator, operands = form
    step = np.minimum if operator == "and" else np.maximum
    result = combine(operands[0], leaves)
    for each in operands[1:]:
        result = step(result, combine(each, leaves))
    return result


def _shape(expression: Expression, next_leaf: list[int]) -> Shape:
    if isinstance(expression, Logical):
        return expression.operator, tuple(_shape(e, next_leaf) for e in expression.operands)
    next_leaf[0] += 1
    return next_leaf[0] - 1
