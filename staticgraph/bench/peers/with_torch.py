"""PyTorch, eager and through torch.compile. Arrays go in and come out without copies (`from_numpy`, `numpy()`)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ..cases import EPSILON, LEARNING_RATE, Array, Case, Sizes
from . import Arrays, Contestant, Peer, form_of

Forms = Mapping[str, Callable[..., Any]]


class Torch:
    """Eager PyTorch; gradients by its tape."""

    name = "torch"
    package = "torch"
    order = 40

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

    def prepare(self, case: Case, sizes: Sizes, inputs: Arrays, state: Arrays) -> Contestant:
        import torch

        form = form_of(self._forms, case)
        arguments = tuple(inputs.values())
        if case.name == "mlp_step":
            return self._training(form, arguments, state)
        if case.name.endswith("_grad"):
            return self._gradient(form, arguments)
        formula = self.wrap(form)

        def call() -> tuple[Array, ...]:
            return (formula(*map(torch.from_numpy, arguments)).numpy(),)

        return Contestant(call)

    def _gradient(self, form: Callable[..., Any], arguments: tuple[Array, ...]) -> Contestant:
        """The formula of all arguments but the last, which is the cotangent."""
        import torch

        formula = self.wrap(form)

        def call() -> tuple[Array, ...]:
            *values, ct = map(torch.from_numpy, arguments)
            for value in values:
                value.requires_grad_()
            y = formula(*values)
            slopes = torch.autograd.grad(y, values, ct)
            return (y.detach().numpy(), *(slope.numpy() for slope in slopes))

        return Contestant(call)

    def _training(self, form: Callable[..., Any], arguments: tuple[Array, ...], state: Arrays) -> Contestant:
        import torch

        loss_of = self.wrap(form)
        current: list[Any] = []

        def reset() -> None:
            current[:] = [torch.from_numpy(value.copy()).requires_grad_() for value in state.values()]

        def call() -> tuple[Array, ...]:
            loss = loss_of(*map(torch.from_numpy, arguments), *current)
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

    def wrap(self, function: Callable[..., Any]) -> Callable[..., Any]:
        import torch

        torch._dynamo.reset()     # or it would count another size as a recompile, and give up after some
        compiled: Callable[..., Any] = torch.compile(function, dynamic=False, fullgraph=True)
        return compiled


def _forms(torch: Any) -> Forms:
    functional = torch.nn.functional

    def gelu(x: Any) -> Any:
        return functional.gelu(x, approximate="tanh")

    def layer_norm(x: Any, weight: Any, bias: Any) -> Any:
        return functional.layer_norm(x, weight.shape, weight, bias, EPSILON)

    def mlp_loss(x: Any, t: Any, w1: Any, b1: Any, w2: Any, b2: Any, w3: Any, b3: Any) -> Any:
        h = torch.relu(torch.addmm(b1, x, w1))
        h = torch.relu(torch.addmm(b2, h, w2))
        return functional.cross_entropy(torch.addmm(b3, h, w3), t)

    return {
        "call": lambda x: x + 1,
        "chain": lambda a, b, c, d: torch.relu(a * b + c - d),
        "gelu": gelu, "gelu_grad": gelu,
        "softmax": lambda x: torch.softmax(x, -1),
        "layer_norm": layer_norm, "layer_norm_grad": layer_norm,
        "sum_axis0": lambda x: torch.sum(x, 0),
        "sum_axis1": lambda x: torch.sum(x, 1),
        "sum_axis2": lambda x: torch.sum(x, 2),
        "sum_all": torch.sum,
        "mlp_step": mlp_loss,
    }


PEERS: tuple[Peer, ...] = (Torch(), TorchCompile())
