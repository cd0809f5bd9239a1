"""What differs between two compiles, as plain data.

Comes in: two of what `export` takes, such as one model with and without an option, or two versions of it. Goes out: a
`Difference`. Nodes have no names of their own across two graphs, so they are matched: first those that compute the very
same thing, then those that do the same to other operands ("rewired"), then those that do nearly the same to operands
that are matched already ("changed": another type or other attributes). What is left was added or removed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import Any

from ..compiler.history import History
from ..compiler.program import Kernel, NodeRecord, Program
from ..types import Size
from .model import Model, collect
from .subject import Subject, find_subject

LEAST_ALIKE = 0.6
MOST_COMPARED = 40
"""Kernels on either side beyond this are matched by their names only."""

Row = tuple[str, str, str]


@dataclass(frozen=True)
class GraphDifference:
    """Two graphs at one stage. `pairs` are (node of the first, node of the second, how they are alike): "same",
    "rewired" or "changed"; `removed` are nodes of the first graph, `added` of the second."""

    stage: str
    before: Model
    after: Model
    pairs: tuple[tuple[int, int, str], ...]
    removed: tuple[int, ...]
    added: tuple[int, ...]

    def count(self, how: str) -> int:
        """How many pairs are alike in this way."""
        return sum(found == how for _, _, found in self.pairs)


@dataclass(frozen=True)
class KernelDifference:
    """A kernel of either side or of both: `status` is "same", "changed", "added" or "removed"; `lines` is the text of
    both, each line headed by "  ", "- " or "+ "; `calls` are the numbers of steps that call it, before and after."""

    name: str
    status: str
    lines: tuple[str, ...]
    calls: tuple[int, int]


@dataclass(frozen=True)
class Difference:
    """All of it. `rules` are (pass, rule, firings before, firings after), where these differ; `options` and `figures`
    are (what, before, after), of options only those that differ; so are `results`, the outputs and new values of
    variables that only one side has, or that another node computes. Prints as a summary."""

    graphs: tuple[GraphDifference, ...]
    kernels: tuple[KernelDifference, ...]
    rules: tuple[tuple[str, str, int, int], ...]
    options: tuple[Row, ...]
    figures: tuple[Row, ...]
    results: tuple[Row, ...] = ()

    def __str__(self) -> str:
        lines = []
        for graph in self.graphs:
            lines.append(f"{graph.stage} graph: {len(graph.added)} nodes added, {len(graph.removed)} removed, "
                         f"{graph.count('changed')} changed, {graph.count('rewired')} with other operands, "
                         f"{graph.count('same')} the same")
        counts = Counter(kernel.status for kernel in self.kernels)
        lines.append("kernels: " + ", ".join(f"{counts[status]} {status}"
                                             for status in ("added", "removed", "changed", "same")))
        lines += [f"{stage}: {rule} fired {before} times, then {after}" for stage, rule, before, after in self.rules]
        lines += [f"option {name}: {before}, then {after}" for name, before, after in self.options]
        lines += [f"{name}: {before}, then {after}" for name, before, after in self.figures if before != after]
        lines += [f"{name}: {before or 'none'}, then {after or 'none'}" for name, before, after in self.results]
        return "\n".join(lines)


def diff(a: Any, b: Any) -> Difference:
    """What differs between two compiles: of executables, compilations, or tensors (which are compiled for this).

    >>> print(sg.viz.diff(sg.compile(x, loss), sg.compile(x, loss, options={"stabilise": False})))
    """
    return difference(find_subject(a), find_subject(b))


def difference(a: Subject, b: Subject) -> Difference:
    """The same of subjects."""
    shared = [stage for stage in ("tensor", "primitive") if stage in a.stages() and stage in b.stages()]
    graphs = tuple(graph_difference(collect(a.subject, stage), collect(b.subject, stage)) for stage in shared)
    kernels = tuple(_kernels(a.program, b.program)) if a.program is not None and b.program is not None else ()
    return Difference(graphs, kernels, _rules(a.history, b.history), _options(a.options, b.options), _figures(a, b),
                      _results(graphs[0]) if graphs else ())


# Graphs.

def graph_difference(before: Model, after: Model) -> GraphDifference:
    """Match the nodes of two graphs of one stage."""
    match = _Matching(before.nodes, after.nodes)
    match.identical()
    match.by(lambda node: (node.op, node.type, node.detail, node.name), "rewired")
    match.by(lambda node: (node.op, node.scope, node.name), "changed")
    pairs = tuple((mine, theirs, match.how[theirs]) for theirs, mine in sorted(match.of.items()))
    taken = set(match.of.values())
    return GraphDifference(before.stage, before, after, pairs,
                           tuple(number for number in range(len(before.nodes)) if number not in taken),
                           tuple(number for number in range(len(after.nodes)) if number not in match.of))


class _Matching:
    """`of` maps nodes of the second graph to those of the first, `how` says in which way they are alike."""

    def __init__(self, before: Sequence[NodeRecord], after: Sequence[NodeRecord]) -> None:
        self.before, self.after = before, after
        self.of: dict[int, int] = {}
        self.how: dict[int, str] = {}

    def identical(self) -> None:
        """Nodes that are the same down to the leaves."""
        numbers: dict[Hashable, int] = {}
        waiting: dict[int, list[int]] = {}
        for position, number in enumerate(_deep_numbers(self.before, numbers)):
            waiting.setdefault(number, []).append(position)
        for position, number in enumerate(_deep_numbers(self.after, numbers)):
            if waiting.get(number):
                self._take(position, waiting[number].pop(0), "same")

    def by(self, key: Callable[[NodeRecord], Hashable], how: str) -> None:
        """Nodes with the same key, of which those with the most operands in common are taken first of all."""
        taken = set(self.of.values())
        waiting: dict[Hashable, list[int]] = {}
        for position, node in enumerate(self.before):
            if position not in taken:
                waiting.setdefault(key(node), []).append(position)
        for position, node in enumerate(self.after):
            found = waiting.get(key(node), []) if position not in self.of else []
            if found:
                best = max(found, key=lambda each: (self._shared(each, position), -each))
                if self._shared(best, position) or not node.inputs or set(self.before[best].lines) & set(node.lines):
                    found.remove(best)
                    self._take(position, best, how)

    def _shared(self, mine: int, theirs: int) -> int:
        pairs = zip(self.before[mine].inputs, self.after[theirs].inputs, strict=False)
        return sum(self.of.get(right) == left for left, right in pairs)

    def _take(self, position: int, mine: int, how: str) -> None:
        self.of[position], self.how[position] = mine, how


def _deep_numbers(nodes: Sequence[NodeRecord], numbers: dict[Hashable, int]) -> list[int]:
    """A number for each node that stands for all that it computes; `numbers` is shared between graphs."""
    found: list[int] = []
    for node in nodes:
        name = node.name if not node.inputs else ""
        key = (node.op, node.type, node.detail, name, tuple(found[each] for each in node.inputs))
        found.append(numbers.setdefault(key, len(numbers)))
    return found


def _results(graph: GraphDifference) -> tuple[Row, ...]:
    """Outputs and new values that are not the same, each with its node on either side."""
    match = {mine: theirs for mine, theirs, _ in graph.pairs}
    before, after = (_results_of(model) for model in (graph.before, graph.after))
    return tuple((name, _described(graph.before, before.get(name)), _described(graph.after, after.get(name)))
                 for name in dict.fromkeys((*before, *after))
                 if name not in before or name not in after or match.get(before[name]) != after[name])


def _results_of(model: Model) -> dict[str, int]:
    """Node by name of what it is."""
    return {**{f"output {name}": number for name, number in model.outputs},
            **{f"new value of {model.nodes[variable].name}": value for variable, value in model.updates
               if model.nodes[variable].name}}


def _described(model: Model, number: int | None) -> str:
    if number is None:
        return ""
    node = model.nodes[number]
    return f"%{number} {node.op} {node.type}" + (f" at {node.lines[0]}" if node.lines else "")


# Kernels.

def _kernels(a: Program, b: Program) -> list[KernelDifference]:
    """Those that are on one side only or differ, then those that are the same."""
    calls = [Counter(program.kernels[step.kernel].key for step in program.steps) for program in (a, b)]
    mine = [kernel for kernel in a.kernels if kernel.key not in calls[1]]
    theirs = [kernel for kernel in b.kernels if kernel.key not in calls[0]]
    changed, removed, added = [], list(mine), []
    for kernel in theirs:
        partner = _partner(kernel, removed, len(mine) <= MOST_COMPARED and len(theirs) <= MOST_COMPARED)
        if partner is None:
            added.append(kernel)
        else:
            removed.remove(partner)
            changed.append((partner, kernel))
    found = [KernelDifference(after.name, "changed", line_difference(before.text, after.text),
                              (calls[0][before.key], calls[1][after.key])) for before, after in changed]
    found += [KernelDifference(kernel.name, "removed", line_difference(kernel.text, ""), (calls[0][kernel.key], 0))
              for kernel in removed]
    found += [KernelDifference(kernel.name, "added", line_difference("", kernel.text), (0, calls[1][kernel.key]))
              for kernel in added]
    found += [KernelDifference(kernel.name, "same", (), (calls[0][kernel.key], calls[1][kernel.key]))
              for kernel in b.kernels if kernel.key in calls[0]]
    return found


def _partner(kernel: Kernel, others: Sequence[Kernel], compare: bool) -> Kernel | None:
    """The kernel of the other side that this one came from: one of its name, else one whose text is much like it."""
    named = next((other for other in others if other.name == kernel.name), None)
    if named is not None or not compare:
        return named
    lines = kernel.text.splitlines()
    alike = [(SequenceMatcher(None, other.text.splitlines(), lines, autojunk=False).ratio(), -number)
             for number, other in enumerate(others)]
    ratio, number = max(alike, default=(0.0, 0))
    return others[-number] if ratio >= LEAST_ALIKE else None


def line_difference(before: str, after: str) -> tuple[str, ...]:
    """Both texts in one, line by line: those of both headed by two spaces, others by "- " and "+ "."""
    old, new = before.strip().splitlines(), after.strip().splitlines()
    found: list[str] = []
    for tag, first, last, start, stop in SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        if tag == "equal":
            found += [f"  {line}" for line in old[first:last]]
        else:
            found += [f"- {line}" for line in old[first:last]] + [f"+ {line}" for line in new[start:stop]]
    return tuple(found)


# Passes, options, figures.

def _rules(a: History | None, b: History | None) -> tuple[tuple[str, str, int, int], ...]:
    """Rules that did not fire as often on both sides, in the order of the passes."""
    counts = [Counter((stage.name, firing.rule) for stage in history.stages for firing in stage.firings)
              if history is not None else Counter() for history in (a, b)]
    return tuple((*key, counts[0][key], counts[1][key]) for key in dict.fromkeys((*counts[0], *counts[1]))
                 if counts[0][key] != counts[1][key])


def _options(a: Mapping[str, str], b: Mapping[str, str]) -> tuple[Row, ...]:
    names = sorted({*a, *b})
    return tuple((name, a.get(name, ""), b.get(name, "")) for name in names if a.get(name) != b.get(name))


def _figures(a: Subject, b: Subject) -> tuple[Row, ...]:
    """Sizes of both, whether they differ or not."""
    first, second = a.program, b.program
    if first is None or second is None:
        return ()
    costs = [subject.history.stages[-1].cost if subject.history is not None else None for subject in (a, b)]
    rows: list[tuple[str, Size | str, Size | str]] = [
        ("device", first.device, second.device),
        ("kernel calls", len(first.steps), len(second.steps)), ("kernels", len(first.kernels), len(second.kernels)),
        ("buffers", len(first.buffers), len(second.buffers)),
        ("bytes of the arena", first.arena_bytes, second.arena_bytes)]
    if costs[0] is not None and costs[1] is not None:
        rows += [("flops", costs[0].flops, costs[1].flops),
                 ("bytes that kernels move", costs[0].bytes_moved, costs[1].bytes_moved)]
    return tuple((name, str(before), str(after)) for name, before, after in rows)
