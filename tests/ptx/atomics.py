"""Atomic instructions: one thread after the other, in the order of their numbers or, with a seed, in any order."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .access import ORDERS, SCOPES, Memories, address_reader
from .faults import Unsupported
from .machine import Group, Step, Wave
from .memory import BASE, Array
from .operands import DTYPES, Scope
from .parse import Instruction, Symbol

UFUNCS: dict[str, Any] = {"add": np.add, "and": np.bitwise_and, "or": np.bitwise_or, "xor": np.bitwise_xor,
                          "min": np.minimum, "max": np.maximum}
Update = Callable[..., Array]


def _increment(old: Array, limit: Array) -> Array:
    return np.where(old >= limit, old.dtype.type(0), old + old.dtype.type(1))


def _decrement(old: Array, limit: Array) -> Array:
    return np.where((old == 0) | (old > limit), limit, old - old.dtype.type(1))


UPDATES: dict[str, Update] = {
    **UFUNCS, "exch": lambda old, new: new, "inc": _increment, "dec": _decrement,
    "cas": lambda old, expected, new: np.where(old == expected, new, old)}


def atomic(scope: Scope, instruction: Instruction) -> Step:
    name, *modifiers, kind = instruction.parts
    spaces = [part for part in modifiers if part.split("::")[0] in ("global", "shared")]
    space = spaces[0].split("::")[0] if spaces else "generic"
    rest = [part for part in modifiers if part not in ORDERS | SCOPES | set(spaces)]
    if len(rest) != 1 or rest[0] not in UPDATES or kind not in DTYPES:
        raise Unsupported(f"unknown instruction {instruction.opcode}")
    what, dtype = rest[0], DTYPES[kind]
    operands = list(instruction.operands)
    target = operands.pop(0) if name == "atom" else Symbol("_")
    write = scope.writer(target, dtype)
    returns = not (isinstance(target, Symbol) and target.name == "_")
    memories = Memories(space, dtype.itemsize, instruction.text, "atomic access")
    address = address_reader(scope, operands[0], 0 if space == "shared" else BASE)
    reads = [scope.reader(operand, kind) for operand in operands[1:]]

    def change(wave: Wave, group: Group, addresses: Array, shared: bool) -> None:
        memory, races, offsets = memories.locate(wave, group, addresses, shared)
        offsets, slots = group.spread(offsets), group.slots
        cells = memory.locate(offsets, dtype.itemsize, slots, "atomic access")
        memory.load(cells, dtype, 1, dtype.itemsize, slots)     # refuses what is outside or uninitialised
        races.change(offsets, dtype.itemsize, slots, wave.clock)
        values = [group.spread(read(wave, group)) for read in reads]
        order = None if wave.launch.random is None else wave.launch.random.permutation(group.size)
        old = _update(memory.view(dtype, 1), cells, values, what, returns, order)
        wave.counters.atomics += group.size
        if returns:
            write(wave, group, old)

    def step(wave: Wave, group: Group) -> None:
        for part, inner, _, shared in memories.each(wave, group, address(wave, group)):
            change(wave, part, inner, shared)

    return step


def _update(view: Array, cells: Array, values: list[Array], what: str, returns: bool, order: Array | None) -> Array:
    """One thread after the other, in the given order; what was there before each."""
    order = np.arange(len(cells)) if order is None else order
    if not returns and what in UFUNCS:
        UFUNCS[what].at(view, cells[order], values[0][order])
        return view[:0]
    old = np.zeros(len(cells), view.dtype)
    ranked = order[np.argsort(cells[order], kind="stable")]     # by cell, and by turn within a cell
    at = cells[ranked]
    first = np.concatenate([[True], at[1:] != at[:-1]])
    starts = np.maximum.accumulate(np.where(first, np.arange(len(at)), 0))
    turn = np.arange(len(at)) - starts
    for k in range(int(turn.max()) + 1):
        now = ranked[turn == k]
        old[now] = view[cells[now]]
        view[cells[now]] = UPDATES[what](old[now], *(value[now] for value in values))
    return old
