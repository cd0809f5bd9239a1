"""Formulas of each element by itself: a chain of cheap ones, gelu with its gradient, and Black-Scholes."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

import staticgraph as sg

from ..cases import Array, Case, Data, Setting, Sizes

GELU_SCALE = math.sqrt(2 / math.pi)
GELU_CUBIC = 0.044715
RATE, VOLATILITY = 0.02, 0.3

MEMORY_BOUND = 90.0
"""Percent of the copy bandwidth to reach."""

LEAST = 2.0


def settings(copy: float = 0.0) -> tuple[Setting, ...]:
    """1e5 elements, which fit into caches, and 1e7, which do not, in both dtypes."""
    return tuple(Setting(f"{label} {short}", {"n": n}, dtype, copy if n > 10**6 else 0.0)
                 for dtype, short in (("float32", "f32"), ("float64", "f64"))
                 for label, n in (("1e5", 10**5), ("1e7", 10**7)))


def times(factor: int) -> Callable[[Sizes], int]:
    """So many operations for each element."""
    return lambda sizes: factor * sizes["n"]


def numpy_gelu(x: Array) -> tuple[Array]:
    return (0.5 * x * (1 + np.tanh(GELU_SCALE * (x + GELU_CUBIC * x * x * x))),)


def numpy_gelu_grad(x: Array, ct: Array) -> tuple[Array, Array]:
    gate = np.tanh(GELU_SCALE * (x + GELU_CUBIC * x * x * x))
    slope = GELU_SCALE * (1 + 3 * GELU_CUBIC * x * x)
    return 0.5 * x * (1 + gate), ct * (0.5 * (1 + gate) + 0.5 * x * (1 - gate * gate) * slope)


def black_scholes(spot: sg.Tensor, strike: sg.Tensor, time: sg.Tensor) -> tuple[sg.Tensor, sg.Tensor]:
    """Prices of European calls and puts."""
    spread = VOLATILITY * sg.sqrt(time)
    d1 = (sg.log(spot / strike) + (RATE + 0.5 * VOLATILITY**2) * time) / spread
    d2 = d1 - spread
    discounted = strike * sg.exp(-RATE * time)
    cdf1, cdf2 = (0.5 * (1 + sg.erf(d * math.sqrt(0.5))) for d in (d1, d2))
    call = spot * cdf1 - discounted * cdf2
    return call, call + discounted - spot


CASES = (
    Case("chain", "relu(a*b + c - d)", inputs={name: Data(("n",)) for name in "abcd"},
         graph=lambda a, b, c, d: (sg.nn.relu(a * b + c - d),),
         numpy=lambda a, b, c, d: (np.maximum(a * b + c - d, 0),),
         settings=settings(MEMORY_BOUND), tiny={"n": 37}, flops=times(4), least=LEAST),
    Case("gelu", "gelu by tanh", inputs={"x": Data(("n",))},
         graph=lambda x: (sg.nn.gelu(x, approximate="tanh"),), numpy=numpy_gelu,
         settings=settings(MEMORY_BOUND), tiny={"n": 37}, flops=times(9), least=LEAST),
    Case("gelu_grad", "gelu by tanh and its gradient", inputs={"x": Data(("n",)), "ct": Data(("n",))},
         graph=lambda x: (sg.nn.gelu(x, approximate="tanh"),), numpy=numpy_gelu_grad, form="gelu", wrt=("x",),
         settings=settings(MEMORY_BOUND), tiny={"n": 37}, flops=times(21), least=LEAST),
    Case("black_scholes", "Black-Scholes prices of calls and puts",
         inputs={"spot": Data(("n",), between=(10, 50)), "strike": Data(("n",), between=(10, 50)),
                 "time": Data(("n",), between=(0.25, 5))},
         graph=black_scholes, numpy=None,     # NumPy has no erf
         settings=settings(), tiny={"n": 37}, flops=times(26), tolerance=3e-5, least=LEAST),
)
