"""The script of a kernel: its text, the functions of the kernel language that it uses, its cases, a check, a timing."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from staticgraph.compiler.program import Buffer, Program
from staticgraph.types import evaluate_size

from ..convert import Array
from .formulas import comment, literal, plain_name
from .gather import Gathered, Gatherer
from .leaves import Leaves, split_text
from .record import Recording, StepRecord
from .sources import Target

HARNESS = "staticgraph.runtime.dump.kernel_script"
COMPILER = tuple(f"staticgraph.runtime.cpu.{name}" for name in ("host", "optimise", "arithmetic", "front_end"))
"""Modules that compile kernels: they come last in a script, because their reader comes last to them."""

WIDTH = 118
RULE = "# " + "-" * (WIDTH - 2)


def kernel_file_name(program: Program, number: int) -> str:
    """The name of a kernel's script, without its suffix."""
    return f"{number:02d}_{plain_name(program.kernels[number].name)}"


def kernel_script(program: Program, number: int, recording: Recording, version: str) -> tuple[str, dict[str, Array]]:
    """The text of the script, and the arrays that lie beside it."""
    kernel = program.kernels[number]
    names, text = split_text(kernel.text)
    gatherer = Gatherer({*names, kernel.name, "KERNEL", "cases"})
    gatherer.add(Target(HARNESS, "main"))
    leaves = Leaves(gatherer, names)
    gathered = gatherer.text()
    steps = [step for step in recording.steps if program.steps[step.number].kernel == number]
    parts = [
        "\n".join(header(program, number, recording, version)),
        "from __future__ import annotations\n\n" + "\n".join(gathered.imports),
        "",
        rule("The kernel: the text that the program runs."),
        "\n" + text.rstrip("\n"),
        f"\n\nKERNEL = {kernel.name}",
        "\n\n" + cases(program, steps, recording.sizes, gathered),
        *sections(gathered, lambda module: module not in (HARNESS, *COMPILER), "What the kernel uses of"),
        "\n\n" + "\n".join(leaves.lines(gathered)) if leaves.recipes else "",
        *sections(gathered, lambda module: module == HARNESS, "Check and timing, from"),
        *sections(gathered, lambda module: module in COMPILER, "What compiles the kernel, from"),
        f'\n\nif __name__ == "__main__":\n    {gathered.names[Target(HARNESS, "main")]}(KERNEL, cases(), __file__)',
    ]
    return "\n".join(part for part in parts if part).rstrip("\n") + "\n", arrays_of(steps)


def rule(title: str) -> str:
    return f"\n\n{RULE}\n# {title}\n"


def sections(gathered: Gathered, wanted: Callable[[str], bool], title: str) -> list[str]:
    """The gathered text of some modules."""
    parts = []
    for module, summary, text in gathered.sections:
        if wanted(module):
            lead = textwrap.wrap(f"{title} {module.removeprefix('staticgraph.')}: {summary}", WIDTH,
                                 initial_indent="# ", subsequent_indent="# ")
            parts.append("\n".join(["\n", RULE, *lead, "\n", text.rstrip("\n")]))
    return parts


def header(program: Program, number: int, recording: Recording | None, version: str) -> list[str]:
    """What the kernel is, for whom: comments. The first two lines hold nothing of a user's: a comment there could name
    another encoding."""
    kernel = program.kernels[number]
    usage = f"Stands alone: python -I {kernel_file_name(program, number)}.py" if recording else "It is for a GPU."
    lines = [f"# One kernel of a program that staticgraph {version} compiled.", f"# {usage}", "#",
             f"# kernel {number}: {comment(kernel.name)}"]
    if recording is not None and recording.sizes:
        lines.append("# sizes: " + ", ".join(f"{comment(name)} = {size}" for name, size in recording.sizes.items()))
    for position, step in enumerate(program.steps):
        if step.kernel != number:
            continue
        note = program.notes[step.note]
        lines += ["#", f"# step {position}: {comment(note.title)}"]
        lines += [f"#   {comment(line)}" for line in note.lines]
        lines += textwrap.wrap(comment(f"computes {', '.join(dict.fromkeys(note.nodes))}"), WIDTH,
                               initial_indent="#   ", subsequent_indent="#     ") if note.nodes else []
        if recording is not None and position in recording.skipped:
            lines.append(f"#   {recording.skipped[position]}")
            continue
        uses = {index: "reads" for index in step.reads} | {index: "writes" for index in step.writes}
        for record in recording.steps if recording is not None else ():
            if record.number == position:
                uses = {buffer.buffer: f"{buffer.use}s".replace("scratchs", "scratch") for buffer in record.buffers}
        lines += [f"#   {use:<7} {comment(describe(program, program.buffers[index]))}" for index, use in uses.items()]
    return [*lines, ""]


def describe(program: Program, buffer: Buffer) -> str:
    """A buffer in words: what it is, its type."""
    shape = ", ".join(map(str, buffer.shape))
    owners: dict[str, Sequence[Any]] = {"input": program.inputs, "variable": program.variables,
                                        "output": program.outputs}
    name = owners[buffer.place][buffer.index].name if buffer.place in owners else buffer.name
    return f"{buffer.dtype}[{shape}]  {'intermediate' if buffer.place == 'arena' else buffer.place} '{name}'"


def cases(program: Program, steps: Sequence[StepRecord], sizes: Mapping[str, int], gathered: Gathered) -> str:
    """The function that gives the script's cases."""
    def called(name: str) -> str:
        return gathered.names[Target(HARNESS, name)]

    def argument(value: Any) -> str:
        if isinstance(value, tuple):
            return f"{called('At')}({value[0]}{f', {value[1]}' if value[1] else ''})"
        return literal(value)

    lines = ["def cases():", '    """The steps that this kernel was recorded in, with their sizes filled in."""',
             "    return ("]
    for step in steps:
        note = program.notes[program.steps[step.number].note]
        lines += [f"        {called('Case')}(", f"            step={step.number}, extent={step.extent},",
                  *textwrap.wrap(f"arguments=({', '.join(map(argument, step.arguments))},),", WIDTH,
                                 initial_indent=" " * 12, subsequent_indent=" " * 23, break_long_words=False),
                  "            buffers=("]
        for buffer in step.buffers:
            name = literal(program.buffers[buffer.buffer].name)
            dtype = literal(program.buffers[buffer.buffer].dtype)
            lines.append(f"                {called('Buffer')}({name}, {dtype}, {buffer.shape}, {literal(buffer.use)}),")
        lines += ["            ),", f"            nbytes={evaluate_size(note.bytes_moved, sizes)}, "
                                    f"flops={evaluate_size(note.flops, sizes)},", "        ),"]
    return "\n".join([*lines, "    )"])


def arrays_of(steps: Sequence[StepRecord]) -> dict[str, Array]:
    """The arrays of the cases, by the names that the script looks for."""
    found = {}
    for step in steps:
        for number, buffer in enumerate(step.buffers):
            for when, array in (("before", buffer.before), ("after", buffer.after)):
                if array is not None:
                    found[f"step{step.number}_{when}{number}"] = array
    return found
