"""Which nodes belong together across a derivative: side data of a node, as its lines are.

The reverse pass gives each node that it goes through a number (its *mark*), and notes on what it builds whose cotangent
that is, and by whose rule it was made. Rewriting hands all of this on, so a softmax and its gradient still know each
other when both have become primitives. It is never part of a node's identity; no node holds another one alive by it.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from functools import lru_cache
from typing import NamedTuple

MOST = 8
"""Marks that are kept of each kind: nodes that many others became (a zero, a count) belong to nobody."""

_marks = itertools.count(1)


class Kinship(NamedTuple):
    """`marks` are the node's own; `cotangent_of` are those of the nodes whose cotangent it is, `made_for` those of the
    nodes whose gradient rule made it, `part_of` those of the nodes that it is a part of."""

    marks: tuple[int, ...] = ()
    cotangent_of: tuple[int, ...] = ()
    made_for: tuple[int, ...] = ()
    part_of: tuple[int, ...] = ()

    def fitting(self, other: Kinship) -> Kinship:
        """What a node that takes the place of `other` and is there already has from it: a node of the forward pass is
        no cotangent because a rule finds that one equal to it."""
        is_forward = self.marks and not self.cotangent_of and not self.made_for
        return Kinship(other.marks, () if is_forward else other.cotangent_of)


@lru_cache(maxsize=1024)
def inner(kin: Kinship) -> Kinship:
    """For the parts of what takes the place of a node of this kin."""
    return Kinship((), (), _once((*kin.cotangent_of, *kin.made_for)), _once((*kin.marks, *kin.part_of)))


def new_marks() -> tuple[int, ...]:
    """For a node that has none yet."""
    return (next(_marks),)


def join(kins: Iterable[Kinship | None]) -> Kinship | None:
    """All of them in one; None where nobody has any."""
    found = [each for each in kins if each is not None]
    if len(found) < 2:
        return found[0] if found else None
    if all(each == found[0] for each in found):
        return found[0]
    return Kinship(*(_once(mark for each in found for mark in each[kind]) for kind in range(len(Kinship._fields))))


def _once(marks: Iterable[int]) -> tuple[int, ...]:
    return tuple(dict.fromkeys(marks))[:MOST]
