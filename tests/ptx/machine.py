"""Threads, warps and blocks: executes the basic blocks that `decode` made of a kernel.

All threads of a wave (as many blocks of the launch as fit) are one NumPy vector, padded to whole warps. The threads
that stand at one basic block are a `Group`; the group with the lowest block number runs first, so paths that part meet
again as early as they can. A register is an array over the wave, or of one element while all threads agree.

Barriers hold back groups until every thread of each block waits at the same one. Warp instructions hold back lanes
until all lanes of their mask have come. With a seed, warps form cohorts that take turns at random, and parted paths
run in any order: a kernel that relies on an order shows it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from .faults import DivergentBarrier, InactiveLane, PtxError, Runaway, Uninitialised
from .memory import Array, DeviceMemory
from .parse import Instruction
from .races import Clock, Races

count_nonzero = np.count_nonzero     # the fastest way to ask whether any element of a bool array is True

Step = Callable[["Wave", "Group"], None]
Read = Callable[["Wave", "Group"], Array]
Write = Callable[["Wave", "Group", Array], None]


@dataclass
class Access:
    """What one instruction moved: bytes asked for, and sectors of 32 bytes touched by its warps."""

    executions: int = 0
    nbytes: int = 0
    sectors: int = 0

    @property
    def ideal(self) -> int:
        return -(-self.nbytes // 32)


@dataclass
class Counters:
    """What a launch did. `instructions` counts threads, `warp_accesses` and `conflicts` count warps."""

    instructions: int = 0
    load_bytes: int = 0
    load_sectors: int = 0
    store_bytes: int = 0
    store_sectors: int = 0
    shared_accesses: int = 0
    conflicts: int = 0
    atomics: int = 0
    barriers: int = 0
    shuffles: int = 0
    accesses: dict[str, Access] = field(default_factory=dict)
    """The same for each global load and store, by its text."""

    @property
    def load_efficiency(self) -> float:
        """Bytes asked for over bytes moved; above 1 where lanes share a sector's bytes."""
        return self.load_bytes / (32 * self.load_sectors) if self.load_sectors else 1.0

    @property
    def store_efficiency(self) -> float:
        return self.store_bytes / (32 * self.store_sectors) if self.store_sectors else 1.0


@dataclass
class Block:
    """A basic block: steps, then what follows. `end` returns where the group goes on, or None if it does not."""

    steps: list[Step]
    instructions: list[Instruction]
    end: Callable[[Wave, Group, int], tuple[int, Group | None]]


class Group:
    """Threads that execute together: `index` are their positions in the wave, ascending, or None for the whole wave.
    `select` takes their elements out of a register: a slice where they are neighbours, as below the end of an array."""

    __slots__ = ("wave", "index", "select", "size", "_slots")

    def __init__(self, wave: Wave, index: Array | None) -> None:
        self.wave = wave
        self.index = index
        self.size = wave.size if index is None else len(index)
        self.select: Any = index
        if index is not None and int(index[-1]) - int(index[0]) + 1 == len(index):
            self.select = slice(int(index[0]), int(index[-1]) + 1)
        self._slots: Array | None = None

    @property
    def positions(self) -> Array:
        return self.wave.positions if self.index is None else self.index

    @property
    def slots(self) -> Array:
        """Numbers within the launch, where each block takes whole warps."""
        if self._slots is None:
            self._slots = self.positions + self.wave.clock.first_slot
        return self._slots

    def spread(self, value: Array) -> Array:
        return value if len(value) == self.size else np.broadcast_to(value, self.size)

    def where(self, condition: Array) -> Group | None:
        """The threads for which it holds; None if there are none."""
        if len(condition) == 1:
            return self if condition[0] else None
        index = self.positions[condition]
        return None if not len(index) else self if len(index) == self.size else Group(self.wave, index)

    def warps(self) -> int:
        """How many warps have a thread here."""
        warps = self.positions >> 5
        return 1 + int(np.count_nonzero(warps[1:] != warps[:-1]))


class Wave:
    """Some blocks of a launch, side by side."""

    def __init__(self, launch: Launch, first_block: int, blocks: int) -> None:
        self.launch = launch
        self.counters = launch.counters
        self.memory = launch.memory
        self.global_races = launch.races
        self.threads = launch.threads
        self.padded = -(-launch.threads // 32) * 32
        self.blocks = blocks
        self.size = blocks * self.padded
        self.positions = np.arange(self.size)
        self.clock = Clock(first_block, blocks, self.padded)
        self.values: list[Any] = [None] * launch.kernel.register_count
        self.known: list[Any] = [None] * launch.kernel.register_count
        self.shared_stride, self.shared, self.shared_races = launch.kernel.shared_memory(blocks, launch.dynamic_shared)
        lanes = self.positions % self.padded
        present = lanes < launch.threads
        self.alive = int(np.count_nonzero(present))
        self.everyone = Group(self, None if present.all() else self.positions[present])
        self.cohorts: list[dict[int, list[Array | None]]] = []
        self.cohort = 0
        self.warp_cohort = np.zeros(self.size // 32, np.int64)
        self.waiting: list[tuple[int, Array, Instruction]] = []
        self.parked: dict[int, Array] = {}
        self.steps_left = launch.most_steps

    @cached_property
    def specials(self) -> dict[str, Array]:
        thread = (self.positions % self.padded).astype(np.uint32)
        block = (self.positions // self.padded + self.clock.first_slot // self.padded).astype(np.uint32)
        one, zero = np.ones(1, np.uint32), np.zeros(1, np.uint32)
        found = {"%tid.x": thread, "%ctaid.x": block if self.blocks > 1 else block[:1],
                 "%laneid": thread & np.uint32(31), "%warpid": thread >> np.uint32(5),
                 "%ntid.x": one * np.uint32(self.threads), "%nctaid.x": one * np.uint32(self.launch.grid),
                 "WARP_SZ": one * np.uint32(32)}
        found |= {f"%{name}.{axis}": (one if name[0] == "n" else zero) for name in ("tid", "ctaid", "ntid", "nctaid")
                  for axis in "yz"}
        lane = np.uint64(1) << (thread & np.uint32(31)).astype(np.uint64)
        masks = {"eq": lane, "lt": lane - np.uint64(1), "le": lane * np.uint64(2) - np.uint64(1)}
        masks |= {"ge": ~masks["lt"], "gt": ~masks["le"]}
        return found | {f"%lanemask_{name}": mask.astype(np.uint32) for name, mask in masks.items()}

    # -- registers ----------------------------------------------------------------------------------------------------

    def require(self, register: int, group: Group) -> None:
        """Refuse a register that some thread of the group never wrote."""
        known = self.known[register]
        positions = group.positions
        if known is not None:
            written = known if group.select is None else known[group.select]
            if count_nonzero(written) == group.size:
                return
            positions = positions[~written]
        raise Uninitialised(f"read of register {self.launch.kernel.register_names[register]}, which was never written",
                            int(positions[0]) + self.clock.first_slot)

    def scatter(self, register: int, group: Group, value: Array) -> None:
        """Write a register for some threads. It is known for good once all threads that still run have it."""
        old = self.values[register]
        if old is None:
            old = self.values[register] = np.zeros(self.size, value.dtype)
            self.known[register] = np.zeros(self.size, bool)
        elif len(old) == 1:
            old = self.values[register] = np.full(self.size, old[0])
        (old if old.dtype is value.dtype else old.view(value.dtype))[group.select] = value
        if self.known[register] is not True:
            if group.size == self.alive:
                self.known[register] = True
            else:
                self.known[register][group.select] = True

    # -- scheduling ---------------------------------------------------------------------------------------------------

    def run(self) -> None:
        random = self.launch.random
        self._enter([(0, self.everyone.index)])
        while True:
            choices = [k for k, ready in enumerate(self.cohorts) if ready]
            if not choices:
                if not self._release():
                    return
                continue
            self.cohort = choices[0] if random is None else int(random.choice(choices))
            ready = self.cohorts[self.cohort]
            number = min(ready)
            if random is not None and len(ready) > 1 and random.random() < 0.25:
                number = int(random.choice(list(ready)))
            self._go(number, Group(self, self._merge(ready.pop(number))))

    def _go(self, number: int, group: Group | None) -> None:
        """Run a group until another one of its cohort is due, or it ends or waits."""
        ready, blocks = self.cohorts[self.cohort], self.launch.kernel.blocks
        while group is not None:
            block = blocks[number]
            self.steps_left -= len(block.steps) + 1
            if self.steps_left < 0:
                raise Runaway("the kernel does not seem to end")
            done = 0
            try:
                for step in block.steps:
                    step(self, group)
                    done += 1
                number, next_group = block.end(self, group, number)
            except PtxError as error:
                raise self.located(error, block.instructions[min(done, len(block.instructions) - 1)]) from None
            self.counters.instructions += len(block.instructions) * group.size
            group = next_group
            if group is not None and ready and (number >= min(ready) or self.launch.random is not None):
                ready.setdefault(number, []).append(group.index)
                return

    def later(self, number: int, group: Group) -> None:
        self.cohorts[self.cohort].setdefault(number, []).append(group.index)

    def _merge(self, parts: list[Array | None]) -> Array | None:
        if len(parts) == 1:
            return parts[0]
        index = np.sort(np.concatenate([part for part in parts if part is not None]))
        return None if len(index) == self.size else index

    def _enter(self, groups: list[tuple[int, Array | None]]) -> None:
        """Make groups ready, dealt out to cohorts by warps if order is random."""
        random = self.launch.random
        if random is None:
            self.cohorts = [{}]
            for number, index in groups:
                self.cohorts[0].setdefault(number, []).append(index)
            return
        self.cohorts = [{} for _ in range(4)]
        self.warp_cohort = random.integers(0, 4, self.size // 32)
        for number, index in groups:
            positions = self.positions if index is None else index
            cohort = self.warp_cohort[positions >> 5]
            for k, ready in enumerate(self.cohorts):
                if (cohort == k).any():
                    ready.setdefault(number, []).append(positions[cohort == k])

    def leave(self, group: Group) -> None:
        self.alive -= group.size

    def wait(self, number: int, group: Group, instruction: Instruction) -> None:
        self.waiting.append((number, group.positions, instruction))

    def _release(self) -> bool:
        """Nothing can run: let the barrier go if every thread is there. False when all threads have ended."""
        if self.parked:
            number, index = next(iter(self.parked.items()))
            instruction = self.launch.kernel.blocks[number].instructions[-1]
            raise self.located(InactiveLane("warp instruction whose mask names lanes that never come",
                                            int(index[0]) + self.clock.first_slot), instruction)
        if not self.waiting:
            return False
        place = np.full(self.size, -1)
        for number, index, _ in self.waiting:
            place[index] = number
        rows = place.reshape(self.blocks, self.padded)[:, : self.threads]
        here = (rows >= 0).any(axis=1)
        uneven = here & (rows != rows[:, :1]).any(axis=1)
        if uneven.any():
            self._uneven(int(np.flatnonzero(uneven)[0]), rows)
        groups = [(number, index) for number, index, _ in self.waiting]
        self.waiting = []
        self.clock.barrier()
        whole = len({number for number, _ in groups}) == 1 and sum(len(index) for _, index in groups) == self.size
        self._enter([(groups[0][0], None)] if whole else groups)
        return True

    def _uneven(self, block: int, rows: Array) -> None:
        row = rows[block]
        thread = int(np.flatnonzero(row >= 0)[0])
        other = int(np.flatnonzero(row != row[thread])[0])
        instruction = next(instruction for number, _, instruction in self.waiting if number == row[thread])
        does = "has ended" if row[other] < 0 else "waits at another barrier"
        fault = DivergentBarrier(f"barrier that thread {thread} waits at and thread {other} of its block does not: "
                                 f"it {does}", block * self.padded + thread + self.clock.first_slot)
        raise self.located(fault, instruction)

    def located(self, error: PtxError, instruction: Instruction) -> PtxError:
        return error.locate(self.launch.kernel.name, instruction.line, instruction.text, self.padded)

    # -- warps --------------------------------------------------------------------------------------------------------

    def arrive(self, number: int, group: Group, masks: Array) -> Group | None:
        """The lanes that can execute a warp instruction now, as all lanes of their mask are here; others are parked."""
        waiting = self.parked.pop(number, None)
        if waiting is not None:
            group = Group(self, self._merge([group.index, waiting]))
            return self.arrive(number, group, self.launch.kernel.masks[number](self, group))
        if group.index is None and (masks == np.uint32(0xFFFFFFFF)).all():
            return group
        here = np.zeros(self.size, bool)
        here[group.positions] = True
        bits = np.packbits(here, bitorder="little").view(np.uint32)[group.positions >> 5]
        own = np.uint32(1) << (group.positions & 31).astype(np.uint32)
        outside = (masks & own) == 0
        if outside.any():
            raise InactiveLane("warp instruction by a lane that its mask leaves out",
                               int(group.positions[np.flatnonzero(outside)[0]]) + self.clock.first_slot)
        complete = (masks & ~bits) == 0
        if complete.all():
            return group
        self.parked[number] = group.positions[~complete]
        return group.where(complete)


@dataclass
class Launch:
    """One run of a kernel: what its waves share."""

    kernel: Any
    grid: int
    threads: int
    parameters: dict[str, Array]
    memory: DeviceMemory
    dynamic_shared: int
    random: np.random.Generator | None
    most_steps: int
    symbols: dict[str, int] = field(default_factory=dict)
    counters: Counters = field(default_factory=Counters)
    races: Races | None = None
    BROAD = 1 << 14
    """Threads of a wave, about: enough to hide the cost of a step, few enough for their registers to stay in cache."""

    def run(self) -> Counters:
        per_wave = max(1, self.BROAD // (-(-self.threads // 32) * 32))
        starts = list(range(0, self.grid, per_wave))
        if self.random is not None:
            self.random.shuffle(starts)
        with np.errstate(all="ignore"):
            for start in starts:
                Wave(self, start, min(per_wave, self.grid - start)).run()
        return self.counters
