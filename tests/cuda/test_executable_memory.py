"""Memory of programs on a GPU: what is given back, and what happens when there is none left."""

from __future__ import annotations

import gc
from typing import Any

import numpy as np
import pytest

from staticgraph.errors import DeviceError, OutOfMemoryError, OutOfRangeError
from staticgraph.runtime.executable import load
from tests.runtime.programs import (
    BATCH,
    add_one_program,
    chain_program,
    pick_and_update_program,
)

from .fake_driver import FakeDriver
from .programs import leaks, on_cuda, ramp, state


def test_no_leaks_after_dropping(gpu: FakeDriver) -> None:
    storage = state(np.zeros(4))
    executables = [load(on_cuda(pick_and_update_program()), [storage]) for _ in range(3)]
    for each in executables:
        each([5, 6, 7], [2, 0])
        each.profile([5, 6, 7], [2, 0])
        with pytest.raises(OutOfRangeError):
            each([5, 6, 7], [3])
    assert len(gpu.modules) == 3                     # executables share them
    gc.disable()
    try:
        del executables[0], each
        assert len(gpu.modules) == 3
        executables.clear()
        assert gpu.held() == {"bytes": 16, "streams": 1}         # the variable, and the device's own stream
        del storage
        assert leaks(gpu) == {}
    finally:
        gc.enable()


def test_out_of_memory_says_how_much_and_changes_nothing(gpu: FakeDriver) -> None:
    gpu.gpus[0].total = 100_000
    storage = state(np.zeros(4))
    executable = load(on_cuda(pick_and_update_program()), [storage])
    executable(ramp(3), [2, 0])
    for _ in range(2):
        with pytest.raises(OutOfMemoryError) as caught:
            executable(ramp(30_000), [2, 0])
        text = str(caught.value)
        assert "cuda:0 (Fake GPU) is out of memory: 1" in text and "of its 100000 are free" in text
        assert "inputs batch*4 + n*8 bytes, 120016 at the last call" in text.replace("n*8 + batch*4", "batch*4 + n*8")
        assert isinstance(caught.value, MemoryError) and isinstance(caught.value, DeviceError)
        assert np.array_equal(storage.read(), np.ones(4))
    assert np.array_equal(executable(ramp(3), [2, 0]), [2, 0])
    assert np.array_equal(storage.read(), np.full(4, 2))


def test_an_arena_that_cannot_have_room_to_spare_takes_what_it_needs(gpu: FakeDriver) -> None:
    gpu.gpus[0].total = 1_000_000
    executable = load(on_cuda(add_one_program((BATCH,))))
    executable(ramp(100_000))
    assert np.array_equal(executable(ramp(110_000)), ramp(110_000) + 1)     # a quarter more would be too much
    assert executable.memory.reserved < 900_000


def test_memory_in_dropped_cycles_is_found_when_it_runs_out(gpu: FakeDriver) -> None:
    gpu.gpus[0].total = 1_000_000
    executable = load(on_cuda(add_one_program((BATCH,))))
    executable(ramp(70_000))
    gc.disable()
    try:
        cycle: list[Any] = [executable]
        cycle.append(cycle)
        del executable, cycle
        other = load(on_cuda(add_one_program((BATCH,))))
        assert np.array_equal(other(ramp(80_000)), ramp(80_000) + 1)
    finally:
        gc.enable()


def test_memory_is_told_in_bytes_of_the_device(gpu: FakeDriver) -> None:
    executable = load(on_cuda(chain_program(3)))
    assert str(executable.memory.arena) == "batch*128 bytes" and executable.memory.reserved == 0
    executable(ramp(10))
    memory = executable.memory
    assert memory.arena.last == 1280 and memory.inputs.last == memory.outputs.last == 40
    assert memory.reserved == sum(gpu.gpus[0].memory.allocations.values())
    assert memory.pinned == sum(size for _, size in gpu.pinned.values())
