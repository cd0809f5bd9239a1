"""Loads and stores, with the checks that go with each: bounds, initialisation, races. Addresses of all kinds.

All threads at one address (an address register of one element) make one access in place of many; its result is one
element again.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .faults import OutOfBounds, Unsupported
from .machine import Group, Read, Step, Wave, Write
from .memory import BASE, SHARED_START, Array, Space
from .operands import DTYPES, Scope
from .parse import Address, Instruction, Register, Symbol, Vector
from .races import Races
from .traffic import BankCounter, count_global

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
