"""What an executable says about itself: its kernels' source, and the account that `explain()` gives of it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol

from staticgraph.compiler.program import Buffer, Kernel, Program, Step
from staticgraph.types import Size

from . import cache as object_cache
from .figures import count
from .memory import Memory
from .words import sections, shortened

MOST_BUFFERS = 6
"""Buffers of a step that are named, where not all are asked for."""

ORIGINS = {"compiled": "compiled", "cache": "from the cache", "process": "already loaded"}


def source(program: Program) -> str:
    """The text of each kernel below a header of comments."""
    return "\n\n".join("\n".join([*_header(program, number), kernel.text.strip(), ""])
                       for number, kernel in enumerate(program.kernels))


def _header(program: Program, number: int) -> list[str]:
    kernel: Kernel = program.kernels[number]
    lines = [f"# kernel {number}: {kernel.name}"]
    for position, step in enumerate(program.steps):
        if step.kernel == number:
            note = program.notes[step.note]
            nodes = f" = {', '.join(note.nodes)}" if note.nodes else ""
            lines.append(_comment(f"  step {position}: {note.title}{nodes}"))
            lines.extend(_comment(f"    {line}") for line in note.lines)
    return lines


def _comment(text: str) -> str:
    """Names of users may hold anything; a comment is one line."""
    return "# " + " ".join(text.splitlines())


class Loaded(Protocol):
    """What a loader says about a kernel. origin: a key of `ORIGINS`; `reason` says why it had to be compiled, or what
    there is to know about it."""

    @property
    def origin(self) -> str: ...

    @property
    def milliseconds(self) -> float: ...

    @property
    def reason(self) -> str: ...


def explain(program: Program, kernels: Sequence[Loaded], memory: Memory, machine: str, account: str = "",
            verbose: bool = False) -> str:
    """Words, then tables: passes, kernels, steps, buffers, memory. `machine` is a line about what it runs on, `account`
    one about where the program came from. Of long sections only `verbose` gives all rows."""
    milliseconds = sum(kernel.milliseconds for kernel in kernels)
    compiled = sum(kernel.origin == "compiled" for kernel in kernels)
    came = f"\nprogram: {account}" if account else ""
    parts = [
        f"{count(len(program.inputs), 'input')}, {count(len(program.outputs) - len(program.prints), 'output')} and "
        f"{count(len(program.variables), 'variable')} on {program.device}: {count(len(program.steps), 'step')} with "
        f"{count(len(kernels), 'kernel')}, {compiled} of them compiled, ready after {milliseconds:.1f} ms{came}",
        *sections(program, [kernel.reason for kernel in kernels], verbose),
        section("watched", ("for", "what", "where"), _watched(program), verbose),
        section("passes", ("name", "nodes", "ms", "remarks"), (
            (each.name, f"{each.nodes_before} -> {each.nodes_after}", f"{each.seconds * 1e3:.1f}",
             "; ".join(each.remarks)) for each in program.passes)),
        section("kernels", ("", "name", "origin", "ms", "remarks"), (
            (str(number), kernel.name, ORIGINS[loaded.origin], f"{loaded.milliseconds:.1f}", loaded.reason)
            for number, (kernel, loaded) in enumerate(zip(program.kernels, kernels))), verbose),
        f"object cache: {_cache_place()}\n{machine}",
        section("steps", ("", "kernel", "times", "reads", "writes", "computes", "lines"), (
            (str(number), *_step_row(program, step, verbose)) for number, step in enumerate(program.steps)), verbose),
        section("chains", ("steps", "rows", "kernels that go together through some rows at a time"), (
            (f"{chain.first}..{chain.first + chain.count - 1}", _size(chain.rows),
             ", ".join(program.kernels[step.kernel].name
                       for step in program.steps[chain.first: chain.first + chain.count]))
            for chain in program.chains), verbose),
        section("buffers", ("name", "type", "place", "bytes", "alive in steps"), (
            _buffer_row(program, number, buffer) for number, buffer in enumerate(program.buffers)), verbose),
        "memory\n" + "\n".join("  " + line for line in str(memory).splitlines())]
    return "\n\n".join(part for part in parts if part)


def _watched(program: Program) -> Iterator[tuple[str, str, str]]:
    """What calls look for, and what they print."""
    for check in program.checks:
        if check.kind != "index":
            first, *_, last = check.message.splitlines()
            yield {"inf": "nan and inf", "assert": "an assertion"}.get(check.kind, check.kind), first, last.strip()
    for each in program.prints:
        yield "a print", " ".join(each.label.split()), each.location


def _cache_place() -> str:
    store = object_cache.current()
    return "; ".join(part for part in (str(store.folder or ""), store.remark) if part)


def _step_row(program: Program, step: Step, verbose: bool) -> tuple[str, ...]:
    note = program.notes[step.note]

    def names(buffers: Sequence[int]) -> str:
        shown = buffers if verbose or len(buffers) <= MOST_BUFFERS else buffers[:MOST_BUFFERS - 1]
        more = [f"{len(buffers) - len(shown)} more"] if len(shown) < len(buffers) else []
        return ", ".join([*(program.buffers[each].name for each in shown), *more])

    stage = "" if step.stage == "compute" else f" ({step.stage})"
    return (program.kernels[step.kernel].name, _size(step.extent), names(step.reads), names(step.writes),
            note.title + stage, ", ".join(note.lines))


def _buffer_row(program: Program, number: int, buffer: Buffer) -> tuple[str, ...]:
    used = [position for position, step in enumerate(program.steps) if number in (*step.reads, *step.writes)]
    alive = f"{used[0]}..{used[-1]}" if used else "-"
    place = f"arena at {_size(buffer.offset)}" if buffer.place == "arena" else f"{buffer.place} {buffer.index}"
    return (buffer.name, f"{buffer.dtype}[{', '.join(map(_size, buffer.shape))}]", place, _size(buffer.nbytes), alive)


def _size(size: Size) -> str:
    return str(size)


def section(title: str, head: Sequence[str], rows: Iterable[Sequence[str]], verbose: bool = True) -> str:
    """A titled table with its columns aligned; nothing when it has no rows. Only `verbose` gives all of many rows."""
    table = [head, *rows]
    if len(table) == 1:
        return ""
    widths = [max(len(row[column]) for row in table) for column in range(len(head))]
    lines = ["  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in table]
    return "\n".join([title, lines[0], *shortened(lines[1:], verbose)])
