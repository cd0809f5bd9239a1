"""The driver: runs a whole table of steps in one native call.

The table has three int64 for each step: address of the kernel, address of its arguments, extent. After each step the
driver looks at the first slot of the status block and stops where it is not zero. Its ctypes pointer releases the
interpreter lock, so that executables in other threads run meanwhile.

It is thirty lines of LLVM assembly rather than a Numba kernel: made in a few milliseconds without importing Numba, and
then kept in the cache like any kernel.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import cache

from .cpu.loader import link_cached
from .cpu.objects import linker

STEP_SLOTS = 3
"""int64 slots of a row of the step table."""

SYMBOL = "staticgraph_run_steps"

ASSEMBLY = f"""
define i64 @{SYMBOL}(ptr %steps, i64 %count, ptr %status) {{
entry:
  %any = icmp sgt i64 %count, 0
  br i1 %any, label %step, label %done
step:
  %number = phi i64 [ 0, %entry ], [ %next, %advance ]
  %row = getelementptr [{STEP_SLOTS} x i64], ptr %steps, i64 %number
  %arguments.place = getelementptr i64, ptr %row, i64 1
  %extent.place = getelementptr i64, ptr %row, i64 2
  %kernel = load ptr, ptr %row
  %arguments = load ptr, ptr %arguments.place
  %extent = load i64, ptr %extent.place
  %empty = icmp sle i64 %extent, 0
  br i1 %empty, label %advance, label %run
run:
  call void %kernel(ptr %arguments, i64 0, i64 %extent)
  %report = load volatile i64, ptr %status
  %failed = icmp ne i64 %report, 0
  br i1 %failed, label %fail, label %advance
advance:
  %next = add i64 %number, 1
  %more = icmp slt i64 %next, %count
  br i1 %more, label %step, label %done
fail:
  ret i64 %number
done:
  ret i64 -1
}}
"""

Run = Callable[[int, int, int], int]


@cache
def load_driver() -> Run:
    """run(steps, count, status): addresses in, the number of the step that failed out, or -1."""
    address = link_cached("driver", ASSEMBLY, lambda key: (linker().assemble(ASSEMBLY), SYMBOL, ())).address
    prototype = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_int64, ctypes.c_int64, ctypes.c_int64)
    return prototype(address)
