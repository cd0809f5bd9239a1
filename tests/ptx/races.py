"""Who touched which cell of memory, and whether anything orders two threads that met there.

Time is a counter that each barrier and each warp synchronisation advances. An access at tick T by another thread is
ordered before the present one if the block of both passed a barrier after T, or their warp a synchronisation. Of the
reads of a cell only the last tick and the range of readers is kept: whoever is ordered after the last reader is ordered
after those that came before it. Slots number the threads of a launch, with blocks padded to whole warps.
"""

from __future__ import annotations

import numpy as np

from .faults import Race, ReadOnlyWritten
from .memory import Array


class Clock:
    """Barriers and warp synchronisations of the blocks first_block .. first_block + blocks."""

    def __init__(self, first_block: int, blocks: int, block_slots: int) -> None:
        self.now = 1
        self.block_slots = block_slots
        self.first_slot = first_block * block_slots
        self.barriers = np.zeros(blocks, np.int32)
        self.warps = np.zeros(blocks * block_slots // 32, np.int32)
        self.oldest_barrier = 0

    def barrier(self) -> None:
        """All blocks passed one, or ended."""
        self.now += 1
        self.barriers[:] = self.now
        self.oldest_barrier = self.now

    def synchronise(self, warps: Array | slice) -> None:
        self.now += 1
        self.warps[warps] = self.now


class Records:
    """Cells with the last tick of an access and the range of slots that made it."""

    def __init__(self, cells: int) -> None:
        self.tick = np.zeros(cells, np.int32)
        self.low = np.zeros(cells, np.int32)
        self.high = np.zeros(cells, np.int32)

    def unordered(self, cells: Array, slots: Array, clock: Clock, local: bool) -> Array | None:
        """Which accesses nothing orders after the recorded ones of other threads; None means all are in order. `local`:
        the memory belongs to the block."""
        tick = self.tick[cells]
        latest = np.maximum.reduce(tick)
        if latest == 0 or (local and latest < clock.oldest_barrier):
            return None
        low, high = self.low[cells], self.high[cells]
        other = (tick > 0) & ((low != slots) | (high != slots))
        if not np.count_nonzero(other):
            return None
        size, first = clock.block_slots, clock.first_slot
        block, warp = slots // size, slots >> 5
        ordered = (low // size == block) & (high // size == block) & (tick < clock.barriers[(slots - first) // size])
        ordered |= (low >> 5 == warp) & (high >> 5 == warp) & (tick < clock.warps[(slots - first) >> 5])
        other &= ~ordered
        return other if np.count_nonzero(other) else None

    def record(self, cells: Array, slots: Array, clock: Clock, local: bool) -> None:
        """Slots ascend. Of several at one cell the first and the last stay (NumPy assigns in order)."""
        live = self.unordered(cells, slots, clock, local)
        low = high = slots
        if len(cells) == 1:
            low, high = slots[:1], slots[-1:]
            live = None if live is None else live.any(keepdims=True)
        if live is not None:     # the range takes in what is there
            low = np.where(live, np.minimum(self.low[cells], low), low)
            high = np.where(live, np.maximum(self.high[cells], high), high)
        self.low[cells[::-1]] = low[::-1]
        self.high[cells] = high
        self.tick[cells] = clock.now


class Races:
    """The accesses of one launch to one memory, in cells of 2 ** shift bytes."""

    def __init__(self, nbytes: int, shift: int, local: bool, reads: bool, atomics: bool) -> None:
        count = (nbytes >> shift) + 16
        self.shift, self.local = shift, local
        self.writes = Records(count)
        self.reads = Records(count) if reads else None
        self.atomics = Records(count) if atomics else None
        self.constant = np.zeros(count, bool) if reads and not local else None

    def cells(self, offsets: Array, nbytes: int, slots: Array) -> tuple[Array, Array]:
        """Cells of the accesses, and the slot of each. One cell alone stands for an access of all slots."""
        count = nbytes >> self.shift
        cells = offsets >> self.shift
        if count == 1:
            return cells, slots
        if len(cells) != len(slots):
            cells = np.broadcast_to(cells, len(slots))
        return (cells[:, None] + np.arange(count)).ravel(), np.repeat(slots, count)

    def read(self, offsets: Array, nbytes: int, slots: Array, clock: Clock, constant: bool) -> None:
        if self.reads is None:
            return
        cells, slots = self.cells(offsets, nbytes, slots)
        if constant and self.constant is not None:
            self.constant[cells] = True
            if np.count_nonzero(self.writes.tick[cells]):
                raise ReadOnlyWritten("load by ld.global.nc of what this launch wrote", int(slots[0]))
            return
        self._refuse(self.writes, "reads what", "wrote", cells, slots, clock)
        if self.atomics is not None:
            self._refuse(self.atomics, "reads what", "changed by an atomic instruction", cells, slots, clock)
        self.reads.record(cells, slots, clock, self.local)

    def write(self, offsets: Array, nbytes: int, slots: Array, clock: Clock) -> None:
        cells, slots = self.cells(offsets, nbytes, slots)
        if self.constant is not None and np.count_nonzero(self.constant[cells]):
            bad = int(np.flatnonzero(self.constant[cells])[0])
            raise ReadOnlyWritten("store to what this launch reads by ld.global.nc", int(slots[bad]))
        self._refuse(self.writes, "writes what", "wrote", cells, slots, clock)
        if self.reads is not None:
            self._refuse(self.reads, "writes what", "read", cells, slots, clock)
        if self.atomics is not None:
            self._refuse(self.atomics, "writes what", "changed by an atomic instruction", cells, slots, clock)
        self.writes.low[cells] = slots if len(cells) == len(slots) else slots[:1]
        kept = self.writes.low[cells]
        if np.count_nonzero(kept != slots):
            bad = int(np.flatnonzero(kept != slots)[0])
            self._raise("writes what", "writes", int(slots[bad]), int(kept[bad % len(kept)]), clock)
        self.writes.high[cells] = slots
        self.writes.tick[cells] = clock.now

    def change(self, offsets: Array, nbytes: int, slots: Array, clock: Clock, records: bool = True) -> None:
        """An atomic access; `records` is false for a read of its kind (ld.volatile)."""
        cells, slots = self.cells(offsets, nbytes, slots)
        self._refuse(self.writes, "changes atomically what", "wrote", cells, slots, clock)
        if records and self.reads is not None:
            self._refuse(self.reads, "changes atomically what", "read", cells, slots, clock)
        if records and self.atomics is not None:
            self.atomics.record(cells, slots, clock, self.local)

    def _refuse(self, records: Records, does: str, did: str, cells: Array, slots: Array, clock: Clock) -> None:
        found = records.unordered(cells, slots, clock, self.local)
        if found is not None:
            at = int(np.flatnonzero(found)[0])
            low, high = (int(bound[cells[at % len(cells)]]) for bound in (records.low, records.high))
            self._raise(does, did, int(slots[at]), low if low != slots[at] else high, clock)

    def _raise(self, does: str, did: str, slot: int, other: int, clock: Clock) -> None:
        size = clock.block_slots
        kind = "shared" if self.local else "global"
        raise Race(f"race in {kind} memory: thread {slot % size} of block {slot // size} {does} thread {other % size} "
                   f"of block {other // size} {did}, with nothing to order them", slot)
