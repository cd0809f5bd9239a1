"""Pooling against loops in NumPy: windows of all kinds, nan, ties, what the padding counts for."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import staticgraph as sg
from staticgraph.op import registry

Array = np.ndarray[Any, Any]


def loops(function: Any, x: Array, kernel: Any, stride: Any, padding: Any, fill: float) -> Array:
    x = np.pad(x, ((0, 0), (0, 0), *padding), constant_values=fill)
    rows, columns = ((length - size) // step + 1 for length, size, step in zip(x.shape[2:], kernel, stride))
    y = np.zeros((*x.shape[:2], rows, columns), x.dtype)
    for i, j in np.ndindex(rows, columns):
        first = (i * stride[0], j * stride[1])
        y[:, :, i, j] = function(x[:, :, first[0]:first[0] + kernel[0], first[1]:first[1] + kernel[1]], axis=(2, 3))
    return y


# Kernel, stride, padding: overlapping, gapless, with gaps, larger than what is written out.
CASES: list[Any] = [((2, 2), (2, 2), ((0, 0), (0, 0))), ((3, 2), (1, 2), ((1, 1), (0, 1))),
                    ((2, 3), (3, 4), ((1, 0), (2, 2))), ((6, 5), (2, 1), ((2, 2), (0, 0)))]


@pytest.mark.parametrize(("kernel", "stride", "padding"), CASES)
@pytest.mark.parametrize("dtype", ["float64", "int16"])
def test_pooling_is_its_definition(kernel: Any, stride: Any, padding: Any, dtype: str) -> None:
    value = np.random.default_rng(0).integers(-9, 10, (2, 3, 7, 8)).astype(dtype)
    least = -np.inf if dtype == "float64" else np.iinfo(dtype).min
    expected = loops(np.max, value, kernel, stride, padding, least)
    as_floats = value.astype("float64")
    mean = loops(np.mean, as_floats, kernel, stride, padding, 0)
    share = loops(np.sum, np.ones_like(as_floats), kernel, stride, padding, 0)
    real = loops(np.sum, as_floats, kernel, stride, padding, 0) / share
    for sizes in ((2, 3, 7, 8), ("n", 3, "h", "w")):
        x = sg.placeholder("x", sizes, dtype)
        given: dict[str, Any] = {"kernel": kernel, "stride": stride, "padding": padding}
        largest = sg.max_pool2d(x, **given)
        np.testing.assert_array_equal(sg.evaluate(largest, {x: value}), expected, strict=True)
        np.testing.assert_allclose(sg.evaluate(sg.avg_pool2d(x, **given), {x: value}), mean, rtol=1e-13, atol=1e-14)
        np.testing.assert_allclose(sg.evaluate(sg.avg_pool2d(x, **given, count_include_pad=False), {x: value}), real,
                                   rtol=1e-13, atol=1e-14)


def test_one_dimension_and_defaults() -> None:
    value = np.random.default_rng(0).standard_normal((2, 3, 9))
    np.testing.assert_array_equal(sg.evaluate(sg.max_pool1d(value, 3)), value.reshape(2, 3, 3, 3).max(-1))
    np.testing.assert_allclose(sg.evaluate(sg.avg_pool1d(value, 3)), value.reshape(2, 3, 3, 3).mean(-1), rtol=1e-13)
    assert sg.max_pool1d(value, 4, stride=2, padding=(1, 0)).shape == (2, 3, 4)
    assert sg.avg_pool2d(np.ones((1, 1, 4, 4)), 2).shape == (1, 1, 2, 2)


@pytest.mark.parametrize("kernel", [(2, 2), (2, 13)])
def test_nan_wins_and_the_first_of_equals_has_the_gradient(kernel: Any) -> None:
    """A window is written out, or reduced: both the same."""
    value = np.zeros((1, 1, 2, kernel[1]))
    x = sg.placeholder("x", value.shape, "float64")
    y = sg.max_pool2d(x, kernel)
    slope = sg.grad(y, x, cotangent=np.full((1, 1, 1, 1), 2.0))
    position = registry["max_pool_position"](x, kernel=kernel, stride=kernel)
    for hits, number in (([], 0), ([(1, 0, 5.0)], kernel[1]), ([(0, 1, 5.0), (1, 1, 5.0)], 1),
                         ([(0, 1, np.nan)], 1), ([(0, 0, 9.0), (1, 0, np.nan), (1, 1, np.nan)], kernel[1])):
        image = value.copy()
        for row, column, each in hits:
            image[0, 0, row, column] = each
        for run in (lambda image: sg.evaluate([y, slope, position], {x: image}), sg.compile([x], [y, slope, position])):
            largest, gradient, place = run(image)
            np.testing.assert_array_equal(largest.reshape(()), image.max())
            assert np.flatnonzero(gradient).tolist() == [number] and gradient.sum() == 2.0
            assert place.reshape(()) == number


def test_errors() -> None:
    x = sg.placeholder("x", ("n", 3, 8, 8))
    with pytest.raises(sg.ShapeError, match=r"(?s)max_pool2d: needs 4 dimensions\n.*test_pooling.py"):
        sg.max_pool2d(x[0], 2)
    with pytest.raises(sg.ShapeError, match="the padding is not smaller than the window"):
        sg.max_pool2d(x, 2, padding=2)
    with pytest.raises(sg.ShapeError, match="the axis of rows is shorter than a window"):
        sg.avg_pool2d(x, (9, 1))
    with pytest.raises(sg.ArgumentError, match="the kernel is an int or 2 of them"):
        sg.max_pool2d(x, 0)
    with pytest.raises(sg.DTypeError, match="bools have no maximum"):
        sg.max_pool1d(sg.placeholder("b", (1, 1, 4), "bool"), 2)
