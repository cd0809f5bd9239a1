"""Scalar formulas come from users too: what is outside of the kernel language never reaches generated source."""

from __future__ import annotations

import pytest

import staticgraph as sg
from staticgraph.compiler.kernel_ir import unknown_in_formula
from staticgraph.op import registry


@pytest.mark.parametrize(("formula", "unknown"), [
    ("{0} * {0}", None), ("select({0} > 0, exp({1}), {1})", None), ("foo({0})", "foo"),
    ("{0}.__class__", "{0}.__class__"), ("(lambda: {0})()", "(lambda: {0})()"), ("{0} +", "{0} +"),
    ("__import__({0})", "__import__"), ("[x for x in {0}]", "[x for x in {0}]"),
])
def test_formulas_are_checked(formula: str, unknown: str | None) -> None:
    assert unknown_in_formula(formula) == unknown


def test_unknown_function_names_op_and_line() -> None:
    op = sg.primitive("strange", ref=lambda x: x, scalar="strange_function({0})")
    try:
        x = sg.placeholder("x", ("n",))
        text = (r"^'strange': the kernel language does not have 'strange_function', which its scalar formula uses\n"
                r"  float32\[n\]   test_formulas.py:\d+$")
        with pytest.raises(sg.UnsupportedError, match=text):
            sg.compile([x], op(x))
    finally:
        del registry["strange"]


@pytest.mark.parametrize("name", ["a b", "x;import os", "1st", ""])
def test_names_of_ops_are_identifiers(name: str) -> None:
    with pytest.raises(sg.ArgumentError, match="an op's name is an identifier"):
        sg.primitive(name, ref=lambda x: x, scalar="{0}")
