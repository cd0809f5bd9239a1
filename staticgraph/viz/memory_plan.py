"""The memory plan as plain data: which buffer lies where, from which step to which, and who holds the peak.

Comes in: an Executable, a Compilation or a Program. Goes out: a `MemoryPlan` for one combination of sizes, with the
same numbers as `Executable.memory`.

A buffer of the arena lives from the first step that touches it to the last; a chain of steps counts as one, as it does
for the planner, and what the caller gets is held to the end. Two buffers may share a place inside of a chain, where row
lies upon row: bytes are counted once there. Inputs, results, variables and constants are held through the whole call.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from ..compiler.program import Buffer, Program
from ..errors import ArgumentError
from ..runtime.memory import Memory, find_workspaces, measure
from ..types import Size, evaluate_size, size_symbols

ASSUMED_SIZE = 64
"""Of a symbolic size that nobody has said."""


@dataclass(frozen=True)
class PlannedStep:
    """A step: its kernel, what it computes, for which lines."""

    kernel: str
    title: str
    lines: tuple[str, ...]
    commit: bool


@dataclass(frozen=True)
class PlannedBuffer:
    """A buffer in its place. `offset` is that in the arena, 0 elsewhere; `first` and `last` are the steps in between
    which it is held, `touched` those that read or write it. `role` is what an arena buffer is for: "value" |
    "result" (copied to the caller) | "workspace" (of one step alone), and its place for all others."""

    index: int
    name: str
    type: str
    place: str
    role: str
    offset: int
    nbytes: int
    first: int
    last: int
    touched: tuple[int, ...]
    lines: tuple[str, ...]


@dataclass(frozen=True)
class MemoryPlan:
    """`held` is the bytes of the arena in use at each step, `peak_step` the first step with the most of them.
    `totals` are bytes by kind; "peak" is arena and results, with a workspace for each thread where threads are known.
    `assumed` names the sizes that nobody has said."""

    device: str
    sizes: Mapping[str, int]
    assumed: tuple[str, ...]
    steps: tuple[PlannedStep, ...]
    buffers: tuple[PlannedBuffer, ...]
    held: tuple[int, ...]
    peak_step: int
    totals: Mapping[str, int]

    @property
    def arena(self) -> tuple[PlannedBuffer, ...]:
        """The buffers of the arena."""
        return tuple(each for each in self.buffers if each.place == "arena")

    @property
    def peak(self) -> int:
        """Bytes of the arena in use at the peak."""
        return self.held[self.peak_step] if self.held else 0

    def holders(self, step: int | None = None) -> tuple[PlannedBuffer, ...]:
        """Who holds the arena at a step (at the peak, if none is given), the largest first."""
        at = self.peak_step if step is None else step
        alive = [each for each in self.arena if each.first <= at <= each.last and each.nbytes]
        return tuple(sorted(alive, key=lambda each: (-each.nbytes, each.index)))

    def lines(self, step: int | None = None) -> tuple[tuple[str, int], ...]:
        """Lines of yours, with the bytes that are held for each at a step (at the peak, if none is given), the most
        first. What is held for several lines counts for each of them."""
        places: dict[str, list[tuple[int, int]]] = {}
        for each in self.holders(step):
            for line in each.lines:
                places.setdefault(line, []).append((each.offset, each.offset + each.nbytes))
        found = [(line, _union(held)) for line, held in places.items()]
        return tuple(sorted(found, key=lambda item: (-item[1], _line_order(item[0]))))


def _line_order(line: str) -> tuple[str, int]:
    """model.py:9 comes before model.py:10."""
    file, _, number = line.rpartition(":")
    return file, int(number) if number.isdecimal() else 0


def memory_plan(obj: Any, sizes: Mapping[str, int] | None = None) -> MemoryPlan:
    """The plan of an executable, a compilation or a program, for these symbolic sizes.

    Sizes that are not given are those of the executable's last call, or of its option "sizes"; what nobody has said is
    64, and named in the plan. Raises ArgumentError for anything without a program, for tensors, and for sizes that the
    program does not have.
    """
    program = obj if isinstance(obj, Program) else getattr(obj, "program", None)
    if not isinstance(program, Program):
        raise ArgumentError("only what has been compiled has a memory plan: an executable, a compilation or a program; "
                            f"got {type(obj).__name__}")
    known, assumed = _sizes(obj, program, sizes)
    buffers = tuple(_Buffers(program, known).list())
    held = _held(buffers, len(program.steps))
    steps = tuple(PlannedStep(program.kernels[step.kernel].name, program.notes[step.note].title,
                              program.notes[step.note].lines, step.stage == "commit") for step in program.steps)
    return MemoryPlan(program.device, known, assumed, steps, buffers, held,
                      held.index(max(held)) if held else 0, _totals(obj, program, known))


def _sizes(obj: Any, program: Program, given: Mapping[str, int] | None) -> tuple[dict[str, int], tuple[str, ...]]:
    symbols = sorted({name for spec in program.inputs for size in spec.shape for name in size_symbols(size)})
    strangers = sorted(set(given or {}) - set(symbols))
    if strangers:
        raise ArgumentError(f"the program has no symbolic size '{strangers[0]}'; it has: "
                            f"{', '.join(symbols) or 'none'}")
    definition = getattr(obj, "definition", None)
    options = definition.options if definition is not None else getattr(obj, "options", {})
    settled = {**options.get("sizes", {}), **(getattr(obj, "last_sizes", None) or {}), **(given or {})}
    return ({name: settled.get(name, ASSUMED_SIZE) for name in symbols},
            tuple(name for name in symbols if name not in settled))


def _totals(obj: Any, program: Program, sizes: Mapping[str, int]) -> dict[str, int]:
    memory = getattr(obj, "memory", None)
    if not isinstance(memory, Memory):
        memory = measure(program, None, 0)
    return {name: evaluate_size(getattr(memory, name).formula, sizes)
            for name in ("arena", "inputs", "outputs", "variables", "constants", "peak")}


class _Buffers:
    """Makes the buffers of a plan."""

    def __init__(self, program: Program, sizes: Mapping[str, int]) -> None:
        self._program, self._sizes = program, sizes
        self._touched: list[list[int]] = [[] for _ in program.buffers]
        self._writer: dict[int, int] = {}
        for number, step in enumerate(program.steps):
            for index in sorted({*step.reads, *step.writes}):
                self._touched[index].append(number)
            for index in step.writes:
                self._writer.setdefault(index, number)
        self._chain = {number: chain for chain in program.chains
                       for number in range(chain.first, chain.first + chain.count)}
        self._results = {spec.buffer for spec in program.outputs}
        self._workspaces = find_workspaces(program)
        self._nodes: dict[tuple[int, str, str], list[str]] = {}
        for node in program.graphs[-1].nodes if program.graphs else ():
            for number in node.steps:
                self._nodes.setdefault((number, node.op, node.type), []).extend(node.lines)

    def list(self) -> Iterable[PlannedBuffer]:
        for index, buffer in enumerate(self._program.buffers):
            first, last = self._life(index, buffer)
            offset = self._bytes(buffer.offset) if buffer.place == "arena" else 0
            yield PlannedBuffer(index, self._name(buffer), _type(buffer), buffer.place, self._role(index, buffer),
                                offset, self._bytes(buffer.nbytes), first, last, tuple(self._touched[index]),
                                self._lines(index, buffer))

    def _bytes(self, size: Size) -> int:
        return evaluate_size(size, self._sizes)

    def _life(self, index: int, buffer: Buffer) -> tuple[int, int]:
        """The steps that it lives in, chains counted as one."""
        end = max(len(self._program.steps) - 1, 0)
        touched = self._touched[index]
        if buffer.place != "arena" or not touched:
            return 0, end
        first, last = self._chain.get(touched[0]), self._chain.get(touched[-1])
        return (first.first if first else touched[0],
                end if index in self._results else last.first + last.count - 1 if last else touched[-1])

    def _role(self, index: int, buffer: Buffer) -> str:
        if buffer.place != "arena":
            return buffer.place
        return "workspace" if index in self._workspaces else "result" if index in self._results else "value"

    def _name(self, buffer: Buffer) -> str:
        """What the user calls it, where the user does."""
        named: dict[str, Any] = {"input": self._program.inputs, "variable": self._program.variables,
                                 "output": self._program.outputs}
        specs = named.get(buffer.place)
        return (specs[buffer.index].name if specs else "") or buffer.name

    def _lines(self, index: int, buffer: Buffer) -> tuple[str, ...]:
        """The lines of the node that it holds, else those of the step that fills it."""
        if buffer.place in ("input", "variable"):
            specs: Any = self._program.inputs if buffer.place == "input" else self._program.variables
            return tuple(filter(None, [specs[buffer.index].location]))
        number = self._writer.get(index)
        if number is None:
            return ()
        own = self._nodes.get((number, buffer.name, _type(buffer)))
        return tuple(dict.fromkeys(own)) if own else self._program.notes[self._program.steps[number].note].lines


def _type(buffer: Buffer) -> str:
    return f"{buffer.dtype}[{', '.join(map(str, buffer.shape))}]"


def _held(buffers: Iterable[PlannedBuffer], steps: int) -> tuple[int, ...]:
    """Bytes of the arena in use at each step; places that two buffers share count once."""
    alive: list[list[tuple[int, int]]] = [[] for _ in range(steps)]
    for each in buffers:
        if each.place == "arena" and each.nbytes:
            for number in range(each.first, each.last + 1):
                alive[number].append((each.offset, each.offset + each.nbytes))
    return tuple(_union(places) for places in alive)


def _union(places: list[tuple[int, int]]) -> int:
    total, end = 0, 0
    for low, high in sorted(places):
        total += max(0, high - max(low, end))
        end = max(end, high)
    return total
