"""The hand-made programs of `tests.runtime` for a GPU: their kernels are NumPy functions that the fake driver runs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest

from staticgraph.compiler.program import Argument, Kernel, Launch, Program
from staticgraph.runtime import residence
from staticgraph.runtime.cuda import executable as cuda_executable
from staticgraph.runtime.cuda import profile as cuda_profile
from staticgraph.runtime.cuda.device import Device, find_device
from staticgraph.runtime.cuda.driver import set_library
from staticgraph.runtime.cuda.memory import pool_of
from staticgraph.tensor import VariableState

from .fake_driver import FakeDriver

THREADS = 128


def add_one(memory: Any, blocks: int, threads: int, x: int, y: int, stop: int) -> None:
    memory.write(y, memory.read(x, "float32", stop) + np.float32(1))


def copy(memory: Any, blocks: int, threads: int, x: int, y: int, status: int, stop: int) -> None:
    if memory.read(status, "int64", 1)[0] == 0:
        memory.write(y, memory.read(x, "float32", stop))


def pick(memory: Any, blocks: int, threads: int, x: int, t: int, y: int, n: int, status: int, stop: int) -> None:
    indices = memory.read(t, "int64", stop)
    wrong = indices[(indices < 0) | (indices >= n)]
    if wrong.size and memory.read(status, "int64", 1)[0] == 0:
        memory.write(status, np.array([1, wrong[0], n]))
    memory.write(y, memory.read(x, "float32", n)[np.clip(indices, 0, n - 1)])


def double(memory: Any, blocks: int, threads: int, x: int, y: int, stop: int) -> None:
    memory.write(y, memory.read(x, "float32", stop) * np.float32(2))


KERNELS = {each.__name__: each for each in (add_one, copy, pick, double)}


@dataclass(frozen=True)
class Code:
    ptx: str
    cubin: bytes
    symbol: str


@dataclass(frozen=True)
class Loaded:
    code: Code
    origin: str = "compiled"
    milliseconds: float = 1.0
    reason: str = ""


def load_kernel(kernel: Kernel, capability: tuple[int, int]) -> Loaded:
    return Loaded(Code(f"numpy {kernel.name}", b"", kernel.name))


def kernel(name: str) -> Kernel:
    return Kernel(name, name, f"def {name}(): ...", Launch(THREADS, THREADS))


def on_cuda(program: Program) -> Program:
    """The same program for a GPU: steps that write variables look at the status."""
    steps = tuple(replace(step, arguments=(*step.arguments, Argument("status"))) if step.stage == "commit" else step
                  for step in program.steps)
    return replace(program, device="cuda", steps=steps, kernels=tuple(kernel(each.name) for each in program.kernels))


def state(values: Any) -> VariableState:
    return VariableState(np.array(values, "float32"))


@contextmanager
def using(fake: FakeDriver, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeDriver]:
    """A fake driver in place of the real one, whose kernels come from `KERNELS`. Profiles take no time."""
    fake.kernels.update(KERNELS)
    with monkeypatch.context() as patch:
        patch.setattr(cuda_executable, "load_kernel", load_kernel)
        patch.setattr(cuda_profile, "BUDGET", 0.0)
        set_library(fake)
        try:
            yield fake
        finally:
            set_library(None)


def device(index: int = 0) -> Device:
    return find_device(index)


def leaks(fake: FakeDriver) -> dict[str, int]:
    """What nothing holds any more and yet was not given back. The stream of each device stays."""
    for gpu in range(len(fake.gpus)):
        found = find_device(gpu)
        with found:
            pool_of(found).trim()
    held = fake.held()
    streams = sum(device(gpu)._transfers is not None for gpu in range(len(fake.gpus)))
    if held.get("streams", 0) == streams:
        held.pop("streams", None)
    if residence.resident:
        held["copies"] = len(residence.resident)
    return held


def ramp(count: int) -> np.ndarray[Any, Any]:
    """0, 1, 2 ... as float32."""
    return np.arange(count, dtype="float32")
