"""What the machine can do at most, measured: how fast it copies memory, and how many floating point operations it does.

The arithmetic is a loop of fused multiply-adds of whole registers on twelve independent accumulators (of a multiply and
an add where the processor has no such instruction), written as LLVM IR, for nothing else would be sure to be that and
no more. Copying is NumPy's, whose stores skip the caches, each thread with a share of the arrays. The best of some
rounds counts, because what disturbs only makes slower.
"""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from .host import host_target

COPY_BYTES = 48 * 2**20
ACCUMULATORS = 12
"""Enough for two units of four cycles' latency, and few enough for sixteen registers."""

TURNS = 400_000
"""Some milliseconds: short enough that some rounds are not disturbed."""

FLOATS = {"float32": "float", "float64": "double"}
UNITS = {"K": 2**10, "M": 2**20, "G": 2**30}


class Peaks(NamedTuple):
    """What so many threads can do together."""

    threads: int
    copy_gb_s: float
    float32_gflop_s: float
    float64_gflop_s: float


@cache
def measured_peaks(threads: int) -> Peaks:
    """The peaks of this machine, measured once in a process; that takes some tenths of a second."""
    clock = time.perf_counter
    return Peaks(threads, copy_bandwidth(COPY_BYTES, threads, clock) / 1e9,
                 *(multiply_add_peak(dtype, threads, clock) / 1e9 for dtype in FLOATS))


def copy_bandwidth(nbytes: int, threads: int, clock: Callable[[], float], rounds: int = 12) -> float:
    """Bytes read and written per second by so many threads, between arrays far larger than the caches."""
    source = np.ones(nbytes // 8, np.float64)
    target = np.zeros_like(source)
    shares = list(zip(np.array_split(target, threads), np.array_split(source, threads)))
    with ThreadPoolExecutor(threads) as pool:     # NumPy lets other threads run
        def call() -> None:
            list(pool.map(lambda pair: np.copyto(*pair), shares))

        return 2 * source.nbytes / best_of(call if threads > 1 else lambda: np.copyto(target, source), clock, rounds)


def best_of(call: Callable[[], Any], clock: Callable[[], float], rounds: int) -> float:
    """Seconds of the fastest call; the first is not counted, it has page faults."""
    taken = []
    for _ in range(rounds + 1):
        start = clock()
        call()
        taken.append(clock() - start)
    return max(min(taken[1:]), 1e-9)


def multiply_add_peak(dtype: str, threads: int, clock: Callable[[], float], rounds: int = 24,
                      turns: int = TURNS) -> float:
    """Floating point operations per second of fused multiply-adds in registers, by so many threads together."""
    engine, address, lanes = loop_of_multiply_adds(dtype)
    loop = ctypes.CFUNCTYPE(None, ctypes.c_int64, ctypes.c_void_p)(address)
    places = [np.zeros(lanes, dtype) for _ in range(threads)]
    with ThreadPoolExecutor(threads) as pool:     # ctypes lets other threads run
        def call() -> None:
            list(pool.map(lambda place: loop(turns, place.ctypes.data), places))

        seconds = best_of(call, clock, rounds)
    del engine     # not before: the code is its
    return 2.0 * ACCUMULATORS * lanes * turns * threads / seconds


def loop_of_multiply_adds(dtype: str) -> tuple[Any, int, int]:
    """An LLVM engine, the address of the loop in it, and how many numbers a register holds."""
    import llvmlite.binding as llvm

    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    host = host_target()
    lanes = host.vector_bytes // np.dtype(dtype).itemsize
    machine = llvm.Target.from_default_triple().create_target_machine(cpu=host.name, features=host.features, opt=2)
    module = llvm.parse_assembly(_loop_text(f"<{lanes} x {FLOATS[dtype]}>", f"v{lanes}f{8 * np.dtype(dtype).itemsize}"))
    module.verify()
    engine = llvm.create_mcjit_compiler(module, machine)
    engine.finalize_object()
    return engine, engine.get_function_address("loop"), lanes


def _loop_text(vector: str, suffix: str) -> str:
    """Every accumulator becomes accumulator * x + y, `turns` times; their sum is stored, so that all count."""
    numbers = range(ACCUMULATORS)
    heads = "\n".join(f"  %a{k} = phi {vector} [ zeroinitializer, %entry ], [ %b{k}, %turn ]" for k in numbers)
    body = "\n".join(f"  %b{k} = call {vector} @llvm.fmuladd.{suffix}({vector} %a{k}, {vector} %x, {vector} %y)"
                     for k in numbers)
    sums = "\n".join(f"  %s{k + 1} = fadd {vector} %s{k}, %b{k}" for k in numbers)
    return f"""
declare {vector} @llvm.fmuladd.{suffix}({vector}, {vector}, {vector})

define void @loop(i64 %turns, ptr %place) {{
entry:
  %x = load {vector}, ptr %place, align 4
  %y = load volatile {vector}, ptr %place, align 4
  br label %turn
turn:
  %i = phi i64 [ 0, %entry ], [ %next, %turn ]
{heads}
{body}
  %next = add i64 %i, 1
  %more = icmp slt i64 %next, %turns
  br i1 %more, label %turn, label %end
end:
  %s0 = fadd {vector} %x, %y
{sums}
  store {vector} %s{ACCUMULATORS}, ptr %place, align 4
  ret void
}}
"""


def caches() -> dict[str, str]:
    """Sizes of the first core's data caches by level, as the system writes them: {"L1": "48K"}."""
    found = {}
    for folder in sorted(Path("/sys/devices/system/cpu/cpu0/cache").glob("index*")):
        try:
            level, kind, size = ((folder / name).read_text().strip() for name in ("level", "type", "size"))
        except OSError:
            continue
        if kind != "Instruction":
            found[f"L{level}"] = size
    return found


def cache_bytes() -> dict[str, int]:
    """The same in bytes, smallest first; empty where the system does not tell."""
    return {name: int(size[:-1]) * UNITS[size[-1]] for name, size in caches().items()
            if size[:-1].isdecimal() and size[-1] in UNITS}
