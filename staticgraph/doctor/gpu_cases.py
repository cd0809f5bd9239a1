"""What the benchmark on a GPU measures: each case is one declaration.

Bytes are those of the inputs read once and the results written once. `goal` is the time to reach on an H200 at full
size, in milliseconds. Results are checked before anything is timed, large ones in a sample of their elements.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

import staticgraph as sg

from ..bench.cases import LEARNING_RATE
from ..bench.suites.models import mlp_loss, numpy_mlp_step
from ..bench.suites.rows import numpy_layer_norm, numpy_layer_norm_grad, numpy_softmax

Array = np.ndarray[Any, Any]
Arrays = Mapping[str, Array]
Sizes = Mapping[str, int]
Built = tuple[tuple[sg.Tensor, ...], dict[sg.Tensor, sg.Tensor]]

KEEP = 0.9
"""What dropout leaves."""

FULL: Sizes = {"n": 100_000_000, "rows": 32768, "width": 4096, "side": 4096, "batch": 128, "inputs": 784,
               "hidden": 1024, "classes": 10, "copy": 2 << 30}
QUICK: Sizes = {**FULL, "n": 1 << 25, "rows": 8192, "side": 2048, "copy": 1 << 28}
TINY: Sizes = {"n": 1003, "rows": 3, "width": 300, "side": 20, "batch": 4, "inputs": 7, "hidden": 9, "classes": 10,
               "copy": 1 << 16}
SIZES = {"full": FULL, "quick": QUICK, "tiny": TINY}


@dataclass(frozen=True)
class GpuCase:
    """A formula on arrays that are on the device. `inputs` and `state` name shapes; `graph` takes placeholders and
    variables; `error` says how far results (and no state) are off, relative to their scale."""

    name: str
    title: str
    inputs: Mapping[str, tuple[str, ...]]
    graph: Callable[..., Built]
    error: Callable[[Sequence[Array], Arrays, Arrays], float]
    nbytes: Callable[[Sizes], int]
    flops: Callable[[Sizes], int] = lambda sizes: 0
    state: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    tolerance: float = 1e-5
    goal: float | None = None
    tf32: bool = False


def draw(case: GpuCase, sizes: Sizes) -> tuple[dict[str, Array], dict[str, Array]]:
    """Inputs and first state."""
    random = np.random.default_rng(0)
    pool = random.standard_normal(min(1 << 24, max(1, sizes["n"])) + 1, np.float32)     # repeated where more is needed

    def normal(shape: tuple[str, ...], scale: float) -> Array:
        extents = [sizes[each] for each in shape]
        count = math.prod(extents)
        start = int(random.integers(len(pool)))
        values = np.resize(np.roll(pool, start), count).reshape(extents)
        return values if scale == 1 else values * np.float32(scale)

    inputs = {name: random.integers(0, sizes["classes"], [sizes[each] for each in shape]) if name == "labels" else
              normal(shape, 1) for name, shape in case.inputs.items()}
    return inputs, {name: normal(shape, 0.05) for name, shape in case.state.items()}


def build(case: GpuCase, sizes: Sizes, state: Arrays) -> tuple[list[sg.Tensor], Built]:
    """The graph of a case: all sizes are fixed, as those of a model are."""
    placeholders = [sg.placeholder(name, tuple(sizes[each] for each in shape),
                                   "int64" if name == "labels" else "float32") for name, shape in case.inputs.items()]
    variables = [sg.variable(value, name) for name, value in state.items()]
    return placeholders, case.graph(*placeholders, *variables)


# How far results are off.


def _off(got: Array, wanted: Array) -> float:
    if got.shape != wanted.shape:
        return math.inf
    scale = max(float(np.max(np.abs(wanted), initial=0.0)), 1e-30)
    worst = float(np.max(np.abs(got - wanted), initial=0.0)) / scale
    return worst if worst == worst else math.inf


def _rows(count: int, most: int = 64) -> Array:
    return np.unique(np.linspace(0, count - 1, most).astype(np.int64))


def _elements_error(results: Sequence[Array], arrays: Arrays, state: Arrays) -> float:
    some = _rows(len(results[0]), 100_000)
    x, w, b = (each[some].astype(np.float64) for each in arrays.values())
    return _off(results[0][some], np.exp(-x) * np.tanh(x * w + b))


def _row_error(function: Callable[..., tuple[Array, ...]]) -> Callable[[Sequence[Array], Arrays, Arrays], float]:
    def error(results: Sequence[Array], arrays: Arrays, state: Arrays) -> float:
        some = _rows(len(results[0]))
        given = [(each[some] if each.ndim == 2 else each).astype(np.float64) for each in arrays.values()]
        return _off(results[0][some], function(*given)[0])
    return error


def _backward_error(results: Sequence[Array], arrays: Arrays, state: Arrays) -> float:
    """Some rows of the input's gradient; the first columns of the sums over all rows."""
    x, weight, ct = arrays.values()
    some, columns = _rows(len(x)), slice(0, 16)
    dx = numpy_layer_norm_grad(*(each.astype(np.float64) for each in (x[some], weight, weight, ct[some])))[1]
    mean = x.mean(1, dtype=np.float64, keepdims=True)
    spread = np.sqrt(np.array([np.var(row, dtype=np.float64) for row in x]) + 1e-5)[:, None]
    slopes = ct[:, columns].astype(np.float64)
    dweight = (slopes * ((x[:, columns] - mean) / spread)).sum(0)
    return max(_off(results[0][some], dx), _off(results[1][columns], dweight), _off(results[2][columns], slopes.sum(0)))


def _sum_error(results: Sequence[Array], arrays: Arrays, state: Arrays) -> float:
    x = arrays["x"]
    return abs(float(results[0]) - float(x.sum(dtype=np.float64))) / float(np.abs(x).sum(dtype=np.float64))


def _dropout_error(results: Sequence[Array], arrays: Arrays, state: Arrays) -> float:
    """What is left is scaled; how much is left is within six standard deviations of what should be."""
    x, y = arrays["x"], results[0]
    left = y != 0
    share, spread = float(left.mean()), math.sqrt(KEEP * (1 - KEEP) / x.size)
    if abs(share - KEEP) > 6 * spread + float((x == 0).mean()):
        return math.inf
    return _off(y[left], x[left] / np.float32(KEEP))


def _matmul_error(results: Sequence[Array], arrays: Arrays, state: Arrays) -> float:
    a, b = arrays.values()
    some = _rows(len(a), 16)
    return _off(results[0][some], a[some].astype(np.float64) @ b.astype(np.float64))


def _mlp_error(results: Sequence[Array], arrays: Arrays, state: Arrays) -> float:
    loss = numpy_mlp_step(arrays["x"].astype(np.float64), arrays["labels"],
                          *(each.astype(np.float64) for each in state.values()))[0]
    return _off(np.asarray(results[0], np.float64), np.asarray(loss))


# Graphs.


def _plain(function: Callable[..., sg.Tensor]) -> Callable[..., Built]:
    return lambda *tensors: ((function(*tensors),), {})


def _dropout(x: sg.Tensor) -> sg.Tensor:
    return sg.nn.dropout(x, 1 - KEEP, sg.random.generator(0))


def _backward(x: sg.Tensor, weight: sg.Tensor, ct: sg.Tensor) -> Built:
    bias = sg.constant(np.zeros(weight.shape, np.float32))     # its value is in no gradient
    return tuple(sg.vjp([sg.nn.layer_norm(x, weight, bias)], [x, weight, bias], [ct])), {}


def _mlp(x: sg.Tensor, labels: sg.Tensor, *state: sg.Tensor) -> Built:
    (loss,) = mlp_loss(x, labels, *state)
    slopes = sg.grad(loss, list(state))
    return (loss,), {p: p - LEARNING_RATE * slope for p, slope in zip(state, slopes)}


def _mlp_weights(sizes: Sizes) -> int:
    return sizes["inputs"] * sizes["hidden"] + sizes["hidden"] ** 2 + sizes["hidden"] * sizes["classes"]


def _mlp_bytes(sizes: Sizes) -> int:
    parameters = _mlp_weights(sizes) + 2 * sizes["hidden"] + sizes["classes"]
    return 4 * sizes["batch"] * sizes["inputs"] + 8 * sizes["batch"] + 4 + 8 * parameters


def _mlp_flops(sizes: Sizes) -> int:
    return 2 * sizes["batch"] * (3 * _mlp_weights(sizes) - sizes["inputs"] * sizes["hidden"])


def _mlp_case(tf32: bool) -> GpuCase:
    return GpuCase(
        "mlp_step_tf32" if tf32 else "mlp_step", "MLP 784-1024-1024-10: forward, backward, SGD",
        {"x": ("batch", "inputs"), "labels": ("batch",)}, _mlp, _mlp_error, _mlp_bytes, _mlp_flops,
        state={"w1": ("inputs", "hidden"), "b1": ("hidden",), "w2": ("hidden", "hidden"), "b2": ("hidden",),
               "w3": ("hidden", "classes"), "b3": ("classes",)},
        tolerance=1e-2 if tf32 else 1e-4, goal=0.060 if tf32 else None, tf32=tf32)


def _matmul_case(tf32: bool) -> GpuCase:
    return GpuCase(
        "matmul_tf32" if tf32 else "matmul", "product of square matrices",
        {"a": ("side", "side"), "b": ("side", "side")}, _plain(lambda a, b: a @ b), _matmul_error,
        lambda sizes: 12 * sizes["side"] ** 2, lambda sizes: 2 * sizes["side"] ** 3,
        tolerance=3e-3 if tf32 else 1e-4, tf32=tf32)


def _matrix(sizes: Sizes) -> int:
    return 4 * sizes["rows"] * sizes["width"]


_MATRIX, _ROW = ("rows", "width"), ("width",)

CASES: tuple[GpuCase, ...] = (
    GpuCase("elements", "exp(-x) * tanh(x*w + b)", {"x": ("n",), "w": ("n",), "b": ("n",)},
            _plain(lambda x, w, b: sg.exp(-x) * sg.tanh(x * w + b)), _elements_error,
            lambda sizes: 16 * sizes["n"], goal=0.41),
    GpuCase("softmax", "softmax of rows", {"x": _MATRIX}, _plain(sg.nn.softmax), _row_error(numpy_softmax),
            lambda sizes: 2 * _matrix(sizes), goal=0.285),
    GpuCase("layer_norm", "layer norm of rows", {"x": _MATRIX, "weight": _ROW, "bias": _ROW},
            _plain(sg.nn.layer_norm), _row_error(numpy_layer_norm), lambda sizes: 2 * _matrix(sizes), goal=0.285),
    GpuCase("layer_norm_backward", "its three gradients", {"x": _MATRIX, "weight": _ROW, "ct": _MATRIX},
            _backward, _backward_error, lambda sizes: 3 * _matrix(sizes), tolerance=1e-4, goal=0.45),
    GpuCase("sum_all", "sum of everything", {"x": ("n",)}, _plain(sg.sum), _sum_error,
            lambda sizes: 4 * sizes["n"], tolerance=1e-6, goal=0.105),
    _mlp_case(False), _mlp_case(True), _matmul_case(False), _matmul_case(True),
    GpuCase("dropout", f"dropout that keeps {KEEP:.0%}", {"x": ("n",)}, _plain(_dropout), _dropout_error,
            lambda sizes: 8 * sizes["n"]),
)

__all__ = ["CASES", "KEEP", "LEARNING_RATE", "SIZES", "Array", "Arrays", "GpuCase", "Sizes", "build", "draw"]
