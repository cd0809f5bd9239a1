"""The journal of a rewriting: what took whose place, step by step, for whoever wants to look at it afterwards.

Passes note what they exchange as `Fired`. A pass that is handed a journal appends each of these to it, and besides, in
between, which nodes were built again on new operands (`Rebuilt`): so the whole way from one graph to the next can be
followed. Without a journal nothing of the latter is made.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple

from ..tensor import Tensor


class Fired(NamedTuple):
    """`result` takes the place of `node`, by a rule and for a reason. `matched` are the nodes that were looked at, root
    first. With `at_roots` that holds for outputs and new values of variables only, other users keep the node."""

    rule: str
    why: str
    node: Tensor
    result: Tensor
    matched: tuple[Tensor, ...]
    at_roots: bool = False

    def __str__(self) -> str:
        return f"{self.rule}: {', '.join(map(str, self.node.locations))}"


class Rebuilt(NamedTuple):
    """The same op on new operands."""

    old: Tensor
    new: Tensor


Journal = list[Fired | Rebuilt]


def counted(fired: Iterable[Fired]) -> list[str]:
    """Each rule with its lines once, with its number: ``log1p: model.py:12 (3 times)``."""
    return [remark if times == 1 else f"{remark} ({times} times)" for remark, times in Counter(map(str, fired)).items()]
