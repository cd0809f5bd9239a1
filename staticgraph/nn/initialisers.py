"""Initial values of parameters, drawn from a generator that the caller names.

Plain NumPy: a parameter starts as an array. NumPy's global random state is neither read nor advanced; whoever wants
random numbers passes an `np.random.Generator`, or an int that seeds a new one. Draws are made in float64 and then
rounded, so that a float32 model starts at the rounded weights of the float64 one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..errors import ArgumentError, DTypeError
from ..types import as_dtype

__all__ = [
    "Generator", "Initialiser", "fans", "glorot_normal", "glorot_uniform", "he_normal", "he_uniform", "initialiser",
    "normal", "ones", "uniform", "zeros",
]

Array = np.ndarray[Any, Any]
Generator = np.random.Generator | int | None
Initialiser = Callable[[Sequence[int], Generator, Any], Array]
"""(shape, generator, dtype) -> array."""


def as_generator(what: str, generator: Generator) -> np.random.Generator:
    """The generator, or one seeded by the int."""
    if isinstance(generator, np.random.Generator):
        return generator
    if isinstance(generator, int | np.integer) and not isinstance(generator, bool):
        return np.random.default_rng(int(generator))
    raise ArgumentError(f"{what}: needs generator=, an np.random.Generator or an int seed, got {generator!r}; "
                        "NumPy's global random state is never used")


def fans(shape: Sequence[int]) -> tuple[int, int]:
    """(fan in, fan out): of (inputs, outputs), or of a convolution's (channels out, channels in, *kernel)."""
    if len(shape) < 2:
        raise ArgumentError(f"fans: a weight has at least two axes, got shape {tuple(shape)}")
    if len(shape) == 2:
        return shape[0], shape[1]
    field = math.prod(shape[2:])
    return shape[1] * field, shape[0] * field


def zeros(shape: Sequence[int], generator: Generator = None, dtype: Any = "float32") -> Array:
    """All zeros; needs no generator."""
    return np.zeros(shape, as_dtype(dtype))


def ones(shape: Sequence[int], generator: Generator = None, dtype: Any = "float32") -> Array:
    """All ones; needs no generator."""
    return np.ones(shape, as_dtype(dtype))


def normal(shape: Sequence[int], generator: Generator, dtype: Any = "float32", scale: float = 1.0) -> Array:
    """The normal distribution with mean 0 and standard deviation `scale`."""
    return _rounded(as_generator("normal", generator).standard_normal(tuple(shape)) * scale, dtype)


def uniform(shape: Sequence[int], generator: Generator, dtype: Any = "float32", low: float = -1.0,
            high: float = 1.0) -> Array:
    """Evenly distributed from `low` to `high`."""
    return _rounded(as_generator("uniform", generator).uniform(low, high, tuple(shape)), dtype)


def he_normal(shape: Sequence[int], generator: Generator, dtype: Any = "float32") -> Array:
    """Variance 2 / fan in: keeps the scale of activations through layers of ReLU (He and others, 2015)."""
    return normal(shape, as_generator("he_normal", generator), dtype, math.sqrt(2 / fans(shape)[0]))


def he_uniform(shape: Sequence[int], generator: Generator, dtype: Any = "float32") -> Array:
    """As `he_normal`, evenly distributed."""
    bound = math.sqrt(6 / fans(shape)[0])
    return uniform(shape, as_generator("he_uniform", generator), dtype, -bound, bound)


def glorot_normal(shape: Sequence[int], generator: Generator, dtype: Any = "float32") -> Array:
    """Variance 2 / (fan in + fan out): between what the forward and the backward pass ask for (Glorot, Bengio 2010)."""
    return normal(shape, as_generator("glorot_normal", generator), dtype, math.sqrt(2 / math.fsum(fans(shape))))


def glorot_uniform(shape: Sequence[int], generator: Generator, dtype: Any = "float32") -> Array:
    """As `glorot_normal`, evenly distributed."""
    bound = math.sqrt(6 / math.fsum(fans(shape)))
    return uniform(shape, as_generator("glorot_uniform", generator), dtype, -bound, bound)


def _rounded(draws: Array, dtype: Any) -> Array:
    target = as_dtype(dtype)
    if target.kind != "f":
        raise DTypeError(f"random initial values are floating-point numbers, got dtype {target}")
    return draws.astype(target)


NAMED: dict[str, Initialiser] = {
    "zeros": zeros, "ones": ones, "normal": normal, "uniform": uniform,
    "he": he_normal, "he_normal": he_normal, "he_uniform": he_uniform,
    "glorot": glorot_uniform, "glorot_normal": glorot_normal, "glorot_uniform": glorot_uniform,
}


def initialiser(init: str | Initialiser) -> Initialiser:
    """The initialiser of that name ("he" is he_normal, "glorot" is glorot_uniform), or the function itself."""
    if callable(init):
        return init
    if init not in NAMED:
        raise ArgumentError(f"there is no initialiser {init!r}; needed one of {', '.join(NAMED)}, or a function "
                            "(shape, generator, dtype) -> array")
    return NAMED[init]
