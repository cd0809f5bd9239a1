"""numexpr: one string for each pass over the data; within formulas reductions of rows are NumPy's, as its users do."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from ..cases import Array, Case, Setting
from ..suites.elementwise import GELU_CUBIC, GELU_SCALE, RATE, VOLATILITY
from . import Arrays, Contestant, NoForm, Peer

_NUMBERS = {"half": 0.5, "one": 1.0, "scale": GELU_SCALE, "cubic": GELU_CUBIC, "slope": 3 * GELU_CUBIC, "rate": RATE,
            "volatility": VOLATILITY, "drift": RATE + 0.5 * VOLATILITY**2, "root": math.sqrt(0.5)}

Form = Callable[..., tuple[Array, ...]]


class NumExpr:
    name = "numexpr"
    package = "numexpr"
    order = 20
    counts = True

    def __init__(self) -> None:
        self._evaluate: Callable[..., Array] = lambda text: np.zeros(0)

    def environment(self, cache: Path, threads: int) -> Mapping[str, str]:
        return {"NUMEXPR_NUM_THREADS": str(threads), "NUMEXPR_MAX_THREADS": str(threads)}

    def connect(self, threads: int) -> None:
        import numexpr

        numexpr.set_num_threads(threads)
        self._evaluate = numexpr.evaluate

    def prepare(self, case: Case, setting: Setting, inputs: Arrays, state: Arrays) -> Contestant:
        form = _forms(self._evaluate, setting.dtype).get(case.name)
        if form is None:
            raise NoForm
        arguments = tuple(inputs.values())
        return Contestant(lambda: form(*arguments))


def _forms(evaluate: Callable[..., Array], dtype: str) -> Mapping[str, Form]:
    # Numbers are given as variables of the dtype: a float literal would make everything float64.
    numbers = {name: np.dtype(dtype).type(value) for name, value in _NUMBERS.items()}

    def run(text: str, **arrays: object) -> Array:
        return evaluate(text, local_dict={**numbers, **arrays}, global_dict={})

    def gelu_grad(x: Array, ct: Array) -> tuple[Array, Array]:
        gate = run("tanh(scale * (x + cubic * x * x * x))", x=x)
        return run("half * x * (one + gate)", x=x, gate=gate), run(
            "ct * (half * (one + gate) + half * x * (one - gate * gate) * scale * (one + slope * x * x))",
            x=x, ct=ct, gate=gate)

    def softmax(x: Array) -> tuple[Array]:
        weights = run("exp(x - largest)", x=x, largest=x.max(-1, keepdims=True))
        return (run("weights / total", weights=weights, total=weights.sum(-1, keepdims=True)),)

    def log_softmax(x: Array) -> tuple[Array]:
        largest = x.max(-1, keepdims=True)
        total = run("exp(x - largest)", x=x, largest=largest).sum(-1, keepdims=True)
        return (run("x - largest - log(total)", x=x, largest=largest, total=total),)

    def reduced(name: str, axis: int | None) -> Form:
        text = f"{name}(x)" if axis is None else f"{name}(x, {axis})"
        return lambda x: (run(text, x=x),)

    return {
        "call": lambda x: (run("x + one", x=x),),
        "chain": lambda a, b, c, d: (run("where(a*b + c - d > 0, a*b + c - d, 0)", a=a, b=b, c=c, d=d),),
        "gelu": lambda x: (run("half * x * (one + tanh(scale * (x + cubic * x * x * x)))", x=x),),
        "gelu_grad": gelu_grad,
        **{f"{name}_{'all' if axis is None else axis}": reduced(name, axis)
           for name in ("sum", "max") for axis in (0, 1, None)},
        "softmax": softmax,
        "log_softmax": log_softmax,
    }


PEERS: tuple[Peer, ...] = (NumExpr(),)
