"""What accesses cost: sectors of global memory, conflicts between banks of shared memory."""

from __future__ import annotations

import numpy as np

from .machine import Access, Group, Wave
from .memory import Array


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
