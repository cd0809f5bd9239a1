"""Faults planted into right kernels, each of which must be reported as what it is.

A row is a change of a kernel's text (or of its PTX), the kind of fault, and words of the report.
"""

import re
from collections.abc import Sequence

import numpy as np
import pytest

from tests.cuda import skip_without_compiler

skip_without_compiler()

from . import (  # noqa: E402
    DeviceMemory,
    DivergentBarrier,
    InactiveLane,
    LaunchError,
    LocalMemory,
    Misaligned,
    OutOfBounds,
    PtxError,
    PtxModule,
    Race,
    ReadOnlyWritten,
    Uninitialised,
    Unsupported,
)
from .kernels import CASES, ptx_of, run_case  # noqa: E402

Fault = type[PtxError]

TEXT: list[tuple[str, str, str, str, Fault, str]] = [
    ("tail guard left out", "axpy", "i + 4 <= stop", "i < stop",
     OutOfBounds, "load of 16 bytes.*byte 992 of the allocation of 1004"),
    ("bound one too large", "axpy", "range(i, stop)", "range(i, stop + 1)",
     OutOfBounds, "byte 1004 of the allocation of 1004"),
    ("start one too small", "axpy", "x[j] + y[j]", "x[j - 251] + y[j]", OutOfBounds, "byte -12 of|out-of-bounds load"),
    ("vector off by an element", "axpy", "load4(x, i)", "load4(x, i + 1)", Misaligned, "load of 16 bytes"),
    ("vector store off by two", "axpy", "store4(y, i,", "store4(y, i + 2,", Misaligned, "store of 16 bytes"),
    ("all threads write one place", "axpy", "store4(y, i,", "store4(y, 0,", Race, "global memory"),
    ("blocks overlap", "axpy", "block() * 32", "block() * 31",
     Race, "global memory: thread 31 of block 0 writes what thread 0 of block 1"),
    ("read-only load of what is written", "axpy", "load4(y, i)", "load4(input_float32(a1), i)", ReadOnlyWritten, "nc"),
    ("an input is written", "axpy", "y[j] = x[j]", "pointer_float32(a0)[j] = x[j]", ReadOnlyWritten, "store"),
    ("barrier removed", "row_sum", "    barrier()\n", "",
     Race, "shared memory: thread 0 of block 0 reads what thread 32"),
    ("barrier in a branch", "row_sum", "total\n    barrier()", "total\n        barrier()",
     DivergentBarrier, "thread 1 .*does not"),
    ("barrier that one warp skips", "row_sum", "    barrier()\n", "    if t < 32:\n        barrier()\n",
     DivergentBarrier, "ended"),
    ("a warp's part not written", "row_sum", "t & 31 == 0", "t == 0",
     Uninitialised, "load of 8 uninitialised bytes at byte 0 of shared memory"),
    ("shared array too small", "row_sum", "shared_float32(2)", "shared_float32(1)",
     OutOfBounds, "store of 4 bytes at byte 4 of shared memory"),
    ("warps share a cell", "row_sum", "partial[t >> 5] =", "partial[0] =", Race, "shared memory"),
    ("two threads write a result", "row_sum", "if t == 0:", "if t < 2:",
     Race, "thread 1 of block 0|thread 0 of block 0"),
    ("blocks write one result", "row_sum", "y[block()]", "y[0]", Race, "of block 1 writes what thread 0 of block 0"),
    ("result off by one", "row_sum", "y[block()]", "y[block() + 1]", OutOfBounds, "byte 20 of the allocation of 20"),
    ("lanes leave before a shuffle", "row_sum", "float32(0)\n", "float32(0)\n    if t > 50:\n        return\n",
     InactiveLane, "never come"),
    ("shuffle in a branch", "row_sum", "    total = total + shuffle_xor(total, 1)",
     "    if t < 40:\n        total = total + shuffle_xor(total, 1)", InactiveLane, "never come"),
    ("transpose without a barrier", "transpose", "    barrier()\n", "", Race, "shared memory"),
    ("tile rows overlap", "transpose", "tile[i * 9 + j] =", "tile[i * 7 + j] =", Race, "writes what"),
    ("rows and columns confused", "transpose", "i * columns", "i * 30", OutOfBounds, "load of 4 bytes"),
    ("second barrier of a round removed", "rounds", "cells[t ^ 1]\n        barrier()", "cells[t ^ 1]",
     Race, "writes what .* read"),
    ("first barrier of a round removed", "rounds", "cells[t] = value\n        barrier()", "cells[t] = value",
     Race, "reads what .* wrote"),
    ("lanes exchange without a barrier", "pairs", "    barrier()\n", "", Race, "thread 1"),
    ("a neighbour's result is read back", "pairs", "cells[t ^ 1]\n",
     "cells[t ^ 1]\n    y[block() * 32 + t] = y[block() * 32 + (t ^ 1)]\n",
     Race, "global memory"),
    ("a report without an atomic instruction", "checked", "fail(status, 6, k, n)", "status[0] = k",
     Race, "global memory"),
    ("an index is not checked", "checked", "k < 0 or k >= n", "k < 0",
     OutOfBounds, "byte 200 of the allocation of 200"),
    ("the end is not checked", "checked", "if i < stop:", "if i <= stop:",
     OutOfBounds, "byte 800 of the allocation of 800"),
]


@pytest.mark.parametrize(("what", "name", "old", "new", "fault", "words"), TEXT, ids=[row[0] for row in TEXT])
def test_planted_in_the_text(what: str, name: str, old: str, new: str, fault: Fault, words: str) -> None:
    case = CASES[name].changed(old, new)
    for seed in (None, 1):
        with pytest.raises(PtxError) as caught:
            run_case(case, ptx_of(case), seed)
        assert type(caught.value) is fault, caught.value
        if seed is None:
            assert re.search(words, caught.value.message), caught.value
        assert re.search(r"\n  .*;\n  thread \d+ of block \d+, line \d+ of " + name, str(caught.value))


PTX: list[tuple[str, str, str, str, Fault, str]] = [
    ("register never written", "axpy", r"\n\tmov\.u32\s+%r\d+, %tid\.x;", "", Uninitialised, "register %r"),
    ("mask without the upper lanes", "row_sum", r"mov\.u32 \t(%r\d+), -1;", r"mov.u32 \t\1, 65535;",
     InactiveLane, "leaves out"),
    ("barrier for some threads", "pairs", r"bar\.sync \t0;", r"bar.sync \t0, 64;", Unsupported, "part of the threads"),
    ("unknown modifier", "pairs", r"st\.global\.f32", "st.global.fast.f32", Unsupported, "fast"),
    ("unknown instruction", "pairs", r"bar\.sync \t0;", "frobnicate.b32 \t%r1, %r1;", Unsupported, "frobnicate"),
    ("local memory", "pairs", r"\n\t\.reg \.b64", "\n\t.local .align 8 .b8 \t__local_depot0[16];\n\t.reg .b64",
     LocalMemory, "local"),
    ("predicate never written", "checked", r"setp\.ge\.s64\s+(%p\d+), ", r"setp.ge.s64 %p0, ",
     Uninitialised, "register %p"),
    ("guard inverted", "axpy", r"@%p1 bra", "@!%p1 bra", Race, "global memory"),
    ("load wider than the element", "pairs", r"ld\.global\.nc\.f32\s+%f1", "ld.global.nc.u64 %rd1",
     Misaligned, "8 bytes"),
]


@pytest.mark.parametrize(("what", "name", "old", "new", "fault", "words"), PTX, ids=[row[0] for row in PTX])
def test_planted_in_the_ptx(what: str, name: str, old: str, new: str, fault: Fault, words: str) -> None:
    ptx, count = re.subn(old, new, ptx_of(CASES[name]))
    assert count, f"nothing to change in\n{ptx}"
    with pytest.raises(PtxError, match=words) as caught:
        run_case(CASES[name], ptx)
    assert type(caught.value) is fault, caught.value


def freed(memory: DeviceMemory, arguments: Sequence[int]) -> None:
    memory.free(arguments[0])


def unwritten(memory: DeviceMemory, arguments: Sequence[int]) -> None:
    memory.mark_unwritten(arguments[0] + 40, 4)


def test_a_launch_with_freed_memory() -> None:
    with pytest.raises(OutOfBounds, match="which were freed"):
        run_case(CASES["axpy"], ptx_of(CASES["axpy"]), before=freed)


def test_a_launch_with_unwritten_memory() -> None:
    with pytest.raises(Uninitialised, match=r"16 uninitialised bytes at .* byte 32 of") as caught:
        run_case(CASES["axpy"], ptx_of(CASES["axpy"]), before=unwritten)
    assert "thread 2 of block 0" in str(caught.value)


def test_a_grid_that_is_too_small_leaves_results_unwritten() -> None:
    case = CASES["pairs"]
    memory = DeviceMemory()
    x, y = memory.allocate(512), memory.allocate(512)
    memory.write(x, np.ones(128, np.float32))
    PtxModule(ptx_of(case)).run("pairs", 3, 32, [x, y], memory)
    with pytest.raises(Uninitialised, match="byte 384 of"):
        memory.read(y, np.float32, 128)
    with pytest.raises(LaunchError, match="made for 32"):
        PtxModule(ptx_of(case)).run("pairs", 2, 64, [x, y], memory)
