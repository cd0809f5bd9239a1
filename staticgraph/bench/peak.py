"""What the machine can do at most, measured: how fast it copies memory, and how many floating point operations it does.

Copying is tried by `np.copyto` (one thread, stores that skip the caches) and by a kernel of ours (as many threads as
kernels get): the better one counts. The arithmetic is a loop of fused multiply-adds of whole registers on twelve
independent accumulators (of a multiply and an add where the processor has no such instruction), written as LLVM IR,
for nothing else would be sure to be that and no more; one runs in each thread. Both are measured by the clock that
everything is measured by; the best of some rounds counts, because what disturbs only makes slower.
"""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import numpy as np

import staticgraph as sg

from .contest import CLOCKS

COPY_BYTES = 128 * 2**20
ACCUMULATORS = 12
"""Enough for two units of four cycles' latency, and few enough for sixteen registers."""

TURNS = 2_000_000
FLOATS = {"float32": "float", "float64": "double"}


def copy_bandwidth(nbytes: int, clock: str, rounds: int = 7) -> float:
    """Bytes read and written per second between arrays far larger than the caches."""
    source = np.ones(nbytes // 8, np.float64)
    target = np.zeros_like(source)
    x = sg.placeholder("x", ("n",), "float64")
    negate = sg.compile([x], -x)
    ways: Sequence[Callable[[], Any]] = (partial(np.copyto, target, source), partial(negate, source))
    return 2 * source.nbytes / min(_best(way, clock, rounds) for way in ways)


def _best(call: Callable[[], Any], clock: str, rounds: int) -> float:
    """Seconds of the fastest call; the first is not counted, it has page faults."""
    taken = []
    for _ in range(rounds + 1):
        start = CLOCKS[clock]()
        call()
        taken.append(CLOCKS[clock]() - start)
    return max(min(taken[1:]), 1e-9)


def multiply_add_peak(dtype: str, threads: int, clock: str, rounds: int = 5, turns: int = TURNS) -> float:
    """Floating point operations per second of fused multiply-adds in registers, by so many threads together."""
    engine, address, lanes = _loop_of_multiply_adds(dtype)
    loop = ctypes.CFUNCTYPE(None, ctypes.c_int64, ctypes.c_void_p)(address)
    places = [np.zeros(lanes, dtype) for _ in range(threads)]
    with ThreadPoolExecutor(threads) as pool:     # ctypes lets other threads run
        def call() -> None:
            list(pool.map(lambda place: loop(turns, place.ctypes.data), places))

        seconds = _best(call, clock, rounds)
    del engine     # not before: the code is its
    return 2.0 * ACCUMULATORS * lanes * turns * threads / seconds


def _loop_of_multiply_adds(dtype: str) -> tuple[Any, int, int]:
    """An LLVM engine, the address of the loop in it, and how many numbers a register holds."""
    import llvmlite.binding as llvm

    from staticgraph.runtime.cpu.host import host_target

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


def peaks(threads: int, clock: str, *, tiny: bool = False) -> dict[str, Any]:
    """Everything that rates are set against. `tiny` tries it out and measures nothing."""
    start = time.perf_counter()
    nbytes, rounds, turns = (2**20, 1, 1000) if tiny else (COPY_BYTES, 7, TURNS)
    found: dict[str, Any] = {"copy_gb_s": copy_bandwidth(nbytes, clock, rounds) / 1e9}
    for dtype in FLOATS:
        found[f"{dtype}_gflop_s"] = multiply_add_peak(dtype, threads, clock, rounds, turns) / 1e9
    found["seconds"] = time.perf_counter() - start
    return found
