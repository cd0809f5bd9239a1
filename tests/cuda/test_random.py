"""Samples on CUDA have the bits that they have on the CPU: every distribution, run in the interpreter of PTX."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest

import staticgraph as sg
from staticgraph.ops.random import random_bits
from staticgraph.tensor import Tensor
from tests.cuda import CAPABILITIES, skip_without_compiler
from tests.ops import philox

skip_without_compiler()

from staticgraph.runtime.cuda.loader import load_kernel  # noqa: E402
from tests.cuda.simulate import Simulated, compile_simulated  # noqa: E402

Samples = Callable[[sg.random.Generator, Tensor], Mapping[str, Tensor]]


def check(build: Samples, *shapes: tuple[int, ...]) -> Simulated:
    """Three calls on each device, each with a generator of its own; the samples and the counters must be equal."""
    made: list[tuple[Any, sg.random.Generator]] = []
    for compile in (sg.compile, compile_simulated):
        g = sg.random.generator(23)
        x = sg.placeholder("x", ("n", "m"))
        made.append((compile([x], dict(build(g, x)), updates={g.counter: g.counter + 1}), g))
    (on_cpu, first), (on_cuda, second) = made
    for shape in shapes:
        values = np.random.default_rng(1).standard_normal(shape).astype("float32")
        for _ in range(3):
            expected, actual = on_cpu(values), on_cuda(values)
            for name, value in expected.items():
                assert actual[name].dtype == value.dtype and actual[name].shape == value.shape
                assert actual[name].tobytes() == value.tobytes(), f"{name} of {shape}"
            assert first.state == second.state
    assert isinstance(on_cuda, Simulated)
    return on_cuda


@pytest.mark.parametrize(("counter", "key", "block"), philox.VECTORS)
def test_the_published_vectors(counter: tuple[int, ...], key: tuple[int, ...], block: tuple[int, ...]) -> None:
    index = sg.placeholder("index", ("n",), "uint64")
    seed, count, stream = (sg.placeholder(name, (), "uint64") for name in ("seed", "counter", "stream"))
    words = compile_simulated([index, seed, count, stream], random_bits(index, seed, count, stream))
    numbers = np.array([4 * counter[0] + place for place in range(4)], np.uint64)
    result = words(numbers, np.uint64(key[0] | key[1] << 32), np.uint64(counter[2] | counter[3] << 32),
                   np.uint64(counter[1]))
    assert result.tolist() == list(block)


def test_words_integers_and_bools() -> None:
    check(lambda g, x: {"bits": g.bits(x.shape), "wide": g.bits(x.shape, "uint64"),
                        "bernoulli": g.bernoulli(x.shape, 0.3), "of tensor": g.bernoulli(x.shape, sg.abs(x)),
                        "integers": g.integers(x.shape, -5, 9), "far": g.integers(x.shape, 0, 2**45),
                        "small": g.integers(x.shape, 256, dtype="uint8"),
                        "below": g.integers(x.shape, x.shape[0] + 1)}, (5, 7), (1, 1), (20, 33))


def test_floats() -> None:
    check(lambda g, x: {"uniform": g.uniform(x.shape), "double": g.uniform(x.shape, dtype="float64"),
                        "between": g.uniform(x.shape, -3, 2.5), "low": g.uniform(x.shape, x - 1, x),
                        "normal": g.normal(x.shape), "moved": g.normal(x.shape, x, 2),
                        "double normal": g.normal(x.shape, dtype="float64")}, (5, 7), (20, 33))


def test_dropout_and_its_gradient() -> None:
    def build(g: sg.random.Generator, x: Tensor) -> dict[str, Tensor]:
        y = sg.nn.dropout(sg.tanh(x), 0.3, g)
        return {"y": y, "slope": sg.grad(sg.sum(y), x), "transposed": sg.nn.dropout(x.T, 0.5, g).T + x}

    check(build, (5, 7), (20, 33))


def test_permutations() -> None:
    check(lambda g, x: {"rows": g.permutation(x), "numbers": g.permutation(50)}, (6, 3))


def test_neighbours_share_a_block() -> None:
    """Four words a block: 20 multiplications for four neighbours, as many for a single element at the end, and what no
    element changes; without sharing there would be a hundred."""
    step = check(lambda g, x: {"bits": g.bits(x.shape)}, (5, 7))
    sampler = next(kernel for kernel in step.program.kernels if "philox" in kernel.text)
    ptx = load_kernel(sampler, CAPABILITIES[-1]).code.ptx
    products = re.findall(r"mul\.\S+\s[^\n]*(?:3528531795|3449720151|-766435501|-845247145)", ptx)
    assert 20 <= len(products) <= 48
