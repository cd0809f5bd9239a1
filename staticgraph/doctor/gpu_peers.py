"""The libraries that the benchmark on a GPU compares with, each where it is installed with CUDA.

Their arrays are ours, taken over by DLPack without a copy. Everything is timed on the device by events around many
calls; torch's calls are captured as a CUDA graph first, as ours are. jax offers neither: it is timed by the clock
around many calls that it queues.
"""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from ..bench.peers import as_tuple, with_jax, with_torch
from .gpu_cases import KEEP, LEARNING_RATE, Array, GpuCase


class Absent(Exception):
    """A peer that cannot take part, or not in this case; the text says why."""


@dataclass(frozen=True)
class Ready:
    """A case made ready: `results` of its first call, `sample` gives the seconds of one of so many calls."""

    results: Sequence[Array]
    sample: Callable[[int], float]
    remark: str = ""


class GpuPeer(Protocol):
    name: str
    package: str

    def connect(self) -> str:
        """Import the library; its version. Absent where it has no GPU."""

    def prepare(self, case: GpuCase, inputs: Mapping[str, Any], state: Mapping[str, Array]) -> Ready:
        """Take over the inputs, which are on the device, compile and call once."""

    def tidy(self) -> None:
        """Give memory back."""


def missing(peer: GpuPeer) -> str:
    """Why a peer is not there, or nothing."""
    return "" if importlib.util.find_spec(peer.package) else f"{peer.package} is not installed"


def form_of(forms: Mapping[str, Any], case: GpuCase) -> Any:
    """The peer's form of a case; those with TF32 have that of the case without."""
    name = case.name.removesuffix("_tf32")
    if name not in forms:
        raise Absent("has no form of this case")
    return forms[name]


class Torch:
    """torch.compile for the exact shapes, its calls captured as one graph. On `place` "cpu" for trying it out."""

    name = "torch.compile"
    package = "torch"

    def __init__(self, place: str = "cuda") -> None:
        self._place = place

    def connect(self) -> str:
        import torch

        if self._place == "cuda" and not torch.cuda.is_available():
            raise Absent("torch is installed, but without CUDA")
        return str(torch.__version__)

    def prepare(self, case: GpuCase, inputs: Mapping[str, Any], state: Mapping[str, Array]) -> Ready:
        import torch

        torch._dynamo.reset()
        torch.set_float32_matmul_precision("high" if case.tf32 else "highest")
        tensors = [torch.from_dlpack(each) for each in inputs.values()]
        call = self._training(case, tensors, state) if state else self._formula(case, tensors)
        results = [each.detach().cpu().numpy().copy() for each in call()]
        return Ready(results, *self._timed(call))

    def _formula(self, case: GpuCase, tensors: Sequence[Any]) -> Callable[[], tuple[Any, ...]]:
        import torch

        if case.name == "layer_norm_backward":
            return self._backward(tensors)
        compiled = self._compiled(form_of(torch_forms(torch), case))
        return lambda: (compiled(*tensors),)

    def _compiled(self, function: Callable[..., Any]) -> Callable[..., Any]:
        import torch

        compiled: Callable[..., Any] = torch.compile(function, dynamic=False, fullgraph=True)
        return compiled

    def _backward(self, tensors: Sequence[Any]) -> Callable[[], tuple[Any, ...]]:
        """The backward pass alone: what the forward pass has saved for it is there already."""
        import torch

        x, weight, ct = tensors
        leaves = [x.detach().requires_grad_(), weight.detach().requires_grad_(),
                  torch.zeros_like(weight).requires_grad_()]
        y = self._compiled(torch_forms(torch)["layer_norm"])(*leaves)
        return lambda: tuple(torch.autograd.grad(y, leaves, ct, retain_graph=True))

    def _training(self, case: GpuCase, tensors: Sequence[Any], state: Mapping[str, Array]) -> Callable[[], Any]:
        import torch

        parameters = [torch.from_numpy(value.copy()).to(self._place).requires_grad_() for value in state.values()]
        loss_of = self._compiled(form_of(torch_forms(torch), case))

        def call() -> tuple[Any, ...]:
            loss = loss_of(*tensors, *parameters)
            slopes = torch.autograd.grad(loss, parameters)
            with torch.no_grad():
                torch._foreach_add_(parameters, slopes, alpha=-LEARNING_RATE)
            return (loss,)

        return call

    def _timed(self, call: Callable[[], Any]) -> tuple[Callable[[int], float], str]:
        """How it is timed, and a remark where its calls cannot be captured."""
        if self._place != "cuda":
            return _by_clock(call, lambda last: None), "on the CPU"
        import torch

        replay, remark = call, ""
        try:
            replay = self._captured(call)
        except RuntimeError as error:
            torch.cuda.synchronize()
            remark = f"not captured as a graph: {str(error).splitlines()[0]}"
        return _by_events(replay, lambda: torch.cuda.Event(enable_timing=True)), remark

    def _captured(self, call: Callable[[], Any]) -> Callable[[], Any]:
        import torch

        aside = torch.cuda.Stream()
        aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(aside):
            for _ in range(3):
                call()
        torch.cuda.current_stream().wait_stream(aside)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            kept = call()

        def replay() -> Any:
            graph.replay()
            return kept     # alive for as long as the graph writes to it

        return replay

    def tidy(self) -> None:
        import torch

        torch._dynamo.reset()
        if self._place == "cuda":
            torch.cuda.empty_cache()


def torch_forms(torch: Any) -> dict[str, Callable[..., Any]]:
    known = with_torch._forms(torch)
    return {**{name: known[name] for name in ("softmax", "layer_norm", "sum_all", "mlp_step")},
            "elements": lambda x, w, b: torch.exp(-x) * torch.tanh(x * w + b),
            "matmul": lambda a, b: a @ b,
            "dropout": lambda x: torch.nn.functional.dropout(x, 1 - KEEP, True)}


class Cupy:
    """CuPy as its users write it: one elementwise kernel, library routines, whole-array formulas."""

    name = "cupy"
    package = "cupy"

    def connect(self) -> str:
        import cupy

        if not cupy.cuda.is_available():
            raise Absent("cupy is installed, but finds no GPU")
        return str(cupy.__version__)

    def prepare(self, case: GpuCase, inputs: Mapping[str, Any], state: Mapping[str, Array]) -> Ready:
        import cupy

        if case.tf32:
            raise Absent("CUPY_TF32 holds for a whole process")
        form = form_of(cupy_forms(cupy), case)
        arrays = [cupy.from_dlpack(each) for each in inputs.values()]
        results = [cupy.asnumpy(form(*arrays))]
        return Ready(results, _by_events(lambda: form(*arrays), cupy.cuda.Event, cupy.cuda.get_elapsed_time))

    def tidy(self) -> None:
        import cupy

        cupy.get_default_memory_pool().free_all_blocks()


def cupy_forms(cupy: Any) -> dict[str, Callable[..., Any]]:
    def elements() -> Callable[..., Any]:
        kernel: Callable[..., Any] = cupy.ElementwiseKernel(
            "float32 x, float32 w, float32 b", "float32 y", "y = expf(-x) * tanhf(x * w + b)", "elements")
        return kernel

    def softmax(x: Any) -> Any:
        weights = cupy.exp(x - x.max(-1, keepdims=True))
        return weights / weights.sum(-1, keepdims=True)

    def layer_norm(x: Any, weight: Any, bias: Any) -> Any:
        centred = x - x.mean(-1, keepdims=True)
        return centred / cupy.sqrt((centred * centred).mean(-1, keepdims=True) + np.float32(1e-5)) * weight + bias

    return {"elements": elements(), "softmax": softmax, "layer_norm": layer_norm, "sum_all": lambda x: x.sum(),
            "matmul": lambda a, b: a @ b}


class Jax:
    """jax.jit. Calls are queued one after the other and waited for at the end. On `place` "cpu" for trying it out."""

    name = "jax"
    package = "jax"

    def __init__(self, place: str = "gpu") -> None:
        self._place = place

    def connect(self) -> str:
        import jax

        if self._place == "gpu" and jax.default_backend() != "gpu":
            raise Absent("jax is installed, but without CUDA")
        return str(jax.__version__)

    def prepare(self, case: GpuCase, inputs: Mapping[str, Any], state: Mapping[str, Array]) -> Ready:
        import jax

        form = form_of(jax_forms(jax), case)
        arrays = [_taken_over(each, jax.numpy.from_dlpack, jax.numpy.asarray) for each in inputs.values()]

        def precision() -> Any:
            return jax.default_matmul_precision("tensorfloat32" if case.tf32 else "highest")

        with precision():
            if state:
                call = self._training(form, arrays, state)
            else:
                compiled = jax.jit(form)

                def call() -> Any:
                    return as_tuple(compiled(*arrays))

            results = [np.asarray(each) for each in jax.block_until_ready(call())]
        return Ready(results, _by_clock(call, jax.block_until_ready, precision))

    def _training(self, form: Callable[..., Any], arrays: Sequence[Any],
                  state: Mapping[str, Array]) -> Callable[[], Any]:
        import jax

        step = jax.jit(with_jax.training_step(jax, form), donate_argnums=0)
        current = [[jax.numpy.asarray(value) for value in state.values()]]

        def call() -> Any:
            value, current[0] = step(current[0], *arrays)
            return (value,)

        return call

    def tidy(self) -> None:
        import jax

        jax.clear_caches()


def jax_forms(jax: Any) -> dict[str, Callable[..., Any]]:
    jnp = jax.numpy
    known = with_jax._forms(jax)

    def backward(x: Any, weight: Any, ct: Any) -> Any:
        _, pull = jax.vjp(lambda *values: known["layer_norm"](*values), x, weight, jnp.zeros_like(weight))
        return pull(ct)

    def dropout(x: Any) -> Any:
        return jnp.where(jax.random.bernoulli(jax.random.key(0), KEEP, x.shape), x / KEEP, 0)

    return {**{name: known[name] for name in ("softmax", "layer_norm", "sum_all", "mlp_step")},
            "layer_norm_backward": backward, "dropout": dropout, "matmul": lambda a, b: a @ b,
            "elements": lambda x, w, b: jnp.exp(-x) * jnp.tanh(x * w + b)}


def _by_events(call: Callable[[], Any], event: Callable[[], Any],
               elapsed: Callable[[Any, Any], float] = lambda start, stop: start.elapsed_time(stop)
               ) -> Callable[[int], float]:
    """Milliseconds between two events, as seconds of a call."""
    def sample(count: int) -> float:
        start, stop = event(), event()
        start.record()
        for _ in range(count):
            call()
        stop.record()
        stop.synchronize()
        return float(elapsed(start, stop)) / 1e3 / count

    return sample


def _by_clock(call: Callable[[], Any], wait: Callable[[Any], Any],
              around: Callable[[], Any] = nullcontext) -> Callable[[int], float]:
    """Seconds of a call by the clock of the host, with everything waited for at the end."""
    def sample(count: int) -> float:
        with around():
            begun = time.perf_counter()
            for _ in range(count):
                last = call()
            wait(last)
            return (time.perf_counter() - begun) / count

    return sample


def _taken_over(value: Any, as_it_is: Callable[[Any], Any], copied: Callable[[Any], Any]) -> Any:
    """An array of ours as one of theirs; a copy where its dtype is none of theirs."""
    try:
        return as_it_is(value)
    except (TypeError, ValueError, RuntimeError, BufferError):
        return copied(value.numpy())


PEERS: tuple[GpuPeer, ...] = (Torch(), Cupy(), Jax())
