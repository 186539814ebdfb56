"""The language of alarm expressions (v1.1 §2.5): tree, parser, normal form."""

from heliometer.alarms.expression.nodes import (
    Expression,
    Logical,
    Metric,
    Subexpression,
    longest_period_s,
    subexpressions,
)
from heliometer.alarms.expression.normal import normal_form
from heliometer.alarms.expression.parser import parse

__all__ = [
    "Expression",
    "Logical",
    "Metric",
    "Subexpression",
    "longest_period_s",
    "normal_form",
    "parse",
    "subexpressions",
]
