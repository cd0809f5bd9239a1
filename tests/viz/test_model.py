"""What is shown: stages, parts, what a picture leaves out, and the networkx view."""

from __future__ import annotations

import networkx as nx
import numpy as np
import pytest

import staticgraph as sg
from staticgraph.api import compile_only
from staticgraph.tensor import Tensor
from staticgraph.viz.display import display
from staticgraph.viz.model import collect
from tests.viz.graphs import compiled, training


def test_stages_of_a_compilation() -> None:
    compilation = compiled()
    tensor, primitive, fused = (collect(compilation, stage) for stage in ("tensor", "primitive", "fused"))
    assert collect(compilation) == fused
    assert "cross_entropy" in {node.op for node in tensor.nodes}
    assert "cross_entropy" not in {node.op for node in primitive.nodes}
    assert primitive.nodes == fused.nodes
    assert not tensor.kernels and not primitive.kernels
    assert len(fused.kernels) == len(compilation.program.steps)     # type: ignore[union-attr]


def test_an_executable_shows_what_its_compilation_shows() -> None:
    inputs, loss, updates = training()
    executable = sg.compile(inputs, {"loss": loss}, updates=updates)
    from staticgraph.api import compile_only
    assert collect(executable) == collect(compile_only(inputs, {"loss": loss}, updates=updates))


def test_every_computed_node_has_a_kernel() -> None:
    model = collect(compiled())
    for node, kernel in zip(model.nodes, model.kernel_of, strict=True):
        if node.kind in ("contraction", "reduction"):
            assert kernel >= 0
        if node.op in ("placeholder", "variable", "constant", "size_of"):
            assert kernel == -1
    assert {model.kernels[kernel].name for kernel in model.kernel_of if kernel >= 0} == {
        kernel.name for kernel in model.kernels}


def test_parts_of_a_training_graph() -> None:
    model = collect(compiled(), "tensor")
    found: dict[str, list[str]] = {}
    for node, part in zip(model.nodes, model.parts, strict=True):
        found.setdefault(part, []).append(node.op)
    assert found.keys() == {"forward", "backward", "update"}
    assert found["forward"].count("matmul") == 2 and "cross_entropy" in found["forward"]
    assert found["backward"].count("matmul") == 3 and "softmax" in found["backward"]
    assert found["update"].count("subtract") == 3 and found["update"].count("variable") == 4
    assert "matmul" not in found["update"] and "placeholder" not in found["update"]


def test_parts_are_unknown_without_updates() -> None:
    _, loss, _ = training()
    assert set(collect(loss).parts) == {""}


def test_networkx_of_a_tensor() -> None:
    x = sg.placeholder("x", shape=("batch", 3), dtype="float32")
    with sg.name_scope("power"):
        y = x * x + 2.0
    graph = sg.viz.to_networkx(y)
    assert nx.is_directed_acyclic_graph(graph) and graph.graph == {"stage": "tensor"}
    by_op = {data["op"]: number for number, data in graph.nodes(data=True)}
    assert graph.edges[by_op["placeholder"], by_op["multiply"]] == {"operands": "0,1", "type": "float32[batch, 3]"}
    assert graph.edges[by_op["multiply"], by_op["add"]] == {"operands": "0", "type": "float32[batch, 3]"}
    data = graph.nodes[by_op["add"]]
    assert (data["dtype"], data["shape"], data["scope"], data["output"]) == ("float32", "batch, 3", "power", "output")
    assert data["lines"].startswith("test_model.py:") and (data["kernel"], data["step"]) == ("", -1)


def test_networkx_holds_plain_data_only() -> None:
    for stage in ("tensor", "primitive", "fused"):
        for number, data in sg.viz.to_networkx(compiled(), stage).nodes(data=True):
            assert type(number) is int and {type(value) for value in data.values()} <= {str, int}


def test_networkx_of_several_tensors() -> None:
    x = sg.placeholder("x", shape=(3,))
    for several in ([sg.exp(x), sg.sin(x)], (sg.exp(x), sg.sin(x)), {"a": sg.exp(x), "b": sg.sin(x)}):
        graph = sg.viz.to_networkx(several)
        names = ["a", "b"] if isinstance(several, dict) else ["output 0", "output 1"]
        assert len(graph) == 3
        assert [data["output"] for _, data in graph.nodes(data=True) if data["output"]] == names


def test_tensors_are_compiled_for_the_fused_stage() -> None:
    x = sg.placeholder("x", shape=("n",))
    graph = sg.viz.to_networkx(sg.sum(sg.exp(x)), "fused")
    assert {data["kernel"] for _, data in graph.nodes(data=True) if data["op"] in ("exp", "sum")} == {"row_exp_sum"}


def test_numbers_and_stretches_are_not_drawn() -> None:
    x = sg.placeholder("x", shape=("batch", 3), dtype="float32")
    b = sg.variable(np.zeros(3, "float32"), name="b")
    shown = display(collect(0.5 * x - b))
    assert sorted(mark.label for mark in shown.marks) == ["b", "multiply(0.5, ·)", "output", "subtract", "x"]
    dashed = [arrow for arrow in shown.arrows if arrow.folded]
    assert len(dashed) == 1 and shown.marks[dashed[0].source].label == "b"
    assert sorted(arrow.order for arrow in shown.arrows) == [0, 0, 1, 2]


def test_labels_of_views_and_sizes_in_kernels() -> None:
    x = sg.placeholder("x", shape=("batch", 4), dtype="float32")
    labels = {mark.label for mark in display(collect(x.T @ x, "fused")).marks}
    assert "matmul(·ᵀ, ·)" in labels
    labels = {mark.label for mark in display(collect(sg.mean(sg.exp(x), axis=0), "fused")).marks}
    assert "divide(·, batch)" in labels


def test_inputs_are_drawn_in_every_kernel_that_reads_them() -> None:
    shown = display(collect(compiled()))
    kernels = [mark.kernel for mark in shown.marks if mark.role == "input" and mark.label == "x"]
    assert len(kernels) == len(set(kernels)) == 2      # x @ w1, and the gradient of w1
    for arrow in shown.arrows:
        source, target = shown.marks[arrow.source], shown.marks[arrow.target]
        assert source.role not in ("input", "variable") or source.kernel == target.kernel


def test_outputs_that_are_leaves() -> None:
    x = sg.placeholder("x", shape=("n",))
    v = sg.variable(np.zeros(2), name="v")
    executable = sg.compile([x], {"same": x, "number": sg.constant(3.0), "state": v, "turned": x[::-1]}, updates={v: v})
    for stage in ("tensor", "fused"):
        shown = display(collect(executable, stage))
        ends = {shown.marks[arrow.target].label: shown.marks[arrow.source].label for arrow in shown.arrows}
        assert ends["same"] == "x" and ends["number"] == "3.0" and ends["state"] == ends["v"] == "v"


@pytest.mark.parametrize("wrong", [3, "x", [], [1, 2], {"a": None}, None, np.zeros(3)])
def test_only_graphs_can_be_shown(wrong: object) -> None:
    with pytest.raises(sg.ArgumentError, match="can be shown"):
        sg.viz.to_networkx(wrong)


def test_unknown_stage() -> None:
    x: Tensor = sg.placeholder("x", shape=(2,))
    with pytest.raises(sg.ArgumentError, match="stages are tensor, primitive, fused, program"):
        sg.viz.to_networkx(x, "final")


def test_a_program_is_steps_and_buffers() -> None:
    compilation = compiled()
    program = compilation.program
    assert program is not None
    model = collect(compilation, "program")
    steps = [node for node in model.nodes if node.kind == "step"]
    assert [node.op for node in steps] == [program.kernels[step.kernel].name for step in program.steps]
    buffers = {fact["buffer"] for fact in model.facts if "buffer" in fact}
    assert buffers == {each for step in program.steps for each in (*step.reads, *step.writes)}
    graph = sg.viz.to_networkx(compilation, "program")
    assert nx.is_directed_acyclic_graph(graph) and nx.is_bipartite(graph)
    for number, node in enumerate(model.nodes):     # what steps read and write are the edges
        if node.kind == "step":
            step = program.steps[node.steps[0]]
            read = {model.facts[each]["buffer"] for each in graph.predecessors(number)}
            assert set(step.reads) <= read <= {*step.reads, *step.writes}
            assert {model.facts[each]["buffer"] for each in graph.successors(number)} == set(step.writes)


def test_buffers_of_a_program_tell_place_bytes_and_life() -> None:
    model = collect(compiled(), "program")
    arena = [fact for fact in model.facts if fact.get("place") == "arena"]
    assert arena and all(fact["first_step"] <= fact["last_step"] and fact["bytes"] for fact in arena)  # type: ignore[operator]
    assert {"x", "t", "w1", "loss"} <= {node.name for node in model.nodes}
    assert {model.nodes[new].name for _, new in model.updates} >= {"w1", "b1", "w2", "count"}
    assert all(model.nodes[old].name == model.nodes[new].name and not model.nodes[old].inputs
               for old, new in model.updates)


def test_chains_of_a_program_are_told_apart() -> None:
    x, w = sg.placeholder("x", shape=("n", 8)), sg.variable(np.zeros((8, 8), "float32"), name="w")
    compilation = compile_only([x], sg.nn.relu(x @ w) @ w)
    program = compilation.program
    assert program is not None and program.chains
    model = collect(compilation, "program")
    for node, chain in zip(model.nodes, model.chain_of, strict=True):
        if node.kind == "step":
            inside = [number for number, each in enumerate(program.chains)
                      if each.first <= node.steps[0] < each.first + each.count]
            assert inside == ([chain] if chain >= 0 else [])
    shown = display(model)
    assert len(shown.kernels) == len(program.chains) and {mark.kernel for mark in shown.marks} >= {0}


def test_memory_that_is_written_again_is_another_node() -> None:
    x = sg.placeholder("x", shape=("n", 3))
    model = collect(compile_only([x], sg.concat([x, sg.exp(x)], axis=1)), "program")
    written = [number for number, node in enumerate(model.nodes) if node.kind == "output"]
    assert len(written) == 2 and model.facts[written[0]]["buffer"] == model.facts[written[1]]["buffer"]
    (second,) = model.nodes[written[1]].inputs
    assert written[0] in model.nodes[second].inputs
    assert [arrow.folded for arrow in display(model).arrows].count(("the same memory",)) == 1
    assert model.outputs == (("output", written[1]),)


def test_outputs_that_no_step_writes_are_in_a_program() -> None:
    x = sg.placeholder("x", shape=("n",))
    v = sg.variable(np.zeros(2), name="v")
    compilation = compile_only([x], {"same": x, "twice": x, "state": v}, updates={v: v + 1.0})
    model = collect(compilation, "program")
    sources = {}
    for name, number in model.outputs:     # back to the leaf: each is copied by a step
        while model.nodes[number].inputs:
            (number,) = model.nodes[number].inputs
        sources[name] = (model.nodes[number].kind, model.nodes[number].name)
    assert sources == {"same": ("input", "x"), "twice": ("input", "x"), "state": ("variable", "v")}
    assert {mark.label for mark in display(model).marks if mark.role == "output"} == {"same", "twice", "state"}


def test_scopes_go_with_gradients_and_with_what_passes_make() -> None:
    x = sg.placeholder("x", shape=("batch", 8), dtype="float32")
    w = sg.variable(np.zeros((8, 4), "float32"), name="w")
    with sg.name_scope("block"):
        chances = sg.nn.softmax(x @ w)
    (gradient,) = sg.grad(sg.sum(sg.sqrt(chances)), [w])
    program = compile_only([x], chances, updates={w: w - gradient}).program
    assert program is not None
    scopes = {stage.stage: {node.op: node.scope for node in stage.nodes} for stage in program.graphs}
    assert scopes["tensor"]["softmax"] == "block" and scopes["tensor"]["sqrt"] == ""
    assert {scopes["primitive"][op] for op in ("matmul", "exp", "max")} == {"block"}
    turned = [node.scope for node in program.graphs[1].nodes if node.op == "permute_dims"]
    assert turned == ["block"]     # of the product's gradient
