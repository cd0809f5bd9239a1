"""Memory of a program: its arena, and the tables that tell kernels where everything is.

All tables of a program lie in one row of int64 slots:

    status block | arguments of step 0 | arguments of step 1 | ... | step table (see `driver`) | chains | launch table

The step table has a row for every step. What a call runs is the launch table, where a chain of steps is one row (see
`chains`); without chains the two are the same.

A step that writes an arena buffer which no other step touches has a *workspace*. Chunks of it may run in several
threads, so each thread gets arguments of its own, with a workspace of its own: the first thread's is in the arena, the
others' are in a block behind it.

Levels: a `Layout` is what is known when the program is loaded: which slot holds what. A `Binding` is that row filled
in for one combination of symbolic sizes; only the addresses of inputs and outputs change from call to call. The arena
is shared by all bindings of an executable and grows to the largest.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from staticgraph.compiler.program import ALIGNMENT, STATUS_SLOTS, UNUSED, Argument, Chain, Program, Step
from staticgraph.errors import VerificationError
from staticgraph.types import Dim, Size, evaluate_size, floor_divide, maximum_size

from .chains import HEAD_SLOTS, PART_SLOTS, block_of, chain_address
from .convert import Array
from .driver import STEP_SLOTS
from .results import Results
from .threads import chunk_of

SLOT_BYTES = 8
PAGE = 4096

PRIVATE_LIMIT = 256 * 2**20
"""Bytes of workspaces for more threads; steps that would need more are left to one."""

BRIEF_WORK = 2**14
"""Bytes moved and operations of a call that is over before it pays to let other threads of Python run. Few, because
what a kernel computes can be the square of what it reads."""


def _address_by_interface(array: Array) -> int:
    return int(array.__array_interface__["data"][0])


def _address_by_header(array: Array, peek: Any = ctypes.c_int64.from_address, data: int = object.__basicsize__) -> int:
    """The data pointer is the first field after the object header (PyArrayObject_fields in NumPy's C interface)."""
    return peek(id(array) + data).value     # type: ignore[no-any-return]


def _choose_address_of() -> Callable[[Array], int]:
    """Reading the header is ten times faster than asking; it is believed only where the two agree."""
    probes = [np.zeros(shape, dtype) for shape, dtype in (((), "bool"), ((3,), "int8"), ((2, 5), "float64"))]
    probes.append(probes[-1][1:, 2:])
    if np.ndarray.__basicsize__ >= object.__basicsize__ + SLOT_BYTES and all(
            _address_by_header(each) == _address_by_interface(each) for each in probes):
        return _address_by_header
    return _address_by_interface


address_of = _choose_address_of()


class Arena:
    """Memory for intermediate results. `generation` counts its moves."""

    def __init__(self) -> None:
        self.generation = 0
        self.address = 0
        self.nbytes = 0
        self._block: Array | None = None

    def reserve(self, nbytes: int) -> None:
        """Make room for at least so many bytes; what the arena held is lost when it moves."""
        if nbytes <= self.nbytes:
            return
        room = -(-max(nbytes, self.nbytes + self.nbytes // 4) // PAGE) * PAGE
        self._block, self.nbytes, self.address = None, 0, 0     # the old block goes before the new one comes
        self.generation += 1
        self._block = np.empty(room + ALIGNMENT, np.uint8)
        self.address = -(-address_of(self._block) // ALIGNMENT) * ALIGNMENT
        self.nbytes = room

    def view(self, offset: int, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
        """An array on a part of the arena."""
        assert self._block is not None
        return np.ndarray(shape, dtype, self._block.data, self.address - address_of(self._block) + offset)


@dataclass
class Binding:
    """A program's tables for one combination of sizes.

    `input_patches` and `output_patches` hold, for each input and output, the (slot, bytes to add) where its address
    goes; `results` makes the arrays that a call returns; `sizes` are the symbols' values; `parallel` says that threads
    may help; `brief` says that a call is over before it pays to let others run; `generation` is that of the arena which
    the table points into; `call` is the native way in, where there is one. `steps` is the address of the step table,
    `launches` that of the launch table.
    """

    sizes: Mapping[str, int]
    row: Array
    slots: memoryview
    status: int
    steps: int
    launches: int
    parallel: bool
    input_patches: tuple[tuple[tuple[int, int], ...], ...]
    output_patches: tuple[tuple[tuple[int, int], ...], ...]
    results: Results
    arena_bytes: int
    arena_slots: Array
    arena_offsets: Array
    buffer_offsets: Mapping[int, int]
    brief: bool
    generation: int = -1
    call: Callable[..., Any] | None = None

    def settle(self, arena: Arena) -> None:
        """Make room in the arena, and point into it."""
        arena.reserve(self.arena_bytes)
        if self.generation != arena.generation:
            self.row[self.arena_slots] = self.arena_offsets + arena.address
            self.generation = arena.generation


class Layout:
    """Which slot holds what, for all sizes and a number of threads."""

    def __init__(self, program: Program, kernels: Sequence[int], variables: Sequence[Array],
                 constants: Sequence[Array], threads: int = 1) -> None:
        self._program = program
        self._threads = threads
        self._fixed = {"variable": [address_of(each) for each in variables],
                       "constant": [address_of(each) for each in constants]}
        self._formulas: dict[Dim, int] = {}
        self._terms: list[tuple[int, int]] = []     # (slot, formula): the formula's value is added to the slot
        self._own: list[tuple[int, int]] = []     # (slot, target slot): holds the address of another slot
        self._arena: list[int] = []
        self._arena_views: list[tuple[int, Size]] = []     # the buffer of each slot in _arena, and the place in it
        self._moving: dict[str, list[list[int]]] = {"input": [[] for _ in program.inputs],
                                                    "output": [[] for _ in program.outputs]}
        self._template = [0] * STATUS_SLOTS
        self._workspaces = find_workspaces(program)
        self._arena_end = align(program.arena_bytes)
        self._private_bytes = self._measure_workspaces()
        self._steps = self._lay_steps(kernels)
        self._chains = self._lay_chains()
        self.launched = _launched(program)
        self._launches = len(self._template) if program.chains else self._steps
        if program.chains:
            self._template += [0] * (STEP_SLOTS * len(self.launched))

    @property
    def arena_bytes(self) -> Size:
        """What the arena holds, with a workspace for each thread."""
        more = (self._threads - 1) * self._private_bytes
        return self._arena_end + more if isinstance(more, Dim) or more else self._program.arena_bytes

    def _measure_workspaces(self) -> Size:
        """Bytes of workspace that one more thread needs: those of the step that needs most."""
        most: Size = 0
        for step in self._program.steps:
            need: Size = 0
            for index in self._workspaces.intersection(step.writes):
                need = need + align(self._program.buffers[index].nbytes)
            most = maximum_size(most, need)
        return most

    def _lay_steps(self, kernels: Sequence[int]) -> int:
        starts = []
        for step in self._program.steps:
            starts.append(len(self._template))
            for thread in range(self._threads if self._is_private(step) else 1):
                place = self._arena_end + (thread - 1) * self._private_bytes
                for argument in step.arguments:
                    place = self._lay_argument(argument, thread, place)
        first = len(self._template)
        for step, start in zip(self._program.steps, starts):
            slot = len(self._template)
            stride = SLOT_BYTES * len(step.arguments) if self._is_private(step) else 0
            self._template += [kernels[step.kernel], 0, 0, 0, stride]
            self._own.append((slot + 1, start))
            self._add(slot + 2, step.extent)
        return first

    def _lay_chains(self) -> list[int]:
        """The first slot of each chain's table."""
        starts = []
        for chain in self._program.chains:
            starts.append(len(self._template))
            self._template += [chain.count, 0] + [0] * (PART_SLOTS * chain.count)
        return starts

    def _is_private(self, step: Step) -> bool:
        return not self._workspaces.isdisjoint(step.writes)

    def _lay_argument(self, argument: Argument, thread: int, place: Size) -> Size:
        """One more slot. `place` is where the thread's next workspace lies; returns the place after it."""
        slot = len(self._template)
        self._template.append(0)
        if argument.kind == "status":
            self._own.append((slot, 0))
            return place
        if argument.kind == "size":
            self._add(slot, argument.value)
            return place
        index = evaluate_size(argument.value, {})
        buffer = self._program.buffers[index]
        self._add(slot, argument.offset)
        if thread and index in self._workspaces:
            self._add(slot, place)
            self._arena.append(slot)
            self._arena_views.append((index, argument.offset))
            return place + align(buffer.nbytes)
        if buffer.place == "arena":
            self._add(slot, buffer.offset)
            self._arena.append(slot)
            self._arena_views.append((index, argument.offset))
        elif buffer.place in self._moving:
            self._moving[buffer.place][buffer.index].append(slot)
        else:
            self._template[slot] += self._fixed[buffer.place][buffer.index]
        return place

    def _add(self, slot: int, size: Size) -> None:
        if isinstance(size, Dim):
            self._terms.append((slot, self._formulas.setdefault(size, len(self._formulas))))
        else:
            self._template[slot] += size

    def bind(self, sizes: Mapping[str, int]) -> Binding:
        """The tables for these sizes, all but the addresses of arena, inputs and outputs."""
        program = self._program
        row = np.array(self._template, np.int64)
        values = np.array([formula.evaluate(sizes) for formula in self._formulas], np.int64)
        if self._terms:
            slots, formulas = np.array(self._terms, np.int64).T
            np.add.at(row, slots, values[formulas])
        base = address_of(row)
        if self._own:
            slots, targets = np.array(self._own, np.int64).T
            row[slots] = base + SLOT_BYTES * targets
        private = (self._threads - 1) * evaluate_size(self._private_bytes, sizes)
        arena_bytes = evaluate_size(self._arena_end, sizes) + private
        arena = np.array(self._arena, np.int64)
        if arena.size and not 0 <= row[arena].min() <= row[arena].max() <= arena_bytes:
            self._check_places(row, arena_bytes, sizes)
        parallel, brief = self._cut(row, sizes, private <= PRIVATE_LIMIT)
        if program.chains:
            parallel = self._fill_launches(row, sizes)
        patches = {place: tuple(tuple((slot, int(row[slot])) for slot in slots) for slots in each)
                   for place, each in self._moving.items()}
        return Binding(
            sizes=dict(sizes), row=row, slots=row.data, status=base, steps=base + SLOT_BYTES * self._steps,
            launches=base + SLOT_BYTES * self._launches,
            parallel=parallel and self._threads > 1,
            input_patches=patches["input"], output_patches=patches["output"],
            results=Results(tuple(tuple(evaluate_size(size, sizes) for size in spec.shape) for spec in program.outputs),
                            [np.dtype(spec.dtype) for spec in program.outputs]),
            arena_bytes=arena_bytes if private <= PRIVATE_LIMIT else arena_bytes - private,
            arena_slots=arena, arena_offsets=row[arena],
            buffer_offsets={spec.buffer: evaluate_size(program.buffers[spec.buffer].offset, sizes)
                            for spec in program.outputs},
            brief=brief)

    def _check_places(self, row: Array, arena_bytes: int, sizes: Mapping[str, int]) -> None:
        """Whatever is not empty lies in the arena. A view of an empty buffer may start anywhere (a flipped one starts
        at its last element), and so may an empty view, whose start is a formula of sizes: they are never read."""
        for slot, (index, offset) in zip(self._arena, self._arena_views):
            place = row[slot] - evaluate_size(offset, sizes) if isinstance(offset, Dim) else row[slot]
            if not 0 <= place <= arena_bytes and evaluate_size(self._program.buffers[index].nbytes, sizes):
                raise VerificationError(f"an arena buffer lies outside of the arena's {arena_bytes} bytes for {sizes}")

    def _cut(self, row: Array, sizes: Mapping[str, int], share_private: bool) -> tuple[bool, bool]:
        """Put the chunks into the step table; whether any step has more than one, and whether all are brief."""
        nbytes = [evaluate_size(buffer.nbytes, sizes) for buffer in self._program.buffers]
        table = row[self._steps: self._steps + STEP_SLOTS * len(self._program.steps)].reshape(-1, STEP_SLOTS)
        work = 0
        for step, entry in zip(self._program.steps, table):
            extent, private = int(entry[2]), self._is_private(step)
            traffic = sum(nbytes[index] for index in (*step.reads, *step.writes))
            done = evaluate_size(self._program.notes[step.note].work, sizes)
            threads = self._threads if share_private or not private else 1
            entry[3] = chunk_of(extent, traffic, done, threads)
            work += traffic + done
        return bool((table[:, 3] < table[:, 2]).any()), work <= BRIEF_WORK

    def _fill_launches(self, row: Array, sizes: Mapping[str, int]) -> bool:
        """The rows of the launch table: those of single steps, and the chains; whether any is cut."""
        program = self._program
        steps = row[self._steps: self._steps + STEP_SLOTS * len(program.steps)].reshape(-1, STEP_SLOTS)
        launches = row[self._launches:].reshape(-1, STEP_SLOTS)
        starts = {chain.first: (chain, start) for chain, start in zip(program.chains, self._chains)}
        for entry, first in zip(launches, self.launched):
            if first in starts:
                entry[:] = self._fill_chain(row, steps, *starts[first], sizes)
            else:
                entry[:] = steps[first]
        return bool((launches[:, 3] < launches[:, 2]).any())

    def _fill_chain(self, row: Array, table: Array, chain: Chain, start: int, sizes: Mapping[str, int]) -> list[int]:
        """Fill in the chain's own table; its row of the launch table."""
        program, rows = self._program, evaluate_size(chain.rows, sizes)
        members = range(chain.first, chain.first + chain.count)
        nbytes = {index: evaluate_size(program.buffers[index].nbytes, sizes)
                  for number in members for index in (*program.steps[number].reads, *program.steps[number].writes)}
        written = {index for number in members for index in program.steps[number].writes}
        work = sum(evaluate_size(program.notes[program.steps[number].note].work, sizes) for number in members)
        row[start + 1] = block_of(rows, sum(nbytes[index] for index in written), work)
        parts = row[start + HEAD_SLOTS: start + HEAD_SLOTS + PART_SLOTS * chain.count].reshape(-1, PART_SLOTS)
        parts[:, :2] = table[chain.first: chain.first + chain.count, :2]
        parts[:, 2] = table[chain.first: chain.first + chain.count, 2] // max(1, rows)
        chunk = chunk_of(rows, sum(nbytes.values()), work, self._threads)
        return [chain_address(), address_of(row) + SLOT_BYTES * start, rows, chunk, 0]


def _launched(program: Program) -> list[int]:
    """The first step of each row of the launch table."""
    inside = {number for chain in program.chains for number in range(chain.first + 1, chain.first + chain.count)}
    return [number for number in range(len(program.steps)) if number not in inside]


def align(nbytes: Size) -> Size:
    """Bytes rounded up to the alignment of the arena."""
    return floor_divide(nbytes + (ALIGNMENT - 1), ALIGNMENT) * ALIGNMENT


def find_workspaces(program: Program) -> frozenset[int]:
    """Arena buffers that only one step touches, which therefore means nothing to anybody else."""
    users: dict[int, int] = {spec.buffer: 2 for spec in program.outputs}
    for step in program.steps:
        for index in {*step.reads, *step.writes}:
            users[index] = users.get(index, 0) + 1
    return frozenset(index for step in program.steps for index in step.writes if users[index] == 1
                     and program.buffers[index].place == "arena" and program.buffers[index].name != UNUSED)


@dataclass(frozen=True)
class MemoryUse:
    """Bytes of one kind: as a formula of the symbolic sizes, and for the sizes of the last call."""

    formula: Size
    last: int | None

    def __str__(self) -> str:
        if isinstance(self.formula, Dim):
            return f"{self.formula} bytes" + (f", {self.last} at the last call" if self.last is not None else "")
        return f"{self.formula} bytes"


@dataclass(frozen=True)
class Memory:
    """What a program holds in memory, on the device that it runs on. `reserved` is the arena as it was allocated; it
    never shrinks. `pinned` is what a GPU program has on the host, for copies. `peak` is what a call needs beside its
    inputs, as the plan has it: the arena, with a workspace for each thread, and the outputs. `allocated` is what was
    allocated for that: the same, but for the page that the arena ends in and for room left by a larger call."""

    arena: MemoryUse
    inputs: MemoryUse
    outputs: MemoryUse
    variables: MemoryUse
    constants: MemoryUse
    reserved: int
    peak: MemoryUse
    allocated: int | None
    pinned: int = 0

    def __str__(self) -> str:
        names = ("arena", "inputs", "outputs", "variables", "constants")
        lines = [f"{name:<10} {getattr(self, name)}" for name in names]
        lines.append(f"{'reserved':<10} {self.reserved} bytes for the arena")
        found = f"; {self.allocated} allocated" if self.allocated is not None else ""
        lines.append(f"{'peak':<10} {self.peak} for arena and outputs{found}")
        if self.pinned:
            lines.append(f"{'pinned':<10} {self.pinned} bytes on the host")
        return "\n".join(lines)


def count_bytes(shapes: Sequence[tuple[Sequence[Size], str]]) -> Size:
    """The bytes of (shape, dtype) pairs together."""
    total: Size = 0
    for shape, dtype in shapes:
        nbytes: Size = np.dtype(dtype).itemsize
        for size in shape:
            nbytes = nbytes * size
        total = total + nbytes
    return total


def measure(program: Program, sizes: Mapping[str, int] | None, reserved: int, pinned: int = 0,
            arena: Size | None = None) -> Memory:
    """The memory of a program, for the sizes of its last call if there was one. `arena` is what the arena has to hold
    where that is more than what is planned."""
    def use(formula: Size) -> MemoryUse:
        return MemoryUse(formula, None if sizes is None else evaluate_size(formula, sizes))

    outputs = use(count_bytes([(spec.shape, spec.dtype) for spec in program.outputs]))
    return Memory(
        arena=use(program.arena_bytes),
        inputs=use(count_bytes([(spec.shape, spec.dtype) for spec in program.inputs])),
        outputs=outputs,
        variables=use(count_bytes([(spec.shape, spec.dtype) for spec in program.variables])),
        constants=use(sum(each.nbytes for each in program.constants)),
        reserved=reserved, pinned=pinned,
        peak=use((program.arena_bytes if arena is None else arena) + outputs.formula),
        allocated=None if outputs.last is None else reserved + outputs.last)
