"""Where everything is on a device: the rows of numbers that kernels are launched with.

All parameters of kernels are int64. Those of a program lie in one row,

    arguments of step 0, its extent | arguments of step 1, its extent | ...

and the driver is given an array of pointers into it for each step. The device memory of an executable is one arena:

    small inputs | status block | small results || intermediate results | large inputs | large results

What is left of the double bar has a mirror of pinned memory on the host (see `Staging`), so that one copy brings all
small inputs and a status of zeros, and one copy takes all small results and the status back. Arrays of more than
`STAGED_LIMIT` bytes are copied straight from and to the arrays of the caller. Arrays that are on the device already
have no place in the arena.

Levels: a `Layout` is what is known when a program is loaded. `bind` makes a `Binding` of it for one combination of
sizes and of places of the inputs. `Binding.settle` fills in addresses.
"""

from __future__ import annotations

import ctypes
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any

import numpy as np

from staticgraph.compiler.program import STATUS_SLOTS, Program, describe_step
from staticgraph.errors import DeviceError, VerificationError
from staticgraph.types import Dim, Size, evaluate_size

from ..convert import Array
from ..memory import SLOT_BYTES, address_of
from .memory import rounded

STAGED_LIMIT = 2**20
"""Bytes: larger arrays are copied without a stop in pinned memory. The driver moves pageable memory at a third to a
half of the speed of pinned memory, but getting there costs a copy as well; for small arrays, one copy of all is what
counts."""

STAGED_TOTAL = 2**25
"""Bytes of all staged inputs, and of all staged results, together; what does not fit is copied straight too."""

MOST_BLOCKS = 2**31 - 1
"""What the grid of a launch may have."""

STATUS_BYTES = rounded(SLOT_BYTES * STATUS_SLOTS)

Group = tuple[str, int]
"""What an address is counted from: (place, index), as in `program.Buffer`; ("status", 0) is the status block."""


@dataclass
class Place:
    """The bytes of an input or a result in the arena; `staged` ones have the same offset in the mirror."""

    offset: int
    nbytes: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    staged: bool


@dataclass(frozen=True)
class Launching:
    """A kernel launch of a step that has something to do: pointers to its parameters, and the grid."""

    step: int
    parameters: Any
    blocks: int
    threads: int

    def values(self) -> list[int]:
        """The parameters as they are at this moment: the arguments of the step, then its extent."""
        return [ctypes.c_int64.from_address(place).value for place in self.parameters]


@dataclass
class Binding:
    """A program's row and places for one combination of sizes. Inputs and results that live elsewhere have no place.
    `arena_bytes` is all that a call needs on the device beside variables, constants and arrays of the caller."""

    sizes: Mapping[str, int]
    row: Array
    groups: Mapping[Group, tuple[Array, Array]]
    starts: Sequence[int]
    inputs: list[Place | None]
    outputs: list[Place | None]
    shapes: list[tuple[int, ...]]
    status: int
    staged_bytes: int
    arena_start: int
    arena_bytes: int
    launches: list[Launching] = field(default_factory=list)
    where: dict[Group, int] = field(default_factory=dict)

    def point(self, group: Group, address: int) -> None:
        """Say where a place begins."""
        self.where[group] = address
        known = self.groups.get(group)
        if known is not None:
            slots, offsets = known
            self.row[slots] = offsets + address

    def steps_of(self, group: Group) -> set[int]:
        """The steps that are told this address."""
        known = self.groups.get(group)
        if known is None:
            return set()
        return {int(np.searchsorted(self.starts, slot, "right")) - 1 for slot in known[0]}

    def settle(self, arena: int) -> None:
        """Point into an arena."""
        self.point(("arena", 0), arena + self.arena_start)
        self.point(("status", 0), arena + self.status)
        for name, places in (("input", self.inputs), ("output", self.outputs)):
            for index, place in enumerate(places):
                if place is not None:
                    self.point((name, index), arena + place.offset)


class Layout:
    """Which slot of the row holds what, for all sizes."""

    def __init__(self, program: Program) -> None:
        self._program = program
        self._terms: list[tuple[int, Size]] = []     # (slot, formula)
        self._group_of: dict[Group, list[int]] = {}
        self._starts: list[int] = []
        self._checked: list[tuple[int, int, Size]] = []     # slots into the arena, the buffer and the place in it
        slot = 0
        for step in program.steps:
            self._starts.append(slot)
            for argument in step.arguments:
                self._lay(argument.kind, argument.value, argument.offset, slot)
                slot += 1
            self._terms.append((slot, step.extent))
            slot += 1
        self._count = slot

    def _lay(self, kind: str, value: Size, offset: Size, slot: int) -> None:
        if kind == "size":
            self._terms.append((slot, value))
            return
        if kind == "status":
            self._group_of.setdefault(("status", 0), []).append(slot)
            return
        number = evaluate_size(value, {})
        buffer = self._program.buffers[number]
        self._terms.append((slot, offset))
        if buffer.place == "arena":
            self._terms.append((slot, buffer.offset))
            self._group_of.setdefault(("arena", 0), []).append(slot)
            self._checked.append((slot, number, offset))
        else:
            self._group_of.setdefault((buffer.place, buffer.index), []).append(slot)

    def bind(self, sizes: Mapping[str, int], inputs: Sequence[tuple[tuple[int, ...], str]],
             outputs_here: bool) -> Binding:
        """The row and the places for these sizes. `inputs` are the shape of each, and how it comes: "host" arrays have
        a place in the arena, "device" arrays have not, "copied" ones are on the device but not where they can be used.
        `outputs_here`: results go to the host, by way of the arena."""
        program = self._program
        row = np.zeros(max(self._count, 1), np.int64)
        known: dict[Dim, int] = {}
        for slot, size in self._terms:
            if isinstance(size, Dim):
                if size not in known:
                    known[size] = evaluate_size(size, sizes)
                size = known[size]
            row[slot] += size
        self._check_places(row, sizes)
        shapes = [tuple(evaluate_size(size, sizes) for size in spec.shape) for spec in program.outputs]
        places = [None if way == "device" else _place(shape, spec.dtype, way == "host")
                  for spec, (shape, way) in zip(program.inputs, inputs)]
        outputs = [_place(shape, spec.dtype) if outputs_here else None
                   for spec, shape in zip(program.outputs, shapes)]
        binding = Binding(
            sizes=dict(sizes), row=row, starts=self._starts, inputs=places, outputs=outputs, shapes=shapes,
            groups={group: (np.array(slots), row[slots]) for group, slots in self._group_of.items()},
            status=0, staged_bytes=0, arena_start=0, arena_bytes=0)
        _arrange(binding, evaluate_size(program.arena_bytes, sizes))
        binding.launches = self._launches(row)
        return binding

    def _launches(self, row: Array) -> list[Launching]:
        base = address_of(row)
        launches = []
        for number, (step, start) in enumerate(zip(self._program.steps, self._starts)):
            count = len(step.arguments) + 1
            extent = int(row[start + count - 1])
            launch = self._program.kernels[step.kernel].launch
            if launch is None:
                raise VerificationError(f"step {number}: its kernel does not say how it is launched")
            blocks = launch.blocks(extent)
            if blocks > MOST_BLOCKS:
                raise DeviceError(f"{describe_step(self._program, number)} needs {blocks} blocks of threads, a GPU "
                                  f"launches {MOST_BLOCKS} at most: these sizes are too large for it")
            if blocks > 0:
                places = [base + SLOT_BYTES * (start + position) for position in range(count)]
                launches.append(Launching(number, (ctypes.c_void_p * count)(*places), blocks, launch.threads))
        return launches

    def _check_places(self, row: Array, sizes: Mapping[str, int]) -> None:
        """Whatever is not empty lies in the arena (see `memory.Layout`)."""
        limit = evaluate_size(self._program.arena_bytes, sizes)
        for slot, number, offset in self._checked:
            place = int(row[slot])
            if 0 <= place <= limit:
                continue
            if isinstance(offset, Dim):
                place -= evaluate_size(offset, sizes)
            if not 0 <= place <= limit and evaluate_size(self._program.buffers[number].nbytes, sizes):
                raise VerificationError(f"an arena buffer lies outside of the arena's {limit} bytes for {sizes}")


def _place(shape: Sequence[int], dtype: str, may_stage: bool = True) -> Place:
    kind = np.dtype(dtype)
    nbytes = int(np.prod(shape, dtype=np.int64)) * kind.itemsize
    return Place(0, nbytes, tuple(shape), kind, may_stage and nbytes <= STAGED_LIMIT)


def _arrange(binding: Binding, arena_bytes: int) -> None:
    """Give everything its offset; see the module docstring."""
    inputs = [place for place in binding.inputs if place is not None]
    outputs = [place for place in binding.outputs if place is not None]
    for places in (inputs, outputs):
        for place, total in zip(places, accumulate(rounded(place.nbytes) if place.staged else 0 for place in places)):
            place.staged = place.staged and total <= STAGED_TOTAL
    end = _line_up([place for place in inputs if place.staged], 0)
    binding.status = end
    binding.staged_bytes = _line_up([place for place in outputs if place.staged], end + STATUS_BYTES)
    binding.arena_start = binding.staged_bytes
    end = rounded(binding.arena_start + arena_bytes)
    end = _line_up([place for place in inputs if not place.staged], end)
    binding.arena_bytes = _line_up([place for place in outputs if not place.staged], end)


def _line_up(places: Sequence[Place], start: int) -> int:
    for place in places:
        place.offset = start
        start = rounded(start + place.nbytes)
    return start
