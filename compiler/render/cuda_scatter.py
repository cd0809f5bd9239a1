"""scatter_add for CUDA as text: y = x with the rows of `source` added at `indices`; deterministic.

The result, y[row, place, j], is divided among threads by row, by part (a range of places) and by j. Each thread copies
what is its own, then walks all indices in order and adds the terms that fall into its range: so the terms of an element
come in the order of their number, whatever the threads do, and no two threads write one element.
Arguments: x, indices, source, y (addresses), size (places), after (values of j), count (indices), part (places of one
part), along (1: every element has an index of its own, 0: one index for each row of the source).
Parallel iterations: rows x parts x after.
"""

from __future__ import annotations

from staticgraph.types import Size, floor_divide, maximum_size, minimum_size

from ..program import Launch
from .cpu_text import header, typed
from .cuda_text import LANGUAGE

THREADS = 128
THREADS_WANTED = 2**14

_TEXT = '''\
def {name}(a0, a1, a2, a3, a4, a5, a6, a7, {status}stop):
{guard}    x = input_{dtype}(a0)
    indices = input_int64(a1)
    source = input_{dtype}(a2)
    y = pointer_{dtype}(a3)
    size, after, count, part = a4, a5, a6, a7
    point = block() * {threads} + thread()
    if point < stop:
        parts = quotient_of(size + part - 1, part)
        j = remainder_of(point, after)
        rest = quotient_of(point, after)
        row = quotient_of(rest, parts)
        first = remainder_of(rest, parts) * part
        last = min(first + part, size)
        for place in range(first, last):
            y[(row * size + place) * after + j] = x[(row * size + place) * after + j]
        for k in range(count):
            place = indices[{index}]
            if place >= first and place < last:
                term = source[(row * count + k) * after + j]
                total = y[(row * size + place) * after + j]
                y[(row * size + place) * after + j] = {add}
'''


def render_scatter(dtype: str, along: bool, guarded: bool) -> tuple[str, str, Launch]:
    """Name, text and launch of the kernel. `guarded`: the status block is its last argument."""
    name = "scatter_add_along" if along else "scatter_add"
    add = "total | term" if dtype == "bool" else typed("total + term", dtype)
    guard = "    status = pointer_int64(a8)\n    if reported(status):\n        return\n"
    text = _TEXT.format(name=name, dtype=dtype, threads=THREADS, add=add, status="a8, " if guarded else "",
                        guard=guard if guarded else "",
                        index="(row * count + k) * after + j" if along else "k")
    return name, header(text, LANGUAGE) + text, Launch(THREADS, THREADS)


def part_length(size: Size, before: Size, after: Size) -> Size:
    """Places of one part, such that there are threads enough to keep a device busy."""
    parts = maximum_size(minimum_size(floor_divide(THREADS_WANTED, maximum_size(before * after, 1)), size), 1)
    return maximum_size(floor_divide(size + parts - 1, parts), 1)


def thread_count(size: Size, before: Size, after: Size) -> Size:
    """Parallel iterations."""
    part = part_length(size, before, after)
    return before * floor_divide(size + part - 1, part) * after
