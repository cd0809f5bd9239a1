"""Rendering kernel IR as Numba source for CUDA.

The form of a kernel is ``def kernel(a0, a1, ..., stop)``: every argument is an int64, an address or a size in the order
of the section's parameters, and `stop` is the number of parallel iterations. Blocks and grids have one dimension. The
skeletons, chosen by the structure of the section:

* elements (`cuda_elements`): a grid-stride loop, several elements a thread by 128-bit accesses;
* tiles (`cuda_tiles`): the same where an operand runs along the other axis: it passes through shared memory;
* rows (`cuda_rows`): a team of threads for each row, joined by shuffles and, beyond a warp, shared memory;
* columns (`cuda_columns`): neighbouring threads take neighbouring columns, warps share the rows;
* running sums (`cuda_scans`): a block for each row, a segment for each thread;
* points: one thread for each parallel iteration, which does all its loops alone (other scans, and what else is left);
* sections (`cuda_sections`): the merged update kernel.

How threads are laid out depends on the text alone, so every result depends on sizes only. What all threads of a block
have to reach (barriers, shuffles) stands outside of every condition that they do not share.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..kernel_ir import Check, KernelIR, Let, Map, Reduce, Scan, Section, Statement, Store
from ..program import Launch
from .cpu_text import Writer, header
from .cuda_columns import write_columns
from .cuda_elements import write_elements
from .cuda_rows import write_rows
from .cuda_scans import is_running_sum, write_running_sum
from .cuda_sections import write_sections
from .cuda_text import (
    LANGUAGE,
    Sequential,
    any_statement,
    write_coordinates,
    write_guard,
    write_parameters,
)
from .cuda_tiles import is_transposed, write_tiles

THREADS = 256


def render(kernel: KernelIR) -> tuple[str, Launch]:
    """The Numba source of the kernel, starting with the import of the names that it uses, and how it is launched."""
    writer = Writer()
    single = len(kernel.sections) == 1 and kernel.sections[0].count == 1 and not kernel.merged
    arguments = sum(section.count * len(section.parameters) for section in kernel.sections)
    arguments += kernel.guarded and not single     # sections share the status, which comes last
    parameters = ", ".join([*(f"a{number}" for number in range(arguments)), "stop"])
    writer.line(f"def {kernel.name}({parameters}):")
    with writer:
        launch = _render_section(writer, kernel.sections[0], kernel) if single else write_sections(writer, kernel)
    return header(writer.text(), LANGUAGE) + writer.text(), launch


def _render_section(writer: Writer, section: Section, kernel: KernelIR) -> Launch:
    write_parameters(writer, section.parameters, [f"a{number}" for number in range(len(section.parameters))])
    cooperative = is_cooperative(section)
    if kernel.guarded:
        write_guard(writer, cooperative and any_statement(section.body, Check))
    for statement in section.prelude:     # where an index in it is bad, no thread does anything
        Sequential(writer).statement(statement)
    if is_elementwise(section.body):
        if is_transposed(section):
            return write_tiles(writer, section)
        return write_elements(writer, section)
    if cooperative and kernel.lanes == "parallel":
        return write_columns(writer, section)
    if cooperative:
        return write_rows(writer, section)
    if is_running_sum(section):
        return write_running_sum(writer, section)
    return _write_points(writer, section)


def is_elementwise(body: Sequence[Statement]) -> bool:
    """Elements, or rows of elements: values of the row, then one loop over it."""
    if body and isinstance(body[-1], Map):
        last = body[-1]
        if last.order != "any" or not all(isinstance(each, Let | Store | Check) for each in last.body):
            return False
        return all(isinstance(each, Let | Check) for each in body[:-1])
    return all(isinstance(each, Let | Store | Check) for each in body)


def is_cooperative(section: Section) -> bool:
    """Loops in a row that threads can share: none has an order, and none is inside of another's body."""
    def is_leaf(statement: Statement) -> bool:
        match statement:
            case Map(_, _, (Map() as inner,), "any"):
                return is_leaf(inner)
            case Map(_, _, body, "any") | Reduce(_, body, _, _):
                return all(isinstance(each, Let | Store | Check) for each in body)
            case _:
                return False

    loops = [each for each in section.body if isinstance(each, Map | Reduce | Scan)]
    return any(isinstance(each, Reduce) for each in loops) and all(map(is_leaf, loops))


def _write_points(writer: Writer, section: Section) -> Launch:
    threads = THREADS // 2
    writer.line(f"point = block() * {threads} + thread()")
    writer.line("if point < stop:")
    with writer:
        if section.axes:
            write_coordinates(writer, [(axis.name, axis.extent) for axis in section.axes], "point")
        Sequential(writer).body(section.body)
    return Launch(threads, threads)
