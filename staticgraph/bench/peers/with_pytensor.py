"""PyTensor in its Numba mode: `pytensor.function`, with parameters as shared variables and updates."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..cases import COTANGENT, LEARNING_RATE, Array, Case, Setting
from ..suites.elementwise import GELU_CUBIC, GELU_SCALE, RATE, VOLATILITY
from ..suites.models import HEADS, causal_mask
from ..suites.rows import EPSILON
from . import Arrays, Contestant, Forms, Peer, as_tuple, form_of


class PyTensor:
    name = "pytensor"
    package = "pytensor"
    order = 50
    counts = True

    def environment(self, cache: Path, threads: int) -> Mapping[str, str]:
        folder = cache / "pytensor"
        return {"PYTENSOR_FLAGS": f"floatX=float32,base_compiledir={folder}", "NUMBA_NUM_THREADS": str(threads)}

    def connect(self, threads: int) -> None:
        import logging

        logging.getLogger("pytensor").setLevel(logging.ERROR)     # it warns that it found no BLAS for its C mode
        import pytensor
        import pytensor.tensor  # noqa: F401

    def prepare(self, case: Case, setting: Setting, inputs: Arrays, state: Arrays) -> Contestant:
        import pytensor

        form = form_of(_forms(pytensor, np.dtype(setting.dtype).type), case)
        symbols = {name: pytensor.tensor.TensorType(str(value.dtype), (None,) * value.ndim)(name)
                   for name, value in inputs.items()}
        variables = [pytensor.shared(value.copy(), name) for name, value in state.items()]
        results = as_tuple(form(*(each for name, each in symbols.items() if name != COTANGENT), *variables))
        updates = []
        if variables:
            slopes = pytensor.grad(results[0], variables)
            updates = [(p, p - np.float32(LEARNING_RATE) * slope) for p, slope in zip(variables, slopes)]
        elif case.wrt:
            results = (*results, *_slopes(pytensor, results[0], [symbols[name] for name in case.wrt], symbols))
        function = pytensor.function(list(symbols.values()), list(results), updates=updates, mode="NUMBA")
        return _contestant(function, variables, inputs, state)


def _slopes(pytensor: Any, y: Any, wrt: list[Any], symbols: Mapping[str, Any]) -> list[Any]:
    if COTANGENT in symbols:
        return list(pytensor.grad(None, wrt, known_grads={y: symbols[COTANGENT]}))
    return list(pytensor.grad(y, wrt))


def _contestant(function: Callable[..., Any], variables: list[Any], inputs: Arrays, state: Arrays) -> Contestant:
    arguments = tuple(inputs.values())

    def call() -> tuple[Array, ...]:
        return tuple(function(*arguments))

    def reset() -> None:
        for variable, value in zip(variables, state.values()):
            variable.set_value(value)

    return Contestant(call, lambda: tuple(np.asarray(each.get_value()) for each in variables), reset)


def _forms(pytensor: Any, number: Callable[[float], Any]) -> Forms:
    """`number` makes constants of the dtype, or they would decide it."""
    pt = pytensor.tensor
    zero, half, one, scale, cubic = (number(value) for value in (0, 0.5, 1, GELU_SCALE, GELU_CUBIC))

    def gelu(x: Any) -> Any:
        return half * x * (one + pt.tanh(scale * (x + cubic * x * x * x)))

    def black_scholes(spot: Any, strike: Any, time: Any) -> Any:
        spread = number(VOLATILITY) * pt.sqrt(time)
        d1 = (pt.log(spot / strike) + number(RATE + 0.5 * VOLATILITY**2) * time) / spread
        discounted = strike * pt.exp(number(-RATE) * time)
        cdf1, cdf2 = (half * (one + pt.erf(d * number(math.sqrt(0.5)))) for d in (d1, d1 - spread))
        call = spot * cdf1 - discounted * cdf2
        return call, call + discounted - spot

    def layer_norm(x: Any, weight: Any, bias: Any) -> Any:
        centred = x - pt.mean(x, axis=-1, keepdims=True)
        variance = pt.mean(pt.sqr(centred), axis=-1, keepdims=True)
        return centred / pt.sqrt(variance + number(EPSILON)) * weight + bias

    def cross_entropy(x: Any, t: Any) -> Any:
        return -pt.special.log_softmax(x, axis=-1)[pt.arange(t.shape[0]), t].mean()

    def mlp(x: Any, t: Any, *state: Any) -> Any:
        w1, b1, w2, b2, w3, b3 = state
        h = pt.maximum(x @ w1 + b1, zero)
        h = pt.maximum(h @ w2 + b2, zero)
        return cross_entropy(h @ w3 + b3, t)

    def transformer(x: Any, target: Any, *state: Any) -> Any:
        g1, b1, w_in, b_in, w_out, b_out, g2, b2, w1, c1, w2, c2 = state
        n, length, width = x.shape
        inner = width // HEADS
        h = layer_norm(x, g1, b1) @ w_in + b_in
        q, k, v = (h[:, :, at * width:(at + 1) * width].reshape((n, length, HEADS, inner)).transpose(0, 2, 1, 3)
                   for at in range(3))
        mask = pt.where(pt.arange(length)[None, :] > pt.arange(length)[:, None], number(causal_mask(2)[0, 1]), zero)
        scores = q @ k.transpose(0, 1, 3, 2) / pt.sqrt(inner.astype(x.dtype)) + mask
        seen = (pt.special.softmax(scores, axis=-1) @ v).transpose(0, 2, 1, 3).reshape((n, length, width))
        x = x + seen @ w_out + b_out
        h = gelu(layer_norm(x, g2, b2) @ w1 + c1)
        return pt.sqr(x + h @ w2 + c2 - target).mean()

    return {
        "call": lambda x: x + one, "call_many": lambda a, b, c, d: (a + b, c + d),
        "chain": lambda a, b, c, d: pt.maximum(a * b + c - d, zero),
        "gelu": gelu, "black_scholes": black_scholes,
        "softmax": lambda x: pt.special.softmax(x, axis=-1),
        "log_softmax": lambda x: pt.special.log_softmax(x, axis=-1),
        "layer_norm": layer_norm, "cross_entropy": cross_entropy,
        "matmul": lambda a, b: a @ b, "matmul_relu": lambda a, b, bias: pt.maximum(a @ b + bias, zero),
        **{f"{name}_{'all' if axis is None else axis}": _reduced(getattr(pt, name), axis)
           for name in ("sum", "max", "var") for axis in (0, 1, None)},
        "mlp_step": mlp, "transformer_step": transformer,
    }


def _reduced(function: Callable[..., Any], axis: int | None) -> Callable[[Any], Any]:
    return lambda x: function(x, axis=axis)


PEERS: tuple[Peer, ...] = (PyTensor(),)
