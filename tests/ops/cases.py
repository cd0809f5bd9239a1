"""What the tests of movement, indexing and contraction share: running one function on static and symbolic sizes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import staticgraph as sg
from staticgraph.op import Op
from staticgraph.tensor import Tensor


def numbers(*shape: int, dtype: Any = "float64") -> np.ndarray[Any, Any]:
    """Distinct values, so that a misplaced element shows."""
    return np.arange(1, int(np.prod(shape)) + 1).reshape(shape).astype(dtype)


def feeds(*arrays: np.ndarray[Any, Any], static: bool) -> dict[Tensor, np.ndarray[Any, Any]]:
    """A placeholder for each array; with symbolic sizes every axis is of a size of its own, but equal sizes are one."""
    return {sg.placeholder(f"x{number}", [size if static else f"n{size}" for size in array.shape], array.dtype): array
            for number, array in enumerate(arrays)}


def check(function: Callable[..., Any], reference: Callable[..., Any], *arrays: np.ndarray[Any, Any],
          symbolic: bool = True) -> None:
    """The function on tensors is the reference on arrays, for static and for symbolic sizes."""
    expected = reference(*arrays)
    for static in (True, False) if symbolic else (True,):
        feed = feeds(*arrays, static=static)
        result = function(*feed)
        values = sg.evaluate(result, feed)
        pairs = zip(values, expected, strict=True) if isinstance(result, tuple | list) else [(values, expected)]
        for value, wanted in pairs:
            np.testing.assert_array_equal(value, wanted, strict=True)


def inner(a: Any, b: Any) -> float:
    return float(np.sum(np.asarray(a, "float64") * np.asarray(b, "float64")))


def check_vjp(op: Op, inputs: tuple[Any, ...], attrs: dict[str, Any], static: bool) -> None:
    """<ct, op(.., d, ..) - op(.., 0, ..)> == <vjp(ct), d>: exact, as these ops are linear in each float input."""
    rng = np.random.default_rng(7)
    arrays = [np.asarray(value) for value in inputs]
    feed = feeds(*arrays, static=static)
    y = op(*feed, **attrs)
    ct_value = rng.integers(-4, 5, sg.evaluate(y, feed).shape).astype("float64")
    [(ct, _)] = feeds(ct_value, static=True).items()
    contributions = op.vjp(ct, y, *feed, **attrs)
    assert len(contributions) == len(arrays)
    for number, (tensor, contribution) in enumerate(zip(feed, contributions, strict=True)):
        if arrays[number].dtype.kind != "f":
            assert contribution is None
            continue
        assert contribution.dtype == tensor.dtype and contribution.ndim == tensor.ndim
        value = sg.evaluate(contribution, {**feed, ct: ct_value})
        assert value.shape == arrays[number].shape
        step = rng.integers(-4, 5, arrays[number].shape).astype("float64")
        change = sg.evaluate(y, {**feed, tensor: arrays[number] + step}) - sg.evaluate(y, feed)
        np.testing.assert_allclose(inner(value, step), inner(ct_value, change), rtol=1e-12, atol=1e-9)
