"""Memory planning: live ranges in, arena offsets out.

A buffer lives from the step that first writes it to the last step that touches it. The arena is a row of slots; a
buffer takes a free slot that is known to be large enough (sizes may be formulas of symbolic dimensions, so "known" is
`types.sign_of`), the smallest such by the order of slots, else a new slot is opened at the end. Offsets are therefore
sums of slot sizes: one plan is right for every batch size, and the peak is a formula that can be printed.
"""

from __future__ import annotations

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


@dataclass
class _Slot:
    size: Size
    free_from: int


def aligned(nbytes: Size) -> Size:
    """Bytes rounded up to the alignment of the arena."""
    if isinstance(nbytes, int):
        return -(-nbytes // ALIGNMENT) * ALIGNMENT
    return floor_divide(nbytes + (ALIGNMENT - 1), ALIGNMENT) * ALIGNMENT


def plan(buffers: Sequence[LiveBuffer]) -> tuple[dict[int, Size], Size]:
    """Offsets by buffer index, and the size of the arena, both in bytes."""
    slots: list[_Slot] = []
    place: dict[int, int] = {}
    for buffer in sorted(buffers, key=lambda each: (each.first, each.index)):
        need = aligned(buffer.nbytes)
        number = _best_slot(slots, need, buffer.first)
        if number is None:
            slots.append(_Slot(need, 0))
            number = len(slots) - 1
        slots[number].free_from = buffer.last + 1
        place[buffer.index] = number
    offsets: list[Size] = []
    total: Size = 0
    for slot in slots:
        offsets.append(total)
        total = total + slot.size
    return {index: offsets[number] for index, number in place.items()}, total


def _best_slot(slots: Sequence[_Slot], need: Size, first: int) -> int | None:
    """The tightest free slot that surely holds `need` bytes."""
    best: int | None = None
    for number, slot in enumerate(slots):
        if slot.free_from > first or sign_of(slot.size - need) != 1:
            continue
        if best is None or sign_of(slots[best].size - slot.size) == 1:
            best = number
    return best
