"""Chains: steps that run together, a block of rows at a time. Products and what comes before and after them.

Comes in: the drafted steps in order, each with its `RowSpace`. Goes out: the same steps in an order that is as good,
and which runs of them are chains.

A product of matrices and the bias, activation, residual, mask, softmax or layer norm around it run along the same rows:
row r of each is made of row r of the one before. So a CPU takes some rows through all of them before it goes on to the
next rows, and what lies between two steps is read back from the cache that it was written to. Nothing is computed
twice, several products may follow each other (a hidden layer, the scores and the values of attention), and backward
steps chain like forward ones.

Decision: a chain is fusion above the kernels, not one text for each combination. The kernel of the product and those of
the row programs stay what they are, shared between all programs and compiled once, because a kernel takes any range of
its iterations anyway; one native loop (`runtime.chains`) hands them block after block. A text of its own for every
product and its epilogue would save one load and one store that hit the cache, and cost the compile of all tiles again.

Invariants: a step joins a chain if whatever it touches of what the chain writes belongs to the same row; steps that
something in between needs, or that need something in between, stay outside. Which steps are chained depends on the
graph only, and no result depends on the blocks.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Protocol

from staticgraph.types import Size, divide_exactly, product

MOST_PRODUCTS = 3
"""Products of a chain. All that a chain writes is alive together, so a longer one would need more memory, while the
next chain finds its input in a cache as well."""

WINDOW, PATIENCE = 32, 8
"""Steps after the first one of a chain that are looked at, and how many in a row that do not join end it."""


@dataclass(frozen=True)
class Touch:
    """A kernel reads or writes a buffer of `size` elements: from its start, in steps of `strides` along the parallel
    axes, or, where strides are None, anywhere."""

    buffer: int
    strides: tuple[Size, ...] | None
    size: Size


@dataclass(frozen=True)
class RowSpace:
    """The parallel axes of a kernel, outermost first, and what it touches."""

    extents: tuple[Size, ...]
    touches: tuple[Touch, ...]

    def depth(self, rows: Size) -> int | None:
        """How many axes count so many rows; 0 if rows are runs of the first axis; None if neither."""
        for depth in range(1, len(self.extents) + 1):
            if product(self.extents[:depth]) == rows:
                return depth
        return 0 if self.extents and divide_exactly(self.extents[0], rows) is not None else None

    def is_local(self, rows: Size, buffers: Iterable[int]) -> bool:
        """Does every row touch its own row of these buffers only, being equal parts of them?"""
        depth, some = self.depth(rows), frozenset(buffers)
        return depth is not None and all(self._stays(touch, depth, rows) for touch in self.touches
                                         if touch.buffer in some)

    def _stays(self, touch: Touch, depth: int, rows: Size) -> bool:
        if touch.strides is None:
            return False
        if depth == 0:
            return touch.size == self.extents[0] * touch.strides[0]
        width = touch.strides[depth - 1]
        return touch.size == rows * width and all(
            touch.strides[axis] == width * product(self.extents[axis + 1: depth]) for axis in range(depth - 1))


class Work(Protocol):
    """A step. `rows` is None where nothing is known about its rows; one that `reports` may find an index out of range,
    and then what comes after it must not run: it ends a chain."""

    @property
    def reads(self) -> frozenset[int]: ...

    @property
    def writes(self) -> frozenset[int]: ...

    @property
    def rows(self) -> RowSpace | None: ...

    @property
    def is_product(self) -> bool: ...

    @property
    def reports(self) -> bool: ...


@dataclass(frozen=True)
class Run:
    """Steps by their numbers; a chain of so many rows if there are several."""

    steps: tuple[int, ...]
    rows: Size = 1


Told = dict[tuple[int, int], str]
"""Why a step that needs another one of a chain is not in it: codes by both of their numbers."""


def chained(works: Sequence[Work], told: Told | None = None) -> list[Run]:
    """All steps, in an order that keeps what they need, with chains together. What does not join is told."""
    done: list[Run] = []
    waiting: deque[int | Run] = deque(range(len(works)))
    while waiting:
        first = waiting.popleft()
        if isinstance(first, Run):
            done.append(first)
            continue
        near = []
        for each in islice(waiting, WINDOW):
            if isinstance(each, Run):
                break
            near.append(each)
        found = _grow(works, first, near, told)
        if found is None:
            done.append(Run((first,)))
            continue
        run, before, after = found
        for _ in near:
            waiting.popleft()
        moved = frozenset((*run.steps, *before, *after))
        waiting.extendleft(reversed([*before, run, *after, *(each for each in near if each not in moved)]))
    return done


def _grow(works: Sequence[Work], first: int, near: Sequence[int],
          told: Told | None) -> tuple[Run, list[int], list[int]] | None:
    """The chain that starts with a step, the steps among its members that run before it, and those that run after."""
    rows = _rows_of(works, first, near)
    if rows is None:
        return None
    members: list[int] = [first]
    before: list[int] = []
    after: list[int] = []
    kept = 0, 0     # of before and after, up to the last member
    for number in near:
        if len(before) + len(after) - sum(kept) == PATIENCE:
            break
        refused = _refusal(works, number, members, rows)
        if refused is None and _depends(works, number, after):
            refused = "order"
        if refused and told is not None:
            told.update({(each, number): refused for each in members if works[number].reads & works[each].writes})
        if refused is None:
            members.append(number)
            kept = len(before), len(after)
        elif _depends(works, number, [*members, *after]):
            after.append(number)
        else:
            before.append(number)
    if len(members) == 1:
        return None
    return Run(tuple(members), rows), before[:kept[0]], after[:kept[1]]


def _rows_of(works: Sequence[Work], first: int, near: Sequence[int]) -> Size | None:
    """The rows of the first product that a chain from this step would have; where there is no row there is no chain."""
    rows = _product_rows(works, first, near)
    return None if rows == 0 else rows


def _product_rows(works: Sequence[Work], first: int, near: Sequence[int]) -> Size | None:
    head = works[first]
    if head.rows is None or head.rows.extents == () or head.reports:
        return None
    if head.is_product:
        return product(head.rows.extents)
    for number in near:
        space = works[number].rows
        if works[number].is_product and space is not None and works[number].reads & head.writes:
            rows = product(space.extents)
            return rows if head.rows.is_local(rows, head.writes) else None
    return None


def _refusal(works: Sequence[Work], number: int, members: Sequence[int], rows: Size) -> str | None:
    """None for a step that uses rows of what the chain makes, and nothing else of it; else why it does not join."""
    work = works[number]
    written = frozenset().union(*(works[each].writes for each in members))
    touched = written.union(*(works[each].reads for each in members))
    if not work.reads & written:
        return "apart"
    if work.rows is None:
        return "rows unknown"
    if works[members[-1]].reports:
        return "reports"
    if work.is_product and sum(works[each].is_product for each in members) == MOST_PRODUCTS:
        return "products"
    shared = (work.reads | work.writes) & written | work.writes & touched
    if work.rows.depth(rows) is None:
        return "new rows"
    local = work.rows.is_local(rows, shared) and all(
        space.is_local(rows, shared) for each in members if (space := works[each].rows) is not None)
    return None if local else "other rows"


def _depends(works: Sequence[Work], number: int, others: Sequence[int]) -> bool:
    """Must the step stay after any of these?"""
    work = works[number]
    return any(work.reads & works[each].writes or work.writes & (works[each].reads | works[each].writes)
               for each in others)
