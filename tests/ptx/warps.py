"""Instructions among the lanes of a warp. They execute once all lanes of their mask have come (`Wave.arrive`)."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from .faults import InactiveLane, Unsupported
from .machine import Group, Read, Wave
from .memory import Array
from .operands import Scope
from .parse import Instruction, Pair, Symbol

Execute = Callable[[Wave, Group], None]


def warp_instruction(scope: Scope, instruction: Instruction) -> tuple[Read, Execute] | None:
    """(the mask, what happens then) for instructions that wait for lanes; None for all others."""
    parts = instruction.parts
    if parts == ("bar", "warp", "sync"):
        return _synchronise(scope, instruction)
    if parts[:2] == ("shfl", "sync"):
        return _shuffle(scope, instruction)
    if parts[:2] == ("vote", "sync"):
        return _vote(scope, instruction)
    return None


def _synchronise(scope: Scope, instruction: Instruction) -> tuple[Read, Execute]:
    """Of all warp instructions, this one orders accesses to memory. For part of a warp it is taken to order nothing."""
    mask = scope.reader(instruction.operands[0], "b32")

    def execute(wave: Wave, group: Group) -> None:
        if (mask(wave, group) == np.uint32(0xFFFFFFFF)).all():
            wave.clock.synchronise(slice(None) if group.index is None else group.index >> 5)

    return mask, execute


def _shuffle(scope: Scope, instruction: Instruction) -> tuple[Read, Execute]:
    _, _, mode, kind = instruction.parts
    if mode not in ("up", "down", "bfly", "idx") or kind != "b32":
        raise Unsupported(f"unknown instruction {instruction.opcode}")
    target, source, lane_operand, clamp_operand, mask = instruction.operands
    first, second = (target.first, target.second) if isinstance(target, Pair) else (target, Symbol("_"))
    write, write_inside = scope.writer(first, np.uint32), scope.writer(second, bool)
    read, read_lane = scope.reader(source, "b32"), scope.reader(lane_operand, "u32")
    read_clamp = scope.reader(clamp_operand, "u32")

    def execute(wave: Wave, group: Group) -> None:
        wave.counters.shuffles += group.size
        value = group.spread(read(wave, group))
        where, inside = _source(mode, group.positions & 31, read_lane(wave, group).astype(np.int64) & 31,
                                read_clamp(wave, group).astype(np.int64))
        where = (group.positions & ~31) | where
        if group.index is None:
            result = value[where]
        else:
            present = np.zeros(wave.size, bool)
            present[group.index] = True
            if not present[where].all():
                bad = int(np.flatnonzero(~present[where])[0])
                raise InactiveLane(f"shuffle from lane {int(where[bad]) & 31}, which does not take part",
                                   int(group.slots[bad]))
            spread = np.zeros(wave.size, np.uint32)
            spread[group.index] = value
            result = spread[where]
        write(wave, group, result)
        write_inside(wave, group, inside)

    return scope.reader(mask, "b32"), execute


def _source(mode: str, lane: Array, operand: Array, clamp: Array) -> tuple[Array, Array]:
    """The lane each lane reads, and whether that is the one it asked for (else it reads itself)."""
    segment, last = (clamp >> 8) & 31, clamp & 31
    low = lane & segment
    high = low | (last & ~segment)
    wanted = {"up": lane - operand, "down": lane + operand, "bfly": lane ^ operand,
              "idx": low | (operand & ~segment)}[mode]
    inside = wanted >= high if mode == "up" else wanted <= high
    return np.where(inside, wanted, lane), inside


def _vote(scope: Scope, instruction: Instruction) -> tuple[Read, Execute]:
    _, _, mode, _ = instruction.parts
    if mode not in ("all", "any", "uni", "ballot"):
        raise Unsupported(f"unknown instruction {instruction.opcode}")
    target, source, mask = instruction.operands
    read, read_mask = scope.reader(source, "pred"), scope.reader(mask, "b32")
    write = scope.writer(target, np.uint32 if mode == "ballot" else bool)

    def execute(wave: Wave, group: Group) -> None:
        masks = group.spread(read_mask(wave, group))
        yes = lanes_where(wave, group, group.spread(read(wave, group))) & masks
        write(wave, group, {"ballot": yes, "any": yes != 0, "all": yes == masks,
                            "uni": (yes == 0) | (yes == masks)}[mode])

    return read_mask, execute


def lanes_where(wave: Wave, group: Group, condition: Array) -> Array:
    """For each thread of the group, the lanes of its warp for which the condition holds, as bits."""
    spread = np.zeros(wave.size, bool)
    spread[group.positions] = condition
    return np.packbits(spread, bitorder="little").view(np.uint32)[group.positions >> 5]


def active_mask(scope: Scope, instruction: Instruction) -> Execute:
    write = scope.writer(instruction.operands[0], np.uint32)
    return lambda wave, group: write(wave, group, lanes_where(wave, group, np.ones(group.size, bool)))
