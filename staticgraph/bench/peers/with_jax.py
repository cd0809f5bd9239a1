"""JAX: `jax.jit` of the formula as its users write it; parameters stay on the device and are donated."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ..cases import COTANGENT, LEARNING_RATE, Array, Case, Setting
from ..suites.conv import FORMULAS, padding_of
from ..suites.elementwise import RATE, VOLATILITY
from ..suites.models import HEADS, causal_mask
from ..suites.rows import EPSILON
from . import Arrays, Contestant, Forms, Peer, as_tuple, form_of


class Jax:
    name = "jax"
    package = "jax"
    order = 30
    counts = True

    def __init__(self) -> None:
        self._forms: Forms = {}

    def environment(self, cache: Path, threads: int) -> Mapping[str, str]:
        one = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1" if threads == 1 else ""
        return {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": one, "JAX_CPU_ENABLE_ASYNC_DISPATCH": "false",
                "JAX_COMPILATION_CACHE_DIR": str(cache / "jax"), "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
                "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1", "TF_CPP_MIN_LOG_LEVEL": "3", "JAX_ENABLE_X64": "1"}

    def connect(self, threads: int) -> None:
        import jax

        jax.config.update("jax_enable_x64", True)     # or float64 would quietly become float32
        self._forms = _forms(jax)

    def prepare(self, case: Case, setting: Setting, inputs: Arrays, state: Arrays) -> Contestant:
        import jax

        form = form_of(self._forms, case)
        arguments = tuple(inputs.values())
        if state:
            return self._training(form, arguments, state)
        compiled = jax.jit(self._gradient(form, case) if case.wrt else form)
        return Contestant(lambda: tuple(np.asarray(each) for each in as_tuple(compiled(*arguments))))

    def _gradient(self, form: Callable[..., Any], case: Case) -> Callable[..., Any]:
        import jax

        names = list(case.inputs)
        wrt = tuple(names.index(name) for name in case.wrt)
        if COTANGENT not in case.inputs:
            def scalar(*values: Any) -> Any:
                y, slopes = jax.value_and_grad(form, wrt)(*values)
                return (y, *slopes)
            return scalar

        def pulled(*values: Any) -> Any:
            *plain, ct = values
            y, pull = jax.vjp(form, *plain)
            slopes = pull(ct)
            return (y, *(slopes[at] for at in wrt))
        return pulled

    def _training(self, form: Callable[..., Any], arguments: tuple[Array, ...], state: Arrays) -> Contestant:
        import jax

        step = jax.jit(training_step(jax, form), donate_argnums=0)
        current: list[Any] = [[jax.numpy.asarray(value) for value in state.values()]]

        def call() -> tuple[Array, ...]:
            value, current[0] = step(current[0], *arguments)
            jax.block_until_ready(current[0])
            return (np.asarray(value),)

        def reset() -> None:
            current[0] = [jax.numpy.asarray(value.copy()) for value in state.values()]

        return Contestant(call, lambda: tuple(np.array(each) for each in current[0]), reset)


def training_step(jax: Any, form: Callable[..., Any]) -> Callable[..., Any]:
    """From (parameters, *values): the loss and the new parameters."""
    def loss(parameters: Any, *values: Any) -> Any:
        return form(*values, *parameters)

    def step(parameters: Any, *values: Any) -> Any:
        value, slopes = jax.value_and_grad(loss)(parameters, *values)
        return value, [p - LEARNING_RATE * g for p, g in zip(parameters, slopes)]

    return step


def _forms(jax: Any) -> Forms:
    jnp = jax.numpy

    def black_scholes(spot: Any, strike: Any, time: Any) -> Any:
        spread = VOLATILITY * jnp.sqrt(time)
        d1 = (jnp.log(spot / strike) + (RATE + 0.5 * VOLATILITY**2) * time) / spread
        discounted = strike * jnp.exp(-RATE * time)
        cdf1, cdf2 = (0.5 * (1 + jax.scipy.special.erf(d * math.sqrt(0.5))) for d in (d1, d1 - spread))
        call = spot * cdf1 - discounted * cdf2
        return call, call + discounted - spot

    def layer_norm(x: Any, weight: Any, bias: Any) -> Any:
        mean = jnp.mean(x, -1, keepdims=True)
        variance = jnp.mean(jnp.square(x - mean), -1, keepdims=True)
        return (x - mean) * jax.lax.rsqrt(variance + EPSILON) * weight + bias

    def cross_entropy(x: Any, t: Any) -> Any:
        return -jnp.mean(jnp.take_along_axis(jax.nn.log_softmax(x), t[:, None], 1))

    def mlp(x: Any, t: Any, *state: Any) -> Any:
        w1, b1, w2, b2, w3, b3 = state
        h = jax.nn.relu(x @ w1 + b1)
        h = jax.nn.relu(h @ w2 + b2)
        return cross_entropy(h @ w3 + b3, t)

    def conv(x: Any, weight: Any, stride: int, padding: int) -> Any:
        return jax.lax.conv_general_dilated(x, weight, (stride, stride), ((padding, padding), (padding, padding)))

    def cnn(x: Any, t: Any, *state: Any) -> Any:
        k1, b1, k2, b2, w3, b3, w4, b4 = state
        h = jax.nn.relu(conv(x, k1, 1, 1) + b1[:, None, None])
        h = jax.nn.relu(conv(h, k2, 1, 1) + b2[:, None, None])
        h = jax.lax.reduce_window(h, -jnp.inf, jax.lax.max, (1, 1, 2, 2), (1, 1, 2, 2), "VALID")
        h = jax.nn.relu(h.reshape(len(h), -1) @ w3 + b3)
        return cross_entropy(h @ w4 + b4, t)

    def transformer(x: Any, target: Any, *state: Any) -> Any:
        g1, b1, w_in, b_in, w_out, b_out, g2, b2, w1, c1, w2, c2 = state
        n, length, width = x.shape
        mask = causal_mask(length)
        q, k, v = (part.reshape(n, length, HEADS, -1).transpose(0, 2, 1, 3)
                   for part in jnp.split(layer_norm(x, g1, b1) @ w_in + b_in, 3, -1))
        scores = q @ k.transpose(0, 1, 3, 2) / math.sqrt(width // HEADS) + mask
        seen = (jax.nn.softmax(scores) @ v).transpose(0, 2, 1, 3).reshape(n, length, width)
        x = x + seen @ w_out + b_out
        h = jax.nn.gelu(layer_norm(x, g2, b2) @ w1 + c1, approximate=True)
        return jnp.mean(jnp.square(x + h @ w2 + c2 - target))

    return {
        "call": lambda x: x + 1, "call_many": lambda a, b, c, d: (a + b, c + d),
        "chain": lambda a, b, c, d: jax.nn.relu(a * b + c - d),
        "gelu": lambda x: jax.nn.gelu(x, approximate=True),
        "black_scholes": black_scholes,
        "softmax": jax.nn.softmax, "log_softmax": jax.nn.log_softmax, "layer_norm": layer_norm,
        "cross_entropy": cross_entropy,
        "matmul": lambda a, b: a @ b, "matmul_relu": lambda a, b, bias: jax.nn.relu(a @ b + bias),
        **{f"{name}_{'all' if axis is None else axis}": _reduced(getattr(jnp, name), axis)
           for name in ("sum", "max", "var") for axis in (0, 1, None)},
        **{name: partial(conv, stride=stride, padding=padding_of(name)) for name, (_, stride) in FORMULAS.items()},
        "mlp_step": mlp, "digits_cnn_step": cnn, "transformer_step": transformer,
    }


def _reduced(function: Callable[..., Any], axis: int | None) -> Callable[[Any], Any]:
    return lambda x: function(x, axis)


PEERS: tuple[Peer, ...] = (Jax(),)
