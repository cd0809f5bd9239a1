"""The script of a whole program: tables, formulas of its sizes, and what runs them."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from typing import Any

from staticgraph.compiler.program import Argument, Program
from staticgraph.types import Dim, Size, learnable_symbols, open_symbol, size_symbols

from ..chains import block_of
from .formulas import comment, formula, literal, shape_formula, symbol_names
from .gather import Gathered, Gatherer
from .kernel_files import WIDTH, describe, kernel_file_name, rule, sections
from .sources import Target

HARNESS = "staticgraph.runtime.dump.main_script"
KERNEL_HARNESS = "staticgraph.runtime.dump.kernel_script"
USES = "Program Plan Input Variable Buffer Step Chain Check Print divide remainder solve main".split()
OWN = ("INPUTS", "VARIABLES", "KERNELS", "PRINTS", "sizes_of", "plan", "pack", "load", "run", "state")


class MainFile:
    """The script in the making."""

    def __init__(self, program: Program, version: str) -> None:
        self.program, self.version = program, version
        gatherer = Gatherer(OWN)
        for name in USES:
            gatherer.add(Target(HARNESS, name))
        gatherer.add(Target(block_of.__module__, block_of.__name__))
        gatherer.import_name("pathlib", "Path")
        self.gathered: Gathered = gatherer.text()
        self.names = symbol_names(self._all_sizes())
        sizes = [size for spec in program.inputs for size in spec.shape]
        self.known = learnable_symbols(sizes)
        self.order = self._order()

    def _all_sizes(self) -> list[Size]:
        program = self.program
        found: list[Size] = [program.arena_bytes]
        for shape in (*(each.shape for each in program.inputs), *(each.shape for each in program.outputs)):
            found += shape
        found += [size for buffer in program.buffers for size in buffer.shape]
        found += [size for buffer in program.buffers for size in (buffer.offset, buffer.nbytes)]
        for step in program.steps:
            found += [step.extent, *(size for each in step.arguments for size in (each.value, each.offset))]
        for note in program.notes:
            found += [note.flops, note.bytes_moved]
        found += [size for check in program.checks for size in check.shape]
        found += [size for guard in program.guards for size in (guard.left, guard.right)]
        return found + [chain.rows for chain in program.chains]

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

    def called(self, name: str, module: str = HARNESS) -> str:
        return self.gathered.names[Target(module, name)]

    def size(self, size: Size) -> str:
        """A formula; 0 where no input tells a symbol, which nothing then needs."""
        if size_symbols(size) <= self.known:
            return formula(size, self.names)
        return "0"

    def text(self) -> str:
        parameters = ", ".join(self.names[symbol] for symbol, _ in self.order)
        parts = [*self._header(), "from __future__ import annotations\n", *self.gathered.imports,
                 rule("The program: its sizes, its memory, its steps.") + "\n", *self._sizes_of(parameters), "", "",
                 *self._plan(parameters), "", "", *self._pack(),
                 *sections(self.gathered, lambda module: True, "What runs it, from"),
                 rule("What goes in and out of it, and how to call it."), self._tables(), *self._doors()]
        return "\n".join(parts).rstrip("\n") + "\n"

    def _header(self) -> list[str]:
        program = self.program
        lines = [f"# A program that staticgraph {self.version} compiled.", "# Stands alone: python -I main.py", "#",
                 "# Run as a script it checks itself against a recorded call, and times itself. As a module it has",
                 "#     run(...)     a call: inputs by position or by name, as recorded or of other sizes",
                 "#     state()      the variables, which calls update in place", "#"]
        every: list[tuple[str, Any]] = [
            *(("input", each) for each in program.inputs), *(("variable", each) for each in program.variables),
            *(("output", each) for each in program.outputs)]
        lines += [f"# {title} {comment(each.name)}: {each.dtype}[{comment(', '.join(map(str, each.shape)))}]"
                  for title, each in every]
        return [*lines, ""]

    def _tables(self) -> str:
        program = self.program
        inputs = [f"    {self.called('Input')}({literal(each.name)}, {literal(each.dtype)}, {len(each.shape)}, "
                  f"{literal(', '.join(map(str, each.shape)))})," for each in program.inputs]
        variables = [f"    {self.called('Variable')}({literal(each.name)}, {literal(each.dtype)}, "
                     f"{literal(tuple(map(int, each.shape)))}, {each.written})," for each in program.variables]
        kernels = [f"    {literal(f'kernels/{kernel_file_name(program, number)}.py')},"
                   for number in range(len(program.kernels))]
        prints = [f"    {self.called('Print')}({literal(each.label)}, {literal(each.location)}, {each.every}, "
                  f"{each.edgeitems})," for each in program.prints]
        tables = (("INPUTS", inputs), ("VARIABLES", variables), ("KERNELS", kernels), ("PRINTS", prints))
        return "\n".join("\n".join([f"{title} = (", *rows, ")"]) if rows else f"{title} = ()" for title, rows in tables)

    def _sizes_of(self, parameters: str) -> list[str]:
        lines = ["def sizes_of(shapes):", '    """The symbolic sizes, from the shapes of the inputs."""']
        lines += [f"    {self.names[symbol]} = {expression}" for symbol, expression in self.order]
        return [*lines, f"    return ({parameters}{',' if self.order else ''})"]

    def _plan(self, parameters: str) -> list[str]:
        program = self.program
        total: dict[str, Any] = {"nbytes": 0, "flops": 0}
        for step in program.steps:
            note = program.notes[step.note]
            total["nbytes"] += note.bytes_moved
            total["flops"] += note.flops
        shapes = ", ".join(self._input_shape(each.shape) for each in program.inputs)
        lines = [f"def plan({parameters}):", '    """What a call does, for these sizes."""', "    buffers = ("]
        for number, buffer in enumerate(program.buffers):
            where = self.size(buffer.offset) if buffer.place == "arena" else str(buffer.index)
            shape = shape_formula(buffer.shape, self.names) if self._is_known(buffer.shape) else "()"
            fields = f"{literal(buffer.place)}, {where}, {literal(buffer.dtype)}, {shape}"
            lines += [f"        # {number}: {comment(describe(program, buffer))}",
                      f"        {self.called('Buffer')}({fields}),"]
        lines += ["    )", "    steps = ("]
        for number, step in enumerate(program.steps):
            note = program.notes[step.note]
            lines.append(f"        # {number}: {comment(note.title)} ({comment(', '.join(note.lines))})")
            arguments = ", ".join(map(self._argument, step.arguments))
            lines += textwrap.wrap(
                f"{self.called('Step')}({step.kernel}, {self.size(step.extent)}, ({arguments},)),", WIDTH,
                initial_indent=" " * 8, subsequent_indent=" " * 13, break_long_words=False, break_on_hyphens=False)
        chains = [f"        {self._chain(chain)}," for chain in program.chains]
        lines += ["    )", *(["    chains = (", *chains, "    )"] if chains else ["    chains = ()"])]
        guards = [f"        ({self.size(guard.left)}, {self.size(guard.right)}, {literal(guard.message)})," for guard in
                  program.guards]
        comma = "," * (len(program.inputs) == 1)
        checks = [f"        {self.called('Check')}({literal(each.kind)}, {literal(each.message)}, "
                  f"{shape_formula(each.shape, self.names) if self._is_known(each.shape) else '()'})," for each in
                  program.checks]
        lines += ["    checks = (", *checks, "    )"] if checks else ["    checks = ()"]
        outputs = literal(tuple(spec.buffer for spec in program.outputs))
        lines += ["    must_agree = (", *guards, "    )"] if guards else ["    must_agree = ()"]
        return [*lines, f"    shapes = ({shapes}{comma})",
                f"    arena_bytes = {self.size(program.arena_bytes)}",
                f"    nbytes = {self.size(total['nbytes'])}", f"    flops = {self.size(total['flops'])}",
                f"    return {self.called('Plan')}(shapes, must_agree, arena_bytes, buffers, steps, chains, {outputs}, "
                "checks,", "                nbytes, flops)"]

    def _is_known(self, shape: tuple[Size, ...]) -> bool:
        return all(size_symbols(size) <= self.known for size in shape)

    def _input_shape(self, shape: tuple[Size, ...]) -> str:
        parts = [formula(size, self.names) if self._is_known((size,)) else "None" for size in shape]
        return f"({', '.join(parts)}{',' * (len(parts) == 1)})"

    def _argument(self, argument: Argument) -> str:
        if argument.kind == "status":
            return '"status"'
        if argument.kind == "size":
            return self.size(argument.value)
        offset = self.size(argument.offset)
        return f"{self.called('At', KERNEL_HARNESS)}({argument.value}{f', {offset}' if offset != '0' else ''})"

    def _chain(self, chain: Any) -> str:
        """Rows to a block follow from what the chain writes and does, as in the runtime."""
        members = self.program.steps[chain.first: chain.first + chain.count]
        written: Size = 0
        for index in sorted({index for step in members for index in step.writes}):
            written = written + self.program.buffers[index].nbytes
        flops: Size = 0
        for step in members:
            flops = flops + self.program.notes[step.note].flops
        rows = self.size(chain.rows)
        block = f"{self.called('block_of', block_of.__module__)}({rows}, {self.size(written)}, {self.size(flops)})"
        return f"{self.called('Chain')}({chain.first}, {chain.count}, {rows}, {block})"

    def _pack(self) -> list[str]:
        kind, *rest = self.program.structure
        value = {"tensor": "results[0]", "list": "results", "tuple": "tuple(results)"}.get(kind)
        if value is None:
            value = f"dict(zip({literal(tuple(rest[0]))}, results))"
        return ["def pack(results):", '    """Results in the structure that was compiled."""', f"    return {value}"]

    def _doors(self) -> list[str]:
        return [f'''LOADED = []


def load():
    """The program, loaded once: kernels compiled, state and constants read."""
    if not LOADED:
        LOADED.append({self.called('Program')}(
            Path(__file__).resolve().parent, KERNELS, INPUTS, VARIABLES, PRINTS, sizes_of, plan, pack))
    return LOADED[0]


def run(*args, **inputs):
    """A call of the program; its state goes on."""
    return load().run(args, inputs)


def state():
    """The variables' values as (name, array), in order; writing into an array sets a variable."""
    return [(spec.name, array) for spec, array in zip(VARIABLES, load().state)]


if __name__ == "__main__":
    {self.called('main')}(load)''']


def main_script(program: Program, version: str) -> str:
    """The text of main.py."""
    return MainFile(program, version).text()


def arrays_by_number(arrays: Any) -> Mapping[str, Any]:
    """Names for the arrays of a file, in order."""
    return {f"array{number}": array for number, array in enumerate(arrays)}
