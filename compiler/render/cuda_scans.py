"""Running sums for CUDA: a block takes a row, each thread a segment of it.

Every thread adds up its segment, the totals meet in shared memory, and each thread goes through its segment again,
from the sum of all totals before its own on. Only sums are cut like that: in a running product a segment's own product
may overflow or vanish where the whole does neither, so products and recurrences go step by step, a thread for each row.
"""

from __future__ import annotations

from ..indices import linear, split_load
from ..kernel_ir import Let, Scan, Section, Store
from ..program import Launch
from .cpu_text import Writer, typed
from .cuda_text import Sequential, write_coordinates

THREADS = 128
SHORT = 64


def is_running_sum(section: Section) -> bool:
    """A scan that adds one term a step, over a row that is not known to be short."""
    if len(section.body) != 1 or not isinstance(section.body[0], Scan):
        return False
    scan = section.body[0]
    plain = all(isinstance(each, Let) for each in scan.body) and all(isinstance(each, Store) for each in scan.after)
    short = scan.extent.isdigit() and int(scan.extent) < SHORT
    if not plain or short or len(scan.carries) != 1 or not _term(scan):
        return False
    loads = [split_load(each.expr) for each in scan.body if isinstance(each, Let)]
    along = all(load is None or linear(load[1], scan.index).coefficient == 1 for load in loads)
    return along or not section.axes     # else neighbouring threads take neighbouring rows


def _term(scan: Scan) -> str:
    """What is added at each step."""
    carry = scan.carries[0]
    start = f"{carry.name} + "
    return carry.next.removeprefix(start) if carry.next.startswith(start) else ""


def write_running_sum(writer: Writer, section: Section) -> Launch:
    (scan,) = section.body
    assert isinstance(scan, Scan)
    (carry,) = scan.carries
    writer.line("t = thread()")
    writer.line("point = block()")
    if section.axes:
        write_coordinates(writer, [(axis.name, axis.extent) for axis in section.axes], "point")
    writer.line(f"each = quotient_of({scan.extent} + {THREADS - 1}, {THREADS})")
    writer.line("first = t * each")
    writer.line(f"last = min(first + each, {scan.extent})")
    writer.line(f"totals = shared_{carry.dtype}({THREADS})")
    writer.line(f"{carry.name} = {carry.init}")
    _write_steps(writer, scan)
    writer.line(f"totals[t] = {carry.name}")
    writer.line("barrier()")
    writer.line(f"{carry.name} = {carry.init}")
    writer.line("for other in range(t):")
    with writer:
        writer.line(f"{carry.name} = {typed(f'{carry.name} + totals[other]', carry.dtype)}")
    _write_steps(writer, scan, stores=True)
    return Launch(THREADS, 1)


def _write_steps(writer: Writer, scan: Scan, stores: bool = False) -> None:
    (carry,) = scan.carries
    backward = scan.order == "backward"
    writer.line(f"for {'step' if backward else scan.index} in range(first, last):")
    with writer:
        if backward:
            writer.line(f"{scan.index} = {scan.extent} - 1 - step")
        Sequential(writer).body(scan.body)
        writer.line(f"{carry.name}_next = {typed(carry.next, carry.dtype)}")
        if stores:
            Sequential(writer).body(scan.after)
        writer.line(f"{carry.name} = {carry.name}_next")
