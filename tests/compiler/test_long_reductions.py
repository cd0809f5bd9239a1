"""Few long rows, and columns of many rows, are reduced in parts that threads share; a few columns several rows at once.

Every result is compared with float64 arithmetic, and is the same to the bit however the parts are handed out.
"""

from __future__ import annotations

from ctypes import CFUNCTYPE, c_int32, c_int64
from typing import Any

import numpy as np
import pytest

import staticgraph as sg
from staticgraph.runtime.driver import STEP_SLOTS

Array = np.ndarray[Any, Any]


def reductions(x: sg.Tensor, axis: int | None) -> list[sg.Tensor]:
    return [sg.sum(x, axis), sg.max(x, axis), sg.argmin(x, axis), sg.var(x, axis),
            x - sg.mean(x, axis, keepdims=True)]


def exact(x: Array, axis: int | None) -> list[Array]:
    wide = x.astype("float64")
    return [wide.sum(axis), wide.max(axis), x.argmin(axis), wide.var(axis), wide - wide.mean(axis, keepdims=True)]


def assert_close(results: list[Array], wanted: list[Array]) -> None:
    for actual, expected in zip(results, wanted, strict=True):
        np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-4)


def kernel_names(executable: sg.Executable) -> str:
    return " ".join(kernel.name for kernel in executable._program.kernels)


def run_in_pieces(executable: Any, x: Array, pieces: int) -> list[bytes]:
    """The steps of a call run one after the other, each in so many ranges of iterations."""
    binding, results = executable._prepare([x], [x])
    for kernel, arguments, extent, _, _ in binding.row[executable._layout._steps:].reshape(-1, STEP_SLOTS).tolist():
        entry = CFUNCTYPE(c_int32, c_int64, c_int64, c_int64)(kernel)
        chunk = -(-extent // pieces)
        for start in range(0, extent, chunk):
            assert entry(arguments, start, min(start + chunk, extent)) == 0
    return [result.tobytes() for result in results]


@pytest.mark.parametrize(("shape", "axis"), [((300_001,), None), ((3, 90_000), 1), ((1500, 300), 0)])
def test_parts(shape: tuple[int, ...], axis: int | None) -> None:
    x = sg.placeholder("x", shape)
    executable = sg.compile([x], reductions(x, axis))
    assert "parts" in kernel_names(executable) and "join" in kernel_names(executable)
    values = np.random.default_rng(0).standard_normal(shape, np.float32)
    assert_close(executable(values), exact(values, axis))
    assert run_in_pieces(executable, values, 1) == run_in_pieces(executable, values, 7)
    values[shape[0] // 2] = np.nan
    assert all(np.isnan(each).any() for each in executable(values)[:2])


@pytest.mark.parametrize("columns", (2, 7, 16))
def test_a_few_columns_go_several_rows_at_once(columns: int) -> None:
    """All remainders of a pass and of the passes that are taken together."""
    x = sg.placeholder("x", ("n", columns))
    outputs = [sg.sum(x, 0), sg.min(x, 0), sg.sum((x - sg.mean(x, 0)) ** 2, 0), sg.any(x > 2, 0)]
    executable = sg.compile([x], outputs)
    assert "other + lane" in executable.source()
    random = np.random.default_rng(columns)
    for rows in (1, 2, 31, 32, 33, 127, 128, 129, 1000, 5003):
        values = random.standard_normal((rows, columns), np.float32)
        wide = values.astype("float64")
        assert_close(executable(values), [wide.sum(0), wide.min(0), ((wide - wide.mean(0)) ** 2).sum(0),
                                          (values > 2).any(0)])


def test_a_few_columns_in_parts_and_in_batches() -> None:
    x = sg.placeholder("x", (2, 20_000, 8))
    executable = sg.compile([x], sg.sum(x, 1))
    assert "parts" in kernel_names(executable) and "other + lane" in executable.source()
    values = np.random.default_rng(0).standard_normal((2, 20_000, 8), np.float32)
    assert_close([executable(values)], [values.astype("float64").sum(1)])
    assert run_in_pieces(executable, values, 1) == run_in_pieces(executable, values, 7)


def test_columns_that_something_else_goes_along_with_are_not_folded() -> None:
    """A weight for each row or column is another one in each lane of a pass."""
    x, u = sg.placeholder("x", ("n", 8)), sg.placeholder("u", ("n", 1))
    executable = sg.compile([x, u], sg.sum(x * u, 0))
    assert "other + lane" not in executable.source()
    values, weights = np.arange(400, dtype="float32").reshape(50, 8), np.arange(50, dtype="float32").reshape(50, 1)
    assert_close([executable(values, weights)], [(values * weights).sum(0)])


def test_lengths_that_are_not_known() -> None:
    """All elements of many rows may be many; those of a vector, a batch of losses, hardly."""
    x = sg.placeholder("x", ("n", 1000))
    executable = sg.compile([x], sg.sum(x))
    assert "parts" in kernel_names(executable)
    for rows in (0, 1, 700):
        values = np.random.default_rng(0).standard_normal((rows, 1000), np.float32)
        assert_close([executable(values)], [values.astype("float64").sum()])
    assert "parts" not in kernel_names(sg.compile([x], [sg.sum(x, 0), sg.sum(x[:, 0])]))
