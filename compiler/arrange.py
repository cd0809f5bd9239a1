"""Arranging: the drafted steps in the order in which they run, and where their results lie.

Comes in: drafts in the order of the schedule, and the buffers that they use. Goes out: the drafts in order, which of
them run together as chains, and the place of each buffer in the arena. With a memory budget some steps are brought into
another order, or done again (see `step_order` and `recompute`), and chains are given up where that alone keeps it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from staticgraph.errors import ArgumentError
from staticgraph.types import Size, evaluate_size

from .chains import Told, chained
from .draft import Draft
from .memory_plan import LiveBuffer, Span, pack, plan
from .program import UNUSED, Chain, PassRecord
from .recompute import Costs, beyond, recompute, remarks
from .schedule import BufferInfo
from .step_order import least_memory


@dataclass(frozen=True)
class Arranged:
    """The result: drafts, chains, offset of each buffer in the arena, bytes of the arena, what a budget made of it, and
    why steps that need each other are in no chain together."""

    drafts: list[Draft]
    chains: tuple[Chain, ...]
    offsets: Mapping[int, Size]
    arena: Size
    recomputed: PassRecord | None = None
    told: Mapping[tuple[Draft, Draft], str] = field(default_factory=dict)


class Arrangement:
    """See the module docstring. `buffers` may get names and copies while steps are done again."""

    def __init__(self, drafts: list[Draft], buffers: list[BufferInfo], chains_steps: bool, budget: int,
                 sizes: Mapping[str, int]) -> None:
        self.drafts = drafts
        self.buffers = buffers
        self.chains_steps = chains_steps
        self.budget = budget
        self.sizes = sizes

    def run(self) -> Arranged:
        recomputed = self._recompute() if self.budget else None
        told: Told = {}
        drafts, chains = self._chain(self.drafts, told)
        why = {(self.drafts[first], self.drafts[second]): code for (first, second), code in told.items()}
        return Arranged(drafts, chains, *self._plan(drafts, chains), recomputed, why)

    def _recompute(self) -> PassRecord:
        """Do steps again so that the peak keeps within the budget."""
        buffers = self.buffers
        nbytes = [evaluate_size(info.nbytes, self.sizes) for info in buffers]
        work = [evaluate_size(draft.work, self.sizes) for draft in self.drafts]
        fixed = sum(size for size, info in zip(nbytes, buffers, strict=True) if info.place == "output")
        before = self._arena_of(self.drafts) + fixed
        if before > self.budget:
            self._reorder(nbytes)
            work = [evaluate_size(draft.work, self.sizes) for draft in self.drafts]
        result = recompute(self.drafts, buffers, Costs(nbytes, work, fixed, self._arena_of), self.budget)
        if result.peak > self.budget:
            raise ArgumentError(beyond(result, before, self.budget, fixed, self.sizes))
        old, self.drafts = self.drafts, [each.work for each in result.steps]
        self.chains_steps = self._planned(self.drafts, self.chains_steps) + fixed <= self.budget
        self._name_unused(old)
        told = remarks(result, before, self.budget, lambda draft: draft.kernel.name, self._cost)
        return PassRecord("recompute", len(old), len(self.drafts), result.seconds, tuple(told))

    def _reorder(self, nbytes: Sequence[int]) -> None:
        """Bring the steps into an order that needs less memory; those that find errors stay where they are."""
        count = sum(draft.stage == "compute" for draft in self.drafts)
        if any(draft.reports for draft in self.drafts[:count]):
            return
        in_arena = [size if info.place == "arena" else 0
                    for size, info in zip(nbytes, self.buffers, strict=True)]
        order = least_memory(self.drafts[:count], in_arena.__getitem__)
        self.drafts = [*(self.drafts[number] for number in order), *self.drafts[count:]]

    def _name_unused(self, old: Sequence[Draft]) -> None:
        """Results that are given up as they are made are no workspaces, of which each thread has its own."""
        touched = [index for draft in old for index in draft.reads]
        now = [index for draft in self.drafts for index in draft.reads]
        for index in {index for index in now if now.count(index) == 1 and touched.count(index) > 1}:
            self.buffers[index] = replace(self.buffers[index], name=UNUSED)

    def _cost(self, draft: Draft) -> tuple[int, int]:
        """Flops of a step, and bytes that it moves."""
        moved = sum(evaluate_size(self.buffers[buffer].nbytes, self.sizes) for buffer in draft.reads)
        return evaluate_size(draft.flops, self.sizes), moved

    def _arena_of(self, drafts: Sequence[Draft]) -> int:
        """Bytes of the arena of these steps; without chains, whose members share their lives, if that takes less."""
        return min(self._planned(drafts, chains) for chains in {self.chains_steps, False})

    def _planned(self, drafts: Sequence[Draft], chains: bool) -> int:
        return evaluate_size(self._plan(*(self._chain(drafts) if chains else (drafts, ())))[1], self.sizes)

    def _plan(self, drafts: Sequence[Draft], chains: Sequence[Chain]) -> tuple[dict[int, Size], Size]:
        live, spans = self._live_buffers(drafts), [self._span(drafts, chain) for chain in chains]
        planned = plan(live, spans)
        packed = pack(live, spans) if self.budget else None
        return packed if packed and evaluate_size(packed[1], {}) < evaluate_size(planned[1], {}) else planned

    def _chain(self, every: Sequence[Draft], told: Told | None = None) -> tuple[list[Draft], tuple[Chain, ...]]:
        """Bring the steps of chains together."""
        drafts = [draft for draft in every if draft.stage == "compute"]
        if not self.chains_steps:
            return list(every), ()
        chains: list[Chain] = []
        ordered: list[Draft] = []
        for run in chained(drafts, told):
            if len(run.steps) > 1:
                chains.append(Chain(len(ordered), len(run.steps), run.rows))
            ordered += [drafts[number] for number in run.steps]
        return [*ordered, *every[len(drafts):]], tuple(chains)

    def _span(self, drafts: Sequence[Draft], chain: Chain) -> Span:
        """A chain's steps, and which buffers all of them touch a row at a time."""
        end = chain.first + chain.count
        every = [(draft.rows, draft.reads) for draft in drafts[chain.first: end] if draft.rows is not None]
        local = frozenset(index for _, reads in every for index in reads if all(
            rows.is_local(chain.rows, [index]) for rows, touched in every if index in touched))
        return Span(chain.first, end - 1, local)

    def _live_buffers(self, drafts: Sequence[Draft]) -> list[LiveBuffer]:
        first: dict[int, int] = {}
        last: dict[int, int] = {}
        for number, draft in enumerate(drafts):
            for index in draft.reads:
                first.setdefault(index, number)
                last[index] = number
        return [LiveBuffer(index, self.buffers[index].nbytes, first[index], last[index])
                for index in sorted(first) if self.buffers[index].place == "arena"]
