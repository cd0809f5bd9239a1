"""PyTorch, eager and through torch.compile. Arrays go in and come out without copies (`from_numpy`, `numpy()`)."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ..cases import COTANGENT, LEARNING_RATE, Array, Case, Setting
from ..suites.conv import FORMULAS, padding_of
from ..suites.elementwise import RATE, VOLATILITY
from ..suites.models import HEADS
from ..suites.rows import EPSILON
from . import Arrays, Contestant, Forms, Peer, as_tuple, form_of


class Torch:
    """Eager PyTorch; gradients by its tape."""

    name = "torch"
    package = "torch"
    order = 40
    counts = False

    def __init__(self) -> None:
        self._forms: Forms = {}

    def environment(self, cache: Path, threads: int) -> Mapping[str, str]:
        return {"TORCHINDUCTOR_CACHE_DIR": str(cache / "torch"), "OMP_NUM_THREADS": str(threads)}

    def connect(self, threads: int) -> None:
        import torch

        torch.set_num_threads(threads)
        self._forms = _forms(torch)

    def wrap(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """What is done to a formula before it is called: nothing."""
        return function

    def prepare(self, case: Case, setting: Setting, inputs: Arrays, state: Arrays) -> Contestant:
        import torch

        formula = self.wrap(form_of(self._forms, case))
        arguments = tuple(inputs.values())
        if state:
            return self._training(formula, arguments, state)
        if case.wrt:
            return self._gradient(formula, case, arguments)

        def call() -> tuple[Array, ...]:
            return tuple(each.numpy() for each in as_tuple(formula(*map(torch.from_numpy, arguments))))

        return Contestant(call)

    def _gradient(self, formula: Callable[..., Any], case: Case, arguments: tuple[Array, ...]) -> Contestant:
        import torch

        names = list(case.inputs)
        wrt = [names.index(name) for name in case.wrt]
        given = COTANGENT in names     # the last input then

        def call() -> tuple[Array, ...]:
            values = list(map(torch.from_numpy, arguments))
            leaves = [values[at].requires_grad_() for at in wrt]
            y = formula(*(values[:-1] if given else values))
            slopes = torch.autograd.grad(y, leaves, values[-1] if given else None)
            return (y.detach().numpy(), *(slope.numpy() for slope in slopes))

        return Contestant(call)

    def _training(self, formula: Callable[..., Any], arguments: tuple[Array, ...], state: Arrays) -> Contestant:
        import torch

        current: list[Any] = []

        def reset() -> None:
            current[:] = [torch.from_numpy(value.copy()).requires_grad_() for value in state.values()]

        def call() -> tuple[Array, ...]:
            loss = formula(*map(torch.from_numpy, arguments), *current)
            slopes = torch.autograd.grad(loss, current)
            with torch.no_grad():
                for parameter, slope in zip(current, slopes):
                    parameter.sub_(slope, alpha=LEARNING_RATE)
            return (loss.detach().numpy(),)

        reset()
        return Contestant(call, lambda: tuple(each.detach().numpy().copy() for each in current), reset)


class TorchCompile(Torch):
    """The same formulas compiled for their exact shapes, which is what is fastest."""

    name = "torch.compile"
    order = 41
    counts = True

    def wrap(self, function: Callable[..., Any]) -> Callable[..., Any]:
        import torch

        torch._dynamo.reset()     # or it would count another size as a recompile, and give up after some
        compiled: Callable[..., Any] = torch.compile(function, dynamic=False, fullgraph=True)
        return compiled


def _forms(torch: Any) -> Forms:
    functional = torch.nn.functional

    def black_scholes(spot: Any, strike: Any, time: Any) -> Any:
        spread = VOLATILITY * torch.sqrt(time)
        d1 = (torch.log(spot / strike) + (RATE + 0.5 * VOLATILITY**2) * time) / spread
        discounted = strike * torch.exp(-RATE * time)
        cdf1, cdf2 = (0.5 * (1 + torch.erf(d * math.sqrt(0.5))) for d in (d1, d1 - spread))
        call = spot * cdf1 - discounted * cdf2
        return call, call + discounted - spot

    def layer_norm(x: Any, weight: Any, bias: Any) -> Any:
        return functional.layer_norm(x, weight.shape, weight, bias, EPSILON)

    def mlp(x: Any, t: Any, w1: Any, b1: Any, w2: Any, b2: Any, w3: Any, b3: Any) -> Any:
        h = torch.relu(torch.addmm(b1, x, w1))
        h = torch.relu(torch.addmm(b2, h, w2))
        return functional.cross_entropy(torch.addmm(b3, h, w3), t)

    def cnn(x: Any, t: Any, *state: Any) -> Any:
        k1, b1, k2, b2, w3, b3, w4, b4 = state
        h = torch.relu(functional.conv2d(x, k1, b1, padding=1))
        h = functional.max_pool2d(torch.relu(functional.conv2d(h, k2, b2, padding=1)), 2)
        h = torch.relu(torch.addmm(b3, h.flatten(1), w3))
        return functional.cross_entropy(torch.addmm(b4, h, w4), t)

    def transformer(x: Any, target: Any, *state: Any) -> Any:
        g1, b1, w_in, b_in, w_out, b_out, g2, b2, w1, c1, w2, c2 = state
        n, length, width = x.shape
        q, k, v = (part.reshape(n, length, HEADS, -1).transpose(1, 2)
                   for part in (layer_norm(x, g1, b1) @ w_in + b_in).chunk(3, -1))
        seen = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + seen.transpose(1, 2).reshape(n, length, width) @ w_out + b_out
        h = functional.gelu(layer_norm(x, g2, b2) @ w1 + c1, approximate="tanh")
        return functional.mse_loss(x + h @ w2 + c2, target)

    return {
        "call": lambda x: x + 1, "call_many": lambda a, b, c, d: (a + b, c + d),
        "chain": lambda a, b, c, d: torch.relu(a * b + c - d),
        "gelu": lambda x: functional.gelu(x, approximate="tanh"),
        "black_scholes": black_scholes,
        "softmax": lambda x: torch.softmax(x, -1), "log_softmax": lambda x: torch.log_softmax(x, -1),
        "layer_norm": layer_norm, "cross_entropy": functional.cross_entropy,
        "matmul": lambda a, b: a @ b, "matmul_relu": lambda a, b, bias: torch.relu(torch.addmm(bias, a, b)),
        "sum_0": lambda x: torch.sum(x, 0), "sum_1": lambda x: torch.sum(x, 1), "sum_all": torch.sum,
        "max_0": lambda x: torch.amax(x, 0), "max_1": lambda x: torch.amax(x, 1), "max_all": torch.amax,
        "var_0": lambda x: torch.var(x, 0, correction=0), "var_1": lambda x: torch.var(x, 1, correction=0),
        "var_all": lambda x: torch.var(x, correction=0),
        **{name: _conv(functional.conv2d, stride, padding_of(name)) for name, (_, stride) in FORMULAS.items()},
        "mlp_step": mlp, "digits_cnn_step": cnn, "transformer_step": transformer,
    }


def _conv(function: Callable[..., Any], stride: int, padding: int) -> Callable[[Any, Any], Any]:
    return lambda x, weight: function(x, weight, stride=stride, padding=padding)


PEERS: tuple[Peer, ...] = (Torch(), TorchCompile())
