"""What all CUDA kernels are written with: parameters, guards, coordinates, and any body as one thread executes it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

from ..kernel_ir import Check, Extent, Let, Local, Map, Parameter, Pointer, Reduce, Scan, Statement, Store
from .cpu_text import Writer, typed
from .cuda_partial import write_start, write_term

LANGUAGE = "staticgraph.runtime.cuda.language"
WARP = 32


def write_parameters(writer: Writer, parameters: Sequence[Parameter], arguments: Sequence[str]) -> None:
    """Names for the arguments, which are all int64."""
    for argument, parameter in zip(arguments, parameters, strict=True):
        match parameter:
            case Pointer(name, dtype, "read", _):
                writer.line(f"{name} = input_{dtype}({argument})")
            case Pointer(name, dtype, _, _):
                writer.line(f"{name} = pointer_{dtype}({argument})")
            case Extent(name):
                writer.line(f"{name} = {argument}")
            case _:
                writer.line(f"{parameter.name} = pointer_int64({argument})")


def write_guard(writer: Writer, together: bool = False) -> None:
    """Nothing is done once something has failed: indices may not have been written, and variables must not be.
    `together`: the kernel may report something itself, and its threads wait for each other; so one of a block looks for
    all."""
    if together:
        writer.line("stopped = shared_bool(1)")
        writer.line("if thread() == 0:")
        with writer:
            writer.line("stopped[0] = reported(status)")
        writer.line("barrier()")
    writer.line("if stopped[0]:" if together else "if reported(status):")
    with writer:
        writer.line("return")


def write_coordinates(writer: Writer, axes: Sequence[tuple[str, str]], point: str) -> None:
    """The indices of nested loops, outermost first, from their running number."""
    rest = point
    for name, extent in reversed(axes[1:]):
        writer.line(f"{name} = remainder_of({rest}, {extent})")
        writer.line(f"{name}_rest = quotient_of({rest}, {extent})")
        rest = f"{name}_rest"
    writer.line(f"{axes[0][0]} = {rest}")


def open_check(writer: Writer, check: Check) -> None:
    """An index counted from the front; one out of range is reported and becomes 0. What follows is done where there
    is something to index, which all threads of the launch see alike: no thread leaves others at a barrier, or in a
    shuffle. The caller takes the indentation back."""
    name, bad = check.name, f"{check.name}_bad"
    writer.line(f"{name} = int64({check.value})")
    writer.line(f"{name} = select({name} < 0, {name} + {check.size}, {name})")
    writer.line(f"{bad} = ({name} < 0) | ({name} >= {check.size})")
    writer.line(f"if {bad}:")
    with writer:
        writer.line(f"fail(status, {check.number}, int64({check.value}), {check.size})")
    writer.line(f"{name} = select({bad}, 0, {name})")
    writer.line(f"if {check.size} > 0:")
    writer.depth += 1


class Sequential:
    """Writes any body as one thread executes it."""

    def __init__(self, writer: Writer, store_if: str = "") -> None:
        self.writer = writer
        self.store_if = store_if

    def body(self, body: Sequence[Statement]) -> None:
        depth = self.writer.depth
        for statement in body:
            self.statement(statement)
        self.writer.depth = depth

    def statement(self, statement: Statement) -> None:
        writer = self.writer
        match statement:
            case Let(name, dtype, expr):
                writer.line(f"{name} = {typed(expr, dtype)}")
            case Store(pointer, index, expr):
                writer.line(f"{pointer}[{index}] = {expr}")
            case Map(index, extent, inner, order):
                writer.line(f"for {index} in {count(extent, order)}:")
                with writer:
                    self.body(inner)
            case Reduce():
                self.reduce(statement)
            case Scan():
                self.scan(statement)
            case Check():
                open_check(writer, statement)
            case Local():
                raise AssertionError("a CUDA kernel has no local arrays")
            case _:
                pass

    def reduce(self, statement: Reduce) -> None:
        writer = self.writer
        for result in statement.results:
            write_start(writer, result)
        depth = writer.depth
        for index, extent in statement.loops:
            writer.line(f"for {index} in range({extent}):")
            writer.depth += 1
        for inner in statement.body:
            self.statement(inner)
        for result in statement.results:
            write_term(writer, result, result.expr, result.position)
        writer.depth = depth

    def scan(self, scan: Scan) -> None:
        writer = self.writer
        for carry in scan.carries:
            writer.line(f"{carry.name} = {carry.init}")
        writer.line(f"for {scan.index} in {count(scan.extent, scan.order)}:")
        with writer:
            self.body(scan.body)
            for carry in scan.carries:
                writer.line(f"{carry.name}_next = {typed(carry.next, carry.dtype)}")
            self.body(scan.after)
            for carry in scan.carries:
                writer.line(f"{carry.name} = {carry.name}_next")


def count(extent: str, order: str) -> str:
    return f"range({extent} - 1, -1, -1)" if order == "backward" else f"range({extent})"


def any_statement(body: Sequence[Statement], kinds: type | tuple[type, ...],
                  test: Callable[[Statement], bool] = lambda _: True) -> bool:
    """Is there such a statement, at any depth?"""
    for statement in body:
        if isinstance(statement, kinds) and test(statement):
            return True
        inner: Collection[Statement] = getattr(statement, "body", ())
        if any_statement((*inner, *getattr(statement, "after", ())), kinds, test):
            return True
    return False
