"""What a row kernel asks memory for ahead of time.

A row is read by several loops. The first waits for memory, which then is idle while the others work on what is in the
cache by now. A processor fetches ahead by itself, but along a run of memory that is being read, not across these
pauses. So the second loop names the lines that the first will read of a row to come, some for each of its blocks:
asked for all at once they would hold up the loop itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from ..indices import linear, split_load
from ..kernel_ir import Extent, Map, Pointer, Reduce, Section, Statement
from ..statements import WORD, lets, renamed
from .cpu_text import Writer

ROWS, ELEMENT = "rows_ahead", "ahead"
"""Names in kernels: how many rows ahead, and the element of that row."""

LINE = 64
DISTANCE = 512
"""Elements between this row and that one, at least."""


def second_loop(body: Sequence[Statement]) -> Reduce | None:
    """The second of the loops over a row, if it is one that goes through blocks."""
    loops = [each for each in body if isinstance(each, Map | Reduce)]
    second = loops[1] if len(loops) > 1 else None
    return second if isinstance(second, Reduce) and len(second.loops) == 1 else None


def rows_ahead(section: Section) -> str | None:
    """The line that says how many rows ahead memory is asked for, to come before the loop over rows; None for none."""
    first = _first_loop(section.body)
    if first is None or not lines_ahead(section):
        return None
    return f"{ROWS} = 1 + {DISTANCE} // max({first.loops[0][1]}, 1)"


def lines_ahead(section: Section) -> dict[str, int]:
    """What the first loop reads of a row: places to ask for, with how many elements lie in a line."""
    first = _first_loop(section.body)
    if len(section.axes) != 1 or first is None or second_loop(section.body) is None:
        return {}
    (axis,), (index, _) = section.axes, first.loops[0]
    pointers = {each.name: each for each in section.parameters if isinstance(each, Pointer) and each.access == "read"}
    known = {axis.name, index, *(each.name for each in section.parameters if isinstance(each, Extent))}
    later = {axis.name: f"({axis.name} + {ROWS})", index: ELEMENT}
    found: dict[str, int] = {}
    for each in lets(first.body):
        pointer, place = split_load(each.expr) or ("", "")
        if pointer in pointers and {axis.name, index} <= set(WORD.findall(place)) <= known and (
                linear(place, index).coefficient == 1):
            found[f"{pointer}, {renamed(place, later)}"] = LINE // np.dtype(pointers[pointer].dtype).itemsize
    return found


def write_ahead(writer: Writer, lines: Mapping[str, int], begin: str, end: str) -> None:
    for place, elements in lines.items():
        writer.line(f"for {ELEMENT} in range({begin}, {end}, {elements}):")
        with writer:
            writer.line(f"prefetch({place})")


def _first_loop(body: Sequence[Statement]) -> Reduce | None:
    first = next((each for each in body if isinstance(each, Map | Reduce)), None)
    return first if isinstance(first, Reduce) and len(first.loops) == 1 else None
