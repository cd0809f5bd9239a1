"""The order of steps in which least memory is alive: for programs with a memory budget, before anything is recomputed.

Steps come in an order that respects what they need, and leave in another one that does too. It is list scheduling: of
the steps whose operands are there, the one that leaves least memory alive comes next; of equal ones the first as they
came. So the product that makes a parameter's gradient comes as soon as it can, and its operands are given up.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol


class Touching(Protocol):
    """A step: `reads` is whatever it touches, `writes` what of that it writes."""

    @property
    def reads(self) -> frozenset[int]: ...

    @property
    def writes(self) -> frozenset[int]: ...


def least_memory(works: Sequence[Touching], size: Callable[[int], int]) -> list[int]:
    """The numbers of the steps in their new order; `size` is what a buffer takes while it is alive."""
    needs, followers = _dependencies(works)
    uses: dict[int, int] = {}
    for work in works:
        for buffer in work.reads:
            uses[buffer] = uses.get(buffer, 0) + 1
    left = dict(uses)
    ready = [number for number, count in enumerate(needs) if not count]
    order: list[int] = []

    def growth(number: int) -> int:
        touched = works[number].reads
        return sum(size(each) for each in touched if left[each] == uses[each]) - sum(
            size(each) for each in touched if left[each] == 1)

    while ready:
        number = min(ready, key=lambda each: (growth(each), each))
        ready.remove(number)
        order.append(number)
        for buffer in works[number].reads:
            left[buffer] -= 1
        for later in followers[number]:
            needs[later] -= 1
            if not needs[later]:
                ready.append(later)
    return order


def _dependencies(works: Sequence[Touching]) -> tuple[list[int], list[list[int]]]:
    """(how many steps each one waits for, the steps that wait for each)."""
    waits: list[set[int]] = [set() for _ in works]
    writer: dict[int, int] = {}
    readers: dict[int, list[int]] = {}
    for number, work in enumerate(works):
        for buffer in sorted(work.reads):
            if buffer in writer:
                waits[number].add(writer[buffer])
            if buffer in work.writes:
                waits[number].update(readers.get(buffer, ()))
                writer[buffer], readers[buffer] = number, []
            else:
                readers.setdefault(buffer, []).append(number)
    followers: list[list[int]] = [[] for _ in works]
    for number, before in enumerate(waits):
        for each in sorted(before):
            followers[each].append(number)
    return [len(each) for each in waits], followers
