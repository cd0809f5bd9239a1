"""PyTensor in its Numba mode: `pytensor.function`, with parameters as shared variables and updates."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..cases import EPSILON, GELU_CUBIC, GELU_SCALE, LEARNING_RATE, Array, Case, Sizes
from . import Arrays, Contestant, Peer, form_of

Forms = Mapping[str, Callable[..., Any]]


class PyTensor:
    name = "pytensor"
    package = "pytensor"
    order = 50

    def __init__(self) -> None:
        self._forms: Forms = {}

    def environment(self, cache: Path, threads: int) -> Mapping[str, str]:
        folder = cache / "pytensor"
        return {"PYTENSOR_FLAGS": f"floatX=float32,base_compiledir={folder}", "NUMBA_NUM_THREADS": str(threads)}

    def connect(self, threads: int) -> None:
        import logging

        logging.getLogger("pytensor").setLevel(logging.ERROR)     # it warns that it found no BLAS for its C mode
        import pytensor
        import pytensor.tensor

        self._forms = _forms(pytensor)

    def prepare(self, case: Case, sizes: Sizes, inputs: Arrays, state: Arrays) -> Contestant:
        import pytensor

        form = form_of(self._forms, case)
        symbols = [pytensor.tensor.TensorType(str(value.dtype), (None,) * value.ndim)(name)
                   for name, value in inputs.items()]
        variables = [pytensor.shared(value.copy(), name) for name, value in state.items()]
        values = form(*symbols, *variables)
        count = len(values) - len(variables)
        function = pytensor.function(symbols, list(values[:count]), updates=list(zip(variables, values[count:])),
                                     mode="NUMBA")
        arguments = tuple(inputs.values())

        def call() -> tuple[Array, ...]:
            return tuple(function(*arguments))

        def reset() -> None:
            for variable, value in zip(variables, state.values()):
                variable.set_value(value)

        return Contestant(call, lambda: tuple(np.asarray(each.get_value()) for each in variables), reset)


def _forms(pytensor: Any) -> Forms:
    pt = pytensor.tensor
    half, one, scale, cubic = (np.float32(value) for value in (0.5, 1, GELU_SCALE, GELU_CUBIC))

    def gelu(x: Any) -> Any:
        return half * x * (one + pt.tanh(scale * (x + cubic * x * x * x)))

    def layer_norm(x: Any, weight: Any, bias: Any) -> Any:
        centred = x - pt.mean(x, axis=-1, keepdims=True)
        variance = pt.mean(pt.sqr(centred), axis=-1, keepdims=True)
        return centred / pt.sqrt(variance + np.float32(EPSILON)) * weight + bias

    def with_gradient(y: Any, wrt: list[Any], ct: Any) -> Any:
        return (y, *pytensor.grad(None, wrt, known_grads={y: ct}))

    def mlp_step(x: Any, t: Any, *state: Any) -> Any:
        w1, b1, w2, b2, w3, b3 = state
        h = pt.maximum(x @ w1 + b1, np.float32(0))
        h = pt.maximum(h @ w2 + b2, np.float32(0))
        logs = pt.special.log_softmax(h @ w3 + b3, axis=-1)
        loss = -logs[pt.arange(t.shape[0]), t].mean()
        return (loss, *(p - np.float32(LEARNING_RATE) * g for p, g in zip(state, pytensor.grad(loss, list(state)))))

    return {
        "call": lambda x: (x + one,),
        "chain": lambda a, b, c, d: (pt.maximum(a * b + c - d, np.float32(0)),),
        "gelu": lambda x: (gelu(x),),
        "gelu_grad": lambda x, ct: with_gradient(gelu(x), [x], ct),
        "softmax": lambda x: (pt.special.softmax(x, axis=-1),),
        "layer_norm": lambda x, weight, bias: (layer_norm(x, weight, bias),),
        "layer_norm_grad": lambda x, weight, bias, ct: with_gradient(
            layer_norm(x, weight, bias), [x, weight, bias], ct),
        "sum_axis0": lambda x: (pt.sum(x, axis=0),),
        "sum_axis1": lambda x: (pt.sum(x, axis=1),),
        "sum_axis2": lambda x: (pt.sum(x, axis=2),),
        "sum_all": lambda x: (pt.sum(x),),
        "mlp_step": mlp_step,
    }


PEERS: tuple[Peer, ...] = (PyTensor(),)
