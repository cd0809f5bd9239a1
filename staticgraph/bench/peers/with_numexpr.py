"""numexpr: one string for each pass over the data; reductions of rows are NumPy's, as its users do."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from ..cases import GELU_CUBIC, GELU_SCALE, Array, Case, Sizes
from . import Arrays, Contestant, Peer, form_of

# Numbers are given as float32 variables: a float literal would make everything float64.
_NUMBERS = {"half": np.float32(0.5), "one": np.float32(1), "scale": np.float32(GELU_SCALE),
            "cubic": np.float32(GELU_CUBIC), "slope": np.float32(3 * GELU_CUBIC)}


class NumExpr:
    name = "numexpr"
    package = "numexpr"
    order = 20

    def __init__(self) -> None:
        self._forms: Mapping[str, Callable[..., tuple[Array, ...]]] = {}

    def environment(self, cache: Path, threads: int) -> Mapping[str, str]:
        return {"NUMEXPR_NUM_THREADS": str(threads), "NUMEXPR_MAX_THREADS": str(threads)}

    def connect(self, threads: int) -> None:
        import numexpr

        numexpr.set_num_threads(threads)
        self._forms = _forms(numexpr.evaluate)

    def prepare(self, case: Case, sizes: Sizes, inputs: Arrays, state: Arrays) -> Contestant:
        form = form_of(self._forms, case)
        arguments = tuple(inputs.values())
        return Contestant(lambda: form(*arguments))


def _forms(evaluate: Callable[..., Array]) -> Mapping[str, Callable[..., tuple[Array, ...]]]:
    def run(text: str, **arrays: object) -> Array:
        return evaluate(text, local_dict={**_NUMBERS, **arrays}, global_dict={})

    def gelu_grad(x: Array, ct: Array) -> tuple[Array, Array]:
        gate = run("tanh(scale * (x + cubic * x * x * x))", x=x)
        return run("half * x * (one + gate)", x=x, gate=gate), run(
            "ct * (half * (one + gate) + half * x * (one - gate * gate) * scale * (one + slope * x * x))",
            x=x, ct=ct, gate=gate)

    def softmax(x: Array) -> tuple[Array]:
        weights = run("exp(x - largest)", x=x, largest=x.max(-1, keepdims=True))
        return (run("weights / total", weights=weights, total=weights.sum(-1, keepdims=True)),)

    forms: dict[str, Callable[..., tuple[Array, ...]]] = {
        "call": lambda x: (run("x + one", x=x),),
        "chain": lambda a, b, c, d: (run("where(a*b + c - d > 0, a*b + c - d, 0)", a=a, b=b, c=c, d=d),),
        "gelu": lambda x: (run("half * x * (one + tanh(scale * (x + cubic * x * x * x)))", x=x),),
        "gelu_grad": gelu_grad,
        "softmax": softmax,
    }
    return forms


PEERS: tuple[Peer, ...] = (NumExpr(),)
