"""Scans against NumPy and against the loop that defines them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import staticgraph as sg


@pytest.mark.parametrize("name", ["sum", "prod"])
def test_running_sums_and_products_are_numpys(name: str) -> None:
    ours, numpys = getattr(sg, f"cumulative_{name}"), getattr(np, f"cum{name}")
    rng = np.random.default_rng(0)
    for dtype in ("bool", "int8", "uint16", "int64", "float32", "float64"):
        for shape, axis in [((7,), None), ((1,), 0), ((0,), 0), ((3, 4), None), ((3, 4), 1), ((2, 3, 2), -2)]:
            x = np.asarray(rng.integers(0, 3, shape)).astype(dtype)
            actual, expected = sg.evaluate(ours(x, axis)), numpys(x, axis=axis)
            assert actual.dtype == expected.dtype
            np.testing.assert_array_equal(actual, expected)


def test_an_initial_element_and_a_dtype() -> None:
    x = sg.placeholder("x", ("n", 2), "int8")
    y = sg.cumulative_sum(x, 0, include_initial=True, dtype="int16")
    value = sg.evaluate(y, {x: np.ones((3, 2), np.int8)})
    assert value.dtype == np.int16
    np.testing.assert_array_equal(value[:, 0], [0, 1, 2, 3])
    np.testing.assert_array_equal(sg.evaluate(sg.cumulative_prod(np.array([2, 3]), include_initial=True)), [1, 2, 6])
    assert sg.cumsum is sg.cumulative_sum and sg.cumprod is sg.cumulative_prod


def recurrence(a: Any, b: Any, reverse: bool) -> Any:
    y = np.zeros_like(b)
    places = range(len(b) - 1, -1, -1) if reverse else range(len(b))
    state = 0.0
    for number, place in enumerate(places):
        state = b[place] + (a[place] * state if number else 0.0)
        y[place] = state
    return y


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("size", [0, 1, 2, 9])
def test_linear_recurrence_is_its_definition(size: int, reverse: bool) -> None:
    rng = np.random.default_rng(size)
    a, b = rng.standard_normal((2, size, 3))
    expected = np.stack([recurrence(a[:, k], b[:, k], reverse) for k in range(3)], axis=1)
    np.testing.assert_allclose(sg.evaluate(sg.linear_recurrence(a, b, axis=0, reverse=reverse)), expected)
    across = sg.evaluate(sg.linear_recurrence(a.T, b.T, reverse=reverse))
    np.testing.assert_allclose(across, expected.T)


def test_linear_recurrence_promotes_and_broadcasts() -> None:
    b = np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]], np.float32)
    y = sg.linear_recurrence(np.float32(0.5), b)
    assert y.dtype == np.float32
    np.testing.assert_allclose(sg.evaluate(y), [[1, 2.5, 4.25], [4, 7, 9.5]])
    with pytest.raises(sg.ShapeError, match="linear_recurrence: shapes do not broadcast"):
        sg.linear_recurrence(np.ones(2), np.ones(3))
    with pytest.raises(sg.ShapeError, match="axis 1 is out of range"):
        sg.linear_recurrence(np.ones(2), np.ones(2), axis=1)


def test_the_gradient_of_a_running_product_is_right_at_zeros() -> None:
    x = np.array([2.0, 0.0, 3.0, 0.0, 5.0])
    weights = np.arange(1.0, 6.0)
    v = sg.variable(x)
    actual = sg.evaluate(sg.grad(sg.sum(sg.cumulative_prod(v) * weights), v))
    expected = []
    for k in range(5):
        unit = np.arange(5) == k
        # each running product is linear in x[k]
        expected.append(weights @ (np.cumprod(np.where(unit, 1.0, x)) - np.cumprod(np.where(unit, 0.0, x))))
    np.testing.assert_allclose(actual, expected)


def test_second_derivatives_of_scans() -> None:
    v = sg.variable(np.array([0.5, 2.0, -1.0]))
    hessian = sg.evaluate(sg.hessian(sg.cumulative_prod(v)[-1], v))
    np.testing.assert_allclose(hessian, [[0, -1, 2], [-1, 0, 0.5], [2, 0.5, 0]])
