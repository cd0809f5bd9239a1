"""Memory planning: live ranges in, arena offsets out.

A buffer lives from the step that first writes it to the last step that touches it. The arena is a row of slots; a
buffer takes a free slot that is known to be large enough (sizes may be formulas of symbolic dimensions, so "known" is
`types.sign_of`), the smallest such by the order of slots, else a new slot is opened at the end. Offsets are therefore
sums of slot sizes: one plan is right for every batch size, and the peak is a formula that can be printed.

A chain (see `chains`) is in all of its steps at once, in different rows: what it touches lives from its first step to
its last. Only a buffer of which it touches a row at a time and that it is done with may give its slot to another such
buffer of the same bytes: row lies upon row then, and a row is through before it is overwritten.
"""

from __future__ import annotations

import bisect
import heapq
from collections.abc import Mapping, Sequence
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


@dataclass(frozen=True)
class Span:
    """The steps of a chain, the last one included, and the buffers of which it touches a row at a time."""

    first: int
    last: int
    local: frozenset[int]


def plan(buffers: Sequence[LiveBuffer], chains: Sequence[Span] = ()) -> tuple[dict[int, Size], Size]:
    """Offsets by buffer index, and the size of the arena, both in bytes."""
    slots = _Slots()
    spans = {number: span for span in chains for number in range(span.first, span.last + 1)}
    place: dict[int, int] = {}
    through: dict[Span, list[LiveBuffer]] = {span: [] for span in chains}
    for buffer in sorted(buffers, key=lambda each: (_extended(spans, each)[0], each.first, each.index)):
        first, last = _extended(spans, buffer)
        old = _given_up(spans.get(buffer.first), buffer, through)
        if old is not None:
            slot = place[old.index]
            slots.keep(slot, last)
        else:
            slot = slots.take(aligned(buffer.nbytes), first, last)
        place[buffer.index] = slot
        span = spans.get(buffer.last)
        if span is not None and buffer.index in span.local:
            through[span].append(buffer)
    offsets: list[Size] = []
    total: Size = 0
    for size in slots.sizes:
        offsets.append(total)
        total = total + size
    return {index: offsets[number] for index, number in place.items()}, total


def pack(buffers: Sequence[LiveBuffer], chains: Sequence[Span] = ()) -> tuple[dict[int, Size], Size] | None:
    """Offsets as `plan` gives them, where all sizes are numbers: the largest buffers first, each at the lowest place
    that no other one has in its time. What a smaller buffer leaves of a slot is used; None for formulas."""
    spans = {number: span for span in chains for number in range(span.first, span.last + 1)}
    placed: list[tuple[int, int, int, int]] = []
    offsets: dict[int, Size] = {}
    for buffer in sorted(buffers, key=lambda each: (-each.nbytes if isinstance(each.nbytes, int) else 0, each.index)):
        size = aligned(buffer.nbytes)
        if not isinstance(size, int):
            return None
        first, last = _extended(spans, buffer)
        start = 0
        for low, high, since, until in placed:     # lowest first
            if low >= start + size:
                break
            if since <= last and first <= until and high > start:
                start = high
        bisect.insort(placed, (start, start + size, first, last))
        offsets[buffer.index] = start
    return offsets, max((high for _, high, _, _ in placed), default=0)


def _extended(spans: Mapping[int, Span], buffer: LiveBuffer) -> tuple[int, int]:
    """The steps that a buffer lives in, chains counted as one."""
    start, end = spans.get(buffer.first), spans.get(buffer.last)
    return start.first if start else buffer.first, end.last if end else buffer.last


def _given_up(span: Span | None, buffer: LiveBuffer, through: Mapping[Span, list[LiveBuffer]]) -> LiveBuffer | None:
    """A buffer whose slot this one can have because their chain has no more need of it."""
    if span is None or buffer.index not in span.local:
        return None
    for old in through[span]:
        if old.last < buffer.first and old.nbytes == buffer.nbytes:
            through[span].remove(old)
            return old
    return None


class _Slots:
    """The row of slots while it is being filled. Free slots are kept by size: there are few different sizes, and
    comparing two formulas is dear."""

    def __init__(self) -> None:
        self.sizes: list[Size] = []
        self.free: dict[Size, list[int]] = {}
        self.busy: list[tuple[int, int]] = []
        self.until: dict[int, int] = {}
        self.covers: dict[tuple[Size, Size], bool] = {}

    def take(self, need: Size, first: int, last: int) -> int:
        """The number of the slot that holds `need` bytes from step `first` to step `last`."""
        while self.busy and self.busy[0][0] < first:
            end, number = heapq.heappop(self.busy)
            if self.until[number] == end:
                heapq.heappush(self.free.setdefault(self.sizes[number], []), number)
        size = self._tightest(need)
        if size is None:
            self.sizes.append(need)
            number = len(self.sizes) - 1
        else:
            number = heapq.heappop(self.free[size])
        self.keep(number, last)
        return number

    def keep(self, number: int, last: int) -> None:
        """The slot is taken until that step."""
        if self.until.get(number) != last:
            self.until[number] = last
            heapq.heappush(self.busy, (last, number))

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
