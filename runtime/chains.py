"""Chains at run time: several kernels go through the same rows, block after block (see `compiler.chains`).

A chain runs as if it were one kernel, ``i32 chain(args, start, stop)`` over rows. Its table has

    number of parts | rows to a block | for each part: address of the kernel, address of its arguments, iterations a row

so the driver and the threads treat it as any step. A part that reports nonzero ends the chain.
"""

from __future__ import annotations

from .cpu.loader import link_cached
from .cpu.objects import linker
from .cpu.translate import Compiled

HEAD_SLOTS, PART_SLOTS = 2, 3
"""int64 slots of a chain's table: before the parts, and of each part."""

BLOCK_BYTES = 2**19
"""What the steps of a chain may write in one block: a part of the second level of cache."""

FEWEST_ROWS = 256
"""Rows of a block at the least: a product reads its right matrix once a block."""

ROWS_FOR_WORK = 4
"""And so many for each operation that the steps do for a byte they write. That grows with the rows of right matrices,
which are not worth reading again to save some passes over results that are no longer than they are."""

SYMBOL = "staticgraph_chain"

ASSEMBLY = f"""
declare i64 @llvm.smin.i64(i64, i64)

define i32 @{SYMBOL}(ptr %table, i64 %start, i64 %stop) {{
entry:
  %count = load i64, ptr %table
  %block.place = getelementptr i64, ptr %table, i64 1
  %block = load i64, ptr %block.place
  %parts = getelementptr i64, ptr %table, i64 {HEAD_SLOTS}
  %any = icmp slt i64 %start, %stop
  br i1 %any, label %rows, label %done
rows:
  %row = phi i64 [ %start, %entry ], [ %end, %advance ]
  %above = add i64 %row, %block
  %end = call i64 @llvm.smin.i64(i64 %above, i64 %stop)
  br label %part
part:
  %number = phi i64 [ 0, %rows ], [ %number.next, %fine ]
  %place = getelementptr [{PART_SLOTS} x i64], ptr %parts, i64 %number
  %arguments.place = getelementptr i64, ptr %place, i64 1
  %factor.place = getelementptr i64, ptr %place, i64 2
  %kernel = load ptr, ptr %place
  %arguments = load ptr, ptr %arguments.place
  %factor = load i64, ptr %factor.place
  %first = mul i64 %row, %factor
  %last = mul i64 %end, %factor
  %code = call i32 %kernel(ptr %arguments, i64 %first, i64 %last)
  %bad = icmp ne i32 %code, 0
  br i1 %bad, label %failed, label %fine
fine:
  %number.next = add i64 %number, 1
  %more = icmp slt i64 %number.next, %count
  br i1 %more, label %part, label %advance
advance:
  %again = icmp slt i64 %end, %stop
  br i1 %again, label %rows, label %done
failed:
  ret i32 %code
done:
  ret i32 0
}}
"""


def chain_address() -> int:
    """Where the native loop over the parts of a chain is."""
    return link_cached(SYMBOL, ASSEMBLY, lambda key: Compiled(linker().assemble(ASSEMBLY), SYMBOL)).address


def block_of(rows: int, nbytes: int, flops: int) -> int:
    """Rows to a block for a chain that writes so many bytes and does so many operations."""
    return max(FEWEST_ROWS, BLOCK_BYTES // max(1, nbytes // max(1, rows)), ROWS_FOR_WORK * flops // max(1, nbytes))
