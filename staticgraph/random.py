"""Random numbers as graph: generators, whose samples are new at every call of an executable.

>>> g = sg.random.generator(0)
>>> noise = g.normal(x.shape, scale=0.1)
>>> step = sg.compile([x], sg.mean(x + noise))

Building a sample runs nothing; it gives the sample the next stream number of its generator, so no sample is ever the
same as another. What a stream's words are depends on the seed, the stream's number and the generator's counter, which
is a variable. An executable that samples from a generator adds 1 to its counter at each call, as one of its updates: so
every call draws afresh, all parts of one call (a loss and its gradient) see the same draws, and a run repeats from its
seed if its graph is built in the same order. `sg.evaluate` advances nothing. NumPy's global random state is not used.

How numbers are made of Philox4x32-10 words is documented in `staticgraph.ops.random`.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from .errors import ArgumentError
from .ops import random as samples
from .ops.leaf import variable
from .ops.random import Stream
from .tensor import Tensor

__all__ = ["Generator", "generator"]


class Generator:
    """A source of samples; made by `sg.random.generator(seed)`.

    `counter` is a variable (uint64): ``g.counter.value`` reads and writes it, and an update that names it takes the
    place of the step by 1. `seed` can be read and assigned without compiling again. `state` is both, for saving.
    """

    def __init__(self, seed: int, name: str = "generator") -> None:
        self.name = name
        self._seed = variable(np.uint64(_as_word("generator", "seed", seed)), f"{name}.seed")
        self.counter = variable(np.uint64(0), f"{name}.counter")
        self._streams = itertools.count()

    @property
    def seed(self) -> int:
        """The seed, an int from 0 to 2**64 - 1. Assigning it sets the counter back to 0."""
        return int(self._seed.value)

    @seed.setter
    def seed(self, value: int) -> None:
        self.state = {"seed": value, "counter": 0}

    @property
    def state(self) -> dict[str, int]:
        """Seed and counter: what to save to go on from here, with the same graph, in another process."""
        return {"seed": self.seed, "counter": int(self.counter.value)}

    @state.setter
    def state(self, value: Mapping[str, int]) -> None:
        if not isinstance(value, Mapping) or set(value) != {"seed", "counter"}:
            raise ArgumentError(f"generator: a state has a seed and a counter, got {value!r}")
        words = {key: _as_word("generator", key, number) for key, number in value.items()}
        self._seed.value, self.counter.value = np.uint64(words["seed"]), np.uint64(words["counter"])

    def _stream(self) -> Stream:
        return Stream(self._seed, self.counter, next(self._streams))

    def uniform(self, shape: Any, low: Any = 0.0, high: Any = 1.0, dtype: Any = None) -> Tensor:
        """Floats evenly distributed from `low` to below `high`, numbers or tensors that broadcast to the shape.

        dtype: that of low and high where they are tensors, else float32. Rounding may give `high` itself only where
        low or high is a tensor.
        """
        return samples.uniform(self._stream(), shape, low, high, dtype)

    def normal(self, shape: Any, loc: Any = 0.0, scale: Any = 1.0, dtype: Any = None) -> Tensor:
        """Normally distributed floats with mean `loc` and standard deviation `scale`, numbers or tensors that broadcast
        to the shape; gradients reach both. dtype: that of loc and scale where they are tensors, else float32."""
        return samples.normal(self._stream(), shape, loc, scale, dtype)

    def bernoulli(self, shape: Any, p: Any = 0.5) -> Tensor:
        """Bools that are true with probability `p`, a number or a tensor that broadcasts to the shape."""
        return samples.bernoulli(self._stream(), shape, p)

    def integers(self, shape: Any, low: Any, high: Any = None, dtype: Any = "int64") -> Tensor:
        """Integers evenly distributed from `low` to ``high - 1``; without `high` from 0 to ``low - 1``.

        low and high are ints or symbolic sizes. That no integer lies between two symbolic sizes goes unnoticed at the
        call, except where the sample is used as an index.
        """
        return samples.integers(self._stream(), shape, low, high, dtype)

    def bits(self, shape: Any, dtype: Any = "uint32") -> Tensor:
        """Unsigned integers of 32 or 64 random bits."""
        return samples.bits(self._stream(), shape, dtype)

    def permutation(self, x: Any, axis: int = 0) -> Tensor:
        """The integers 0 ... x - 1 in random order for an int or a symbolic size x; of a tensor, its slices along an
        axis in random order."""
        return samples.permutation(self._stream(), x, axis)

    @classmethod
    def _around(cls, seed: Tensor, counter: Tensor, following: int) -> Generator:
        """A generator whose variables, and so many of whose samples, exist already."""
        made = cls.__new__(cls)
        made.name = (counter.name or "generator").removesuffix(".counter")
        made._seed, made.counter, made._streams = seed, counter, itertools.count(following)
        return made

    def __repr__(self) -> str:
        return f"<Generator '{self.name}' seed={self.seed} counter={int(self.counter.value)}>"


def generators_in(nodes: Iterable[Tensor]) -> list[Generator]:
    """The generators that a graph samples from, made anew around their variables; further samples take the stream
    numbers after the last that is used."""
    streams: dict[tuple[Tensor, Tensor], int] = {}
    for node in nodes:
        if node.op is samples.random_bits:
            _, seed, counter, number = map(_below_views, node.inputs)
            used = number.attrs["size"] if number.op.name == "size_of" else 0
            if seed.op.name == counter.op.name == "variable" and isinstance(used, int):
                streams[seed, counter] = max(streams.get((seed, counter), 0), used + 1)
    return [Generator._around(seed, counter, following) for (seed, counter), following in streams.items()]


def _below_views(node: Tensor) -> Tensor:
    while node.op.kind == "view":
        node = node.inputs[0]
    return node


def generator(seed: int, name: str = "generator") -> Generator:
    """A new generator. The seed is an int from 0 to 2**64 - 1; equal seeds give equal samples, built in equal order."""
    return Generator(seed, name)


def _as_word(function: str, what: str, value: Any) -> int:
    if not isinstance(value, int | np.integer) or isinstance(value, bool) or not 0 <= value < 2**64:
        raise ArgumentError(f"{function}: the {what} is an int from 0 to 2**64 - 1, got {value!r}")
    return int(value)
