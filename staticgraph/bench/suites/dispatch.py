"""What a call costs: graphs so small that nothing else is left."""

from __future__ import annotations

from ..cases import Array, Case, Data, Setting, Sizes

WITHIN = 2.5e-6
"""Seconds to reach."""


def _flops(sizes: Sizes) -> int:
    return sizes["n"]


def numpy_many(a: Array, b: Array, c: Array, d: Array) -> tuple[Array, Array]:
    return a + b, c + d


CASES = (
    Case("call", "x + 1 of eight elements", inputs={"x": Data(("n",))},
         graph=lambda x: (x + 1,), numpy=lambda x: (x + 1,),
         settings=(Setting("8", {"n": 8}),), tiny={"n": 8}, flops=_flops, within=WITHIN, least=0),
    Case("call_many", "four inputs and two results of eight elements", inputs={name: Data(("n",)) for name in "abcd"},
         graph=lambda a, b, c, d: (a + b, c + d), numpy=numpy_many,
         settings=(Setting("8", {"n": 8}),), tiny={"n": 8}, flops=_flops, least=0),
)
