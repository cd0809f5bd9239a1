"""Kernels in the CUDA kernel language that are right, with their launches: what faults are planted into."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np

from staticgraph.runtime.cuda.translate import Translated, translate_all

from . import Counters, DeviceMemory, PtxModule

Array = np.ndarray[Any, Any]
CAPABILITIES = [(8, 0), (10, 0)]     # two generations of NVVM, whose PTX differs


@dataclass(frozen=True)
class Case:
    """A kernel's text and a launch of it. An array among the arguments that is all `UNSET` is not written before."""

    name: str
    text: str
    grid: int
    threads: int
    arguments: tuple[Any, ...]
    expected: tuple[Array, ...]     # of the arrays that are outputs, in order
    outputs: tuple[int, ...]

    def changed(self, old: str, new: str) -> Case:
        assert old in self.text, f"{old!r} is not in the text of {self.name}"
        return replace(self, text=self.text.replace(old, new))


def ptx_of(case: Case, capability: tuple[int, int] = (9, 0)) -> str:
    return translated(case.name, case.text, case.threads, capability).ptx


@cache
def translated(name: str, text: str, threads: int, capability: tuple[int, int]) -> Translated:
    imports = "from staticgraph.runtime.cuda.language import *\n"
    return translate_all(name, imports + text, [capability], threads)[0]


def run_case(case: Case, ptx: str, seed: int | None = None,
             before: Callable[[DeviceMemory, Sequence[int]], None] | None = None) -> tuple[list[Array], Counters]:
    """Launch, and read the outputs back. `before` is called with the arguments when all is ready."""
    memory, arguments = DeviceMemory(), []
    for number, argument in enumerate(case.arguments):
        if not isinstance(argument, np.ndarray):
            arguments.append(argument)
            continue
        arguments.append(memory.allocate(argument.nbytes))
        if number not in case.outputs or argument.any():
            memory.write(arguments[-1], argument)
    if before is not None:
        before(memory, arguments)
    counters = PtxModule(ptx).run(case.name, case.grid, case.threads, arguments, memory, seed=seed)
    results = [memory.read(arguments[number], case.arguments[number].dtype, case.arguments[number].shape)
               for number in case.outputs]
    return results, counters


random = np.random.default_rng(7)


def whole(*shape: int) -> Array:
    """Small whole numbers, whose sums are exact in any order."""
    return random.integers(-50, 50, shape).astype(np.float32)


def _axpy() -> Case:
    x, y = whole(251), whole(251) + 1000
    return Case("axpy", """
def axpy(a0, a1, stop):
    x = input_float32(a0)
    y = pointer_float32(a1)
    i = (block() * 32 + thread()) * 4
    if i + 4 <= stop:
        p, q, r, s = load4(x, i)
        a, b, c, d = load4(y, i)
        store4(y, i, p + a, q + b, r + c, s + d)
    elif i < stop:
        for j in range(i, stop):
            y[j] = x[j] + y[j]
""", 2, 32, (x, y, 251), (x + y,), (1,))


def _row_sum() -> Case:
    x = whole(5, 150)
    return Case("row_sum", """
def row_sum(a0, a1, n, stop):
    x = input_float32(a0)
    y = pointer_float32(a1)
    t = thread()
    total = float32(0)
    for j in range(t, n, 64):
        total = total + x[block() * n + j]
    total = total + shuffle_xor(total, 16)
    total = total + shuffle_xor(total, 8)
    total = total + shuffle_xor(total, 4)
    total = total + shuffle_xor(total, 2)
    total = total + shuffle_xor(total, 1)
    partial = shared_float32(2)
    if t & 31 == 0:
        partial[t >> 5] = total
    barrier()
    if t == 0:
        y[block()] = partial[0] + partial[1]
""", 5, 64, (x, np.zeros(5, np.float32), 150, 5), (x.sum(1),), (1,))


def _transpose() -> Case:
    x = whole(8, 24)
    return Case("transpose", """
def transpose(a0, a1, rows, columns):
    x = input_float32(a0)
    y = pointer_float32(a1)
    i = thread() >> 3
    j = thread() & 7
    tile = shared_float32(72)
    tile[i * 9 + j] = x[i * columns + block() * 8 + j]
    barrier()
    y[(block() * 8 + i) * rows + j] = tile[j * 9 + i]
""", 3, 64, (x, np.zeros((24, 8), np.float32), 8, 24), (x.T,), (1,))


def _rounds() -> Case:
    x = random.integers(-50, 50, (4, 64))
    expected = x.copy()
    for _ in range(5):
        expected = expected + expected[:, ::-1] * 2 + expected[:, np.arange(64) ^ 1]
    return Case("rounds", """
def rounds(a0, n):
    x = pointer_int64(a0)
    t = thread()
    cells = shared_int64(64)
    value = x[block() * 64 + t]
    for k in range(n):
        cells[t] = value
        barrier()
        value = value + cells[63 - t] * 2 + cells[t ^ 1]
        barrier()
    x[block() * 64 + t] = value
""", 4, 64, (x, 5), (expected,), (0,))


def _pairs() -> Case:
    x = whole(128)
    return Case("pairs", """
def pairs(a0, a1):
    x = input_float32(a0)
    y = pointer_float32(a1)
    t = thread()
    cells = shared_float32(32)
    cells[t] = x[block() * 32 + t]
    barrier()
    y[block() * 32 + t] = cells[t ^ 1]
""", 4, 32, (x, np.zeros(128, np.float32)), (x[np.arange(128) ^ 1],), (1,))


def _checked() -> Case:
    indices, x = random.integers(0, 50, 100), whole(50)
    indices[40], indices[70] = 50, -3
    kept = np.where((indices >= 0) & (indices < 50), x[indices % 50], 0)
    return Case("checked", """
def checked(a0, a1, a2, a3, n, stop):
    x = input_float32(a0)
    indices = input_int64(a1)
    y = pointer_float32(a2)
    status = pointer_int64(a3)
    i = block() * 32 + thread()
    if i < stop:
        k = indices[i]
        value = float32(0)
        if k < 0 or k >= n:
            fail(status, 6, k, n)
        else:
            value = x[k]
        y[i] = value
""", 4, 32, (x, indices, np.zeros(100, np.float32), np.array([0, 0, 0, 1]), 50, 100), (kept.astype(np.float32),), (2,))


def _casts() -> Case:
    a, b = random.integers(-2**62, 2**62, 300), random.integers(-2**20, 2**20, 300)
    b[b == 0] = 3
    f = (random.standard_normal(300) * 1e6).astype(np.float32)
    return Case("casts", """
def casts(a0, a1, a2, a3, a4, a5, stop):
    i = block() * 128 + thread()
    if i < stop:
        a = input_int64(a0)[i]
        b = input_int64(a1)[i]
        pointer_int64(a3)[i] = a // b
        pointer_int64(a4)[i] = a % b
        pointer_int32(a5)[i] = int32(input_float32(a2)[i])
""", 3, 128, (a, b, f, np.zeros(300, np.int64), np.zeros(300, np.int64), np.zeros(300, np.int32), 300),
                (a // b, a % b, f.astype(np.int32)), (3, 4, 5))


CASES = {case.name: case for case in (_axpy(), _row_sum(), _transpose(), _rounds(), _pairs(), _checked(), _casts())}
