"""Some twenty small graphs that show what the compiler does: golden texts and determinism are tested on them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

import staticgraph as sg
from staticgraph.tensor import Tensor

Built = tuple[Sequence[Tensor], Any, dict[Tensor, Tensor]]
GRAPHS: dict[str, Callable[[], Built]] = {}


def graph(build: Callable[[], Built]) -> Callable[[], Built]:
    GRAPHS[build.__name__] = build
    return build


def matrix(name: str = "x", dtype: str = "float32", columns: Any = 12) -> Tensor:
    return sg.placeholder(name, ("n", columns), dtype)


@graph
def chain() -> Built:
    x = matrix()
    return [x], sg.tanh(sg.exp(x) * 2 + 1), {}


@graph
def broadcast() -> Built:
    x, row, scalar = matrix(), sg.placeholder("row", (12,)), sg.placeholder("scalar", ())
    return [x, row, scalar], (x + row) * scalar, {}


@graph
def views() -> Built:
    x = matrix(columns="m")
    return [x], sg.flip(x.T, 0)[1:, ::2] * 2, {}


@graph
def reshaped_transpose() -> Built:
    x = matrix(columns="m")
    return [x], sg.sqrt(sg.reshape(x.T, (-1,))), {}


@graph
def mixed_dtypes() -> Built:
    x, t = matrix(dtype="int8"), matrix("t", "bool")
    return [x, t], {"sum": sg.where(t, x + 3, sg.astype(x, "float64")), "bits": (x & 7) << 1, "test": ~t | (x > 0)}, {}


@graph
def sizes_as_values() -> Built:
    x = matrix(columns="m")
    return [x], x / (1.0 / x.shape[0]) + sg.arange(x.shape[1], dtype="float32"), {}


@graph
def row_sums() -> Built:
    x = matrix()
    return [x], [sg.sum(x, 1), sg.max(x, 1)], {}


@graph
def long_row_sums() -> Built:
    x = matrix(columns="m")
    return [x], sg.mean(sg.square(x), 1), {}


@graph
def column_sums() -> Built:
    x = matrix()
    return [x], sg.sum(x * 2, 0), {}


@graph
def argmax() -> Built:
    x = matrix()
    return [x], sg.argmax(x, 1), {}


@graph
def softmax() -> Built:
    x = matrix()
    return [x], sg.nn.softmax(x), {}


@graph
def careless_log_softmax() -> Built:
    x = matrix()
    return [x], sg.log(sg.exp(x) / sg.sum(sg.exp(x), 1, keepdims=True)), {}


@graph
def layer_norm() -> Built:
    x = matrix()
    weight, bias = (sg.variable(np.full(12, each, "float32"), name) for name, each in (("weight", 1), ("bias", 0)))
    return [x], sg.nn.layer_norm(x, weight, bias), {}


@graph
def layer_norm_gradient() -> Built:
    x, weight = matrix(columns=1024), sg.placeholder("weight", (1024,))
    y = sg.nn.layer_norm(x, weight)
    ct = matrix("ct", columns=1024)
    return [x, weight, ct], sg.grad(y, [x, weight], cotangent=ct), {}


@graph
def cross_entropy_and_gradient() -> Built:
    x, labels = matrix(), sg.placeholder("labels", ("n",), "int64")
    loss = sg.nn.cross_entropy(x, labels)
    return [x, labels], [loss, sg.grad(sg.sum(loss), x)], {}


@graph
def gather_and_scatter() -> Built:
    x, at = matrix(), sg.placeholder("at", ("k",), "int32")
    y = sg.take(x, at, 0) * 2
    return [x, at], [y, sg.grad(sg.sum(sg.square(y)), x)], {}


@graph
def running_sum() -> Built:
    x = matrix()
    return [x], sg.cumulative_sum(x, 0), {}


@graph
def join_and_pad() -> Built:
    x, y = matrix(), matrix("y", columns=3)
    return [x, y], sg.pad(sg.concat([x, y], 1), ((1, 0), (0, 2)), constant_values=0.5), {}


@graph
def sort() -> Built:
    x = matrix()
    return [x], sg.sort(x, 1), {}


@graph
def dense_layer() -> Built:
    x = matrix()
    w, b = sg.variable(np.zeros((12, 4), "float32"), "w"), sg.variable(np.zeros(4, "float32"), "b")
    y = sg.nn.relu(x @ w + b)
    gw, gb = sg.grad(sg.sum(y), [w, b])
    return [x], y, {w: w - 0.1 * gw, b: b - 0.1 * gb}


@graph
def momentum() -> Built:
    x = sg.placeholder("x", (12,))
    w, v = sg.variable(np.zeros(12, "float32"), "w"), sg.variable(np.zeros(12, "float32"), "v")
    moved = 0.9 * v + x
    return [x], (), {v: moved, w: w - 0.1 * moved}


@graph
def swap() -> Built:
    a, b = sg.variable(np.zeros(3), "a"), sg.variable(np.ones(3), "b")
    return [], a + b, {a: b, b: a}


@graph
def convolution_and_pooling() -> Built:
    x, w = sg.placeholder("x", ("n", 2, 6, 6)), sg.variable(np.zeros((3, 2, 3, 3), "float32"), "w")
    y = sg.max_pool2d(sg.conv2d(x, w, padding=1), 2)
    return [x], y, {w: w - 0.1 * sg.grad(sg.sum(sg.square(y)), w)}
