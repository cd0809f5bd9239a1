"""Small models that several tests of the compiler share."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np

import staticgraph as sg
from staticgraph.tensor import Tensor


def perceptron(batch: Any = "batch", sizes: tuple[int, ...] = (64, 128, 64, 10)) -> tuple[list[Tensor], Tensor,
                                                                                            list[Tensor]]:
    """Inputs, mean cross entropy and parameters of a network of dense layers."""
    rng = np.random.default_rng(0)
    x = sg.placeholder("x", (batch, sizes[0]))
    t = sg.placeholder("t", (batch,), "int64")
    parameters = []
    hidden = x
    for number, (fan_in, fan_out) in enumerate(pairwise(sizes)):
        w = sg.variable((rng.standard_normal((fan_in, fan_out)) / np.sqrt(fan_in)).astype("float32"), f"w{number}")
        b = sg.variable(np.zeros(fan_out, "float32"), f"b{number}")
        parameters += [w, b]
        hidden = hidden @ w + b
        if number < len(sizes) - 2:
            hidden = sg.nn.relu(hidden)
    return [x, t], sg.mean(sg.nn.cross_entropy(hidden, t)), parameters


def batch_of(count: int, sizes: tuple[int, ...] = (64, 128, 64, 10)) -> tuple[Any, Any]:
    rng = np.random.default_rng(count)
    return rng.standard_normal((count, sizes[0])).astype("float32"), rng.integers(0, sizes[-1], count)


def training_step(optimizer: Any, batch: Any = "batch") -> sg.Executable:
    """Loss and updates in one program."""
    inputs, loss, parameters = perceptron(batch)
    return sg.compile(inputs, loss, updates=optimizer.updates(loss, parameters))
