"""Memory of calls as it is measured, by tracemalloc, which NumPy tells of every array: what `memory` says is so, and a
step allocates nothing but its outputs."""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import staticgraph as sg
from staticgraph.runtime.executable import Executable

pytestmark = pytest.mark.usefixtures("quick_collections")

PAGE = 4096
SMALL = 4096
"""Bytes of Python objects that a call may make on its way."""


def network() -> tuple[Executable, list[Any]]:
    x, t = sg.placeholder("x", ("n", 96)), sg.placeholder("t", ("n",), "int64")
    first, second = sg.variable(np.full((96, 128), 0.01, "float32")), sg.variable(np.full((128, 10), 0.01, "float32"))
    loss = sg.mean(sg.nn.cross_entropy(sg.nn.gelu(x @ first) @ second, t))
    grads = sg.grad(loss, [first, second])
    step = sg.compile([x, t], [loss, sg.nn.relu(x)], updates=[(first, first - grads[0]), (second, second - grads[1])],
                      options={"threads": 1})
    return step, [np.ones((700, 96), "float32"), np.arange(700) % 10]


def normalised() -> tuple[Executable, list[Any]]:
    x = sg.placeholder("x", ("n", 64), "float64")
    y = sg.sort(x) @ sg.permute_dims(x, (1, 0))
    return sg.compile([x], {"y": y, "z": sg.nn.softmax(y) @ x}, options={"threads": 2}), [np.ones((300, 64))]


def traced(call: Callable[[], Any]) -> tuple[int, int]:
    """Bytes that a call holds at most, and those that it leaves behind when its results are dropped."""
    gc.collect()
    tracemalloc.start()
    try:
        result = call()
        _, peak = tracemalloc.get_traced_memory()
        del result
        return peak, tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("make", [network, normalised])
def test_the_peak_is_what_was_predicted(make: Callable[[], tuple[Executable, list[Any]]]) -> None:
    function, arrays = make()
    formula = function.memory.peak.formula
    first, _ = traced(lambda: function(*arrays))
    memory = function.memory
    assert memory.peak.formula == formula and memory.peak.last is not None and memory.allocated is not None
    assert memory.peak.last > 300_000
    assert 0 <= memory.allocated - memory.peak.last < PAGE
    tables = 300 * 1024     # of Python and of the step, made once for these sizes
    assert memory.peak.last <= first < memory.peak.last + tables
    assert f"peak       {memory.peak} for arena and outputs; {memory.allocated} allocated" in function.explain()


@pytest.mark.parametrize("make", [network, normalised])
def test_a_step_allocates_its_outputs_and_uses_them_again(make: Callable[[], tuple[Executable, list[Any]]]) -> None:
    function, arrays = make()
    results = [function(*arrays) for _ in range(2)]
    outputs = function.memory.outputs.last
    assert outputs is not None
    peak, _ = traced(lambda: function(*arrays))     # the earlier results are held: these are new
    assert peak < outputs + SMALL
    del results
    function(*arrays)
    peak, left = traced(lambda: function(*arrays))     # dropped: their memory serves again
    assert peak < SMALL + 2 * 128 * 1024 and left < SMALL + 2 * 128 * 1024


def test_the_arena_follows_the_sizes() -> None:
    function, (x,) = normalised()
    function(x)
    small = function.memory
    function(np.ones((900, 64)))
    large = function.memory
    assert small.peak.last is not None and large.peak.last is not None and small.peak.formula == large.peak.formula
    assert large.peak.last > 3 * small.peak.last and large.reserved >= large.peak.last - (large.outputs.last or 0)
    function(x)
    assert function.memory.peak.last == small.peak.last and function.memory.reserved == large.reserved
