"""Boundaries: between which steps a value goes through memory, and why these are no one kernel.

Comes in: the arranged drafts, what fusion and chains kept of their refusals. Goes out: a `Boundary` for each value and
each pair of a step that makes it and one that uses it, in order of the steps.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from staticgraph.errors import VerificationError
from staticgraph.tensor import Tensor, describe

from .chains import MOST_PRODUCTS
from .draft import Draft
from .groups import FUSED
from .program import Boundary, Chain
from .reasons import CHAIN_WORDS, WORDS, Refusal, words
from .schedule import Schedule, bases
from .verify import enabled


def boundaries(drafts: Sequence[Draft], schedule: Schedule, chains: Sequence[Chain],
               told: Mapping[tuple[Draft, Draft], str]) -> tuple[Boundary, ...]:
    """See the module docstring; `told` says why two steps are in no chain together."""
    return tuple(_Boundaries(drafts, schedule, chains, told).find())


class _Boundaries:
    def __init__(self, drafts: Sequence[Draft], schedule: Schedule, chains: Sequence[Chain],
                 told: Mapping[tuple[Draft, Draft], str]) -> None:
        self.drafts = drafts
        self.fused = schedule.fused
        self.why_late = schedule.why_late
        self.told = told
        self.made = [frozenset(draft.nodes) for draft in drafts]
        self.chain_of = {number: position for position, chain in enumerate(chains)
                         for number in range(chain.first, chain.first + chain.count)}

    def find(self) -> Iterator[Boundary]:
        writers: dict[int, list[int]] = {}
        for number, draft in enumerate(self.drafts):
            before = {each for buffer in draft.reads for each in writers.get(buffer, ())}
            needs = self._needs(draft) if before else {}
            for first in sorted(before):
                yield from self._between(first, number, needs)
            for buffer in draft.writes:
                writers.setdefault(buffer, []).append(number)

    def _needs(self, draft: Draft) -> dict[Tensor, list[Tensor]]:
        """What a step needs of others, with its nodes that use each."""
        own = dict.fromkeys(draft.nodes)
        needs: dict[Tensor, list[Tensor]] = {}
        for node in own:
            for base in bases(self.fused, node):
                if base not in own:
                    needs.setdefault(base, []).append(node)
        return needs

    def _between(self, first: int, second: int, needs: Mapping[Tensor, Sequence[Tensor]]) -> Iterator[Boundary]:
        maker, user = self.drafts[first], self.drafts[second]
        both = [each for each in dict.fromkeys(user.nodes) if each in self.made[first]]
        if both and user.why:     # a copy, or the rest of what the first one began
            yield self._boundary(first, second, both[-1], words(Refusal(user.why), both[-1], None))
        elif user.stage == "commit" and maker.stage != "commit":
            for value in both:
                yield self._boundary(first, second, value, words(Refusal(self.why_late[value]), value, None))
        made = self.made[first]
        for value in (each for each in needs if each in made):
            computing = next((node for node in needs[value] if node not in made), None)     # others are copied here
            if computing is not None:
                yield self._boundary(first, second, value, self._reason(value, computing))

    def _boundary(self, first: int, second: int, value: Tensor, reason: str) -> Boundary:
        return Boundary(first, second, describe(value), str(value.location), reason, self._rows(first, second))

    def _reason(self, value: Tensor, user: Tensor) -> str:
        """Why a value and a node that uses it are in different kernels."""
        copied = self.fused.why_copied
        if value in copied or user in copied:
            view = value if value in copied else user
            return words(copied[view], view, user)
        refusal = self.fused.apart.get((value, user))
        if refusal is not None and self.fused.group_of.get(value) is not None:
            return words(refusal, value, user, self._kernels_of(refusal.node))
        kind = f"to {user.op.kind}" if user.op.kind not in FUSED else f"from {value.op.kind}"
        if kind not in WORDS:     # an account is not worth a compile that fails; tests verify
            if enabled():
                raise VerificationError(f"nobody has said why {describe(value)} and {describe(user)} are apart")
            return "no reason was kept"
        return words(Refusal(kind), value, user)

    def _kernels_of(self, node: Tensor | None) -> int:
        """How many kernels read a value."""
        users = self.fused.users.get(node, ()) if node is not None else ()
        return len({self.fused.group_of.get(user, user) for user in users})

    def _rows(self, first: int, second: int) -> str:
        """Whether the two go together by rows, or why they do not."""
        chain = self.chain_of.get(first)
        if chain is not None and chain == self.chain_of.get(second):
            return "together"
        code = self.told.get((self.drafts[first], self.drafts[second]))
        return CHAIN_WORDS[code].format(most=MOST_PRODUCTS) if code else ""
