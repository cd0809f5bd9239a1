"""The rewrite history for the page: each node that ever existed once, each pass with its graph, each firing in order.

Comes in: a `History`. Goes out: plain data with texts by number. Times are left out: the same compile gives the same
page. The graph after each pass comes with the places of its marks, except where a pass changed nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ...compiler.cost import Cost
from ...compiler.history import Firing, History, Stage
from ...compiler.program import GraphRecord, NodeRecord
from ..display import display
from ..model import Model, parts_of
from ..scene import arrange
from .columns import Texts

PAST_NODE = ("op", "type", "name", "scope", "lines", "detail", "inputs", "flops", "bytes")


def past_data(history: History, models: Mapping[str, Model], texts: Texts) -> dict[str, Any]:
    """All of it; `columns` name the entries of a node's row. What `models`, the graphs at each stage, show already is
    not drawn again."""
    nodes = [[texts(node.op), texts(node.type), texts(node.name), texts(node.scope), texts.lines(node.lines),
              texts(node.detail), node.inputs, texts(node.flops), texts(node.bytes_moved)] for node in history.nodes]
    shown = {history.stages[number].order: name for number, name in ((-1, "primitive"), (0, "tensor"))
             if name in models and -1 not in positions_of(history, models[name])}
    stages, before = [], None
    for stage in history.stages:
        same = before is not None and before.order == stage.order
        picture = {"like": shown[stage.order]} if stage.order in shown else None if same else _picture(
            history, stage, models["tensor"], texts)
        stages.append({"name": stage.name, "what": stage.what, "cost": _cost(stage.cost), "order": stage.order,
                       "firings": [_firing(firing, texts) for firing in stage.firings], "picture": picture})
        before = stage
    return {"columns": PAST_NODE, "nodes": nodes, "stages": stages}


def _picture(history: History, stage: Stage, first: Model, texts: Texts) -> dict[str, Any]:
    """Where everything of the graph after a pass is; its marks' nodes are positions in the history."""
    from .gather import scene_data

    shown = display(stage_model(history, stage, first))
    picture = scene_data(arrange(shown), len(shown.marks), texts)
    for mark in picture["marks"]:
        mark[3] = stage.order[mark[3]]
    return picture


def stage_model(history: History, stage: Stage, first: Model) -> Model:
    """The graph after a pass, as other pictures take it; `first` is the graph as it was built, which knows the names of
    the outputs and which variables are updated."""
    at = {number: position for position, number in enumerate(stage.order)}
    nodes = tuple(_local(history.nodes[number], at) for number in stage.order)
    count = len(first.outputs)
    results = tuple((name, at[root]) for (name, _), root in zip(first.outputs, stage.roots, strict=False))
    old = positions_of(history, first)
    updates = tuple((at[old[variable]], at[root]) for (variable, _), root
                    in zip(first.updates, stage.roots[count: count + len(first.updates)], strict=True)
                    if old[variable] in at)
    parts = parts_of(GraphRecord("", nodes, results, updates))
    return Model("primitive", nodes, results, updates, (), (-1,) * len(nodes), parts)


def _local(node: NodeRecord, at: dict[int, int]) -> NodeRecord:
    return node._replace(inputs=tuple(at[each] for each in node.inputs), partner=())


def _firing(firing: Firing, texts: Texts) -> list[Any]:
    return [texts(firing.rule), texts(firing.why), firing.node, firing.result, firing.matched, firing.added,
            texts.lines(firing.lines), _cost(firing.before), _cost(firing.after)]


def _cost(cost: Cost) -> list[Any]:
    return [cost.nodes, str(cost.flops), str(cost.bytes_moved)]


WATCHES = ("debug_print", "assert_that")


def positions_of(history: History | None, model: Model) -> Sequence[int]:
    """The position in the history of each node of a stage's graph, -1 where it has none: both graphs are walked from
    their roots at once, since they number their nodes in other orders."""
    if history is None or not history.stages or model.stage == "program":
        return ()
    stage = history.stages[0 if model.stage == "tensor" else -1]
    found = [-1] * len(model.nodes)
    roots = [number for _, number in model.outputs] + [number for _, number in model.updates]
    waiting = list(zip(roots, stage.roots, strict=False))
    while waiting:
        number, position = waiting.pop()
        mine, theirs = model.nodes[number], history.nodes[position]
        if mine.op in WATCHES and theirs.op not in WATCHES:     # taken out before the first pass
            waiting.append((mine.inputs[0], position))
            continue
        if found[number] >= 0 or mine.op != theirs.op or len(mine.inputs) != len(theirs.inputs):
            continue
        found[number] = position
        waiting += zip(mine.inputs, theirs.inputs, strict=True)
    return found
