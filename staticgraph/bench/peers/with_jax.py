"""JAX: `jax.jit` of the formula as its users write it; parameters stay on the device and are donated."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..cases import EPSILON, LEARNING_RATE, Array, Case, Sizes
from . import Arrays, Contestant, Peer, form_of


class Jax:
    name = "jax"
    package = "jax"
    order = 30

    def __init__(self) -> None:
        self._forms: Mapping[str, Callable[..., Any]] = {}

    def environment(self, cache: Path, threads: int) -> Mapping[str, str]:
        one = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1" if threads == 1 else ""
        return {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": one, "JAX_CPU_ENABLE_ASYNC_DISPATCH": "false",
                "JAX_COMPILATION_CACHE_DIR": str(cache / "jax"), "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
                "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1", "TF_CPP_MIN_LOG_LEVEL": "3"}

    def connect(self, threads: int) -> None:
        import jax

        self._forms = _forms(jax)

    def prepare(self, case: Case, sizes: Sizes, inputs: Arrays, state: Arrays) -> Contestant:
        import jax

        form = form_of(self._forms, case)
        arguments = tuple(inputs.values())
        if not state:
            compiled = jax.jit(form)
            return Contestant(lambda: tuple(np.asarray(each) for each in compiled(*arguments)))
        step = jax.jit(form, donate_argnums=0)
        current: list[Any] = [[jax.numpy.asarray(value) for value in state.values()]]

        def call() -> tuple[Array, ...]:
            results, current[0] = step(current[0], *arguments)
            jax.block_until_ready(current[0])
            return tuple(np.asarray(each) for each in results)

        def reset() -> None:
            current[0] = [jax.numpy.asarray(value.copy()) for value in state.values()]

        return Contestant(call, lambda: tuple(np.array(each) for each in current[0]), reset)


def _forms(jax: Any) -> Mapping[str, Callable[..., Any]]:
    jnp = jax.numpy

    def gelu(x: Any) -> Any:
        return jax.nn.gelu(x, approximate=True)

    def layer_norm(x: Any, weight: Any, bias: Any) -> Any:
        mean = jnp.mean(x, -1, keepdims=True)
        variance = jnp.mean(jnp.square(x - mean), -1, keepdims=True)
        return (x - mean) * jax.lax.rsqrt(variance + EPSILON) * weight + bias

    def with_gradient(function: Callable[..., Any], *values: Any, ct: Any) -> Any:
        y, pull = jax.vjp(function, *values)
        return (y, *pull(ct))

    def loss(state: Any, x: Any, t: Any) -> Any:
        w1, b1, w2, b2, w3, b3 = state
        h = jax.nn.relu(x @ w1 + b1)
        h = jax.nn.relu(h @ w2 + b2)
        logs = jax.nn.log_softmax(h @ w3 + b3)
        return -jnp.mean(jnp.take_along_axis(logs, t[:, None], 1))

    def mlp_step(state: Any, x: Any, t: Any) -> Any:
        value, slopes = jax.value_and_grad(loss)(state, x, t)
        return (value,), [p - LEARNING_RATE * g for p, g in zip(state, slopes)]

    return {
        "call": lambda x: (x + 1,),
        "chain": lambda a, b, c, d: (jax.nn.relu(a * b + c - d),),
        "gelu": lambda x: (gelu(x),),
        "gelu_grad": lambda x, ct: with_gradient(gelu, x, ct=ct),
        "softmax": lambda x: (jax.nn.softmax(x),),
        "layer_norm": lambda x, weight, bias: (layer_norm(x, weight, bias),),
        "layer_norm_grad": lambda x, weight, bias, ct: with_gradient(layer_norm, x, weight, bias, ct=ct),
        "sum_axis0": lambda x: (jnp.sum(x, 0),),
        "sum_axis1": lambda x: (jnp.sum(x, 1),),
        "sum_axis2": lambda x: (jnp.sum(x, 2),),
        "sum_all": lambda x: (jnp.sum(x),),
        "mlp_step": mlp_step,
    }


PEERS: tuple[Peer, ...] = (Jax(),)
