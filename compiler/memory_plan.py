"""Memory planning: live ranges in, arena offsets out.

A buffer lives from the step that first writes it to the last step that touches it. The arena is a row of slots; a
buffer takes a free slot that is known to be large enough (sizes may be formulas of symbolic dimensions, so "known" is
`types.sign_of`), the smallest such by the order of slots, else a new slot is opened at the end. Offsets are therefore
sums of slot sizes: one plan is right for every batch size, and the peak is a formula that can be printed.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass

from staticgraph.types import Size, floor_divide, sign_of

from .program import ALIGNMENT


@dataclass(frozen=True)
class LiveBuffer:
    """An arena buffer: its index in the program, its bytes, and the first and last step that touch it."""

    index: int
    nbytes: Size
    first: int
    last: int


def aligned(nbytes: Size) -> Size:
    """Bytes rounded up to the alignment of the arena."""
    if isinstance(nbytes, int):
        return -(-nbytes // ALIGNMENT) * ALIGNMENT
    return floor_divide(nbytes + (ALIGNMENT - 1), ALIGNMENT) * ALIGNMENT


def plan(buffers: Sequence[LiveBuffer]) -> tuple[dict[int, Size], Size]:
    """Offsets by buffer index, and the size of the arena, both in bytes."""
    slots = _Slots()
    place = {buffer.index: slots.take(aligned(buffer.nbytes), buffer.first, buffer.last)
             for buffer in sorted(buffers, key=lambda each: (each.first, each.index))}
    offsets: list[Size] = []
    total: Size = 0
    for size in slots.sizes:
        offsets.append(total)
        total = total + size
    return {index: offsets[number] for index, number in place.items()}, total


class _Slots:
    """The row of slots while it is being filled. Free slots are kept by size: there are few different sizes, and
    comparing two formulas is dear."""

    def __init__(self) -> None:
        self.sizes: list[Size] = []
        self.free: dict[Size, list[int]] = {}
        self.busy: list[tuple[int, int]] = []
        self.covers: dict[tuple[Size, Size], bool] = {}

    def take(self, need: Size, first: int, last: int) -> int:
        """The number of the slot that holds `need` bytes from step `first` to step `last`."""
        while self.busy and self.busy[0][0] < first:
            _, number = heapq.heappop(self.busy)
            heapq.heappush(self.free.setdefault(self.sizes[number], []), number)
        size = self._tightest(need)
        if size is None:
            self.sizes.append(need)
            number = len(self.sizes) - 1
        else:
            number = heapq.heappop(self.free[size])
        heapq.heappush(self.busy, (last, number))
        return number

    def _tightest(self, need: Size) -> Size | None:
        """The smallest size with a free slot that surely holds `need` bytes."""
        best: Size | None = None
        for size, numbers in self.free.items():
            if numbers and self._covers(size, need) and (best is None or self._covers(best, size)):
                best = size
        return best

    def _covers(self, large: Size, small: Size) -> bool:
        key = (large, small)
        if key not in self.covers:
            self.covers[key] = sign_of(large - small) == 1
        return self.covers[key]
