"""The driver: runs a whole table of steps in one native call, alone or together with the workers of `threads`.

A row of the table has five int64: address of the kernel, address of its arguments, extent, iterations to a chunk, and
how many bytes further the arguments of the next thread lie (0 where all threads share them). What a kernel computes for
an iteration does not depend on the range that it is called with, so results are the same bits for 1 thread or 16.

With a control block the caller publishes the chunks of a step as one *ticket*, (number of chunks << 32) + next chunk,
and everybody takes chunks by adding one to it. The caller takes chunks too and waits only for chunks that somebody has
taken. Why the fields of a step may be read without a lock: whoever holds a chunk has yet to count it as done, and the
caller publishes nothing new before all chunks are done. Who adds to the ticket late gets a number past the end, or, if
a new step was published meanwhile, a chunk of that one, whose fields were stored before its ticket.

A scheduler may wake a worker on the caller's own core, for they talk to each other, and leave it there: two threads are
then as slow as one, or slower. So the caller says which core it is on, and a worker that finds itself there stops
looking, so that it can be sent elsewhere (`threads`).

After each step the driver looks at the first slot of the status block and stops where it is not zero; it puts
`RAISED` there itself when a kernel returns anything but 0. The ctypes pointers release the interpreter lock, so that
executables in other threads run meanwhile.

All this is LLVM assembly rather than a Numba kernel: it is made in a few milliseconds without importing Numba, has the
atomics that are needed, and is kept in the cache like any kernel.
"""

from __future__ import annotations

import ctypes
import platform
import sys
from collections.abc import Callable
from functools import cache

from .cpu.loader import link_cached
from .cpu.objects import linker
from .cpu.translate import Compiled

STEP_SLOTS = 5
"""int64 slots of a row of the step table."""

RAISED = -1
"""What the status block starts with after a kernel has ended with a Python exception, which is a bug in its text."""

CONTROL_SLOTS = 24
"""int64 slots of a control block: the ticket, the count of chunks done and the fields of a step, 64 bytes apart;
after those the caller's core."""

CORE_SLOT = 22
"""Where the core of the caller is in it."""

RUN, WORK = "staticgraph_run_steps", "staticgraph_work"

YIELD = "SwitchToThread" if sys.platform == "win32" else "sched_yield"

PAUSE = {"x86_64": "llvm.x86.sse2.pause()", "amd64": "llvm.x86.sse2.pause()", "arm64": "llvm.aarch64.hint(i32 1)",
         "aarch64": "llvm.aarch64.hint(i32 1)"}.get(platform.machine().lower(), "llvm.donothing()")
"""What a core does that looks at a memory cell again and again; ours to choose, since LLVM names it by machine."""

CORE = """
; The core that runs this.
declare i32 @sched_getcpu()
define internal i64 @core() {
entry:
  %number = call i32 @sched_getcpu()
  %core = sext i32 %number to i64
  ret i64 %core
}
""" if sys.platform == "linux" else """
; The core that runs this: not to be had here, and threads could not choose it.
define internal i64 @core() {
entry:
  ret i64 -1
}
"""

ASSEMBLY = f"""
declare i32 @{YIELD}()
declare void @{PAUSE.replace("i32 1", "i32")}

{CORE}
; Before looking again: a pause of the core, and now and then a chance for others.
define internal void @relax(i64 %turn) {{
entry:
  call void @{PAUSE}
  %low = and i64 %turn, 255
  %due = icmp eq i64 %low, 255
  br i1 %due, label %yield, label %back
yield:
  %ignored = call i32 @{YIELD}()
  ret void
back:
  ret void
}}

; Notes in the status block that a kernel did not return 0.
define internal void @note(i32 %code, ptr %status) {{
entry:
  %bad = icmp ne i32 %code, 0
  br i1 %bad, label %raised, label %back
raised:
  store i64 {RAISED}, ptr %status
  ret void
back:
  ret void
}}

; Takes and runs chunks until none is left; gives how many they were.
define internal i64 @take_chunks(ptr %control, i64 %thread) {{
entry:
  %done.place = getelementptr i64, ptr %control, i64 8
  %kernel.place = getelementptr i64, ptr %control, i64 16
  %arguments.place = getelementptr i64, ptr %control, i64 17
  %extent.place = getelementptr i64, ptr %control, i64 18
  %chunk.place = getelementptr i64, ptr %control, i64 19
  %stride.place = getelementptr i64, ptr %control, i64 20
  %status.place = getelementptr i64, ptr %control, i64 21
  br label %look
look:
  %count = phi i64 [ 0, %entry ], [ %count.next, %run ]
  %seen = load atomic i64, ptr %control acquire, align 8
  %seen.next = and i64 %seen, 4294967295
  %seen.chunks = lshr i64 %seen, 32
  %left = icmp ult i64 %seen.next, %seen.chunks
  br i1 %left, label %take, label %none
take:
  %ticket = atomicrmw add ptr %control, i64 1 acq_rel
  %number = and i64 %ticket, 4294967295
  %chunks = lshr i64 %ticket, 32
  %mine = icmp ult i64 %number, %chunks
  br i1 %mine, label %run, label %none
run:
  %kernel = load ptr, ptr %kernel.place
  %arguments = load ptr, ptr %arguments.place
  %extent = load i64, ptr %extent.place
  %chunk = load i64, ptr %chunk.place
  %stride = load i64, ptr %stride.place
  %shift = mul i64 %stride, %thread
  %own = getelementptr i8, ptr %arguments, i64 %shift
  %start = mul i64 %number, %chunk
  %end = add i64 %start, %chunk
  %stop = call i64 @llvm.smin.i64(i64 %end, i64 %extent)
  %code = call i32 %kernel(ptr %own, i64 %start, i64 %stop)
  %status = load ptr, ptr %status.place
  call void @note(i32 %code, ptr %status)
  %before = atomicrmw add ptr %done.place, i64 1 acq_rel
  %count.next = add i64 %count, 1
  br label %look
none:
  ret i64 %count
}}

; A worker: runs chunks as they come, and gives up after looking in vain so many times, or at once where it finds itself
; on the caller's core: then -1.
define i64 @{WORK}(ptr %control, i64 %thread, i64 %patience) {{
entry:
  %core.place = getelementptr i64, ptr %control, i64 {CORE_SLOT}
  br label %look
look:
  %total = phi i64 [ 0, %entry ], [ %total.next, %idle ]
  %vain = phi i64 [ 0, %entry ], [ %vain.next, %idle ]
  %count = call i64 @take_chunks(ptr %control, i64 %thread)
  %total.next = add i64 %total, %count
  %nothing = icmp eq i64 %count, 0
  %vain.more = add i64 %vain, 1
  %vain.next = select i1 %nothing, i64 %vain.more, i64 0
  %tired = icmp sgt i64 %vain.next, %patience
  br i1 %tired, label %rest, label %here
here:
  %rhythm = and i64 %vain.next, 63
  %due = icmp eq i64 %rhythm, 1
  br i1 %due, label %compare, label %idle
compare:
  %core = call i64 @core()
  %callers = load volatile i64, ptr %core.place
  %equal = icmp eq i64 %core, %callers
  %known = icmp sge i64 %core, 0
  %same = and i1 %equal, %known
  br i1 %same, label %apart, label %idle
idle:
  call void @relax(i64 %vain.next)
  br label %look
rest:
  ret i64 %total.next
apart:
  ret i64 -1
}}

; Runs all steps; gives the number of the one that reported something, or -1. Without a control block, alone.
define i64 @{RUN}(ptr %steps, i64 %count, ptr %status, ptr %control) {{
entry:
  %done.place = getelementptr i64, ptr %control, i64 8
  %fields.place = getelementptr i64, ptr %control, i64 16
  %status.place = getelementptr i64, ptr %control, i64 21
  %core.place = getelementptr i64, ptr %control, i64 {CORE_SLOT}
  %alone = icmp eq ptr %control, null
  %any = icmp sgt i64 %count, 0
  br i1 %any, label %step, label %finished
step:
  %number = phi i64 [ 0, %entry ], [ %next, %advance ]
  %row = getelementptr [{STEP_SLOTS} x i64], ptr %steps, i64 %number
  %arguments.place = getelementptr i64, ptr %row, i64 1
  %extent.place = getelementptr i64, ptr %row, i64 2
  %chunk.place = getelementptr i64, ptr %row, i64 3
  %extent = load i64, ptr %extent.place
  %chunk = load i64, ptr %chunk.place
  %empty = icmp sle i64 %extent, 0
  br i1 %empty, label %advance, label %choose
choose:
  %whole = icmp sge i64 %chunk, %extent
  %serial = or i1 %alone, %whole
  br i1 %serial, label %piece, label %publish

; alone: in one piece
piece:
  %kernel = load ptr, ptr %row
  %arguments = load ptr, ptr %arguments.place
  %code = call i32 %kernel(ptr %arguments, i64 0, i64 %extent)
  call void @note(i32 %code, ptr %status)
  br label %check

; together: the row goes into the control block, then the ticket is released
publish:
  call void @llvm.memcpy.p0.p0.i64(ptr %fields.place, ptr %row, i64 {8 * STEP_SLOTS}, i1 false)
  store ptr %status, ptr %status.place
  %core = call i64 @core()
  store volatile i64 %core, ptr %core.place
  %above = add i64 %extent, %chunk
  %last = sub i64 %above, 1
  %chunks = sdiv i64 %last, %chunk
  %ticket = shl i64 %chunks, 32
  store atomic i64 0, ptr %done.place monotonic, align 8
  store atomic i64 %ticket, ptr %control release, align 8
  %taken = call i64 @take_chunks(ptr %control, i64 0)
  br label %wait
wait:
  %turn = phi i64 [ 0, %publish ], [ %turn.next, %idle ]
  %turn.next = add i64 %turn, 1
  %done = load atomic i64, ptr %done.place acquire, align 8
  %all = icmp eq i64 %done, %chunks
  br i1 %all, label %check, label %idle
idle:
  call void @relax(i64 %turn)
  br label %wait

check:
  %report = load volatile i64, ptr %status
  %failed = icmp ne i64 %report, 0
  br i1 %failed, label %fail, label %advance
advance:
  %next = add i64 %number, 1
  %more = icmp slt i64 %next, %count
  br i1 %more, label %step, label %finished
fail:
  ret i64 %number
finished:
  ret i64 -1
}}

declare i64 @llvm.smin.i64(i64, i64)
declare void @llvm.memcpy.p0.p0.i64(ptr, ptr, i64, i1)
"""

Run = Callable[[int, int, int, int], int]
Work = Callable[[int, int, int], int]


@cache
def load_driver() -> Run:
    """run(steps, count, status, control): addresses in, the number of the step that failed out, or -1."""
    return ctypes.CFUNCTYPE(ctypes.c_int64, *[ctypes.c_int64] * 4)(run_address())


@cache
def run_address() -> int:
    """Where the driver is, for native callers."""
    return _address(RUN)


@cache
def load_worker() -> Work:
    """work(control, thread, patience): runs chunks until none has come for a while; the number of chunks run, or -1
    where the worker is on the caller's core."""
    return ctypes.CFUNCTYPE(ctypes.c_int64, *[ctypes.c_int64] * 3)(_address(WORK))


def _address(symbol: str) -> int:
    return link_cached(symbol, ASSEMBLY, lambda key: Compiled(linker().assemble(ASSEMBLY), symbol)).address
