"""Products of matrices, alone and with bias and relu behind them. Sizes are part of the type, as weights are."""

from __future__ import annotations

import numpy as np

import staticgraph as sg

from ..cases import Array, Case, Data, Setting, Sizes

LEAST = 0.95


def _setting(m: int, k: int, n: int) -> Setting:
    return Setting(f"{m}" if m == k == n else f"{m}x{k}x{n}", {"m": m, "k": k, "n": n})


SETTINGS = (*(_setting(size, size, size) for size in (64, 256, 512, 1024, 2048)), _setting(64, 128, 64))
TINY = {"m": 5, "k": 19, "n": 7}


def _flops(sizes: Sizes) -> int:
    return 2 * sizes["m"] * sizes["k"] * sizes["n"]


def numpy_bias_relu(a: Array, b: Array, bias: Array) -> tuple[Array]:
    return (np.maximum(a @ b + bias, 0),)


_factors = {"a": Data(("m", "k")), "b": Data(("k", "n"))}

CASES = (
    Case("matmul", "a @ b", inputs=_factors, graph=lambda a, b: (a @ b,), numpy=lambda a, b: (a @ b,),
         settings=SETTINGS, tiny=TINY, flops=_flops, free=("m",), least=LEAST),
    Case("matmul_relu", "relu(a @ b + bias)", inputs={**_factors, "bias": Data(("n",))},
         graph=lambda a, b, bias: (sg.nn.relu(a @ b + bias),), numpy=numpy_bias_relu,
         settings=SETTINGS, tiny=TINY, flops=lambda sizes: _flops(sizes) + 2 * sizes["m"] * sizes["n"], free=("m",),
         least=LEAST),
)
