"""Products with a bias and an activation in their kernels: when they are taken in, and what comes out."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import staticgraph as sg
from staticgraph.compiler.absorb import absorb
from tests.cuda import needs_compiler

x = sg.placeholder("x", ("n", 20))
w, b = sg.placeholder("w", (20, 12)), sg.placeholder("b", (12,))
z = x @ w + b


def names(outputs: list[sg.Tensor]) -> list[str]:
    from staticgraph.tensor import toposort

    return [node.op.name for node in toposort(absorb(outputs)[0])]


@pytest.mark.parametrize(("y", "activation"), [
    (sg.nn.relu(z), "relu"), (sg.nn.relu(b + x @ w), "relu"), (sg.nn.gelu(z, approximate="tanh"), "gelu"),
    (sg.nn.relu(x @ w), "relu"), (z, ""),
])
def test_taken_in(y: sg.Tensor, activation: str) -> None:
    (result,), _ = absorb([y])
    assert result.op.name == "matmul_epilogue" and result.attrs["activation"] == activation


@pytest.mark.parametrize("outputs", [
    [sg.nn.gelu(z)],                            # the exact form
    [sg.nn.relu(z), x @ w],                     # the product is wanted itself
    [sg.nn.relu(z) + z],                        # the sum is read by others
    [sg.tanh(z)],
    [sg.nn.relu(x @ w + sg.placeholder("full", ("n", 12)))],
    [sg.exp(z)],                                # a bias alone costs nothing in the next kernel
])
def test_left_alone(outputs: list[sg.Tensor]) -> None:
    assert "matmul_epilogue" not in names(outputs)


def test_the_gradient_of_relu_asks_the_result() -> None:
    loss = sg.sum(sg.nn.relu(z) ** 2)
    found = names([loss, *sg.grad(loss, [w, b])])
    assert found.count("matmul_epilogue") == 1 and "relu" not in found


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("kind", ["relu", "gelu", "sum", "layers"])
@needs_compiler
def test_values(kind: str, dtype: str) -> None:
    from tests.cuda.test_skeletons import run, values

    a, v, c = (sg.placeholder(name, shape, dtype) for name, shape in (("a", ("n", 20)), ("v", (20, 12)), ("c", (12,))))
    total = a @ v + c
    y: Any = {"relu": sg.nn.relu(total), "gelu": sg.nn.gelu(total, approximate="tanh"), "sum": total,
              "layers": sg.nn.relu(sg.nn.relu(total) @ v.T + 1)}[kind]
    loss = sg.sum(y ** 2)
    arrays = [values((9, 20), dtype), values((20, 12), dtype, 1), values((12,), dtype, 2)]
    compiled = run([a, v, c], [y, *sg.grad(loss, [a, v, c])], *arrays, tolerance=1e-5)
    if kind != "gelu":      # its gradient reads the sum
        assert any("_bias" in kernel.name or "relu" in kernel.name for kernel in compiled.program.kernels
                   if kernel.library)
    alone = run([a, v, c], y, *arrays, tolerance=1e-5)
    assert next(kernel.library for kernel in alone.program.kernels).startswith("matmul")


@pytest.mark.parametrize("kind", ["step", "flip", "offset", "spread", "one"])
@needs_compiler
def test_a_bias_that_is_a_view(kind: str) -> None:
    from tests.cuda.test_skeletons import run, values

    shape = {"spread": (), "one": (1,)}.get(kind, (30,))
    c = sg.placeholder("c", shape)
    view = {"step": lambda: c[1:24:2], "flip": lambda: sg.flip(c[3:15], 0), "offset": lambda: c[5:17]}.get(
        kind, lambda: sg.broadcast_to(c, (12,)))()
    compiled = run([x, w, c], sg.nn.relu(x @ w + view), values((9, 20)), values((20, 12), seed=1),
                   np.asarray(values(shape, seed=2)), tolerance=1e-5)
    assert compiled.program.kernels[-1].library == "matmul:bias:relu"


def test_special_values() -> None:
    given = np.array([[np.nan, 1.0], [np.inf, -1.0]], "float32")
    p, q = sg.placeholder("p", (2, 2)), sg.placeholder("q", (2, 2))
    feed = {p: given, q: np.eye(2, dtype="float32")}
    y = sg.nn.relu(p @ q)
    with np.errstate(invalid="ignore"):
        np.testing.assert_array_equal(sg.evaluate(absorb([y])[0][0], feed), sg.evaluate(y, feed))
