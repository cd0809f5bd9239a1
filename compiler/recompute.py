"""Recomputation: steps in, steps out that need less memory and do some of the work twice.

Comes in: the drafted steps of a program, in order, over numbered buffers. Goes out: the same steps, some of them a
second time in front of a later step that needs their result, with buffers of their own; readers read the new ones.
So the first value is given up in between, over the peak that it would otherwise have lain through. It is the trade of
Chen et al. 2016 (sublinear memory cost), here between any two steps rather than layers, and chosen greedily rather than
by the integer program of Checkmate (Jain et al. 2020).

Algorithm. While the planned peak is above the budget: look at the step where most bytes are alive; of the values that
lie through it unused, take the one that gives most bytes back for each flop and byte of doing its steps again (what
those steps read must then be alive later, or be given up and computed again too: both ways are tried), and keep the
choice if the worst steps get better by it. Steps run again when the first reader after that point asks for
the value, and only once, so what several readers or several recomputed values need is shared. After each choice the
real plan is made, chains and slots included, and its bytes decide.

Decisions. Steps are repeated and not nodes of the graph: a repeated step is the same kernel on the same values, so
results are the same bits, nothing more is compiled, and neither hash-consing nor fusion can undo it. Not repeated are
steps that check indices, that write what the caller gets or a variable, and any whose operands were overwritten.
Samples are functions of their counter, so they may be computed again. Sizes have to be numbers here: those of the graph
or those that the options state; the steps chosen are right for all other sizes too.

The peak is the arena and the outputs; inputs, variables and constants are there in any case.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Generic, Protocol, Self, TypeVar

from .program import ALIGNMENT
from .schedule import BufferInfo

MOST_TRIES = 24
"""Choices that are looked at before a step counts as unavoidable."""


class Work(Protocol):
    """A step. `reads` is whatever it touches; one that `reports` may find an index out of range."""

    stage: str
    reports: bool

    @property
    def reads(self) -> frozenset[int]: ...

    @property
    def writes(self) -> frozenset[int]: ...

    def redirected(self, buffers: Mapping[int, int]) -> Self:
        """The step on other buffers; those that are not named stay."""


W = TypeVar("W", bound=Work)


@dataclass(frozen=True)
class Made(Generic[W]):
    """A step of the result: which one of the given it is, and whether it is a repetition."""

    work: W
    origin: int
    again: bool = False


@dataclass(frozen=True)
class Costs(Generic[W]):
    """What the search counts with: bytes of each given buffer, work of each given step, bytes that are there anyway
    (outputs), and the bytes of the arena once steps are planned."""

    nbytes: Sequence[int]
    work: Sequence[int]
    fixed: int
    arena: Callable[[Sequence[W]], int]


@dataclass(frozen=True)
class Result(Generic[W]):
    """The steps, their peak, and how long it took to find them."""

    steps: list[Made[W]]
    peak: int
    seconds: float

    @property
    def repeated(self) -> list[Made[W]]:
        return [each for each in self.steps if each.again]


def remarks(result: Result[W], before: int, budget: int, name: Callable[[W], str],
            cost: Callable[[W], tuple[int, int]]) -> list[str]:
    """What was chosen and what it costs, for explain(). `before` is the peak of the steps as they came, `cost` a step's
    flops and the bytes that it moves."""
    told = [f"peak of arena and outputs {before:,} -> {result.peak:,} bytes, budget {budget:,}"]
    if result.repeated:
        costs = [cost(each.work) for each in result.repeated]
        told.append(f"{len(costs)} steps again, for {sum(flops for flops, _ in costs):,} flops and "
                    f"{sum(moved for _, moved in costs):,} bytes moved")
        counts = Counter(name(each.work) for each in result.repeated)
        told.append("again: " + ", ".join(f"{each} ({count} times)" if count > 1 else each
                                          for each, count in counts.items()))
    return told


def beyond(result: Result[W], before: int, budget: int, fixed: int, sizes: Mapping[str, int]) -> str:
    """The error of a budget that cannot be met."""
    where = f" for {', '.join(f'{name}={value}' for name, value in sorted(sizes.items()))}" if sizes else ""
    return (f"compile: option 'memory_budget' of {budget:,} bytes cannot be met{where}\n"
            f"  without it: {before:,} bytes, {before - fixed:,} of the arena and {fixed:,} of outputs\n"
            f"  the smallest peak that computing values again has reached is {result.peak:,} bytes")


def recompute(works: Sequence[W], buffers: list[BufferInfo], costs: Costs[W], budget: int) -> Result[W]:
    """Fit the peak into the budget as far as that goes. New buffers are appended."""
    return _Search(works, buffers, costs, budget).run()


class _Search(Generic[W]):
    def __init__(self, works: Sequence[W], buffers: list[BufferInfo], costs: Costs[W], budget: int) -> None:
        self.works, self.buffers, self.costs, self.budget = works, buffers, costs, budget
        self.given = len(buffers)
        self.stands_for: dict[int, int] = {}
        self.writers: dict[int, list[int]] = {}
        self.touchers: dict[int, list[int]] = {}
        for number, work in enumerate(works):
            for buffer in work.writes:
                self.writers.setdefault(buffer, []).append(number)
            for buffer in work.reads | work.writes:
                self.touchers.setdefault(buffer, []).append(number)

    def run(self) -> Result[W]:
        started = time.perf_counter()
        forgotten: dict[int, int] = {}
        steps = self.build(forgotten)
        peak = self.peak(steps)
        best, least = forgotten, peak
        while peak > self.budget:
            choice = self.choose(forgotten, steps)
            if choice is None:
                break
            forgotten, steps = choice
            peak = self.peak(steps)
            if peak < least:
                best, least = forgotten, peak
        return Result(self.build(best), least, time.perf_counter() - started)

    def peak(self, steps: Sequence[Made[W]]) -> int:
        return self.costs.arena([each.work for each in steps]) + self.costs.fixed

    # Steps for a choice of values to give up.

    def build(self, forgotten: Mapping[int, int]) -> list[Made[W]]:
        """The steps where each of these buffers is given up after the step named, and made again when needed."""
        del self.buffers[self.given:]
        self.stands_for.clear()
        made: list[Made[W]] = []
        current: dict[int, int] = {}
        committing = False
        for number, work in enumerate(self.works):
            if work.stage == "commit" and not committing:     # from here on variables change
                committing = True
                needed = {buffer for later in self.works[number:] for buffer in later.reads}
            elif not committing:
                needed = set(work.reads)
            for buffer in sorted(each for each in needed if number > forgotten.get(each, number)):
                self._make(buffer, number, forgotten, current, made)
            gone = {old: new for old, new in current.items() if number > forgotten[old]}
            made.append(Made(work.redirected(gone) if gone else work, number))
        return made

    def _make(self, wanted: int, number: int, forgotten: Mapping[int, int], current: dict[int, int],
              made: list[Made[W]]) -> None:
        """Repeat what makes a value, and before that what its operands need."""
        stack = [wanted]
        while stack:
            buffer = stack[-1]
            if buffer in current:
                stack.pop()
                continue
            inner = self.bundle(buffer)
            missing = sorted(each for writer in self.writers[buffer] for each in self.works[writer].reads - inner
                             if number > forgotten.get(each, number) and each not in current)
            if missing:
                stack += missing
                continue
            stack.pop()
            own = {each: self._new(each) for each in sorted(inner)}
            current.update({each: new for each, new in own.items() if each in forgotten})
            made += [Made(self.works[writer].redirected({**current, **own}), writer, True)
                     for writer in self.writers[buffer]]

    def _new(self, buffer: int) -> int:
        self.buffers.append(replace(self.buffers[buffer]))
        self.stands_for[len(self.buffers) - 1] = buffer
        return len(self.buffers) - 1

    def bundle(self, buffer: int) -> frozenset[int]:
        """All that the writers of a buffer write."""
        return frozenset().union(*(self.works[writer].writes for writer in self.writers[buffer]))

    # The search.

    def alive(self, steps: Sequence[Made[W]]) -> list[int]:
        """Bytes of the arena that are alive at each step."""
        first: dict[int, int] = {}
        last: dict[int, int] = {}
        for place, each in enumerate(steps):
            for buffer in each.work.reads | each.work.writes:
                first.setdefault(buffer, place)
                last[buffer] = place
        change = [0] * (len(steps) + 1)
        for buffer, place in first.items():
            if self.buffers[buffer].place == "arena":
                change[place] += self.size(buffer)
                change[last[buffer] + 1] -= self.size(buffer)
        total, sums = 0, []
        for difference in change[:-1]:
            total += difference
            sums.append(total)
        return sums

    def size(self, buffer: int) -> int:
        """Bytes of a buffer in the arena; a new one is as large as the one that it stands for."""
        nbytes = self.costs.nbytes[self.stands_for.get(buffer, buffer)]
        return -(-nbytes // ALIGNMENT) * ALIGNMENT

    def choose(self, forgotten: Mapping[int, int],
               steps: Sequence[Made[W]]) -> tuple[dict[int, int], list[Made[W]]] | None:
        """The next values to give up, and the steps then; None if nothing helps at the worst step."""
        alive = self.alive(steps)
        place = max(range(len(alive)), key=lambda each: alive[each], default=0)
        number = next((each.origin for each in steps[place:] if not each.again), len(self.works))
        worst = sorted(alive, reverse=True)
        choices = sorted(self._choices(forgotten, number), key=lambda each: (-each[0], sorted(each[1])))
        for _, more in choices[:MOST_TRIES]:
            new = {**forgotten, **more}
            found = self.build(new)
            if sorted(self.alive(found), reverse=True) < worst:
                return new, found
        return None

    def _choices(self, forgotten: Mapping[int, int], number: int) -> list[tuple[float, dict[int, int]]]:
        """Values that lie through a given step unused, with those that they are made of if these are dead by then:
        (bytes given back for each unit of work, {buffer: the step after which it is given up})."""
        choices: dict[tuple[int, ...], tuple[float, dict[int, int]]] = {}
        for buffer in self.touchers:
            for deep in (False, True):
                found = self._closure(buffer, number, forgotten, deep)
                if found:
                    gain = sum(self.size(each) for each in found if self._lies_through(each, number))
                    choices[tuple(sorted(found))] = gain / self._work(found), found
        return list(choices.values())

    def _closure(self, buffer: int, number: int, forgotten: Mapping[int, int], deep: bool) -> dict[int, int]:
        """What to give up for a buffer to be given up; empty if that cannot be."""
        found: dict[int, int] = {}
        waiting = [buffer]
        while waiting:
            each = waiting.pop()
            if each in found or each in forgotten:
                continue
            if not self._may_go(each, number):
                if found:
                    continue     # its life is extended instead
                return {}
            if not found and not self._lies_through(each, number):
                return {}
            found[each] = max(step for step in self.touchers[each] if step < number)
            waiting += [other for other in sorted(self.bundle(each)) if not self._is_scratch(other)]
            if deep:
                waiting += sorted(other for writer in self.writers[each] for other in self.works[writer].reads
                                  if self.touchers[other][-1] < number and not self._is_scratch(other))
        return found

    def _lies_through(self, buffer: int, number: int) -> bool:
        steps = self.touchers[buffer]
        return steps[0] < number < steps[-1] and number not in steps

    def _may_go(self, buffer: int, number: int) -> bool:
        """Can the buffer be made again after this step, as it was?"""
        writers = self.writers.get(buffer, ())
        if self.buffers[buffer].place != "arena" or not writers or writers[-1] >= number:
            return False
        if any(step < writers[-1] and step not in writers for step in self.touchers[buffer]):
            return False
        inner = self.bundle(buffer)
        for each in inner:
            if self.buffers[each].place != "arena" or not (self.writers[each] == writers or self._is_scratch(each)):
                return False
            if each != buffer and not self._is_scratch(each) and not self._lies_through(each, number):
                return False
        return all(self._repeats(writer, inner) for writer in writers)

    def _repeats(self, writer: int, inner: frozenset[int]) -> bool:
        work = self.works[writer]
        return work.stage == "compute" and not work.reports and all(
            step < writer for other in work.reads - inner for step in self.writers.get(other, ())
            if self.works[step].stage == "compute")

    def _is_scratch(self, buffer: int) -> bool:
        """Does only one step touch it?"""
        return len(self.touchers[buffer]) == 1

    def _work(self, found: Mapping[int, int]) -> float:
        """Work of making these again, and bytes moved for it."""
        steps = {writer for buffer in found for writer in self.writers[buffer]}
        moved = sum(self.costs.nbytes[buffer] for step in steps for buffer in self.works[step].reads)
        return float(1 + moved + sum(self.costs.work[step] for step in steps))
