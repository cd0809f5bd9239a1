"""Two compiles on one page: their graphs as one, in which everything says whether it came, went or stayed.

Comes in: a `Difference` and its two subjects. Goes out: data like those of one subject, whose stages are merged graphs:
all nodes of the second graph and then those that only the first one has, which read what their operands became.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..difference import Difference, GraphDifference
from ..model import Model
from ..subject import Subject
from .columns import Texts
from .gather import MARK, NODE, stage_data
from .lines import places, source_lines

WHAT = {"tensor": "both graphs as they were built, in one", "primitive": "both graphs after all passes, in one"}


def comparison_data(found: Difference, subjects: Sequence[Subject], names: Sequence[str]) -> dict[str, Any]:
    """What the page shows; see the module docstring."""
    texts = Texts()
    stages = [_stage(graph, texts) for graph in found.graphs]
    sources: dict[str, str] = {}
    for subject in subjects:
        for line, text in source_lines(texts.all_lines(), places(subject.roots)).items():
            known = sources.setdefault(line, text)
            sources[line] = text if known == text else f"{known}   |   {text}"
    return {"kind": "difference", "names": list(names), "stages": stages, "program": None, "past": None, "options": [],
            "remarks": [], "columns": {"node": NODE, "mark": MARK}, "sources": sources,
            "summary": str(found), "rules": found.rules, "changedOptions": found.options, "figures": found.figures,
            "results": found.results,
            "kernels": [{"name": kernel.name, "status": kernel.status, "lines": kernel.lines, "calls": kernel.calls}
                        for kernel in found.kernels], **texts.data()}


def _stage(graph: GraphDifference, texts: Texts) -> dict[str, Any]:
    model, status, was = merged(graph)
    return {**stage_data(model, texts), "what": WHAT[graph.stage], "status": status, "was": was}


def merged(graph: GraphDifference) -> tuple[Model, list[str], dict[int, str]]:
    """Both graphs as one; the status of each node ("same", "rewired", "changed", "added" or "removed"); and what those
    that changed were before."""
    before, after = graph.before, graph.after
    status = ["added"] * len(after.nodes) + ["removed"] * len(graph.removed)
    was, place = {}, {number: len(after.nodes) + at for at, number in enumerate(graph.removed)}
    for mine, theirs, how in graph.pairs:
        place[mine], status[theirs] = theirs, how
        if how == "changed":
            was[theirs] = " ".join(filter(None, (before.nodes[mine].type, before.nodes[mine].detail)))
    gone = [before.nodes[number] for number in graph.removed]
    nodes = (*(node._replace(partner=()) for node in after.nodes),
             *(node._replace(inputs=tuple(place[each] for each in node.inputs), partner=(), steps=()) for node in gone))
    outputs = tuple((name, place[number]) for name, number in before.outputs if place[number] >= len(after.nodes))
    updates = tuple((place[variable], place[value]) for variable, value in before.updates
                    if place[value] >= len(after.nodes))
    model = Model(graph.stage, nodes, after.outputs + outputs, after.updates + updates, (), (-1,) * len(nodes),
                  after.parts + tuple(before.parts[number] for number in graph.removed))
    return model, status, was
