"""Graphs for other programs: a networkx graph, JSON and GraphML.

All three carry every node of the model, constants and views included. Node keys are the positions in the graph's order,
inputs first; attributes are strings and integers only, so every format keeps them.
"""

from __future__ import annotations

import io
import json
from typing import Any

import networkx as nx

from .model import Model, collect
from .text import xml_safe

FORMAT, VERSION = "staticgraph-graph", 1


def to_networkx(obj: Any, stage: str | None = None) -> nx.DiGraph:
    """The graph of a tensor, of several tensors, of an Executable or of a Compilation as a `networkx.DiGraph`.

    stage: "tensor" (as it was built), "primitive" (after all passes) or "fused" (with kernels). Nodes are numbered in
    the graph's order and carry op, kind, type, dtype, shape, name, scope, lines, detail, part ("forward", "backward",
    "update", or empty where that is not known), kernel, step (-1 for none), output and update (the name of the output
    or variable that they become), partner (the nodes across a derivative), flops and bytes_moved (formulas of sizes).
    Edges carry operands, the numbers of the operands that they are, such as "0" or "0,1", and the type of the value.

    stage "program": nodes are steps (kind "step"; further extent, chain, stage, computes) and buffers (kind "input",
    "variable", "constant", "output" or "arena"; further buffer, place, bytes, chain, and in the arena offset,
    first_step and last_step).
    """
    return model_graph(collect(obj, stage))


def model_graph(model: Model) -> nx.DiGraph:
    """The networkx graph of a model."""
    graph = nx.DiGraph(stage=model.stage)
    outputs: dict[int, list[str]] = {}
    updates: dict[int, list[str]] = {}
    for name, number in model.outputs:
        outputs.setdefault(number, []).append(name)
    for variable, value in model.updates:
        updates.setdefault(value, []).append(model.nodes[variable].name)
    for number, node in enumerate(model.nodes):
        dtype, _, shape = node.type.partition("[")
        kernel = model.kernel_of[number]
        graph.add_node(number, op=node.op, kind=node.kind, type=node.type, dtype=dtype, shape=shape.removesuffix("]"),
                       name=node.name, scope=node.scope, lines=", ".join(node.lines), detail=node.detail,
                       part=model.parts[number], kernel=model.kernels[kernel].name if kernel >= 0 else "",
                       step=kernel, output=", ".join(outputs.get(number, ())),
                       update=", ".join(updates.get(number, ())), partner=",".join(map(str, node.partner)),
                       flops=node.flops, bytes_moved=node.bytes_moved,
                       **(model.facts[number] if model.facts else {}))
        operands: dict[int, list[str]] = {}
        for position, operand in enumerate(node.inputs):
            operands.setdefault(operand, []).append(str(position))
        for operand, positions in operands.items():
            graph.add_edge(operand, number, operands=",".join(positions), type=model.nodes[operand].type)
    return graph


def render_json(model: Model) -> str:
    """JSON that `networkx.node_link_graph(data, edges="edges")` reads too."""
    data = nx.node_link_data(model_graph(model), edges="edges")
    nodes_of: dict[int, list[int]] = {}
    for number, node in enumerate(model.nodes):
        for step in node.steps if model.kernels else ():
            nodes_of.setdefault(step, []).append(number)
    kernels = [{"step": kernel.step, "name": kernel.name, "extent": kernel.extent,
                "stage": "commit" if kernel.commit else "compute", "lines": list(kernel.lines),
                "nodes": nodes_of.get(kernel.step, [])}
               for kernel in model.kernels]
    results = {"outputs": [{"name": name, "node": number} for name, number in model.outputs],
               "updates": [{"variable": variable, "node": number} for variable, number in model.updates]}
    document = {"format": FORMAT, "version": VERSION, "stage": model.stage, **data, "kernels": kernels, **results}
    if model.chains:
        document["chains"] = list(model.chains)
    return json.dumps(document, indent=1) + "\n"


def render_graphml(model: Model) -> str:
    """GraphML."""
    graph = model_graph(model)
    for *_, attributes in (*graph.nodes(data=True), *graph.edges(data=True)):
        attributes.update((key, xml_safe(value)) for key, value in attributes.items() if isinstance(value, str))
    document = io.BytesIO()
    nx.write_graphml_xml(graph, document)
    return document.getvalue().decode("utf-8") + "\n"
