"""Graphs that the tests of pictures share."""

from __future__ import annotations

import numpy as np

import staticgraph as sg
from staticgraph.api import compile_only
from staticgraph.compiler.pipeline import Compilation
from staticgraph.tensor import Tensor

HOSTILE = "\"<script>alert('x')</script>&amp;\n\\N]]>\x01\ud800{}|<b>"
"""Everything that breaks XML, DOT or JSON when it is not escaped."""


def training(names: tuple[str, str] = ("x", "w1")) -> tuple[list[Tensor], Tensor, dict[Tensor, Tensor]]:
    """(inputs, loss, updates) of a network with one hidden layer, trained by gradient descent with momentum."""
    x = sg.placeholder(names[0], shape=("batch", 8), dtype="float32")
    t = sg.placeholder("t", shape=("batch",), dtype="int64")
    with sg.name_scope("hidden"):
        w1 = sg.variable(np.zeros((8, 16), "float32"), name=names[1])
        b1 = sg.variable(np.zeros(16, "float32"), name="b1")
        hidden = sg.nn.relu(x @ w1 + b1)
    w2 = sg.variable(np.zeros((16, 4), "float32"), name="w2")
    loss = sg.mean(sg.nn.cross_entropy(hidden @ w2, t))
    parameters = [w1, b1, w2]
    updates: dict[Tensor, Tensor] = {}
    for parameter, gradient in zip(parameters, sg.grad(loss, parameters), strict=True):
        momentum = sg.variable(np.zeros(parameter.shape, "float32"), name=f"momentum of {parameter.name}")
        updates[momentum] = 0.9 * momentum + gradient
        updates[parameter] = parameter - 0.1 * updates[momentum]
    count = sg.variable(np.float32(0), name="count")
    updates[count] = count + 1
    return [x, t], loss, updates


def compiled(names: tuple[str, str] = ("x", "w1")) -> Compilation:
    inputs, loss, updates = training(names)
    return compile_only(inputs, {"loss": loss}, updates=updates)


def residual(depth: int) -> Tensor:
    """About five nodes a layer, and one link from the first layer to every other one."""
    x = sg.placeholder("x", shape=("batch", 4))
    first = sg.exp(x)
    value = first
    for number in range(depth):
        value = sg.tanh(value + first * (number + 1.0)) + sg.sin(value)
    return value
