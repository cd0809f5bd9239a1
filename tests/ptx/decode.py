"""A parsed function in, a `Kernel` of basic blocks out: each instruction becomes a closure once, before anything runs.

A block ends before each label, and with each instruction after which threads may part or wait.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from . import conversions as _conversions  # noqa: F401  # adds its forms to the table, as does the next
from . import instructions as _instructions  # noqa: F401
from .access import convert_address, load, store
from .atomics import atomic
from .faults import PtxError, Trap, Unsupported
from .forms import build
from .machine import Block, Group, Read, Step, Wave
from .memory import ALLOCATED, SHARED_START, SharedMemory, Space, alignment_shift
from .operands import DTYPES, Scope
from .parse import Function, Instruction, Module, Pair, Symbol, Vector
from .races import Races
from .warps import active_mask, warp_instruction

End = Callable[[Wave, Group, int], "tuple[int, Group | None]"]
BARRIERS = {("bar", "sync"), ("bar", "cta", "sync")} | {
    ("barrier", *scope, "sync", *aligned) for scope in ((), ("cta",)) for aligned in ((), ("aligned",))}
ENDING = frozenset("bra ret exit trap bar barrier shfl vote".split())


def ends_block(instruction: Instruction) -> bool:
    return instruction.parts[0] in ENDING


def cell_shift(instructions: list[Instruction], shared: bool) -> int:
    """Of the narrowest access to a memory: no two threads can meet in less."""
    narrowest = 16
    for instruction in instructions:
        if instruction.parts[0] in ("ld", "st", "atom", "red") and "param" not in instruction.parts:
            names = {part.split("::")[0] for part in instruction.parts}
            if ("shared" in names) == shared or not names & {"shared", "global"}:
                lanes = 4 if "v4" in names else 2 if "v2" in names else 1
                kind = instruction.parts[-1]
                narrowest = min(narrowest, lanes * (DTYPES[kind].itemsize if kind in DTYPES else 1))
    return alignment_shift(narrowest)


class Kernel:
    """A kernel that a `Launch` can run."""

    def __init__(self, module: Module, function: Function, approximate: bool) -> None:
        self.name, self.function = function.name, function
        self.approximate = approximate
        self.arrays: list[tuple[int, int]] = []     # (offset, bytes) of the arrays in shared memory
        self.dynamic: int | None = None
        self.shared_bytes = SHARED_START
        self.scope = Scope(function, self._lay_out([*module.shared, *function.shared]))
        self.masks: dict[int, Read] = {}
        self.blocks = self._blocks()
        self.register_names = list(self.scope.numbers)
        self.register_count = len(self.register_names)
        self.stores = {space: self._stores(space) for space in ("global", "shared")}
        self.atomics = any(i.parts[0] in ("atom", "red") or "volatile" in i.parts or "relaxed" in i.parts
                           for i in function.instructions)
        self.shifts = {space: cell_shift(function.instructions, space == "shared") for space in ("global", "shared")}

    def _lay_out(self, arrays: list[Any]) -> dict[str, int]:
        offsets = {}
        for array in arrays:
            start = -(-self.shared_bytes // max(array.alignment, 1)) * max(array.alignment, 1)
            offsets[array.name] = start
            if array.nbytes:
                self.arrays.append((start, array.nbytes))
                self.shared_bytes = start + array.nbytes
            else:
                self.dynamic = start
        for name, array in ((array.name, array) for array in arrays if not array.nbytes):
            offsets[name] = self.dynamic = -(-self.shared_bytes // max(array.alignment, 16)) * max(array.alignment, 16)
        return offsets

    def _stores(self, space: str) -> bool:
        return any(i.parts[0] in ("st", "atom", "red") and (space in {p.split("::")[0] for p in i.parts} or
                   not {"shared", "global"} & {p.split("::")[0] for p in i.parts}) for i in self.function.instructions)

    def shared_memory(self, blocks: int, dynamic: int) -> tuple[int, Space, Races]:
        """(bytes from one block's to the next, the memory, its races) for a wave."""
        start = self.dynamic if self.dynamic is not None else self.shared_bytes
        end = max(self.shared_bytes, start + dynamic)
        stride = -(-end // 256) * 256
        space = SharedMemory(blocks, stride)
        rows = space.state.reshape(blocks, stride)
        for offset, nbytes in [*self.arrays, (start, dynamic)]:
            rows[:, offset: offset + nbytes] = ALLOCATED
        return stride, space, Races(stride * blocks, self.shifts["shared"], True, self.stores["shared"], self.atomics)

    # -- blocks -------------------------------------------------------------------------------------------------------

    def _blocks(self) -> list[Block]:
        code = self.function.instructions
        after = {k + 1 for k, instruction in enumerate(code) if ends_block(instruction)}
        leaders = sorted({0, *self.function.targets, *after} - {len(code)})
        self.numbers = {leader: number for number, leader in enumerate(leaders)}
        self.numbers[len(code)] = len(leaders)
        blocks = []
        for number, (leader, limit) in enumerate(zip(leaders, [*leaders[1:], len(code)])):
            instructions = code[leader:limit]
            end: End = _go_on
            body = instructions
            if instructions and ends_block(instructions[-1]):
                body = instructions[:-1]
                end = self._located(self._end, instructions[-1], number)
            blocks.append(Block([self._located(self._step, i) for i in body], instructions, end))
        blocks.append(Block([], code[-1:], _leave))
        return blocks

    def _located(self, decode: Callable[..., Any], instruction: Instruction, *more: Any) -> Any:
        try:
            return decode(instruction, *more)
        except PtxError as error:
            raise error.locate(self.name, instruction.line, instruction.text, 1) from None

    # -- steps --------------------------------------------------------------------------------------------------------

    def _step(self, instruction: Instruction) -> Step:
        step = self._plain_step(instruction)
        if instruction.guard is None:
            return step
        guard = self.scope.reader(instruction.guard, "pred")

        def guarded(wave: Wave, group: Group) -> None:
            chosen = group.where(guard(wave, group))
            if chosen is not None:
                step(wave, chosen)

        return guarded

    def _plain_step(self, instruction: Instruction) -> Step:
        name = instruction.parts[0]
        special = SPECIAL_STEPS.get(name)
        if special is not None:
            return special(self.scope, instruction)
        form = build(instruction.parts, self.approximate)
        targets, operands = instruction.operands[0], instruction.operands[1:]
        if len(operands) != len(form.sources):
            raise Unsupported(f"{instruction.opcode} with {len(operands)} operands")
        reads = [self.scope.reader(operand, kind) for operand, kind in zip(operands, form.sources)]
        if name == "setp" and isinstance(targets, Pair):
            return self._compare_both(form.function, reads, targets)
        return _apply(form.function, reads, self.scope.writer(targets, DTYPES[form.result]))

    def _compare_both(self, function: Any, reads: list[Read], targets: Pair) -> Step:
        """setp with two results: the comparison, and its opposite; with a third operand both are combined with it."""
        if len(reads) != 2:
            raise Unsupported("setp with two results and a third operand")
        first, second = self.scope.writer(targets.first, bool), self.scope.writer(targets.second, bool)

        def step(wave: Wave, group: Group) -> None:
            truth = function(reads[0](wave, group), reads[1](wave, group))
            first(wave, group, truth)
            second(wave, group, ~truth)

        return step

    # -- ends ---------------------------------------------------------------------------------------------------------

    def _end(self, instruction: Instruction, number: int) -> End:
        if instruction.parts[0] == "bra":
            return self._branch(instruction)
        end = self._plain_end(instruction, number)
        return end if instruction.guard is None else _guarded(self.scope.reader(instruction.guard, "pred"), end)

    def _branch(self, instruction: Instruction) -> End:
        label, = instruction.operands
        assert isinstance(label, Symbol)
        if label.name not in self.function.labels:
            raise Unsupported(f"branch to unknown label {label.name}")
        target = self.numbers[self.function.labels[label.name]]
        if instruction.guard is None:
            return lambda wave, group, number: (target, group)
        guard = self.scope.reader(instruction.guard, "pred")

        def branch(wave: Wave, group: Group, number: int) -> tuple[int, Group | None]:
            condition = guard(wave, group)
            taken = int(np.count_nonzero(condition))
            if taken == 0 or taken == len(condition):
                return (target if taken else number + 1), group
            there, here = (Group(wave, group.positions[which]) for which in (condition, ~condition))
            if target < number + 1:
                wave.later(number + 1, here)
                return target, there
            wave.later(target, there)
            return number + 1, here

        return branch

    def _plain_end(self, instruction: Instruction, number: int) -> End:
        parts = instruction.parts
        if parts[0] in ("ret", "exit"):
            return _leave
        if parts[0] == "trap":
            return _trap
        waits = warp_instruction(self.scope, instruction)
        if waits is not None:
            self.masks[number], execute = waits
            return _warp_end(self.masks[number], execute)
        if parts in BARRIERS:
            return _barrier_end(instruction)
        raise Unsupported(f"unknown instruction {instruction.opcode}")


def _apply(function: Any, reads: list[Read], write: Any) -> Step:
    """One closure for each number of operands: a loop over them would cost as much as the operation."""
    if len(reads) == 1:
        a, = reads
        return lambda wave, group: write(wave, group, function(a(wave, group)))
    if len(reads) == 2:
        a, b = reads
        return lambda wave, group: write(wave, group, function(a(wave, group), b(wave, group)))
    if len(reads) == 3:
        a, b, c = reads
        return lambda wave, group: write(wave, group, function(a(wave, group), b(wave, group), c(wave, group)))
    return lambda wave, group: write(wave, group, function(*(read(wave, group) for read in reads)))


def _go_on(wave: Wave, group: Group, number: int) -> tuple[int, Group | None]:
    return number + 1, group


def _leave(wave: Wave, group: Group, number: int) -> tuple[int, Group | None]:
    wave.leave(group)
    return number, None


def _trap(wave: Wave, group: Group, number: int) -> tuple[int, Group | None]:
    raise Trap("trap", int(group.slots[0]))


def _guarded(guard: Read, end: End) -> End:
    def guarded(wave: Wave, group: Group, number: int) -> tuple[int, Group | None]:
        condition = guard(wave, group)
        chosen, rest = group.where(condition), group.where(~condition)
        if chosen is None:
            return number + 1, group
        following, goes_on = end(wave, chosen, number)
        if rest is None:
            return following, goes_on
        if goes_on is not None:
            wave.later(following, goes_on)
        return number + 1, rest

    return guarded


def _barrier_end(instruction: Instruction) -> End:
    if len(instruction.operands) != 1:
        raise Unsupported("barrier for a part of the threads")

    def end(wave: Wave, group: Group, number: int) -> tuple[int, Group | None]:
        wave.counters.barriers += group.warps()
        wave.wait(number + 1, group, instruction)
        return number, None

    return end


def _warp_end(mask: Read, execute: Callable[[Wave, Group], None]) -> End:
    def end(wave: Wave, group: Group, number: int) -> tuple[int, Group | None]:
        ready = wave.arrive(number, group, group.spread(mask(wave, group)))
        if ready is None:
            return number, None
        execute(wave, ready)
        return number + 1, ready

    return end


def _move(scope: Scope, instruction: Instruction) -> Step:
    """mov, also between a register and its parts: mov.b64 {%r1, %r2}, %rd1."""
    kind = instruction.parts[-1]
    if len(instruction.parts) != 2 or kind not in DTYPES:
        raise Unsupported(f"unknown instruction {instruction.opcode}")
    target, source = instruction.operands
    if isinstance(source, Vector):
        return _pack(scope, target, source, kind)
    if isinstance(target, Vector):
        return _unpack(scope, target, source, kind)
    return scope.mover(target, source, kind)     # type: ignore[no-any-return]


def _pack(scope: Scope, target: Any, source: Vector, kind: str) -> Step:
    part = f"b{8 * DTYPES[kind].itemsize // len(source.parts)}"
    reads = [scope.reader(operand, part) for operand in source.parts]
    write = scope.writer(target, DTYPES[kind])

    def step(wave: Wave, group: Group) -> None:
        values = [read(wave, group) for read in reads]
        joined = np.stack(np.broadcast_arrays(*values), axis=1)
        write(wave, group, joined.view(DTYPES[kind]).ravel())

    return step


def _unpack(scope: Scope, target: Vector, source: Any, kind: str) -> Step:
    part = DTYPES[f"b{8 * DTYPES[kind].itemsize // len(target.parts)}"]
    read = scope.reader(source, kind)
    writes = [scope.writer(operand, part) for operand in target.parts]

    def step(wave: Wave, group: Group) -> None:
        value = np.ascontiguousarray(read(wave, group))
        columns = value.view(part).reshape(len(value), -1)
        for k, write in enumerate(writes):
            write(wave, group, columns[:, k].copy())

    return step


def _nothing(scope: Scope, instruction: Instruction) -> Step:
    return lambda wave, group: None


SPECIAL_STEPS: dict[str, Callable[[Scope, Instruction], Step]] = {
    "mov": _move, "ld": load, "st": store, "atom": atomic, "red": atomic, "cvta": convert_address,
    "activemask": active_mask, "membar": _nothing, "fence": _nothing}
