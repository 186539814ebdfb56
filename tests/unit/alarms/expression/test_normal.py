"""The normal form: the same for the same meaning, another for another."""

import zlib
from dataclasses import replace

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from alarms.expression import expression_trees as trees
from effort import effort
from heliometer.alarms.expression import Expression, Subexpression, normal_form, parse


@given(trees.expressions, st.data())
@settings(max_examples=effort(60, 5000), deadline=None, derandomize=True)
def test_other_spellings_have_the_same(expression: Expression, data: st.DataObject) -> None:
    text = trees.respelled(data.draw, expression)
    assume(len(text.encode()) <= 4096)
    assert normal_form(parse(text)) == normal_form(expression)


@given(trees.expressions, st.binary(min_size=4, max_size=4))
@settings(max_examples=effort(80, 6000), deadline=None, derandomize=True)
def test_it_says_what_the_expression_says(expression: Expression, salt: bytes) -> None:
    plain = normal_form(expression)
    assume(len(plain.encode()) <= 4096)

    def fact(each: Subexpression) -> bool:
        meaning = replace(each, function=each.effective_function)
        return zlib.crc32(salt + str(meaning).encode()) % 2 == 0

    assert trees.holds(parse(plain), fact) == trees.holds(expression, fact)
    assert normal_form(parse(plain)) == plain


@pytest.mark.parametrize(
    "other",
    [
        "avg(cpu{host=b}, 120) > 1 times 2",
        "avg(cpu{host=a, core=0}, 120) > 1 times 2",
        "avg(cpu, 120) > 1 times 2",
        "avg(CPU{host=a}, 120) > 1 times 2",
        "max(cpu{host=a}, 120) > 1 times 2",
        "avg(cpu{host=a}) > 1 times 2",
        "avg(cpu{host=a}, 120) >= 1 times 2",
        "avg(cpu{host=a}, 120) > 1.0000000000000002 times 2",
        "avg(cpu{host=a}, 120) > 1",
        "avg(cpu{host=a}, 120) > 1 times 2 and b > 1",
    ],
)
def test_another_meaning_has_another(other: str) -> None:
    assert normal_form(parse(other)) != normal_form(parse("avg(cpu{host=a}, 120) > 1 times 2"))


def test_and_is_not_or() -> None:
    assert normal_form(parse("a > 1 and b > 1")) != normal_form(parse("a > 1 or b > 1"))
    assert normal_form(parse("a > 1 and (b > 1 or c > 1)")) != normal_form(
        parse("a > 1 and b > 1 or c > 1")
    )
