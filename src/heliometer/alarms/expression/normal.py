"""The normal form of an alarm expression: equal for expressions that mean the same."""

from dataclasses import replace

from heliometer.alarms.expression.nodes import Expression, Logical, Subexpression


def normal_form(expression: Expression) -> str:
    """A text with the same meaning as the expression, equal for equivalent ones. The order and
    repetition of operands, parentheses, the order of dimensions, and the spelling of numbers,
    operators and defaults make no difference; nor does it matter whether a direct comparison is
    written as the function that it stands for. Expressions that are equal only by arithmetic or the
    laws of logic (``count(m) > 5`` and ``count(m) >= 6``) stay different."""
    return str(_normal(expression))


def _normal(expression: Expression) -> Expression:
    if isinstance(expression, Subexpression):
        return replace(expression, function=expression.effective_function)
    plain = Logical(expression.operator, tuple(_normal(each) for each in expression.operands))
    by_text = {str(each): each for each in plain.operands}
    if len(by_text) == 1:
        return plain.operands[0]
    return Logical(plain.operator, tuple(by_text[text] for text in sorted(by_text)))
