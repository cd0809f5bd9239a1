"""Sums over the rows go into the row kernel before them, which shares the rows out: gradients of a layer norm."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import staticgraph as sg
from tests.compiler.test_long_reductions import kernel_names, run_in_pieces

Array = np.ndarray[Any, Any]
ROWS = (0, 1, 31, 32, 33, 64, 65, 200, 2100)     # joins after 32 rows, shares of 64, more rows than 32 shares of 64


def handwritten(x: sg.Tensor, w: sg.Tensor, b: sg.Tensor) -> sg.Tensor:
    centred = x - sg.mean(x, 1, keepdims=True)
    return centred / sg.sqrt(sg.mean(centred * centred, 1, keepdims=True) + 1e-5) * w + b


def gradients(x: Array, w: Array, b: Array, ct: Array) -> list[Array]:
    x, w, b, ct = (each.astype("float64") for each in (x, w, b, ct))
    centred = x - x.mean(1, keepdims=True)
    factor = 1 / np.sqrt((centred * centred).mean(1, keepdims=True) + 1e-5)
    normal, inner = centred * factor, ct * w
    dx = factor * (inner - inner.mean(1, keepdims=True) - normal * (inner * normal).mean(1, keepdims=True))
    return [normal * w + b, dx, (ct * normal).sum(0), ct.sum(0)]


@pytest.mark.parametrize(("width", "dtype"), [(130, "float32"), ("m", "float64")])
def test_layer_norm(width: Any, dtype: str) -> None:
    x, ct = (sg.placeholder(name, ("n", width), dtype) for name in ("x", "ct"))
    w, b = (sg.placeholder(name, (width,), dtype) for name in "wb")
    y = sg.nn.layer_norm(x, w, b)
    executable = sg.compile([x, w, b, ct], [y, *sg.vjp([y], [x, w, b], [ct])])
    names = kernel_names(executable)
    assert names.count("row_") == 1 and "column_join" in names and "share_count" in executable.source()
    random = np.random.default_rng(0)
    columns = width if isinstance(width, int) else 7
    for rows in ROWS:
        values = [random.standard_normal(shape).astype(dtype) for shape in
                  ((rows, columns), (columns,), (columns,), (rows, columns))]
        for actual, expected in zip(executable(*values), gradients(*values), strict=True):
            np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-3 if dtype == "float32" else 1e-9)


def test_layer_norm_by_hand_is_one_kernel_forward_and_one_backward() -> None:
    """The backward pass joins the shares of its sums in a second."""
    x, ct = (sg.placeholder(name, ("n", 256)) for name in ("x", "ct"))
    w, b = (sg.placeholder(name, (256,)) for name in "wb")
    y = handwritten(x, w, b)
    assert len(sg.compile([x, w, b], y)._program.steps) == 1
    executable: Any = sg.compile([x, w, b, ct], sg.vjp([y], [x, w, b], [ct]))
    rows = [step for step in executable._program.steps if "join" not in executable._program.kernels[step.kernel].name]
    assert len(rows) == 1
    values = [np.random.default_rng(0).standard_normal(shape).astype("float32") for shape in
              ((150, 256), (256,), (256,), (150, 256))]
    for actual, expected in zip(executable(*values), gradients(*values)[1:], strict=True):
        np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-4)


def test_shares_may_be_handed_out_in_any_way() -> None:
    x = sg.placeholder("x", ("n", 200))
    y = sg.nn.softmax(x)
    executable = sg.compile([x], [y, sg.sum(y * x, 0), sg.max(y, 0), sg.sum(sg.astype(y > 0.01, "int32"), 0)])
    assert "share_count" in executable.source()
    values = np.random.default_rng(0).standard_normal((700, 200), np.float32)
    results = executable(values)
    np.testing.assert_allclose(results[1], (results[0] * values).sum(0, dtype="float64"), rtol=1e-5, atol=1e-6)
    assert np.array_equal(results[2], results[0].max(0)) and np.array_equal(results[3], (results[0] > 0.01).sum(0))
    assert run_in_pieces(executable, values, 1) == run_in_pieces(executable, values, 5)
