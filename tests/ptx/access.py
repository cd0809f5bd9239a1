"""Loads, stores and atomic instructions, with the checks that go with each: bounds, initialisation, races, sectors.

All threads at one address (an address register of one element) make one access in place of many; its result is one
element again.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .faults import OutOfBounds, Unsupported
from .machine import Access, Group, Read, Step, Wave, Write
from .memory import BASE, SHARED_START, Array, Space, alignment_shift
from .operands import DTYPES, Scope
from .parse import Address, Instruction, Register, Symbol, Vector
from .races import Races

SHARED_WINDOW = 0x7E00_0000_0000
"""Generic addresses of shared memory start here."""

CACHE_HINTS = frozenset("ca cg cs lu cv wb wt L1::evict_first L1::evict_last L1::evict_normal L1::no_allocate "
                        "L1::evict_unchanged L2::64B L2::128B L2::256B".split())
ORDERS = frozenset("weak relaxed acquire release acq_rel volatile".split())
SCOPES = frozenset("cta cluster gpu sys".split())


def address_reader(scope: Scope, operand: Any, shift: int = 0) -> Read:
    """The address as int64, less `shift`."""
    if not isinstance(operand, Address):
        raise Unsupported(f"{operand} is no address")
    kind = "u64"
    if isinstance(operand.base, Register) and scope.type_of(operand.base.name).itemsize == 4:
        kind = "u32"
    base, offset = scope.reader(operand.base, kind), np.int64(operand.offset - shift)
    if kind == "u32":
        return lambda wave, group: base(wave, group).astype(np.int64) + offset
    return lambda wave, group: base(wave, group).view(np.int64) + offset


def in_shared(wave: Wave, group: Group, addresses: Array, nbytes: int, what: str) -> Array:
    """Offsets in the shared memory of the wave, from addresses within a block's shared memory."""
    outside = addresses.view(np.uint64) >= wave.shared_stride
    if np.count_nonzero(outside):
        bad = int(np.flatnonzero(outside)[0])
        raise OutOfBounds(f"out-of-bounds {what} of {nbytes} bytes at byte {int(addresses[bad]) - SHARED_START} of "
                          "shared memory", int(group.slots[bad]))
    return addresses + (group.positions // wave.padded) * wave.shared_stride


def count_global(wave: Wave, group: Group, offsets: Array, nbytes: int, stores: bool, text: str) -> None:
    total = nbytes * group.size
    if len(offsets) == 1:
        sectors = group.warps()
    else:
        keys = (offsets >> 5) + ((group.positions >> 5) << 40)
        steps = keys[1:] - keys[:-1]
        if np.count_nonzero(steps < 0):
            keys.sort()
            steps = keys[1:] - keys[:-1]
        sectors = 1 + int(np.count_nonzero(steps))
    counters = wave.counters
    if stores:
        counters.store_bytes += total
        counters.store_sectors += sectors
    else:
        counters.load_bytes += total
        counters.load_sectors += sectors
    access = counters.accesses.get(text)
    if access is None:
        access = counters.accesses[text] = Access()
    access.executions += group.size
    access.nbytes += total
    access.sectors += sectors


class BankCounter:
    """Bank conflicts of one instruction. There are 32 banks of 4 bytes; accesses of 8 and 16 bytes go by halves and
    quarters of a warp. The last pattern is kept: a loop repeats it elsewhere, which moves all banks alike."""

    def __init__(self, nbytes: int) -> None:
        self.phases = max(1, nbytes // 4)
        self.index: Array | None = None
        self.pattern = np.zeros(0, np.int64)
        self.found = (0, 0)     # warps, conflicts

    def count(self, wave: Wave, group: Group, offsets: Array) -> None:
        pattern = offsets - offsets[0]
        if group.index is not self.index or not np.array_equal(pattern, self.pattern):
            self.index, self.pattern = group.index, pattern
            self.found = group.warps(), self._conflicts(group.positions, offsets >> 2)
        wave.counters.shared_accesses += self.found[0]
        wave.counters.conflicts += self.found[1]

    def _conflicts(self, positions: Array, words: Array) -> int:
        phases = self.phases
        part = (positions >> 5) * phases + (positions & 31) // (32 // phases)
        steps = words[1:] - words[:-1]
        if (((steps == phases) | (steps == 0)) | (part[1:] != part[:-1])).all():     # neighbours, or one word for all
            return 0
        keys = np.sort((part << 40) | words)
        keys = keys[np.concatenate([[True], keys[1:] != keys[:-1]])]
        part = keys >> 40
        number = np.cumsum(np.concatenate([[False], part[1:] != part[:-1]]))
        bank = ((keys & ((1 << 40) - 1)) // phases) & (32 // phases - 1)
        counts = np.bincount(number * 32 + bank, minlength=32 * (int(number[-1]) + 1)).reshape(-1, 32)
        return int((counts.max(axis=1) - 1).sum())


class Memories:
    """How one instruction reaches memory: global, shared, or whichever the generic address says."""

    def __init__(self, space: str, nbytes: int, text: str, what: str) -> None:
        self.space, self.nbytes, self.text, self.what = space, nbytes, text, what

    def each(self, wave: Wave, group: Group, addresses: Array) -> list[tuple[Group, Array, Array | None, bool]]:
        """(threads, offsets, which of `addresses`, is shared) for each memory that they lie in. `addresses` are less
        `BASE` for global and generic ones."""
        if self.space != "generic":
            return [(group, addresses, None, self.space == "shared")]
        low = SHARED_WINDOW - BASE
        shared = (addresses >= low) & (addresses < low + wave.shared_stride)
        if not shared.any():
            return [(group, addresses, None, False)]
        if shared.all():
            return [(group, addresses - low, None, True)]
        found = []
        for chosen, shift in ((shared, low), (~shared, 0)):
            part = Group(wave, group.positions[chosen])
            found.append((part, addresses[chosen] - shift, chosen, bool(shift)))
        return found

    def locate(self, wave: Wave, group: Group, addresses: Array, shared: bool) -> tuple[Space, Races, Array]:
        """The memory, its races, and the offsets in it."""
        if not shared:
            return wave.memory, wave.global_races, addresses     # type: ignore[return-value]  # set for the launch
        return wave.shared, wave.shared_races, in_shared(wave, group, group.spread(addresses), self.nbytes, self.what)


def _memory_parts(instruction: Instruction) -> tuple[str, int, str, bool, bool]:
    """(space, lanes, type, constant, strong) of a load or store."""
    space, lanes, constant, strong = "generic", 1, False, False
    *modifiers, kind = instruction.parts[1:]
    for part in modifiers:
        if part.split("::")[0] in ("global", "shared", "param", "const", "local"):
            space = part.split("::")[0]
        elif part in ("v2", "v4"):
            lanes = int(part[1])
        elif part == "nc":
            constant = True
        elif part in ("volatile", "relaxed", "acquire", "release"):
            strong = True
        elif part not in CACHE_HINTS | ORDERS | SCOPES:
            raise Unsupported(f"unknown modifier .{part}")
    if space == "local" or kind not in DTYPES or kind == "pred":
        raise Unsupported(f"unknown instruction {instruction.opcode}")
    return space, lanes, kind, constant, strong


def load(scope: Scope, instruction: Instruction) -> Step:
    space, lanes, kind, constant, strong = _memory_parts(instruction)
    target, source = instruction.operands
    dtype = DTYPES[kind]
    targets = target.parts if isinstance(target, Vector) else (target,)
    if len(targets) != lanes:
        raise Unsupported(f"{lanes} elements for {len(targets)} registers")
    writes = [scope.writer(part, dtype) for part in targets]
    if space == "param":
        return _load_parameter(source, dtype, writes)
    nbytes = dtype.itemsize * lanes
    space = "global" if space == "const" else space
    memories, banks = Memories(space, nbytes, instruction.text, "load"), BankCounter(nbytes)
    address = address_reader(scope, source, 0 if space == "shared" else BASE)

    def fetch(wave: Wave, group: Group, addresses: Array, shared: bool) -> Array:
        memory, races, offsets = memories.locate(wave, group, addresses, shared)
        cells = memory.locate(offsets, nbytes, group.slots, "load")
        values = memory.load(cells, dtype, lanes, nbytes, group.slots)
        if strong:
            races.change(offsets, nbytes, group.slots, wave.clock, records=False)
        else:
            races.read(offsets, nbytes, group.slots, wave.clock, constant)
        if shared:
            banks.count(wave, group, offsets)
        else:
            count_global(wave, group, offsets, nbytes, False, instruction.text)
        return values

    def step(wave: Wave, group: Group) -> None:
        addresses = address(wave, group)
        parts = memories.each(wave, group, addresses)
        for part, inner, _, shared in parts:
            values = fetch(wave, part, inner, shared)
            if lanes == 1:
                writes[0](wave, part, values)
            else:
                for lane, write in enumerate(writes):
                    write(wave, part, values[:, lane])

    return step


def _load_parameter(source: Any, dtype: Any, writes: list[Write]) -> Step:
    assert isinstance(source, Address) and isinstance(source.base, Symbol)
    name, offset = source.base.name, source.offset

    def step(wave: Wave, group: Group) -> None:
        for lane, write in enumerate(writes):
            start = offset + lane * dtype.itemsize
            data = wave.launch.parameters[name].view(np.uint8)[start: start + dtype.itemsize]
            write(wave, group, data.copy().view(dtype))

    return step


def store(scope: Scope, instruction: Instruction) -> Step:
    space, lanes, kind, _, strong = _memory_parts(instruction)
    target, source = instruction.operands
    dtype = DTYPES[kind]
    sources = source.parts if isinstance(source, Vector) else (source,)
    if len(sources) != lanes or space in ("param", "const"):
        raise Unsupported(f"unknown instruction {instruction.opcode}")
    reads = [scope.reader(part, kind) for part in sources]
    nbytes = dtype.itemsize * lanes
    memories, banks = Memories(space, nbytes, instruction.text, "store"), BankCounter(nbytes)
    address = address_reader(scope, target, 0 if space == "shared" else BASE)

    def put(wave: Wave, group: Group, addresses: Array, shared: bool) -> None:
        memory, races, offsets = memories.locate(wave, group, addresses, shared)
        slots = group.slots
        cells = memory.locate(offsets, nbytes, slots, "store")
        parts = [read(wave, group) for read in reads]
        if lanes == 1:
            values = parts[0]
            if len(cells) < len(values):
                values = values[-1:]
        else:
            values = np.empty((len(cells), lanes), dtype)
            for lane, part in enumerate(parts):
                values[:, lane] = part if len(part) <= len(cells) else part[-1:]
        memory.store(cells, values, lanes, nbytes, slots)
        if strong:
            races.change(offsets, nbytes, slots, wave.clock)
        else:
            races.write(offsets, nbytes, slots, wave.clock)
        if shared:
            banks.count(wave, group, offsets)
        else:
            count_global(wave, group, offsets, nbytes, True, instruction.text)

    def step(wave: Wave, group: Group) -> None:
        for part, inner, _, shared in memories.each(wave, group, address(wave, group)):
            put(wave, part, inner, shared)

    return step


# -- atomic instructions ----------------------------------------------------------------------------------------------

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


def convert_address(scope: Scope, instruction: Instruction) -> Step:
    """cvta: between generic addresses and those of a memory. Global ones are the same; shared ones lie in a window."""
    to = "to" in instruction.parts
    spaces = {part.split("::")[0] for part in instruction.parts} & {"global", "shared", "const"}
    if len(spaces) != 1:
        raise Unsupported(f"unknown instruction {instruction.opcode}")
    space, = spaces
    target, source = instruction.operands
    if space != "shared":
        return scope.mover(target, source, "u64")     # type: ignore[no-any-return]
    read, write = scope.reader(source, "u64"), scope.writer(target, DTYPES["u64"])
    shift = np.uint64(SHARED_WINDOW)
    return lambda wave, group: write(wave, group, read(wave, group) - shift if to else read(wave, group) + shift)


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
