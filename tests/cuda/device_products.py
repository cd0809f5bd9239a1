"""Matrix products on a GPU, by cuBLASLt where it is installed: against NumPy, and against themselves from run to run.

Not part of `make test`: ``staticgraph doctor --gpu-check`` gives this file to pytest, like `device_checks`. Programs
are put together by hand, so that every way in which operands may lie in memory is asked for, whatever the compiler
makes of a graph. Where the library is there, it must run all float32 products that it can express; so a refusal by the
real library, for which our own kernel would step in, is a failure here.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from staticgraph.compiler.program import Program
from staticgraph.compiler.render.cuda_matmul import render_matmul
from staticgraph.runtime.cuda.cublaslt import Handle, handle_of
from staticgraph.runtime.cuda.device import find_device
from staticgraph.runtime.executable import load
from tests.cuda.test_cublaslt import View, product_program, views

Array = np.ndarray[Any, Any]
REHEARSAL = os.environ.get("GPU_CHECK_REHEARSE") == "1"

SHAPES = [(3, 4, 5), (1, 1, 1)] if REHEARSAL else [
    (3, 4, 5), (1, 1, 1), (64, 64, 64), (65, 63, 67), (128, 784, 1024), (1024, 128, 784), (128, 1024, 10),
    (10, 128, 1024), (10, 100_000, 16), (1, 4096, 1024)]
"""m, k, n."""

WORDS = ["matmul", "matmul:bias", "matmul:relu", "matmul:bias:relu", "matmul:gelu", "matmul:bias:gelu", "matmul:tf32",
         "matmul:tf32:bias:relu"]

EXACT = {"float32": 2e-6, "float64": 5e-15}
"""How far a sum may be from the exact one, in terms of the sum of its parts' sizes. A correct one of k terms stays far
below that; sums of TF32 products do not."""

TF32 = 2e-3
GELU = {"float32": 2e-5, "float64": 1e-13}
"""How far the tanh form may be from the exact one, beside what the sum is off."""


def with_text(program: Program) -> Program:
    """The program with the kernel that the compiler would have written."""
    (kernel,) = program.kernels
    dtype, *epilogue = kernel.name.split("_")[1:]
    name, text, launch = render_matmul(dtype, tuple(epilogue))
    (step,) = program.steps
    batch, m, n = program.buffers[2].shape
    extent = batch * ((m + 63) // 64) * ((n + 63) // 64)
    return replace(program, steps=(replace(step, extent=extent),), kernels=(
        replace(kernel, name=name, key=hashlib.sha256(text.encode()).hexdigest(), text=text, launch=launch),))


def by_library(executable: Any, must: bool = True) -> bool:
    """Did the library run it? Where it is there, it must have."""
    with find_device(0) as device:
        found = isinstance(handle_of(device), Handle)
    text = executable.explain()
    declined = "own kernel" in text
    assert not (found and must and declined), text[text.index("library routines"):].split("\n\n")[0]
    return not declined


def finished(total: Array, function: str) -> Array:
    if function == "relu":
        return np.maximum(total, 0)
    if function == "gelu":
        return 0.5 * total * (1 + np.tanh(np.sqrt(2 / np.pi) * (total + 0.044715 * total**3)))
    return total


def run(left: View, right: View, words: str, dtype: str, batch: int, m: int, k: int, n: int, length: int) -> None:
    random = np.random.default_rng(m + k + n)
    a, b, bias = (random.standard_normal(each).astype(dtype) for each in (length, length, n))
    given = [a, b, *[bias] * ("bias" in words)]
    executable = load(with_text(product_program(left, right, words, dtype, batch, m, n, k, length)))
    result = executable(*given)
    library = by_library(executable, must=dtype == "float32" or words == "matmul")
    for _ in range(3):
        assert executable(*given).tobytes() == result.tobytes(), "other bits in another run"
    x, y = (each.astype("longdouble" if m * k * n < 1e5 else "float64") for each in (
        left.of(a, (batch, m, k)), right.of(b, (batch, k, n))))
    exact = x @ y + (bias if "bias" in words else 0)
    parts = np.abs(x) @ np.abs(y) + (np.abs(bias) if "bias" in words else 0)
    function = words.rpartition(":")[2]
    tolerance = TF32 if library and "tf32" in words and dtype == "float32" else EXACT[dtype]
    allowed = tolerance * parts + GELU[dtype] * (function == "gelu")
    wrong = np.abs(finished(exact, function) - result) > allowed * (1.2 if function == "gelu" else 1)
    assert not wrong.any(), f"{wrong.sum()} of {wrong.size} elements are wrong"


@pytest.mark.parametrize("words", WORDS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_shapes_and_epilogues(shape: tuple[int, int, int], dtype: str, words: str) -> None:
    m, k, n = shape
    run(View(m * k, k, 1), View(k * n, n, 1), words, dtype, 1, m, k, n, max(m * k, k * n))


@pytest.mark.parametrize("words", ["matmul", "matmul:bias:relu"])
@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("name", ["by rows", "by columns", "wide rows", "wide columns", "packed batch", "same for all",
                                  "same columns for all"])
def test_strides(name: str, batch: int, words: str) -> None:
    m, k, n = 6, 7, 5
    for right in views(k, n).values():
        if right.fits(k, n, batch):
            run(views(m, k)[name], right, words, "float32", batch, m, k, n, 600)


@pytest.mark.parametrize("batch", [1, 7])
@pytest.mark.parametrize("turned", [(False, False), (False, True), (True, False), (True, True)], ids=str)
def test_larger_ones_in_all_orders(turned: tuple[bool, bool], batch: int) -> None:
    m, k, n = (5, 6, 7) if REHEARSAL else (130, 260, 190)
    left = View(m * k, 1, m) if turned[0] else View(m * k, k, 1)
    right = View(k * n, 1, k) if turned[1] else View(k * n, n, 1)
    for words, dtype in (("matmul:bias:relu", "float32"), ("matmul:tf32", "float32"), ("matmul", "float64")):
        run(left, right, words, dtype, batch, m, k, n, batch * max(m * k, k * n))


@pytest.mark.parametrize("words", ["matmul:relu", "matmul:bias:relu", "matmul:gelu"])
def test_nan_stays_nan(words: str) -> None:
    """As in NumPy's maximum."""
    a, b = np.ones(12, "float32"), np.ones(20, "float32")
    a[5] = np.nan
    executable = load(with_text(product_program(View(12, 4, 1), View(20, 5, 1), words, length=20)))
    result = executable(np.resize(a, 20), b, *[np.ones(5, "float32")] * ("bias" in words))[0]
    by_library(executable)
    assert np.isnan(result[1]).all() and np.isfinite(result[[0, 2]]).all()


def test_strict_unless_asked() -> None:
    """One and a bit has more digits than TF32 holds."""
    a, b = np.full(400, 1 + 2.0**-12, "float32"), np.ones(400, "float32")
    size = 16
    for words in ("matmul", "matmul:bias"):
        program = with_text(product_program(View(0, size, 1), View(0, size, 1), words, m=size, n=size, k=size))
        result = load(program)(a, b, *[np.zeros(size, "float32")] * ("bias" in words))
        assert np.array_equal(result[0], np.full((size, size), size * (1 + 2.0**-12), "float32"))
