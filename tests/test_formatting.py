"""Listings: golden text for small graphs, and size."""

from __future__ import annotations

import re

import numpy as np

import staticgraph as sg


def listing(outputs: object) -> str:
    return re.sub(r"test_formatting.py:\d+", "here", sg.format_graph(outputs))


def test_a_small_model() -> None:
    x = sg.placeholder("x", ("batch", 4))
    w = sg.variable(np.zeros((4, 2), np.float32), name="w")
    with sg.name_scope("model"), sg.name_scope("dense"):
        h = sg.tanh(x @ w) * 0.5
    total = sg.sum(h, axis=1)
    assert listing({"h": h, "total": total}) == """\
%0  float32[batch, 4]  placeholder 'x'                  here
%1  float32[4, 2]      variable 'w'                     here
%2  float32[batch, 2]  matmul(%0, %1)      model/dense  here
%3  float32[batch, 2]  tanh(%2)            model/dense  here
%4  float32[batch, 2]  multiply(%3, 0.5)   model/dense  here
%5  float32[batch]     sum(%4, axes=(1,))               here
outputs: h=%4, total=%5"""


def test_constants_sizes_and_casts() -> None:
    x = sg.placeholder("x", (None,), "int8")
    y = sg.astype(x, "float64") * np.arange(3.0) / x.shape[0]
    text = listing(y)
    assert "constant [0., 1., 2.]" in text and "astype(%0, dtype=float64)" in text and "int64[]~" in text
    assert listing(sg.constant(2.53125)) == "%0  float64[]  constant 2.53125  here\noutputs: %0"
    assert len(listing(sg.constant(np.arange(10_000.0)))) < 100


def test_printing_a_tensor_lists_it_and_repr_is_one_line() -> None:
    x = sg.placeholder("x", (2,))
    assert str(x * 2) == sg.format_graph(x * 2) and repr(x * 2) == "<Tensor multiply: float32[2]>"
    assert f"{x}" == "x: float32[2]"


def test_lines_of_merged_nodes_are_all_there() -> None:
    x = sg.placeholder("x", (2,))
    y = sg.exp(x)
    again = sg.exp(x)
    assert y is again and listing(y).count("here") == 3


def test_a_long_chain_prints() -> None:
    y = sg.placeholder("x", ())
    for _ in range(10_000):
        y = sg.sin(y)
    assert sg.format_graph(y).count("\n") == 10_001
