"""What the kernels are made of, and their bits: no double precision in float32 kernels, sums at least as accurate as
NumPy's, the same bits whatever the chunks, the threads and the cache.
"""

from __future__ import annotations

import math
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import staticgraph as sg
from staticgraph import api
from staticgraph.compiler.program import Program
from staticgraph.tensor import Tensor
from tests.compiler.graphs import GRAPHS
from tests.compiler.models import perceptron
from tests.kernel_harness import compile_kernel

Array = np.ndarray[Any, Any]
UNARY = """negative abs sign square sqrt exp exp2 expm1 log log1p log2 log10 sin cos tan sinh cosh tanh asin acos atan
asinh acosh atanh erf erfc sigmoid softplus relu floor ceil trunc round reciprocal""".split()
BINARY = """add subtract multiply divide floor_divide remainder pow logaddexp atan2 hypot maximum minimum
copysign""".split()


# By their dtypes, and for the formula 1.0 / n of a size, which is a Python float until it meets a float32.
DOUBLE_PRECISION = ("mixed_dtypes", "swap", "sizes_as_values")


def program(inputs: list[Tensor], outputs: Any, updates: Any = None) -> Program:
    result = api.compile_only(inputs, outputs, updates=updates).program
    assert result is not None
    return result


def float32_programs() -> dict[str, Program]:
    """Programs in which every value that is not an index is float32."""
    x, y = sg.placeholder("x", ("n", "m")), sg.placeholder("y", ("n", "m"))
    one, other = sg.placeholder("one", ("n",)), sg.placeholder("other", ("n",))
    programs = {name: program(list(inputs), outputs, updates) for name, (inputs, outputs, updates) in
                ((name, GRAPHS[name]()) for name in GRAPHS if name not in DOUBLE_PRECISION)}
    for name in UNARY:
        programs[name] = program([one], getattr(sg, name)(one))
    for name in BINARY:
        programs[name] = program([one, other], getattr(sg, name)(one, other))
    for name in ("sum", "prod", "max", "min", "argmax", "argmin", "mean", "var"):
        programs[f"{name}s"] = program([x], [getattr(sg, name)(x, 0), getattr(sg, name)(x, 1)])
    programs["scans"] = program([x, y], [sg.cumulative_sum(x, 0), sg.cumulative_prod(x, 1),
                                         sg.linear_recurrence(x, y, 1)])
    programs["gelu"] = program([x], [sg.nn.gelu(x, kind) for kind in ("none", "tanh")])
    programs["sizes"] = program([x], [sg.mean(x) / x.shape[0], x * x.shape[1] + 0.1])
    inputs, loss, parameters = perceptron()
    for optimizer in (sg.optim.SGD(0.1, momentum=0.9), sg.optim.Adam()):
        programs[type(optimizer).__name__] = program(inputs, loss, optimizer.updates(loss, parameters))
    return programs


PROGRAMS = float32_programs()
DOUBLE = re.compile(r"\bdouble\b")


@pytest.mark.parametrize("name", PROGRAMS)
def test_no_double_precision(name: str) -> None:
    for kernel in PROGRAMS[name].kernels:
        llvm = compile_kernel(kernel.text).llvm
        found = [line.strip() for line in llvm.splitlines()
                 if DOUBLE.search(line) and not line.startswith(("declare", ";"))]
        assert not found, f"{kernel.name}: {found[:5]}\n{kernel.text}"


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_gradients_call_no_libm(dtype: str) -> None:
    x, y = sg.placeholder("x", (64,), dtype), sg.placeholder("y", (64,), dtype)
    names = [name for name in UNARY if name not in ("sign", "floor", "ceil", "trunc", "round")]
    values = [getattr(sg, name)(x) for name in names]
    values += [sg.pow(x, y), sg.atan2(x, y), sg.hypot(x, y), sg.logaddexp(x, y), sg.nn.gelu(x), sg.nn.silu(x)]
    gradients = [sg.grad(sg.sum(value), x) for value in values]
    for kernel in program([x, y], gradients).kernels:
        assert compile_kernel(kernel.text).libm_calls() == set(), kernel.text


# Accuracy of sums.

def ill_conditioned(rng: np.random.Generator, count: int) -> Array:
    values = (rng.standard_normal(count) * 10.0 ** rng.uniform(-4, 4, count)).astype("float32")
    return np.concatenate([values, -values[: count // 2] * np.float32(1.0001)]).astype("float32")


DATA = {
    "uniform": lambda rng: rng.random(1_000_000, dtype="float32"),
    "normal": lambda rng: rng.standard_normal(1_000_003).astype("float32"),
    "ill-conditioned": lambda rng: ill_conditioned(rng, 700_000),
    "constant": lambda rng: np.full(1_000_001, 0.1, "float32"),
    "growing": lambda rng: np.arange(1_000_000, dtype="float32"),
}


def root_mean_square(values: Array) -> float:
    return float(np.sqrt(np.mean(np.square(values))))


def assert_as_accurate(results: Array, numpys: Array, exact: Array) -> None:
    """On the average no further from the exact sums than NumPy's, or than twice what the last rounding costs."""
    rounding = root_mean_square(exact.astype("float32") - exact)
    assert root_mean_square(results - exact) <= max(root_mean_square(numpys - exact), 2 * rounding)


@pytest.mark.parametrize("name", DATA)
def test_sums_are_as_accurate_as_numpys(name: str) -> None:
    """Rows and columns of several lengths, against the exact sums."""
    flat = DATA[name](np.random.default_rng(3))
    x = sg.placeholder("x", ("n", "m"))
    compiled = sg.compile([x], [sg.sum(x, 0), sg.sum(x, 1)])
    for rows in (100, 1000, 7777):
        array = flat[: len(flat) // rows * rows].reshape(rows, -1)
        for axis, result in enumerate(compiled(array)):
            exact = np.array([math.fsum(row) for row in np.moveaxis(array, axis, 1)])
            assert_as_accurate(result, np.sum(array, axis), exact)


@pytest.mark.parametrize("name", DATA)
def test_sums_of_a_million_are_as_accurate_as_numpys(name: str) -> None:
    """The whole array, shuffled some times: a single sum may be lucky. And two long columns of it."""
    rng = np.random.default_rng(4)
    flat = DATA[name](rng)
    x, y = sg.placeholder("x", ("n",)), sg.placeholder("y", ("n", 2))
    total, columns = sg.compile([x], sg.sum(x)), sg.compile([y], sg.sum(y, 0))
    shuffled = [flat, *(rng.permutation(flat) for _ in range(11))]
    assert_as_accurate(np.array([total(each) for each in shuffled]), np.array([np.sum(each) for each in shuffled]),
                       np.full(12, math.fsum(flat)))
    pairs = [each[: len(each) // 2 * 2].reshape(-1, 2) for each in shuffled[:4]]
    assert_as_accurate(np.concatenate([columns(each) for each in pairs]),
                       np.concatenate([np.sum(each, 0) for each in pairs]),
                       np.array([math.fsum(column) for each in pairs for column in each.T]))


@pytest.mark.parametrize("kind", ["random", "standard_normal"])
def test_sums_in_parts_and_through_views_are_as_accurate_as_numpys(kind: str) -> None:
    """Lengths that are known, so that threads share parts of them; every third element; a matrix along either axis.
    What 40 samples tell of an error's size is off by a tenth."""
    length, shape, luck = 600_000, (1000, 600), 1.2
    x = sg.placeholder("x", (length,))
    square = sg.reshape(x, shape)
    compiled = sg.compile([x], [sg.sum(x), sg.sum(x[::3]), sg.sum(square, 0), sg.sum(square, 1)])
    assert any("parts" in kernel.name for kernel in compiled.program.kernels)
    draw = np.random.default_rng(6)
    samples = [getattr(draw, kind)(length, "float32") for _ in range(40)]

    def sums(flat: Array) -> list[Array]:
        matrix = flat.reshape(shape)
        return [np.sum(flat), np.sum(flat[::3]), np.sum(matrix, 0), np.sum(matrix, 1)]

    ours, numpys = zip(*map(compiled, samples)), zip(*map(sums, samples))
    wide = zip(*(sums(each.astype("float64")) for each in samples))     # as good as exact for a float32
    for results, others, exact in zip(ours, numpys, map(np.stack, wide), strict=True):
        assert_as_accurate(np.stack(results), exact + luck * (np.stack(others) - exact), exact)


def test_variance_of_large_numbers() -> None:
    """Two passes, so that nothing cancels."""
    values = (1e4 + np.random.default_rng(0).random(100_000)).astype("float32")
    x = sg.placeholder("x", ("n",))
    assert abs(float(sg.compile([x], sg.var(x))(values)) / float(np.var(values.astype("float64"))) - 1) < 1e-5


# The same bits.

def run_in_chunks(text: str, arguments: list[Any], outputs: list[Array], extent: int, chunk: int) -> list[Array]:
    for output in outputs:
        output[...] = 77
    kernel = compile_kernel(text)
    for start in range(0, extent, chunk):
        kernel(arguments, min(start + chunk, extent), start)
    return [output.copy() for output in outputs]


CHUNKED = {"sum of rows": lambda x: sg.sum(x, 1), "sum of columns": lambda x: sg.sum(x, 0),
           "softmax": lambda x: sg.nn.softmax(x), "softmax of columns": lambda x: sg.nn.softmax(x, 0),
           "elements": lambda x: sg.tanh(x) * sg.exp(x) + 0.1, "transposed": lambda x: sg.sqrt(x.T),
           "argmax of columns": lambda x: sg.argmax(x, 0), "running sum": lambda x: sg.cumulative_sum(x, 0),
           "normalised": lambda x: (x - sg.mean(x, 0)) / sg.std(x, 0)}


@pytest.mark.parametrize("name", CHUNKED)
def test_chunks_do_not_matter(name: str) -> None:
    """Each kernel called directly, in pieces of several sizes: bit for bit the same."""
    x = np.random.default_rng(1).random((70, 613), dtype="float32")
    made = program([tensor := sg.placeholder("x", x.shape)], CHUNKED[name](tensor))
    step, = made.steps
    output = np.empty([int(size) for size in made.outputs[0].shape], made.outputs[0].dtype)
    buffers = {number: x if buffer.place == "input" else output for number, buffer in enumerate(made.buffers)}
    arguments: list[Any] = []
    for argument in step.arguments:
        assert not argument.offset
        arguments.append(buffers[int(str(argument.value))] if argument.kind == "buffer" else int(str(argument.value)))
    extent = int(str(step.extent))
    text = made.kernels[step.kernel].text
    whole, = run_in_chunks(text, arguments, [output], extent, extent)
    for chunk in (1, 3, 16, 64, 100, 257):
        if extent // chunk > 2000:
            continue
        part, = run_in_chunks(text, arguments, [output], extent, chunk)
        assert part.tobytes() == whole.tobytes(), f"in chunks of {chunk}"


CODE = """
import hashlib, sys
import numpy as np, staticgraph as sg
from tests.compiler.models import batch_of, perceptron
inputs, loss, parameters = perceptron()
step = sg.compile(inputs, loss, updates=sg.optim.Adam(1e-2).updates(loss, parameters))
rng = np.random.default_rng(0)
x = sg.placeholder("x", ("n", "m"))
more = sg.compile([x], [sg.nn.softmax(x), sg.nn.softmax(x, 0), sg.sum(x), sg.sum(x, 0), sg.nn.gelu(x), x.T @ x])
bits = [np.asarray(step(*batch_of(64))).tobytes() for _ in range(5)]
bits += [each.tobytes() for shape in ((300, 700), (700, 300)) for each in more(rng.random(shape, dtype="float32"))]
bits += [each.value.tobytes() for each in parameters]
origins = {each.origin for each in [*step._kernels, *more._kernels]}
print(hashlib.sha256(b"".join(bits)).hexdigest(), *sorted(origins))
"""


def test_cold_and_cached_and_any_number_of_threads_give_the_same_bits(tmp_path: Path) -> None:
    results = []
    for threads in ("1", "2", "2", "3"):
        environment = {**os.environ, "STATICGRAPH_CACHE_DIR": str(tmp_path / "cache"),
                       "STATICGRAPH_NUM_THREADS": threads}
        done = subprocess.run([sys.executable, "-c", CODE], env=environment, capture_output=True, text=True, check=True,
                              cwd=Path(__file__).parent.parent.parent)
        results.append(done.stdout.split())
    assert len({each[0] for each in results}) == 1
    assert results[0][1:] == ["compiled", "process"] or results[0][1:] == ["compiled"]
    assert "compiled" not in results[1] and "cache" in results[1]
