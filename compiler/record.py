"""Records: tensor graphs as plain data, for people and pictures.

Comes in: the graph as the user built it, or the primitive graph with the steps that compute each node. Goes out: a
`GraphRecord`, which travels in the Program, so that an executable can be drawn without keeping a tensor alive. It is
made on every compile, so texts are made once for each distinct type and node.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from staticgraph.formatting import format_attrs
from staticgraph.location import Location
from staticgraph.rewrite.journal import Fired
from staticgraph.tensor import Tensor, toposort

from .cost import bytes_of, flops_of
from .program import GraphRecord, NodeRecord, Rewrite

LINES_KEPT = 12
PLACES_KEPT = 4
PARTNERS_KEPT = 12


class Texts(NamedTuple):
    """What a record says of a node by itself."""

    type: str
    lines: tuple[str, ...]
    detail: str
    flops: str
    bytes_moved: str


class Recorder:
    """Turns graphs of one compilation into records; what is the same node in both is described once."""

    def __init__(self, names: Sequence[str], variables: Sequence[Tensor]) -> None:
        """`names` are what the outputs go by; `variables` are those that are updated."""
        self.names = names
        self.variables = variables
        self._types: dict[Any, str] = {}
        self._lines: dict[Any, tuple[str, ...]] = {}
        self._texts: dict[Tensor, Texts] = {}

    def record(self, stage: str, roots: Sequence[Tensor],
               steps: Mapping[Tensor, tuple[int, ...]] | None = None) -> GraphRecord:
        """The graph of `roots`: the outputs, then the new value of each updated variable, then what else is needed."""
        order = toposort([*self.variables, *roots])
        number = {node: position for position, node in enumerate(order)}
        nodes = self.nodes(order, number, steps or {})
        count = len(self.names)
        return GraphRecord(stage, nodes,
                           tuple((name, number[root]) for name, root in zip(self.names, roots, strict=False)),
                           tuple((number[variable], number[root])
                                 for variable, root in zip(self.variables, roots[count: count + len(self.variables)],
                                                             strict=True)))

    def nodes(self, order: Sequence[Tensor], number: Mapping[Tensor, int],
              steps: Mapping[Tensor, tuple[int, ...]]) -> tuple[NodeRecord, ...]:
        """The records of nodes whose positions are known, with the steps that compute them."""
        partners = partners_of(order)
        self._own_lines(order)
        return tuple(self._node(node, number, steps.get(node, ()), partners.get(node, ())) for node in order)

    def _node(self, node: Tensor, number: Mapping[Tensor, int], steps: tuple[int, ...],
              partners: Sequence[Tensor]) -> NodeRecord:
        texts = self._texts.get(node) or self._describe(node)
        return NodeRecord(node.op.name, node.op.kind, texts.type, node.name or "", node.scope, texts.lines,
                          tuple(number[each] for each in node.inputs), texts.detail, steps,
                          tuple(number[each] for each in partners), texts.flops,
                          texts.bytes_moved)

    def _own_lines(self, order: Sequence[Tensor]) -> None:
        """Numbers, sizes and what is made of them alone are shared by all graphs of a process: of their lines those
        are told that something else of this graph has, too."""
        shared: dict[Tensor, bool] = {}
        own: set[Location] = set()
        for node in order:
            shared[node] = node.op.name not in ("placeholder", "variable") and all(map(shared.__getitem__, node.inputs))
            if not shared[node]:
                own.update(node.locations)
        for node in order:
            if shared[node] and node.locations not in self._lines:
                lines = [line for line in node.locations if line in own] or node.locations[:1]
                self._lines[node.locations] = tuple(map(str, lines[:LINES_KEPT]))

    def _describe(self, node: Tensor) -> Texts:
        kind = self._types.get(node.type)
        if kind is None:
            kind = self._types[node.type] = str(node.type)
        lines = self._lines.get(node.locations)
        if lines is None:
            lines = self._lines[node.locations] = tuple(map(str, node.locations[:LINES_KEPT]))
        free = node.op.kind in ("leaf", "view")
        texts = self._texts[node] = Texts(kind, lines, format_attrs(node), "0" if free else str(flops_of(node)),
                                          "0" if free else str(bytes_of(node)))
        return texts


def partners_of(order: Sequence[Tensor]) -> dict[Tensor, list[Tensor]]:
    """For nodes that have some: of a forward node its cotangents (and tangents), or those of what it is a part of; of a
    backward node the nodes whose cotangent it is, or else the node whose gradient rule made it."""
    related = [(node, node._kin) for node in order if node._kin is not None and not _is_number(node)]
    owners: dict[int, list[Tensor]] = {}
    cotangents: dict[int, list[Tensor]] = {}
    for node, kin in related:
        for mark in kin.marks:
            owners.setdefault(mark, []).append(node)
        for mark in kin.cotangent_of:
            cotangents.setdefault(mark, []).append(node)
    found: dict[Tensor, list[Tensor]] = {}
    for node, kin in related:
        near = [each for mark in kin.cotangent_of for each in owners.get(mark, ())]
        near += [each for mark in kin.marks for each in cotangents.get(mark, ())]
        near = near or [each for mark in kin.part_of for each in cotangents.get(mark, ())]
        near = near or [each for mark in kin.made_for for each in owners.get(mark, ())]
        partners = [each for each in dict.fromkeys(near) if each is not node][:PARTNERS_KEPT]
        if partners:
            found[node] = partners
    return found


def _is_number(node: Tensor) -> bool:
    while node.op.kind == "view":
        node = node.inputs[0]
    return node.op.name == "constant"


def summary(stage: str, fired: Iterable[Fired]) -> list[Rewrite]:
    """What each rule did in a pass, in order of the first time."""
    places: dict[tuple[str, str], Counter[Any]] = {}
    for each in fired:
        places.setdefault((each.rule, each.why), Counter())[each.node.location] += 1
    return [Rewrite(stage, rule, why, sum(where.values()), tuple(map(str, list(where)[:PLACES_KEPT])), len(where))
            for (rule, why), where in places.items()]


def output_names(outputs: Sequence[Tensor], structure: tuple[Any, ...]) -> list[str]:
    """What each output is called: its key in a dict, else its own name, else its position."""
    if structure[0] == "dict":
        return [key.name or "" if isinstance(key, Tensor) else str(key) for key in structure[1]]
    alone = len(outputs) == 1
    return [node.name or ("output" if alone else f"output {number}") for number, node in enumerate(outputs)]
