"""Memory of a program: its arena, and the tables that tell kernels where everything is.

All tables of a program lie in one row of int64 slots:

    status block | arguments of step 0 | arguments of step 1 | ... | step table (kernel, arguments, extent; each step)

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

from staticgraph.compiler.program import ALIGNMENT, STATUS_SLOTS, Program
from staticgraph.errors import VerificationError
from staticgraph.types import Dim, Size, evaluate_size

from .convert import Array
from .driver import STEP_SLOTS

SLOT_BYTES = 8
PAGE = 4096


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
    goes; `sizes` are the symbols' values; `generation` is that of the arena which the table points into.
    """

    sizes: Mapping[str, int]
    row: Array
    slots: memoryview
    status: int
    steps: int
    input_patches: tuple[tuple[tuple[int, int], ...], ...]
    output_patches: tuple[tuple[tuple[int, int], ...], ...]
    output_shapes: tuple[tuple[int, ...], ...]
    arena_bytes: int
    arena_slots: Array
    arena_offsets: Array
    buffer_offsets: Mapping[int, int]
    generation: int = -1

    def settle(self, arena: Arena) -> None:
        """Make room in the arena, and point into it."""
        arena.reserve(self.arena_bytes)
        if self.generation != arena.generation:
            self.row[self.arena_slots] = self.arena_offsets + arena.address
            self.generation = arena.generation


class Layout:
    """Which slot holds what, for all sizes."""

    def __init__(self, program: Program, kernels: Sequence[int], variables: Sequence[Array],
                 constants: Sequence[Array]) -> None:
        self._program = program
        self._fixed = {"variable": [address_of(each) for each in variables],
                       "constant": [address_of(each) for each in constants]}
        self._formulas: dict[Dim, int] = {}
        self._terms: list[tuple[int, int]] = []     # (slot, formula): the formula's value is added to the slot
        self._own: list[tuple[int, int]] = []     # (slot, target slot): holds the address of another slot
        self._arena: list[int] = []
        self._moving: dict[str, list[list[int]]] = {"input": [[] for _ in program.inputs],
                                                    "output": [[] for _ in program.outputs]}
        self._template = [0] * STATUS_SLOTS
        self._steps = self._lay_steps(kernels)

    def _lay_steps(self, kernels: Sequence[int]) -> int:
        starts = []
        for step in self._program.steps:
            starts.append(len(self._template))
            for argument in step.arguments:
                slot = len(self._template)
                self._template.append(0)
                if argument.kind == "status":
                    self._own.append((slot, 0))
                elif argument.kind == "size":
                    self._add(slot, argument.value)
                else:
                    self._lay_buffer(slot, evaluate_size(argument.value, {}), argument.offset)
        first = len(self._template)
        for step, start in zip(self._program.steps, starts):
            slot = len(self._template)
            self._template += [kernels[step.kernel]] + [0] * (STEP_SLOTS - 1)
            self._own.append((slot + 1, start))
            self._add(slot + 2, step.extent)
        return first

    def _lay_buffer(self, slot: int, index: int, offset: Size) -> None:
        buffer = self._program.buffers[index]
        self._add(slot, offset)
        if buffer.place == "arena":
            self._add(slot, buffer.offset)
            self._arena.append(slot)
        elif buffer.place in self._moving:
            self._moving[buffer.place][buffer.index].append(slot)
        else:
            self._template[slot] += self._fixed[buffer.place][buffer.index]

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
        arena = np.array(self._arena, np.int64)
        arena_bytes = evaluate_size(program.arena_bytes, sizes)
        if arena.size and not 0 <= row[arena].min() <= row[arena].max() <= arena_bytes:
            raise VerificationError(f"an arena buffer lies outside of the arena's {arena_bytes} bytes for {sizes}")
        patches = {place: tuple(tuple((slot, int(row[slot])) for slot in slots) for slots in each)
                   for place, each in self._moving.items()}
        return Binding(
            sizes=dict(sizes), row=row, slots=row.data, status=base, steps=base + SLOT_BYTES * self._steps,
            input_patches=patches["input"], output_patches=patches["output"],
            output_shapes=tuple(tuple(evaluate_size(size, sizes) for size in spec.shape) for spec in program.outputs),
            arena_bytes=arena_bytes, arena_slots=arena, arena_offsets=row[arena],
            buffer_offsets={spec.buffer: evaluate_size(program.buffers[spec.buffer].offset, sizes)
                            for spec in program.outputs})


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
    """What a program holds in memory. `reserved` is the arena as it was allocated; it never shrinks."""

    arena: MemoryUse
    inputs: MemoryUse
    outputs: MemoryUse
    variables: MemoryUse
    constants: MemoryUse
    reserved: int

    def __str__(self) -> str:
        names = ("arena", "inputs", "outputs", "variables", "constants")
        lines = [f"{name:<10} {getattr(self, name)}" for name in names]
        return "\n".join([*lines, f"{'reserved':<10} {self.reserved} bytes for the arena"])


def count_bytes(shapes: Sequence[tuple[Sequence[Size], str]]) -> Size:
    """The bytes of (shape, dtype) pairs together."""
    total: Size = 0
    for shape, dtype in shapes:
        nbytes: Size = np.dtype(dtype).itemsize
        for size in shape:
            nbytes = nbytes * size
        total = total + nbytes
    return total


def measure(program: Program, sizes: Mapping[str, int] | None, reserved: int) -> Memory:
    """The memory of a program, for the sizes of its last call if there was one."""
    def use(formula: Size) -> MemoryUse:
        return MemoryUse(formula, None if sizes is None else evaluate_size(formula, sizes))

    return Memory(
        arena=use(program.arena_bytes),
        inputs=use(count_bytes([(spec.shape, spec.dtype) for spec in program.inputs])),
        outputs=use(count_bytes([(spec.shape, spec.dtype) for spec in program.outputs])),
        variables=use(count_bytes([(spec.shape, spec.dtype) for spec in program.variables])),
        constants=use(sum(each.nbytes for each in program.constants)),
        reserved=reserved)
