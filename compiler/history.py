"""The history of a compile as plain data: every node that ever existed, and what each pass put in the place of which.

A `Stage` is the graph after one pass. What led to it from the stage before are its `firings`, in order: one for each
application of a rule, each composite that was expanded, each product that took in what follows it, and so on. Between
two firings users of what was exchanged are built again on their new operands; these pairs are in `rebuilt`. So the
graph after any number of firings is had by following what stands for what, from the roots down (`replay`).

`record` runs the passes once more, with journals; a compile that nobody looks at does nothing for this.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from staticgraph.location import union
from staticgraph.rewrite.journal import Fired, Journal, Rebuilt
from staticgraph.tensor import Tensor, toposort

from .cost import Cost, total
from .pipeline import Compilation, compile_graph
from .program import NodeRecord
from .record import LINES_KEPT, Recorder

Pairs = tuple[tuple[int, int], ...]

STAGES = {
    "tensor": "the graph as it was built",
    "stabilise": "formulas that overflow or cancel give way to those that do not",
    "absorb": "products take in the bias and activation that follow them",
    "direct": "convolutions and pooling get kernels of their own",
    "decompose": "composites become primitives",
    "simplify": "arithmetic, views and constants that need no work go away",
    "settle": "sizes that have to be in memory get a kernel",
    "fuse": "nodes are put together into kernels",
}
"""What each stage does, for people."""


@dataclass(frozen=True)
class Firing:
    """One exchange of a node; all numbers are positions in `History.nodes`.

    `rule` and `why` are the rule's name and reason; `result` stands for `node` from here on; `matched` are the nodes
    that the pattern met, root first (`node` is one of them), `added` those that came into the graph. `lines` are the
    user's, the nearest first. `before` is the cost of all nodes that left the graph, `after` of all that came into it.
    `rebuilt` are the (old, new) pairs of nodes that were built again on new operands since the firing before. With
    `at_roots` only outputs and new values of variables are exchanged: other users keep the node.
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
    is the whole graph, inputs first. `rebuilt` are the pairs after the last firing. `cost` is that of `order`; from one
    stage to the next it changes by what the firings tell. Of "fuse" it is that of the program: steps, and what these
    move.
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


def replay(history: History, stage: int, firings: int | None = None) -> dict[int, tuple[int, ...]]:
    """The graph of a stage after some of its firings (all without a number): each node with its operands, which come
    before it. Without any it is the graph of the stage before; after all of them it is `Stage.order` on its own
    `NodeRecord.inputs`. Raises IndexError for stage 0, which nothing led to, and for stages that are not there.
    """
    if not 0 < stage < len(history.stages):
        raise IndexError(f"stages that firings led to are 1 to {len(history.stages) - 1}, not {stage}")
    this = history.stages[stage]
    stands_for: dict[int, int] = {}
    roots = list(history.stages[stage - 1].roots)
    count = len(this.firings) if firings is None else firings

    def now(node: int) -> int:
        while node in stands_for:
            node = stands_for[node]
        return node

    for firing in this.firings[:count]:
        stands_for.update(firing.rebuilt)
        if firing.at_roots:
            roots = [firing.result if now(root) == firing.node else root for root in roots]
        elif firing.node != firing.result:
            stands_for[firing.node] = firing.result
    if count >= len(this.firings):
        stands_for.update(this.rebuilt)
    return _reached([now(root) for root in roots],
                    lambda node: tuple(map(now, history.nodes[node].inputs)))


def _reached(roots: Sequence[int], operands: Callable[[int], tuple[int, ...]]) -> dict[int, tuple[int, ...]]:
    """What the roots need with its operands, inputs first; in the order of `toposort`."""
    found: dict[int, tuple[int, ...]] = {}
    opened: set[int] = set()
    stack = [*reversed(roots)]
    while stack:
        node = stack[-1]
        if node in opened:
            stack.pop()
            found.setdefault(node, operands(node))
        else:
            opened.add(node)
            stack.extend(each for each in reversed(operands(node)) if each not in opened)
    return found


def record(compilation: Compilation) -> History:
    """The history of a compilation, which may be done or not: its passes are run (again) with journals."""
    run = Compilation(compilation.inputs, compilation.outputs, compilation.updates, compilation.target,
                      compilation.options, compilation.structure, journals={})
    compile_graph(run)
    return _Writing(run).history()


class _Writing:
    """Turns the journals of a compilation into its history."""

    def __init__(self, run: Compilation) -> None:
        self.run = run
        self.number: dict[Tensor, int] = {}
        self.seconds = {each.name: each.seconds for each in run.records}

    def history(self) -> History:
        assert self.run.journals is not None and self.run.program is not None
        before = self.run.graphs["tensor"]
        stages = [self.stage("tensor", before, (), ())]
        for name, journal in self.run.journals.items():
            firings, rest = self.firings(before, journal)
            before = self.run.graphs[name]
            stages.append(self.stage(name, before, firings, rest))
        notes = self.run.program.notes
        moved = Cost(len(notes), sum((each.flops for each in notes), 0), sum((each.bytes_moved for each in notes), 0))
        stages[-1] = replace(stages[-1], cost=moved)
        kernels = tuple(tuple(self.positions(nodes)) for nodes in self.run.nodes_of_step)
        return History(self.records(), tuple(stages), kernels)

    def stage(self, name: str, roots: Sequence[Tensor], firings: Sequence[Firing], rest: Pairs) -> Stage:
        order = toposort(roots)
        return Stage(name, STAGES[name], self.seconds.get(name, 0.0), self.positions(roots), self.positions(order),
                     tuple(firings), total(order), rest)

    def firings(self, roots: Sequence[Tensor], journal: Journal) -> tuple[list[Firing], Pairs]:
        """The firings of a journal, and the nodes that were built again after the last one."""
        living = _Living(roots)
        firings: list[Firing] = []
        pairs: list[tuple[int, int]] = []
        change = Cost(), Cost()
        for entry in journal:
            if isinstance(entry, Rebuilt):
                pairs.append((self.position(entry.old), self.position(entry.new)))
                change = _both(change, _apart(living.exchange(entry.old, entry.new)))
                continue
            gone, come = living.exchange_roots(entry) if entry.at_roots else living.exchange(entry.node, entry.result)
            change = _both(change, (total(gone), total(come)))
            firings.append(self.firing(entry, come, change, tuple(pairs)))
            pairs, change = [], (Cost(), Cost())
        if firings:
            before, after = _both((firings[-1].before, firings[-1].after), change)
            firings[-1] = replace(firings[-1], before=before, after=after)
        return firings, tuple(pairs)

    def firing(self, entry: Fired, come: Sequence[Tensor], change: tuple[Cost, Cost], pairs: Pairs) -> Firing:
        lines = union([each.locations for each in entry.matched])[:LINES_KEPT]
        node, result, matched = self.position(entry.node), self.position(entry.result), self.positions(entry.matched)
        return Firing(entry.rule, entry.why, node, result, matched, tuple(sorted(self.positions(come))),
                      tuple(map(str, lines)), *change, pairs, entry.at_roots)

    def position(self, node: Tensor) -> int:
        """The number of a node; what it needs has smaller ones."""
        if node not in self.number:
            for each in toposort([node], stop=self.number.__contains__):
                self.number.setdefault(each, len(self.number))
        return self.number[node]

    def positions(self, nodes: Iterable[Tensor]) -> tuple[int, ...]:
        return tuple(map(self.position, nodes))

    def records(self) -> tuple[NodeRecord, ...]:
        steps: dict[Tensor, tuple[int, ...]] = {}
        for number, nodes in enumerate(self.run.nodes_of_step):
            for node in nodes:
                steps[node] = (*steps.get(node, ()), number)
        return Recorder((), ()).nodes(list(self.number), self.number, steps)


class _Living:
    """Which nodes are in a graph while it is rewritten: by the number of places where each is used."""

    def __init__(self, roots: Sequence[Tensor]) -> None:
        self.roots = list(roots)
        self.stands_for: dict[Tensor, Tensor] = {}
        self.uses: dict[Tensor, int] = {}
        for root in roots:
            self._use(root, 1)

    def now(self, node: Tensor) -> Tensor:
        while node in self.stands_for:
            node = self.stands_for[node]
        return node

    def exchange(self, old: Tensor, new: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """Put one node in the place of another: the nodes that are gone, and those that have come."""
        if old is new:
            return [], []
        self.stands_for[old] = new
        return self._move(old, new, self.uses.get(old, 0))

    def exchange_roots(self, entry: Fired) -> tuple[list[Tensor], list[Tensor]]:
        """The same for the roots alone."""
        places = [number for number, root in enumerate(self.roots) if self.now(root) is entry.node]
        for number in places:
            self.roots[number] = entry.result
        return self._move(entry.node, entry.result, len(places))

    def _move(self, old: Tensor, new: Tensor, uses: int) -> tuple[list[Tensor], list[Tensor]]:
        if not uses:
            return [], []
        come = self._use(self.now(new), uses)
        return self._leave(old, uses), come

    def _use(self, node: Tensor, uses: int) -> list[Tensor]:
        come: list[Tensor] = []
        stack = [(node, uses)]
        while stack:
            each, more = stack.pop()
            if each not in self.uses:
                come.append(each)
                stack.extend((self.now(operand), 1) for operand in each.inputs)
            self.uses[each] = self.uses.get(each, 0) + more
        return come

    def _leave(self, node: Tensor, uses: int) -> list[Tensor]:
        gone: list[Tensor] = []
        stack = [(node, uses)]
        while stack:
            each, fewer = stack.pop()
            self.uses[each] -= fewer
            if not self.uses[each]:
                del self.uses[each]
                gone.append(each)
                stack.extend((self.now(operand), 1) for operand in each.inputs)
        return gone


def _both(one: tuple[Cost, Cost], other: tuple[Cost, Cost]) -> tuple[Cost, Cost]:
    before, after = (Cost(a.nodes + b.nodes, a.flops + b.flops, a.bytes_moved + b.bytes_moved)
                     for a, b in zip(one, other, strict=True))
    return before, after


def _apart(change: tuple[Sequence[Tensor], Sequence[Tensor]]) -> tuple[Cost, Cost]:
    """What is left of a node that was built again: nothing, where it costs the same as before."""
    gone, come = total(change[0]), total(change[1])
    return (Cost(), Cost()) if gone == come else (gone, come)
