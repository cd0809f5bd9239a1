"""What is measured: each case is one declaration, and everything else reads it.

A case names its inputs with their shapes, the graph, the NumPy form, and how many bytes and operations its mathematics
needs. Bytes are those of the inputs read once and the results written once, however often a contestant passes over
them; operations count one for each arithmetic operation or elementary function, two for a multiply-add of a product of
matrices. Shapes are made of integers and of the names in `sizes`; `free` names stay symbolic in the graph, so that one
compile serves all sizes, the others are part of the type, as widths of layers are.

Graph and NumPy form take the inputs and then the state, and return the results followed by the new state.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

import staticgraph as sg

Array = np.ndarray[Any, Any]
Sizes = Mapping[str, int]

GELU_SCALE = math.sqrt(2 / math.pi)
GELU_CUBIC = 0.044715
EPSILON = 1e-5
LEARNING_RATE = 0.05


@dataclass(frozen=True)
class Data:
    """An input: normally distributed float32 of a scale, or with `below` int64 labels of that many classes."""

    shape: tuple[str | int, ...]
    scale: float = 1.0
    below: int = 0

    @property
    def dtype(self) -> str:
        return "int64" if self.below else "float32"

    def sized(self, sizes: Sizes) -> tuple[int, ...]:
        return tuple(sizes[size] if isinstance(size, str) else size for size in self.shape)

    def draw(self, random: np.random.Generator, sizes: Sizes) -> Array:
        shape = self.sized(sizes)
        if self.below:
            return random.integers(0, self.below, shape)
        return random.standard_normal(shape, np.float32) * np.float32(self.scale)


@dataclass(frozen=True)
class Case:
    """One formula with its sizes: (label, sizes) pairs, the first of which is enough for a quick run."""

    name: str
    title: str
    inputs: Mapping[str, Data]
    graph: Callable[..., tuple[sg.Tensor, ...]]
    numpy: Callable[..., tuple[Array, ...]]
    sizes: tuple[tuple[str, Sizes], ...]
    tiny: Sizes
    nbytes: Callable[[Sizes], int]
    flops: Callable[[Sizes], int]
    free: tuple[str, ...] = ("n",)
    state: Mapping[str, Data] = field(default_factory=dict)
    tolerance: float = 1e-5
    goals: Mapping[str, float] = field(default_factory=dict)


def draw_arrays(case: Case, sizes: Sizes, seed: int = 0) -> tuple[dict[str, Array], dict[str, Array]]:
    """Inputs and first state of a case, the same in every process."""
    random = np.random.default_rng(seed)
    inputs = {name: data.draw(random, sizes) for name, data in case.inputs.items()}
    return inputs, {name: data.draw(random, sizes) for name, data in case.state.items()}


def declare(case: Case, sizes: Sizes) -> list[sg.Tensor]:
    """The placeholders of a case: free names symbolic, all other sizes fixed."""
    return [sg.placeholder(name, tuple(size if size in case.free or isinstance(size, int) else sizes[size]
                                       for size in data.shape), data.dtype)
            for name, data in case.inputs.items()]


def reference(case: Case, sizes: Sizes, inputs: Mapping[str, Array], state: Mapping[str, Array]) -> list[Array]:
    """Results and new state by the interpreter: what every contestant is checked against."""
    placeholders = declare(case, sizes)
    variables = [sg.variable(value, name) for name, value in state.items()]
    return list(sg.evaluate(list(case.graph(*placeholders, *variables)), dict(zip(placeholders, inputs.values()))))


def elements(*names: str) -> Callable[[Sizes], int]:
    return lambda sizes: math.prod(sizes[name] for name in names)


def _times(factor: int, count: Callable[[Sizes], int]) -> Callable[[Sizes], int]:
    return lambda sizes: factor * count(sizes)


# Formulas as a NumPy user writes them: clear, with temporaries.


def numpy_gelu(x: Array) -> tuple[Array]:
    return (0.5 * x * (1 + np.tanh(GELU_SCALE * (x + GELU_CUBIC * x * x * x))),)


def numpy_gelu_grad(x: Array, ct: Array) -> tuple[Array, Array]:
    gate = np.tanh(GELU_SCALE * (x + GELU_CUBIC * x * x * x))
    slope = GELU_SCALE * (1 + 3 * GELU_CUBIC * x * x)
    return 0.5 * x * (1 + gate), ct * (0.5 * (1 + gate) + 0.5 * x * (1 - gate * gate) * slope)


def numpy_softmax(x: Array) -> tuple[Array]:
    weights = np.exp(x - x.max(-1, keepdims=True))
    return (weights / weights.sum(-1, keepdims=True),)


def _numpy_normal(x: Array) -> tuple[Array, Array]:
    centred = x - x.mean(-1, keepdims=True)
    factor = 1 / np.sqrt((centred * centred).mean(-1, keepdims=True) + np.float32(EPSILON))
    return centred * factor, factor


def numpy_layer_norm(x: Array, weight: Array, bias: Array) -> tuple[Array]:
    return (_numpy_normal(x)[0] * weight + bias,)


def numpy_layer_norm_grad(x: Array, weight: Array, bias: Array, ct: Array) -> tuple[Array, ...]:
    normal, factor = _numpy_normal(x)
    inner = ct * weight
    dx = factor * (inner - inner.mean(-1, keepdims=True) - normal * (inner * normal).mean(-1, keepdims=True))
    return normal * weight + bias, dx, (ct * normal).sum(0), ct.sum(0)


def numpy_mlp_step(x: Array, t: Array, *state: Array) -> tuple[Array, ...]:
    w1, b1, w2, b2, w3, b3 = state
    h1 = np.maximum(x @ w1 + b1, 0)
    h2 = np.maximum(h1 @ w2 + b2, 0)
    logits = h2 @ w3 + b3
    shifted = logits - logits.max(1, keepdims=True)
    weights = np.exp(shifted)
    total = weights.sum(1, keepdims=True)
    rows = np.arange(len(t))
    loss = (np.log(total[:, 0]) - shifted[rows, t]).mean()
    d3 = weights / total
    d3[rows, t] -= 1
    d3 /= np.float32(len(t))
    d2 = (d3 @ w3.T) * (h2 > 0)
    d1 = (d2 @ w2.T) * (h1 > 0)
    grads = (x.T @ d1, d1.sum(0), h1.T @ d2, d2.sum(0), h2.T @ d3, d3.sum(0))
    return loss, *(p - np.float32(LEARNING_RATE) * g for p, g in zip(state, grads))


# The same as graphs.


def _with_gradient(y: sg.Tensor, wrt: list[sg.Tensor], ct: sg.Tensor) -> tuple[sg.Tensor, ...]:
    return (y, *sg.vjp([y], wrt, [ct]))


def _mlp_graph(x: sg.Tensor, t: sg.Tensor, *state: sg.Tensor) -> tuple[sg.Tensor, ...]:
    w1, b1, w2, b2, w3, b3 = state
    h1 = sg.nn.relu(x @ w1 + b1)
    h2 = sg.nn.relu(h1 @ w2 + b2)
    loss = sg.mean(sg.nn.cross_entropy(h2 @ w3 + b3, t))
    return (loss, *(p - LEARNING_RATE * g for p, g in zip(state, sg.grad(loss, list(state)))))


# The table.

_VECTORS = (("64k", {"n": 65_536}), ("4m", {"n": 4_194_304}))
_MATRICES = (("64x1k", {"n": 64, "width": 1024}), ("4kx1k", {"n": 4096, "width": 1024}))
_BLOCK = (("64x256x256", {"n": 64, "rows": 256, "columns": 256}),)
_MLP = {"n": 64, "inputs": 64, "first": 128, "second": 64, "classes": 10}
_TINY_MLP = {"n": 5, "inputs": 7, "first": 8, "second": 6, "classes": 10}

_n = elements("n")
_matrix = elements("n", "width")
_block = elements("n", "rows", "columns")


def _mlp_weights(sizes: Sizes) -> int:
    return (sizes["inputs"] * sizes["first"] + sizes["first"] * sizes["second"] + sizes["second"] * sizes["classes"])


def _mlp_bytes(sizes: Sizes) -> int:
    """Batch, labels, loss, and every parameter read and written."""
    parameters = _mlp_weights(sizes) + sizes["first"] + sizes["second"] + sizes["classes"]
    return 4 * sizes["n"] * sizes["inputs"] + 8 * sizes["n"] + 4 + 2 * 4 * parameters


def _mlp_flops(sizes: Sizes) -> int:
    """Each weight serves forward and for its own gradient, and all but the first layer's for the input's."""
    return 2 * sizes["n"] * (3 * _mlp_weights(sizes) - sizes["inputs"] * sizes["first"])


def _sum_case(axis: int | None) -> Case:
    where = "all" if axis is None else f"axis{axis}"
    kept = [name for number, name in enumerate(("n", "rows", "columns")) if axis is not None and number != axis]
    return Case(
        f"sum_{where}", "sum over " + ("everything" if axis is None else f"axis {axis} of three"),
        inputs={"x": Data(("n", "rows", "columns"))}, sizes=_BLOCK, tiny={"n": 3, "rows": 5, "columns": 7},
        graph=lambda x: (sg.sum(x, axis=axis),), numpy=lambda x: (x.sum(axis),),
        nbytes=lambda sizes: 4 * (_block(sizes) + elements(*kept)(sizes)), flops=_block, tolerance=1e-4)


_row_inputs = {"x": Data(("n", "width")), "weight": Data(("width",)), "bias": Data(("width",))}

CASES: tuple[Case, ...] = (
    Case("call", "x + 1 of eight elements: what a call costs", inputs={"x": Data(("n",))},
         graph=lambda x: (x + 1,), numpy=lambda x: (x + 1,),
         sizes=(("8", {"n": 8}),), tiny={"n": 8}, nbytes=_times(8, _n), flops=_n),
    Case("chain", "relu(a*b + c - d)", inputs={name: Data(("n",)) for name in "abcd"},
         graph=lambda a, b, c, d: (sg.nn.relu(a * b + c - d),),
         numpy=lambda a, b, c, d: (np.maximum(a * b + c - d, 0),),
         sizes=_VECTORS, tiny={"n": 37}, nbytes=_times(20, _n), flops=_times(4, _n), goals={"numpy": 2.0}),
    Case("gelu", "gelu by tanh", inputs={"x": Data(("n",))},
         graph=lambda x: (sg.nn.gelu(x, approximate="tanh"),), numpy=numpy_gelu,
         sizes=_VECTORS, tiny={"n": 37}, nbytes=_times(8, _n), flops=_times(9, _n), goals={"numpy": 2.0}),
    Case("gelu_grad", "gelu by tanh and its gradient", inputs={"x": Data(("n",)), "ct": Data(("n",))},
         graph=lambda x, ct: _with_gradient(sg.nn.gelu(x, approximate="tanh"), [x], ct), numpy=numpy_gelu_grad,
         sizes=_VECTORS, tiny={"n": 37}, nbytes=_times(16, _n), flops=_times(21, _n), goals={"numpy": 2.0}),
    Case("softmax", "softmax of rows", inputs={"x": Data(("n", "width"))},
         graph=lambda x: (sg.nn.softmax(x),), numpy=numpy_softmax,
         sizes=_MATRICES, tiny={"n": 5, "width": 19}, nbytes=_times(8, _matrix), flops=_times(5, _matrix),
         goals={"numpy": 2.0}),
    Case("layer_norm", "layer norm of rows", inputs=_row_inputs,
         graph=lambda x, weight, bias: (sg.nn.layer_norm(x, weight, bias, eps=EPSILON),), numpy=numpy_layer_norm,
         sizes=_MATRICES, tiny={"n": 5, "width": 19}, flops=_times(7, _matrix),
         nbytes=lambda sizes: 8 * _matrix(sizes) + 8 * sizes["width"], goals={"numpy": 2.0}),
    Case("layer_norm_grad", "layer norm of rows and its gradients", inputs={**_row_inputs, "ct": Data(("n", "width"))},
         graph=lambda x, weight, bias, ct: _with_gradient(
             sg.nn.layer_norm(x, weight, bias, eps=EPSILON), [x, weight, bias], ct), numpy=numpy_layer_norm_grad,
         sizes=_MATRICES, tiny={"n": 5, "width": 19}, flops=_times(18, _matrix), tolerance=1e-4,
         nbytes=lambda sizes: 16 * _matrix(sizes) + 16 * sizes["width"], goals={"numpy": 2.0}),
    *(_sum_case(axis) for axis in (0, 1, 2, None)),
    Case("mlp_step", "MLP 64-128-64-10: forward, backward, SGD",
         inputs={"x": Data(("n", "inputs")), "t": Data(("n",), below=10)},
         state={"w1": Data(("inputs", "first"), 0.1), "b1": Data(("first",), 0.1),
                "w2": Data(("first", "second"), 0.1), "b2": Data(("second",), 0.1),
                "w3": Data(("second", "classes"), 0.1), "b3": Data(("classes",), 0.1)},
         graph=_mlp_graph, numpy=numpy_mlp_step, sizes=(("64", _MLP),), tiny=_TINY_MLP,
         nbytes=_mlp_bytes, flops=_mlp_flops, tolerance=1e-3, goals={"pytensor": 1.0}),
)
