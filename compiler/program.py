"""The Program: everything the runtime needs, as plain data. It is the output of the compiler and its last level.

A program is a list of steps over buffers. Each step calls one kernel

    kernel(args, start, stop)

where ``args`` points to a table of int64 slots (addresses of buffers, sizes, the address of the status block) and
``start, stop`` is a range of the kernel's parallel iterations. Sizes and arena offsets are functions of the symbolic
dimensions, so one program serves every batch size: the runtime evaluates them once for each combination of sizes.

Invariants (`verify` checks them):
* buffers of place "arena" do not overlap while both are alive; their offsets are multiples of `ALIGNMENT`;
* every step's arguments refer to existing buffers; a kernel writes only to the buffers that the step lists in `writes`;
* steps of stage "commit" cannot fail and come last: they write variables, after everything that can fail;
* nothing here holds a Tensor, a Python callable or an address.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from staticgraph.errors import VerificationError
from staticgraph.types import Size, divide_exactly

ALIGNMENT = 64
"""Bytes; every arena buffer starts at a multiple."""

UNUSED = "unused"
"""The name of buffers that one step writes and nothing reads, and that are no workspaces of it."""

STATUS_SLOTS = 4
"""int64 slots of the status block: [check id + 1, or 0 for success; value; size it was held against; free]."""


@dataclass(frozen=True)
class Launch:
    """How a CUDA kernel is launched over a step's `extent` iterations: a block has `threads` threads and takes `items`
    iterations, so the grid has ``ceil(extent / items)`` blocks, but no more than `most_blocks` where that is not 0
    (then each block goes on with further iterations, a grid away). Nothing is launched for an extent of 0."""

    threads: int
    items: int
    most_blocks: int = 0

    def blocks(self, extent: int) -> int:
        needed = -(-extent // self.items)
        return min(needed, self.most_blocks) if self.most_blocks else needed


@dataclass(frozen=True)
class Kernel:
    """Source text of one kernel. `key` is the hash of `text`, which holds no user names; equal kernels are shared.
    On CUDA, `launch` says how it is started, and `library` names a vendor's routine with the same arguments that may
    take its place ("matmul"), or nothing."""

    name: str
    key: str
    text: str
    launch: Launch | None = None
    library: str = ""


@dataclass(frozen=True)
class Buffer:
    """A contiguous, row-major array.

    place: "input" | "output" | "variable" | "constant" (then `index` says which one) or "arena" (then `offset`
    is its distance in bytes from the arena's start).
    """

    name: str
    dtype: str
    shape: tuple[Size, ...]
    place: str
    index: int = 0
    offset: Size = 0
    nbytes: Size = 0


@dataclass(frozen=True)
class Argument:
    """One slot of a step's argument table.

    kind "buffer": address of buffer `value` (its index in `Program.buffers`) plus `offset` bytes;
    kind "size": the integer `value`; kind "status": address of the status block.
    """

    kind: str
    value: Size = 0
    offset: Size = 0


@dataclass(frozen=True)
class Step:
    """One kernel call over parallel iterations ``0 .. extent``."""

    kernel: int
    arguments: tuple[Argument, ...]
    extent: Size
    stage: str = "compute"
    reads: tuple[int, ...] = ()
    writes: tuple[int, ...] = ()
    note: int = 0


@dataclass(frozen=True)
class Chain:
    """Steps ``first .. first + count - 1`` may go together through `rows` rows, some rows at a time (see `chains`): an
    equal share of each step's iterations belongs to a row, in order."""

    first: int
    count: int
    rows: Size


@dataclass(frozen=True)
class Note:
    """Side data of a step: what it computes, for whom, and at which cost (see `cost`). `work` is the rough count of
    elements that the runtime shares among threads by. Never part of a hash."""

    title: str
    nodes: tuple[str, ...] = ()
    lines: tuple[str, ...] = ()
    flops: Size = 0
    bytes_moved: Size = 0
    work: Size = 0


@dataclass(frozen=True)
class InputSpec:
    """A placeholder as the caller sees it. Symbolic entries of `shape` are single symbols, bound at the call."""

    name: str
    dtype: str
    shape: tuple[Size, ...]
    location: str = ""


@dataclass(frozen=True)
class OutputSpec:
    """A result: the buffer that holds it."""

    dtype: str
    shape: tuple[Size, ...]
    buffer: int
    name: str = ""


@dataclass(frozen=True)
class VariableSpec:
    """A variable that the program reads or writes; the runtime is handed the storage in the same order."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    written: bool = False
    location: str = ""


@dataclass(frozen=True)
class Guard:
    """Two sizes that must be equal at the call; `message` is the whole error text except for the values."""

    left: Size
    right: Size
    message: str


@dataclass(frozen=True)
class Check:
    """What to say when a kernel reports this check in the status block. `message` is the full text with the
    fields ``{value}`` and ``{size}`` of its headline left open.

    kind "index": a value beyond a size. "nan", "inf" and "assert": something watched is not as it should be; the value
    tells where in an array of `shape` (see `watching`), `guard` is its number among all that is watched."""

    message: str
    kind: str = "index"
    guard: int = -1
    shape: tuple[Size, ...] = ()


@dataclass(frozen=True)
class Print:
    """What the caller wants printed: the result that follows the outputs at the same place in `Program.prints`."""

    label: str
    location: str
    every: int = 1
    edgeitems: int = 3


@dataclass(frozen=True)
class PassRecord:
    """What one pass did: for explain() and the debug output."""

    name: str
    nodes_before: int
    nodes_after: int
    seconds: float
    remarks: tuple[str, ...] = ()


class Rewrite(NamedTuple):
    """What one rule did in a pass: for which lines of the user's (the first few of `places`), and how often."""

    stage: str
    rule: str
    why: str
    times: int
    lines: tuple[str, ...] = ()
    places: int = 0


class Boundary(NamedTuple):
    """A value that goes from one step to another through memory, its line, and why the two are no one kernel. `rows`:
    "together" if the two go through some rows at a time in a chain, or why they do not, where one is a product."""

    first: int
    second: int
    value: str
    line: str
    reason: str
    rows: str = ""


class NodeRecord(NamedTuple):
    """A node of the graph, for people: `inputs` are positions in the record, `detail` its attributes or value as text,
    `steps` the steps that compute it (none for leaves, views and what every kernel makes for itself). `partner` are the
    nodes that belong to it across a derivative: of a forward node its cotangents, of a backward node the node whose
    derivative it takes part in. `flops` and `bytes_moved` are numbers or formulas of sizes (see `cost`)."""

    op: str
    kind: str
    type: str
    name: str = ""
    scope: str = ""
    lines: tuple[str, ...] = ()
    inputs: tuple[int, ...] = ()
    detail: str = ""
    steps: tuple[int, ...] = ()
    partner: tuple[int, ...] = ()
    flops: str = "0"
    bytes_moved: str = "0"


@dataclass(frozen=True)
class GraphRecord:
    """A graph as plain data, inputs first. `stage` is "tensor" (as it was built) or "primitive" (what was scheduled).
    `outputs` are (name, node), `updates` are (node of the variable, node of its new value)."""

    stage: str
    nodes: tuple[NodeRecord, ...]
    outputs: tuple[tuple[str, int], ...] = ()
    updates: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True)
class Program:
    """See the module docstring. `structure` says how outputs go back to the caller: ("tensor",), ("list", n),
    ("tuple", n) or ("dict", keys). The last `outputs`, one for each of `prints`, are not the caller's but printed.
    `rewrites`, `boundaries` and `recomputed` are what `explain` says in words."""

    device: str
    inputs: tuple[InputSpec, ...]
    outputs: tuple[OutputSpec, ...]
    variables: tuple[VariableSpec, ...]
    constants: tuple[np.ndarray[Any, Any], ...]
    buffers: tuple[Buffer, ...]
    kernels: tuple[Kernel, ...]
    steps: tuple[Step, ...]
    notes: tuple[Note, ...]
    guards: tuple[Guard, ...]
    checks: tuple[Check, ...]
    arena_bytes: Size
    structure: tuple[Any, ...] = ("tensor",)
    passes: tuple[PassRecord, ...] = field(default=(), compare=False)
    graphs: tuple[GraphRecord, ...] = field(default=(), compare=False)
    chains: tuple[Chain, ...] = ()
    rewrites: tuple[Rewrite, ...] = field(default=(), compare=False)
    prints: tuple[Print, ...] = ()
    boundaries: tuple[Boundary, ...] = field(default=(), compare=False)
    recomputed: tuple[str, ...] = field(default=(), compare=False)


def describe_step(program: Program, number: int) -> str:
    """A step as messages name it: its kernel, what it computes, the user's lines."""
    step = program.steps[number]
    note = program.notes[step.note]
    return f"step {number}, kernel '{program.kernels[step.kernel].name}' ({note.title}; {', '.join(note.lines)})"


def verify(program: Program) -> None:
    """Raise VerificationError unless the program keeps the invariants that can be checked without sizes."""
    limits = {"input": len(program.inputs), "output": len(program.outputs), "variable": len(program.variables),
              "constant": len(program.constants)}
    for buffer in program.buffers:
        if buffer.place != "arena" and not 0 <= buffer.index < limits.get(buffer.place, -1):
            raise VerificationError(f"buffer '{buffer.name}' is {buffer.place} {buffer.index}, which does not exist")
    _verify_chains(program)
    committed = False
    for number, step in enumerate(program.steps):
        committed = committed or step.stage == "commit"
        if committed and step.stage != "commit":
            raise VerificationError(f"step {number} computes after variables have been written")
        if not 0 <= step.kernel < len(program.kernels) or not 0 <= step.note < len(program.notes):
            raise VerificationError(f"step {number} names a kernel or note that does not exist")
        used = {argument.value for argument in step.arguments if argument.kind == "buffer"}
        if used != set(step.reads) | set(step.writes) or not all(0 <= int(str(b)) < len(program.buffers) for b in used):
            raise VerificationError(f"step {number}: arguments {used} are not its reads and writes")
        for index in step.writes:
            place = program.buffers[index].place
            if place in ("input", "constant") or (place == "variable" and step.stage != "commit"):
                raise VerificationError(f"step {number} writes {place} '{program.buffers[index].name}'")


def _verify_chains(program: Program) -> None:
    """Chains are runs of steps that do not overlap, compute, and share their rows evenly."""
    free = 0
    for chain in program.chains:
        if chain.first < free or chain.count < 2 or chain.first + chain.count > len(program.steps):
            raise VerificationError(f"steps {chain.first} to {chain.first + chain.count - 1} are no chain")
        free = chain.first + chain.count
        for step in program.steps[chain.first: free]:
            if step.stage != "compute" or divide_exactly(step.extent, chain.rows) is None:
                raise VerificationError(f"a step over {step.extent} is in a chain of {chain.rows} rows")
