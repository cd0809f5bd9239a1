"""A program's sizes, memory and steps as Python: two functions of the script, `sizes_of` and `plan`."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterable, Sequence

from staticgraph.compiler.program import Argument, Chain, Program
from staticgraph.types import Dim, Size, learnable_symbols, open_symbol, size_symbols

from .formulas import comment, formula, literal, shape_formula, symbol_names
from .kernel_files import WIDTH, describe


class PlanText:
    """Writes formulas of the program's symbols. `called` says what a name of the script's harness is in the script."""

    def __init__(self, program: Program, called: Callable[[str], str]) -> None:
        self.program, self.called = program, called
        self.names = symbol_names(_all_sizes(program))
        self.known = learnable_symbols([size for spec in program.inputs for size in spec.shape])
        self.order = self._order()
        self.parameters = ", ".join(self.names[symbol] for symbol, _ in self.order)

    def _order(self) -> list[tuple[str, str]]:
        """(symbol, expression of the inputs' shapes) in an order in which each can be found: bare ones first."""
        places = [(size, position, axis) for position, spec in enumerate(self.program.inputs)
                  for axis, size in enumerate(spec.shape) if isinstance(size, Dim)]
        places.sort(key=lambda place: not place[0].is_symbol)
        found: dict[str, str] = {}
        count = -1
        while count != len(found):
            count = len(found)
            for size, position, axis in places:
                symbol = open_symbol(size, found)
                if symbol is None:
                    continue
                actual, name = f"shapes[{position}][{axis}]", self.names[symbol]
                found[symbol] = actual if size.is_symbol else (
                    f"{self.called('solve')}(lambda {name}: {formula(size, self.names)}, {actual})")
        return list(found.items())

    def _is_known(self, *sizes: Size) -> bool:
        return all(size_symbols(size) <= self.known for size in sizes)

    def size(self, size: Size) -> str:
        """A formula; 0 where no input tells a symbol, which nothing then needs."""
        return formula(size, self.names) if self._is_known(size) else "0"

    def shape(self, shape: Sequence[Size]) -> str:
        return shape_formula(shape, self.names) if self._is_known(*shape) else "()"

    def sizes_of(self) -> list[str]:
        """The lines of the function that finds the sizes."""
        lines = ["def sizes_of(shapes):", '    """The symbolic sizes, from the shapes of the inputs."""']
        lines += [f"    {self.names[symbol]} = {expression}" for symbol, expression in self.order]
        return [*lines, f"    return ({self.parameters}{',' if self.order else ''})"]

    def plan(self) -> list[str]:
        """The lines of the function that says what a call does."""
        program = self.program
        notes = [program.notes[step.note] for step in program.steps]
        return [f"def plan({self.parameters}):", '    """What a call does, for these sizes."""',
                *_table("buffers", self._buffers()), *_table("steps", self._steps()),
                *_table("chains", [f"{self._chain(chain)}," for chain in program.chains]),
                *_table("checks", [f"{self.called('Check')}({literal(each.kind)}, {literal(each.message)}, "
                                   f"{self.shape(each.shape)})," for each in program.checks]),
                *_table("must_agree", [f"({self.size(each.left)}, {self.size(each.right)}, {literal(each.message)}),"
                                       for each in program.guards]),
                *_table("shapes", [f"{self._input_shape(each.shape)}," for each in program.inputs]),
                *_table("outputs", [f"{self.called('Result')}({spec.buffer}, {self.shape(spec.shape)}),"
                                    for spec in program.outputs]),
                f"    arena_bytes = {self.size(program.arena_bytes)}",
                f"    nbytes = {self.size(_total(note.bytes_moved for note in notes))}",
                f"    flops = {self.size(_total(note.flops for note in notes))}",
                f"    return {self.called('Plan')}(shapes, must_agree, arena_bytes, buffers, steps, chains, outputs, "
                "checks, nbytes,", "                flops)"]

    def _buffers(self) -> list[str]:
        lines = []
        for number, buffer in enumerate(self.program.buffers):
            where = self.size(buffer.offset) if buffer.place == "arena" else str(buffer.index)
            fields = f"{literal(buffer.place)}, {where}, {literal(buffer.dtype)}, {self.shape(buffer.shape)}"
            lines += [f"# {number}: {comment(describe(self.program, buffer))}", f"{self.called('Buffer')}({fields}),"]
        return lines

    def _steps(self) -> list[str]:
        lines = []
        for number, step in enumerate(self.program.steps):
            note = self.program.notes[step.note]
            lines.append(f"# {number}: {comment(note.title)} ({comment(', '.join(note.lines))})")
            arguments = "".join(f"{self._argument(each)}, " for each in step.arguments)
            lines += textwrap.wrap(
                f"{self.called('Step')}({step.kernel}, {self.size(step.extent)}, ({arguments.rstrip()})),", WIDTH - 8,
                subsequent_indent=" " * 5, break_long_words=False, break_on_hyphens=False)
        return lines

    def _argument(self, argument: Argument) -> str:
        if argument.kind == "status":
            return '"status"'
        if argument.kind == "size":
            return self.size(argument.value)
        offset = self.size(argument.offset)
        return f"{self.called('At')}({argument.value}{f', {offset}' if offset != '0' else ''})"

    def _input_shape(self, shape: Sequence[Size]) -> str:
        parts = [formula(size, self.names) if self._is_known(size) else "None" for size in shape]
        return f"({', '.join(parts)}{',' * (len(parts) == 1)})"

    def _chain(self, chain: Chain) -> str:
        """Rows to a block follow from what the chain writes and does, as in the runtime."""
        members = self.program.steps[chain.first: chain.first + chain.count]
        written = _total(self.program.buffers[index].nbytes
                         for index in sorted({index for step in members for index in step.writes}))
        work = _total(self.program.notes[step.note].work for step in members)
        rows = self.size(chain.rows)
        block = f"{self.called('block_of')}({rows}, {self.size(written)}, {self.size(work)})"
        return f"{self.called('Chain')}({chain.first}, {chain.count}, {rows}, {block})"


def _all_sizes(program: Program) -> list[Size]:
    found: list[Size] = [program.arena_bytes]
    for shape in (*(each.shape for each in program.inputs), *(each.shape for each in program.outputs),
                  *(each.shape for each in program.buffers), *(each.shape for each in program.checks)):
        found += shape
    found += [size for buffer in program.buffers for size in (buffer.offset, buffer.nbytes)]
    for step in program.steps:
        found += [step.extent, *(size for each in step.arguments for size in (each.value, each.offset))]
    found += [size for note in program.notes for size in (note.flops, note.bytes_moved, note.work)]
    found += [size for guard in program.guards for size in (guard.left, guard.right)]
    return found + [chain.rows for chain in program.chains]


def _total(sizes: Iterable[Size]) -> Size:
    total: Size = 0
    for size in sizes:
        total = total + size
    return total


def _table(title: str, rows: Sequence[str]) -> list[str]:
    """A tuple of rows as an assignment in a function."""
    return [f"    {title} = (", *(f"        {row}" for row in rows), "    )"] if rows else [f"    {title} = ()"]
