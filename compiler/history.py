"""The history of a compile as plain data: every node that ever existed, and what each pass put in the place of which.

A `Stage` is the graph after one pass. What led to it from the stage before are its `firings`, in order: one for each
application of a rule, each composite that was expanded, each product that took in what follows it, and so on. Between
two firings users of what was exchanged are built again on their new operands; these pairs are in `rebuilt`. So the
graph after any number of firings is had by following what stands for what, from the roots down (`replay`).
"""

from __future__ import annotations

from dataclasses import dataclass

from .cost import Cost
from .program import NodeRecord

Pairs = tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Firing:
    """One exchange of a node; all numbers are positions in `History.nodes`.

    `rule` and `why` are the rule's name and reason; `result` stands for `node` from here on; `matched` are the nodes
    that the pattern met, root first (`node` is one of them), `added` the nodes that did not exist before. `lines` are
    the user's. `before` is the cost of what `node` needed and `result` does not, `after` the other way round. `rebuilt`
    are the (old, new) pairs of nodes that were built again on new operands since the firing before. With `at_roots`
    only outputs and new values of variables are exchanged: other users keep the node.
    """

    rule: str
    why: str
    node: int
    result: int
    matched: tuple[int, ...]
    added: tuple[int, ...]
    lines: tuple[str, ...]
    before: Cost
    after: Cost
    rebuilt: Pairs = ()
    at_roots: bool = False


@dataclass(frozen=True)
class Stage:
    """The graph after a pass: "tensor" is the graph as it was built, which nothing led to, and "fuse" comes last.

    `what` is a sentence for people. `roots` are the outputs and then the new values of the updated variables; `order`
    is the whole graph, inputs first. `rebuilt` are the pairs after the last firing. `cost` is that of `order`.
    """

    name: str
    what: str
    seconds: float
    roots: tuple[int, ...]
    order: tuple[int, ...]
    firings: tuple[Firing, ...]
    cost: Cost
    rebuilt: Pairs = ()


@dataclass(frozen=True)
class History:
    """`nodes` holds each node once; `NodeRecord.inputs` and `partner` are positions in it. `kernels` are the nodes that
    each step of the program computes."""

    nodes: tuple[NodeRecord, ...]
    stages: tuple[Stage, ...]
    kernels: tuple[tuple[int, ...], ...] = ()
