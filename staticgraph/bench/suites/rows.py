"""Rows of a matrix that need a reduction and then another look: softmax, layer norm, cross entropy; with gradients."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

import staticgraph as sg

from ..cases import Array, Case, Data, Setting, Sizes

EPSILON = 1e-5
LEAST = 1.3

SETTINGS = (Setting("4096x1024", {"n": 4096, "width": 1024}), Setting("64x10", {"n": 64, "width": 10}))
TINY = {"n": 5, "width": 19}


def numpy_softmax(x: Array) -> tuple[Array]:
    weights = np.exp(x - x.max(-1, keepdims=True))
    return (weights / weights.sum(-1, keepdims=True),)


def numpy_softmax_grad(x: Array, ct: Array) -> tuple[Array, Array]:
    (y,) = numpy_softmax(x)
    return y, y * (ct - (ct * y).sum(-1, keepdims=True))


def numpy_log_softmax(x: Array) -> tuple[Array]:
    shifted = x - x.max(-1, keepdims=True)
    return (shifted - np.log(np.exp(shifted).sum(-1, keepdims=True)),)


def numpy_log_softmax_grad(x: Array, ct: Array) -> tuple[Array, Array]:
    (y,) = numpy_log_softmax(x)
    return y, ct - np.exp(y) * ct.sum(-1, keepdims=True)


def _numpy_normal(x: Array) -> tuple[Array, Array]:
    centred = x - x.mean(-1, keepdims=True)
    factor = 1 / np.sqrt((centred * centred).mean(-1, keepdims=True) + x.dtype.type(EPSILON))
    return centred * factor, factor


def numpy_layer_norm(x: Array, weight: Array, bias: Array) -> tuple[Array]:
    return (_numpy_normal(x)[0] * weight + bias,)


def numpy_layer_norm_grad(x: Array, weight: Array, bias: Array, ct: Array) -> tuple[Array, ...]:
    normal, factor = _numpy_normal(x)
    inner = ct * weight
    dx = factor * (inner - inner.mean(-1, keepdims=True) - normal * (inner * normal).mean(-1, keepdims=True))
    return normal * weight + bias, dx, (ct * normal).sum(0), ct.sum(0)


def numpy_cross_entropy(x: Array, t: Array) -> tuple[Array]:
    return (-numpy_log_softmax(x)[0][np.arange(len(t)), t].mean(),)


def numpy_cross_entropy_grad(x: Array, t: Array) -> tuple[Array, Array]:
    rows = np.arange(len(t))
    (logs,) = numpy_log_softmax(x)
    slope = np.exp(logs)
    slope[rows, t] -= 1
    return -logs[rows, t].mean(), slope / x.dtype.type(len(t))


def both(name: str, title: str, inputs: Mapping[str, Data], graph: Callable[..., Any], numpy: Callable[..., Any],
         numpy_grad: Callable[..., Any], operations: tuple[int, int], *, wrt: tuple[str, ...] = ("x",),
         scalar: bool = False) -> tuple[Case, Case]:
    """The case forward, and with gradients; `operations` for each element of each."""
    def flops(count: int) -> Callable[[Sizes], int]:
        return lambda sizes: count * sizes["n"] * sizes["width"]

    cotangent = {} if scalar else {"ct": Data(("n", "width"))}
    return (Case(name, title, inputs=inputs, graph=graph, numpy=numpy, settings=SETTINGS, tiny=TINY,
                 flops=flops(operations[0]), least=LEAST),
            Case(f"{name}_grad", f"{title}, and gradients", inputs={**inputs, **cotangent}, graph=graph,
                 numpy=numpy_grad, form=name, wrt=wrt, settings=SETTINGS, tiny=TINY, flops=flops(operations[1]),
                 tolerance=1e-4, least=LEAST))


_x = {"x": Data(("n", "width"))}

CASES = (
    *both("softmax", "softmax of rows", _x, lambda x: (sg.nn.softmax(x),), numpy_softmax, numpy_softmax_grad, (5, 9)),
    *both("log_softmax", "log_softmax of rows", _x, lambda x: (sg.nn.log_softmax(x),), numpy_log_softmax,
          numpy_log_softmax_grad, (5, 9)),
    *both("layer_norm", "layer norm of rows", {**_x, "weight": Data(("width",)), "bias": Data(("width",))},
          lambda x, weight, bias: (sg.nn.layer_norm(x, weight, bias, eps=EPSILON),), numpy_layer_norm,
          numpy_layer_norm_grad, (7, 18), wrt=("x", "weight", "bias")),
    *both("cross_entropy", "mean cross entropy of rows", {**_x, "t": Data(("n",), below="width")},
          lambda x, t: (sg.nn.cross_entropy(x, t, reduction="mean"),), numpy_cross_entropy, numpy_cross_entropy_grad,
          (4, 7), scalar=True),
)
