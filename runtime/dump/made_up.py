"""Inputs for a program where nobody gives any."""

from __future__ import annotations

from typing import Any

import numpy as np

from staticgraph.compiler.program import Program
from staticgraph.types import evaluate_size, size_symbols

Array = np.ndarray[Any, Any]

SIZE, BELOW = 64, 2
"""Symbolic sizes, and the bound of integers."""


def made_up(program: Program) -> list[Array]:
    """All inputs of a program: floats are normally distributed, integers are 0 or 1."""
    random = np.random.default_rng(0)
    sizes = dict.fromkeys({name for spec in program.inputs for size in spec.shape for name in size_symbols(size)}, SIZE)
    return [random_array(random, [evaluate_size(size, sizes) for size in spec.shape], np.dtype(spec.dtype), BELOW)
            for spec in program.inputs]


def random_array(random: np.random.Generator, shape: list[int], dtype: np.dtype[Any], below: int) -> Array:
    """Floats that are normally distributed, integers below a bound, even chances of truth values."""
    if dtype.kind == "b":
        return random.random(shape) < 0.5
    if dtype.kind in "iu":
        return random.integers(0, max(below, 1), shape).astype(dtype)
    return np.asarray(random.standard_normal(shape)).astype(dtype)
