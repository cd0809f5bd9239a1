"""Sums, maxima and variances over rows, columns and everything, of a square array and of a tall one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import staticgraph as sg

from ..cases import Array, Case, Data, Setting, Sizes

LEAST = 1.2
TOLERANCE = 1e-3
"""NumPy adds the rows of a column one after the other, and is itself off by half of this for a million of them."""

AXES: tuple[int | None, ...] = (0, 1, None)

SETTINGS = (Setting("4096x4096", {"n": 4096, "width": 4096}), Setting("1e6x8", {"n": 10**6, "width": 8}))

FUNCTIONS: dict[str, tuple[Callable[..., sg.Tensor], Callable[..., Any], int]] = {
    "sum": (sg.sum, np.sum, 1),
    "max": (sg.max, np.max, 1),
    "var": (sg.var, np.var, 4),
}
"""Name -> in staticgraph, in NumPy, operations for each element."""


def reduction_case(name: str, axis: int | None) -> Case:
    ours, numpys, operations = FUNCTIONS[name]

    def numpy(x: Array) -> tuple[Array]:
        return (np.asarray(numpys(x, axis=axis)),)

    def flops(sizes: Sizes) -> int:
        return operations * sizes["n"] * sizes["width"]

    where = "everything" if axis is None else "rows to one" if axis == 0 else "each row"
    return Case(f"{name}_{'all' if axis is None else axis}", f"{name} over {where}", inputs={"x": Data(("n", "width"))},
                graph=lambda x: (ours(x, axis=axis),), numpy=numpy, settings=SETTINGS, tiny={"n": 7, "width": 19},
                flops=flops, tolerance=TOLERANCE, least=LEAST)


CASES = tuple(reduction_case(name, axis) for name in FUNCTIONS for axis in AXES)
