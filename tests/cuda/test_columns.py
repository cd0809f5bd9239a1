"""Column sums inside of row kernels: the gradients of a layer norm in one pass over its operands."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import staticgraph as sg
from tests.cuda import skip_without_compiler

skip_without_compiler()

from staticgraph.compiler.render.cuda_rows import SHARES  # noqa: E402
from tests.cuda.resources import translated  # noqa: E402
from tests.cuda.test_skeletons import kernels, run, traffic, values  # noqa: E402

ct = sg.placeholder("ct", ("n", 1024))
x, g, b = sg.placeholder("x", ("n", 1024)), sg.placeholder("g", (1024,)), sg.placeholder("b", (1024,))
gradients = sg.grad(sg.nn.layer_norm(x, weight=g, bias=b), [x, g, b], cotangent=ct)


def arrays(rows: int) -> list[Any]:
    return [values((rows, 1024)), values((1024,), seed=1), values((1024,), seed=2), values((rows, 1024), seed=3)]


@pytest.mark.parametrize("rows", [0, 1, 5, 40, 700])
def test_layer_norm(rows: int) -> None:
    compiled = run([x, g, b, ct], gradients, *arrays(rows), tolerance=3e-5)
    names = [kernel.name for kernel in kernels(compiled)]
    assert [name.split("_")[0] for name in names] == ["row", "column", "column"]
    assert "share" in kernels(compiled)[0].text


def test_each_operand_is_read_once() -> None:
    """In: x, ct and, from the nearest cache at each row, the gain. Out: the gradient of x, and what little the blocks
    have to tell each other."""
    rows = 600
    compiled = run([x, g, b, ct], gradients, *arrays(rows), tolerance=3e-5)
    array, shares = 4 * rows * 1024, 2 * 4 * SHARES * 1024
    loaded, stored = traffic(compiled)
    assert loaded <= 3 * array + shares + 8192 and stored <= array + shares + 16384
    assert translated(compiled.program.kernels[0]).registers <= 128


def test_the_order_of_warps_does_not_matter() -> None:
    compiled = run([x, g, b, ct], gradients, *arrays(9), tolerance=3e-5)
    expected = compiled(*arrays(9))
    compiled.seed = 5
    for one, other in zip(expected, compiled(*arrays(9)), strict=True):
        assert one.tobytes() == other.tobytes()


def test_a_value_that_others_want_is_stored_as_well() -> None:
    y = sg.nn.softmax(x) * g
    run([x, g], [y, sg.sum(y, axis=0), sg.max(x, axis=0)], *arrays(33)[:2], tolerance=1e-5)


def test_several_kinds_of_reductions() -> None:
    y = sg.nn.softmax(x)
    compiled = run([x], [sg.sum(y * 2, axis=0) + 1, sg.max(y, axis=0), sg.min(x + 1, axis=0)], arrays(20)[0],
                   tolerance=1e-5)
    assert len(compiled.runs) < 6


@pytest.mark.parametrize("length", [96, 1000, 3000])
def test_rows_that_no_thread_keeps(length: int) -> None:
    """Lengths for which the row kernel stays as it is."""
    a = sg.placeholder("a", ("n", length))
    y = sg.nn.softmax(a)
    run([a], [y, sg.sum(y * a, axis=0)], values((7, length)), tolerance=1e-5)


def test_other_dtypes_and_updates() -> None:
    a = sg.placeholder("a", ("n", 512), "float64")
    w = sg.variable(np.ones(512), "w")
    loss = sg.mean(sg.square(sg.nn.layer_norm(a, weight=w)))
    given = values((17, 512), "float64")
    from tests.cuda.simulate import compile_simulated

    compile_simulated([a], loss, updates={w: w - sg.grad(loss, w)})(given)
    got, w.value = w.value, np.ones(512)
    sg.compile([a], loss, updates={w: w - sg.grad(loss, w)})(given)
    np.testing.assert_allclose(got, w.value, rtol=1e-12)


@pytest.mark.parametrize("view", [lambda y: sg.flip(y, 0), lambda y: sg.flip(y, 1), lambda y: sg.flip(y, 0) + y])
def test_sums_over_rows_that_the_kernel_has_not_written_yet(view: Any) -> None:
    y = sg.nn.softmax(x)
    run([x], [y, sg.sum(view(y) * x, axis=0)], arrays(40)[0], tolerance=1e-5)


def test_sums_that_read_a_sum_along_the_rows() -> None:
    square = sg.placeholder("square", (1024, 1024))
    y = sg.nn.softmax(square)
    total = sg.sum(y * square, axis=0)
    again = sg.sum(square * sg.flip(total, 0)[:, None], axis=0)
    compiled = run([square], [y, total, again], arrays(1024)[0], tolerance=1e-5)
    assert "share" in kernels(compiled)[0].text


@pytest.mark.parametrize("count", [4, 6])
def test_partial_results_stay_in_registers(count: int) -> None:
    a = sg.placeholder("a", ("n", 8192))
    y = sg.nn.softmax(a)
    compiled = run([a], [y, *(sg.sum(y * (a + k), axis=0) for k in range(count))], values((3, 8192)), tolerance=1e-5)
    assert translated(kernels(compiled)[0]).spill_bytes == 0
