"""Rows of a few elements are worked on many at a time, turned on their side: every remainder, and who may be turned."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import staticgraph as sg
from staticgraph.api import compile_only

ROWS = (0, 1, 15, 16, 17, 63, 64, 65, 130)     # vectors of 16, tiles of 64


def source(inputs: list[sg.Tensor], outputs: Any, updates: Any = None) -> str:
    program = compile_only(inputs, outputs, updates=updates).program
    assert program is not None
    return "\n".join(kernel.text for kernel in program.kernels)


def is_turned(text: str) -> bool:
    return "_tile0" in text


@pytest.mark.parametrize("width", (4, 13))
def test_every_remainder(width: int) -> None:
    """Loss and gradient of a classifier: extremes, sums, positions, labels, and values kept in the output."""
    x, t = sg.placeholder("x", ("n", width)), sg.placeholder("t", ("n",), "int64")
    y = sg.nn.softmax(x)
    outputs = [y, sg.argmax(y, 1), sg.nn.cross_entropy(x, t), *sg.vjp([y], [x], [x * 2])]
    assert is_turned(source([x, t], outputs))
    compiled = sg.compile([x, t], outputs)
    random = np.random.default_rng(width)
    for rows in ROWS:
        values = random.standard_normal((rows, width), np.float32)
        values[rows // 2:rows // 2 + 1, 1] = np.nan
        feed = {x: values, t: random.integers(0, width, rows)}
        expected = sg.evaluate([sg.stabilise(each) for each in outputs], feed)
        for actual, wanted in zip(compiled(*feed.values()), expected, strict=True):
            np.testing.assert_allclose(actual, wanted, rtol=1e-5, atol=1e-6)


def test_a_label_out_of_range_is_reported_and_nothing_beyond_the_last_row_is_read() -> None:
    x, t = sg.placeholder("x", ("n", 10)), sg.placeholder("t", ("n",), "int64")
    compiled = sg.compile([x, t], sg.nn.cross_entropy(x, t))
    values, labels = np.zeros((17, 10), "float32"), np.full(40, 99)
    labels[:17] = 3
    np.testing.assert_allclose(compiled(values, labels[:17]), np.log(10), rtol=1e-6)
    labels[16] = 10
    with pytest.raises(IndexError, match="10"):
        compiled(values, labels[:17])


def test_rows_may_be_parts_of_longer_ones_and_be_updated_in_place() -> None:
    x = sg.placeholder("x", ("n", 9))
    w = sg.variable(np.linspace(-1, 1, 35 * 5, dtype="float32").reshape(35, 5), "w")
    outputs, updates = sg.sum(sg.exp(x[:, 2:7] - w), 1), {w: w + sg.exp(x[:, 2:7])}
    assert is_turned(source([x], outputs, updates))
    values, before = np.random.default_rng(0).standard_normal((35, 9), np.float32), w.value
    actual = sg.compile([x], outputs, updates=updates)(values)
    np.testing.assert_allclose(actual, np.exp(values[:, 2:7] - before).sum(1), rtol=1e-6)
    np.testing.assert_allclose(w.value, before + np.exp(values[:, 2:7]), rtol=1e-6)


def test_what_a_loop_stores_and_reads_in_another_order_is_not_turned() -> None:
    """The reversed row is read from memory, by a kernel of its own or one that goes row by row; never from a tile."""
    x = sg.placeholder("x", ("n", 10))
    e = sg.exp(x)
    outputs = [e, sg.sum(e, 1), sg.sum(sg.flip(e, 1) * e, 1)]
    values = np.random.default_rng(1).standard_normal((33, 10), np.float32)
    for actual, wanted in zip(sg.compile([x], outputs)(values), sg.evaluate(outputs, {x: values}), strict=True):
        np.testing.assert_allclose(actual, wanted, rtol=1e-5)


def test_cheap_rows_and_long_ones_stay_as_they_are() -> None:
    for width in (8, 121, "m"):
        x = sg.placeholder("x", ("n", width))
        assert not is_turned(source([x], sg.sum(x, 1)))
        assert width == 8 or not is_turned(source([x], sg.nn.softmax(x)))


def test_columns_reduced_by_several_rows_at_a_time() -> None:
    """Extremes as well as sums take some rows in one pass over the columns."""
    x = sg.placeholder("x", ("n", "m"))
    compiled = sg.compile([x], [sg.max(x, 0), sg.prod(x, 0)])
    random = np.random.default_rng(2)
    for rows in (1, 3, 4, 5, 9):
        values = random.standard_normal((rows, 37), np.float32)
        values[rows // 2, 3] = np.nan
        for actual, wanted in zip(compiled(values), (values.max(0), values.prod(0)), strict=True):
            np.testing.assert_allclose(actual, wanted, rtol=1e-6)
