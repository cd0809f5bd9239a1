"""The merged update kernel for CUDA: many arrays, a few forms, one launch.

Sections are flat programs over arrays of their own. Whole blocks are given to arrays, so that each array starts at the
beginning of a block and can be read by vectors: the number of a block tells its array, by a walk over their lengths
that all its threads do alike (`array_of`). Arrays of one form share its code. `stop` counts elements with every length
rounded up to whole blocks (`rounded`), so the launch has as many blocks as the walk gives out.
"""

from __future__ import annotations

from staticgraph.types import Size, floor_divide

from ..kernel_ir import KernelIR, Pointer, Section
from ..program import Launch
from .cpu import suffixed
from .cpu_text import Writer
from .cuda_lanes import Lanes, vector_width
from .cuda_text import Sequential, write_guard, write_parameters

THREADS = 256
ITEMS = 1024
"""Elements of a block."""


def rounded(length: Size) -> Size:
    """The elements that an array takes up in the launch."""
    return floor_divide(length + (ITEMS - 1), ITEMS) * ITEMS


def write_sections(writer: Writer, kernel: KernelIR) -> Launch:
    if kernel.guarded:
        status = sum(section.count * len(section.parameters) for section in kernel.sections)
        writer.line(f"status = pointer_int64(a{status})")
        write_guard(writer)
    writer.line("place = block()")
    first = 0
    for number, section in enumerate(kernel.sections):
        _write_form(writer, suffixed(section, f"_{number}"), number, first)
        first += section.count * len(section.parameters)
    return Launch(THREADS, ITEMS)


def _write_form(writer: Writer, section: Section, number: int, first: int) -> None:
    width = len(section.parameters)
    starts = range(first, first + section.count * width, width)
    names = [each.name for each in section.parameters]
    length = names.index(section.axes[0].extent) if section.axes else -1
    lengths = ", ".join(f"a{start + length}" if length >= 0 else "1" for start in starts)
    writer.line(f"# section {number}: {section.count} of one form")
    writer.line(f"turn_{number} = array_of(place, {ITEMS}, {lengths})")
    writer.line(f"begin_{number} = block_of(place, {ITEMS}, {lengths}) * {ITEMS}")
    writer.line(f"place = left_of(place, {ITEMS}, {lengths})")
    writer.line(f"if turn_{number} >= 0:")
    with writer:
        picked = [f"pick(turn_{number}, {', '.join(f'a{start + slot}' for start in starts)})" for slot in range(width)]
        _write_body(writer, section, number, picked)


def _write_body(writer: Writer, section: Section, number: int, arguments: list[str]) -> None:
    write_parameters(writer, section.parameters, arguments)
    if not section.axes:
        writer.line("if thread() == 0:     # who else loads might come after the store")
        with writer:
            Sequential(writer).body((*section.prelude, *section.body))
        return
    for statement in section.prelude:
        Sequential(writer).statement(statement)
    (axis,) = section.axes
    pointers = {each.name: each for each in section.parameters if isinstance(each, Pointer)}
    width = vector_width(section.body, pointers, axis.name, None)
    index, end = axis.name, f"end_{number}"
    writer.line(f"{end} = min({axis.extent}, begin_{number} + {ITEMS})")
    writer.line(f"{index} = begin_{number} + thread() * {width}")
    if width > 1:
        writer.line(f"while {index} + {width - 1} < {end}:")
        with writer:
            Lanes(writer, pointers, index, width).body(section.body)
            writer.line(f"{index} += {THREADS * width}")
        writer.line(f"while {index} < {end}:")
        with writer:
            Lanes(writer, pointers, index, 1).body(section.body)
            writer.line(f"{index} += 1")
    else:
        writer.line(f"while {index} < {end}:")
        with writer:
            Lanes(writer, pointers, index, 1).body(section.body)
            writer.line(f"{index} += {THREADS}")
