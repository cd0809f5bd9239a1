"""Reductions against NumPy for dtypes, axes and shapes, and their gradients at ties and zeros."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import numpy as np
import pytest

import staticgraph as sg

DTYPES = ("bool", "int8", "int32", "int64", "uint8", "uint32", "uint64", "float32", "float64")
SHAPES_AND_AXES: list[tuple[tuple[int, ...], Any]] = [
    ((), None), ((1,), 0), ((7,), -1), ((3, 4), None), ((3, 4), 0), ((3, 4), (1,)), ((2, 3, 5), (0, -1)),
    ((2, 3, 5), 1), ((2, 1, 5), (2, 1)), ((0, 3), 1), ((3, 4), ()),
]
NUMPYS: dict[str, Any] = {
    "sum": np.sum, "prod": np.prod, "max": np.max, "min": np.min, "any": np.any, "all": np.all, "mean": np.mean,
    "var": np.var, "std": np.std, "count_nonzero": np.count_nonzero,
}


def sample(dtype: str, shape: tuple[int, ...]) -> np.ndarray[Any, Any]:
    return np.asarray(np.random.default_rng(len(shape)).integers(0, 5, shape)).astype(dtype)


@pytest.mark.parametrize("name", NUMPYS)
def test_reduction_is_numpys(name: str) -> None:
    for dtype in DTYPES:
        for shape, axis in SHAPES_AND_AXES:
            x = sample(dtype, shape)
            symbolic = sg.placeholder("x", [f"n{number}" for number in range(len(shape))], dtype)
            for keepdims in (False, True):
                actual = sg.evaluate(getattr(sg, name)(symbolic, axis, keepdims=keepdims), {symbolic: x})
                with np.errstate(all="ignore"):
                    expected = np.asarray(NUMPYS[name](x, axis=axis, keepdims=keepdims))
                assert actual.shape == expected.shape, (dtype, shape, axis)
                assert actual.dtype == expected.dtype, (dtype, shape, axis)
                np.testing.assert_allclose(actual, expected, rtol=3e-7 if dtype == "float32" else 1e-14)


@pytest.mark.parametrize("name", ["argmax", "argmin"])
def test_positions_are_numpys(name: str) -> None:
    rng = np.random.default_rng(0)
    for dtype in DTYPES:
        x = np.asarray(rng.integers(0, 3, (4, 5, 3))).astype(dtype)
        for axis in (None, 0, 1, -1):
            for keepdims in (False, True):
                actual = sg.evaluate(getattr(sg, name)(x, axis, keepdims=keepdims))
                expected = np.asarray(getattr(np, name)(x, axis=axis, keepdims=keepdims))
                assert actual.dtype == np.int64
                np.testing.assert_array_equal(actual, expected)
    assert sg.evaluate(getattr(sg, name)(np.array([1.0, np.nan, 3.0, np.nan]))) == 1


def test_nan_and_infinities_pass_as_in_numpy() -> None:
    x = np.array([[1.0, np.nan, 2.0], [np.inf, 3.0, -np.inf], [-0.0, 0.0, -1.0]])
    for name in ("sum", "prod", "max", "min", "any", "all"):
        with np.errstate(all="ignore"):
            np.testing.assert_array_equal(sg.evaluate(getattr(sg, name)(x, 1)), getattr(np, name)(x, axis=1))


def test_the_dtype_to_sum_in_can_be_given() -> None:
    x = np.full(1000, 200, np.uint8)
    assert sg.sum(x, dtype="uint8").dtype == np.uint8
    assert sg.evaluate(sg.sum(x)) == 200_000
    assert sg.evaluate(sg.sum(x.astype(np.float32), dtype="float64")).dtype == np.float64


@pytest.mark.parametrize("correction", [0, 1, 0.5, 3])
def test_corrections_of_the_variance(correction: float) -> None:
    x = np.arange(12.0).reshape(4, 3) ** 2
    symbolic = sg.placeholder("x", ("n", 3), "float64")
    for axis in (0, 1):
        with np.errstate(all="ignore"), pytest.warns(RuntimeWarning) if correction == 3 and axis else nullcontext():
            expected = np.var(x, axis=axis, ddof=correction)
        np.testing.assert_allclose(sg.evaluate(sg.var(symbolic, axis, correction=correction), {symbolic: x}), expected)


def test_methods_are_the_functions() -> None:
    x = sg.placeholder("x", (2, 3))
    assert x.sum(axis=0) is sg.sum(x, 0) and x.mean() is sg.mean(x) and x.max(-1) is sg.max(x, 1)


def test_reducing_nothing_or_twice_or_beyond() -> None:
    x = sg.placeholder("x", (2, 3))
    assert sg.sum(x, ()) is x
    with pytest.raises(sg.ShapeError, match="sum: an axis is repeated"):
        sg.sum(x, (0, -2))
    with pytest.raises(sg.ShapeError, match=r"max: axis 2 is out of range\n  a: float32\[2, 3\]   'x'"):
        sg.max(x, 2)


@pytest.mark.parametrize("name", ["max", "min", "argmax", "argmin"])
def test_nothing_to_choose_from(name: str) -> None:
    with pytest.raises(sg.ShapeError, match=f"{name}: there is nothing to choose from along an empty axis"):
        getattr(sg, name)(np.zeros((3, 0)), 1)
    x = sg.placeholder("x", ("n",))
    with pytest.raises(sg.ShapeError, match=f"{name}: "):
        sg.evaluate(getattr(sg, name)(x, 0), {x: np.zeros(0, np.float32)})
    assert sg.evaluate(getattr(sg, name)(np.zeros((0, 3)), 1)).shape == (0,)


def gradient(f: Any, x: Any) -> Any:
    v = sg.variable(np.asarray(x, np.float64))
    return sg.evaluate(sg.grad(sg.sum(f(v)), v))


def test_ties_share_the_gradient_of_an_extremum_evenly() -> None:
    x = [[2.0, 1.0, 2.0], [0.0, 0.0, 0.0]]
    np.testing.assert_allclose(gradient(lambda v: sg.max(v, 1), x), [[0.5, 0, 0.5], [1 / 3] * 3])
    np.testing.assert_allclose(gradient(lambda v: sg.min(v), x), [[0] * 3, [1 / 3] * 3])


def test_the_gradient_of_a_product_is_right_at_zeros() -> None:
    x = np.array([[2.0, 0.0, 3.0], [0.0, 5.0, 0.0], [1.0, 2.0, 4.0]])
    np.testing.assert_array_equal(gradient(lambda v: sg.prod(v, 1), x), [[0, 6, 0], [0, 0, 0], [8, 4, 2]])
    np.testing.assert_array_equal(gradient(lambda v: sg.prod(v, 0), x), [[0, 10, 0], [2, 0, 12], [0, 0, 0]])
    np.testing.assert_array_equal(gradient(sg.prod, [[2.0, 0.0], [3.0, 4.0]]), [[0, 24], [0, 0]])


def test_gradients_of_empty_and_symbolic_sizes() -> None:
    x = sg.placeholder("x", ("n", 3), "float64")
    for f in (sg.sum, sg.prod, sg.mean):
        gradient = sg.grad(sg.sum(f(x, 0)), x)
        assert gradient.shape == x.shape
        assert sg.evaluate(gradient, {x: np.zeros((0, 3))}).shape == (0, 3)
        assert sg.evaluate(gradient, {x: np.ones((2, 3))}).sum() == {sg.sum: 6, sg.prod: 6, sg.mean: 3}[f]
