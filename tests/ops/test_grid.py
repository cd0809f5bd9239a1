"""Triangles, diagonals, grids and differences against NumPy."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest

import staticgraph as sg

from .cases import check, feeds, numbers

SHAPES = [(3, 3), (2, 4), (4, 2), (2, 3, 3), (0, 2), (1, 1), (2, 0)]


@pytest.mark.parametrize("k", [0, 1, -1, 5, -5])
@pytest.mark.parametrize("shape", SHAPES)
def test_triangles_and_diagonals(k: int, shape: Any) -> None:
    for dtype in ("float64", "int8", "bool"):
        value = numbers(*shape, dtype=dtype)
        check(partial(sg.tril, k=k), partial(np.tril, k=k), value)
        check(partial(sg.triu, k=k), partial(np.triu, k=k), value)
        check(partial(sg.diagonal, offset=k), lambda x: np.diagonal(x, k, -2, -1), value)
    check(partial(sg.trace, offset=k), lambda x: np.trace(x, k, -2, -1), numbers(*shape))


def test_gradient_of_trace() -> None:
    [(x, value)] = feeds(numbers(2, 3), static=False).items()
    np.testing.assert_array_equal(sg.evaluate(sg.grad(sg.trace(x, 1), x), {x: value}), [[0, 1, 0], [0, 0, 1]])


def test_grids() -> None:
    vectors = [numbers(2), numbers(3, dtype="int32"), numbers(0)]
    for count in (1, 2, 3):
        check(sg.meshgrid, np.meshgrid, *vectors[:count])
        check(partial(sg.meshgrid, indexing="ij"), partial(np.meshgrid, indexing="ij"), *vectors[:count])
    check(sg.broadcast_arrays, np.broadcast_arrays, numbers(2, 3), numbers(3), numbers(2, 1), symbolic=False)
    assert sg.broadcast_arrays() == ()


@pytest.mark.parametrize("shape", [(2, 4), (3, 1), (0, 2)])
@pytest.mark.parametrize("n", [0, 1, 2, 5])
def test_diff(shape: Any, n: int) -> None:
    for axis in (0, -1):
        check(lambda x, axis=axis: sg.diff(x, axis=axis, n=n), lambda x, axis=axis: np.diff(x, n, axis),
              numbers(*shape) ** 2)
    check(lambda x: sg.diff(x, n=n), lambda x: np.diff(x, n), numbers(*shape, dtype="bool"))
    one = np.ones((shape[0], 1))
    check(lambda x: sg.diff(x, n=n, prepend=one, append=one), lambda x: np.diff(x, n, prepend=one, append=one),
          numbers(*shape), symbolic=False)


def test_errors() -> None:
    x = sg.placeholder("x", (3,))
    row = f"  a: float32[3]   'x'   {x.location}"
    for function in (sg.tril, sg.triu, sg.diagonal):
        with pytest.raises(sg.ShapeError) as error:
            function(x)
        assert str(error.value) == f"{function.__name__}: needs at least 2 dimensions\n{row}"
    with pytest.raises(sg.ArgumentError, match="indexing must be 'xy' or 'ij', got 'yx'"):
        sg.meshgrid(x, indexing="yx")
    with pytest.raises(sg.ArgumentError) as argument:
        sg.diff(x, n=-1)
    assert str(argument.value) == f"diff: needs a number of times, got -1\n{row}"
    with pytest.raises(sg.ShapeError, match=r"^broadcast_arrays: shapes do not broadcast\n"):
        sg.broadcast_arrays(x, np.ones(2))
    with pytest.raises(sg.ArgumentError, match="the offset n is not known"):
        sg.diagonal(sg.ones((2, 2)), sg.placeholder("y", ("n",)).shape[0])
