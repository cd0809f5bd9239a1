"""Gradient partners: which cotangent belongs to which forward node, through rewriting and for any order."""

import numpy as np
import pytest

import staticgraph as sg
from staticgraph.api import compile_only
from staticgraph.compiler.record import PARTNERS_KEPT, Recorder
from staticgraph.kinship import MOST, Kinship, join
from staticgraph.tensor import Tensor, toposort


def partners(*outputs: Tensor) -> dict[Tensor, list[Tensor]]:
    """The partners of each node of a graph."""
    order = toposort(outputs)
    number = {node: position for position, node in enumerate(order)}
    records = Recorder((), ()).nodes(order, number, {})
    return {node: [order[each] for each in record.partner] for node, record in zip(order, records, strict=True)}


def test_a_forward_node_and_its_cotangent_know_each_other() -> None:
    x = sg.placeholder("x", (3,))
    h = sg.sin(x)
    y = sg.exp(h)
    ct = sg.placeholder("ct", (3,))
    slope = sg.grad(y, x, cotangent=ct)
    found = partners(y, slope)
    of_h = slope.inputs[0]     # slope is of_h * cos(x), and of_h is ct * y
    assert found[h] == [of_h] and found[of_h] == [h]
    assert found[x] == [slope] and found[slope] == [x]
    assert found[y] == [ct] and found[ct] == [y]
    assert found[slope.inputs[1]] == [h]     # the cosine was made by the rule of the sine


def test_numbers_belong_to_nobody() -> None:
    x = sg.placeholder("x", (3,))
    found = partners(sg.grad(sg.sum(x), x), sg.sum(x))
    assert all(not each for each in found.values())


def test_second_derivatives_are_not_mixed_up() -> None:
    x, ct, other = (sg.placeholder(name, (3,)) for name in ("x", "ct", "other"))
    y = sg.sin(x)
    first = sg.grad(y, x, cotangent=ct)
    alone = partners(y, first)
    second = sg.grad(first, x, cotangent=other)
    found = partners(y, first, second)
    assert alone[x] == [first] and set(found[x]) == {first, second}
    assert found[second] == [x]
    assert [each for each in found[first] if each is not other] == [x]     # its own cotangent is `other`
    assert found[other] == [first]
    assert found[ct] == [y]
    assert partners(y, first) == {node: [each for each in some] for node, some in alone.items()}


def test_tangents_belong_to_the_nodes_that_they_are_changes_of() -> None:
    x, t = sg.placeholder("x", (3,)), sg.placeholder("t", (3,))
    h = sg.exp(x)
    y = sg.sin(h)
    (pushed,) = sg.jvp(y, x, t)
    found = partners(y, pushed)
    assert found[y] == [pushed] and found[pushed] == [y]
    assert found[h] == [pushed.inputs[0]] and found[pushed.inputs[0]] == [h]
    assert found[x] == [t]


def dense(device: str):
    """The records of a layer with a softmax and its gradient, as it was built and after all passes."""
    x = sg.placeholder("x", ("n", 4))
    w, b = sg.variable(np.zeros((4, 3), "float32"), "w"), sg.variable(np.zeros(3, "float32"), "b")
    loss = sg.sum(sg.square(sg.nn.softmax(sg.nn.relu(x @ w + b))))
    gw, gb = sg.grad(loss, [w, b])
    return compile_only([x], loss, updates={w: w - gw, b: b - gb}, device=device).program.graphs


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_partners_survive_all_passes(device: str) -> None:
    built, primitive = dense(device)
    for record in (built, primitive):
        nodes = record.nodes
        for number, node in enumerate(nodes):
            assert number not in node.partner and len(set(node.partner)) == len(node.partner) <= PARTNERS_KEPT
            assert all(0 <= each < len(nodes) for each in node.partner)
        product = next(each for each in nodes if each.op in ("matmul", "matmul_epilogue"))
        (cotangent,) = product.partner
        expected = "multiply" if product.op == "matmul_epilogue" else "where"     # the former is the relu as well
        assert nodes[cotangent].op == expected and nodes[cotangent].type == product.type
        variable = next(each for each in nodes if each.name == "w")
        (slope,) = variable.partner
        assert nodes[slope].op == "matmul" and nodes[slope].type == variable.type
        assert nodes.index(variable) in nodes[slope].partner
    whole = [each for each in built.nodes if each.op == "softmax"]
    parts = [each for each in primitive.nodes if each.op in ("exp", "max", "divide")]
    (of_softmax,) = whole[0].partner
    assert parts and all(primitive.nodes[each.partner[0]].lines == built.nodes[of_softmax].lines for each in parts)
    assert {len(each.partner) for each in parts} == {1}


def test_a_history_knows_partners_of_all_stages() -> None:
    x, ct = sg.placeholder("x", ("n", 4)), sg.placeholder("ct", ("n", 4))
    y = sg.nn.softmax(x)
    history = sg.viz.history([y, sg.grad(y, x, cotangent=ct)])
    for stage in history.stages:
        inside = set(stage.order)
        placeholder = next(each for each in stage.order if history.nodes[each].name == "x")
        assert any(each in inside for each in history.nodes[placeholder].partner)


def test_shared_nodes_keep_few_marks() -> None:
    x = sg.placeholder("x", (3,))
    y = sg.sin(x)
    for number in range(3 * MOST):
        sg.grad(y * (number + 1.5), x, cotangent=x)
    assert x._kin is not None and len(x._kin.cotangent_of) <= MOST
    joined = join([Kinship((number,)) for number in range(100)])
    assert joined == Kinship(tuple(range(MOST)))
    assert join([None, None]) is None and join([None, Kinship((1,))]) == Kinship((1,))


def test_equal_graphs_have_equal_keys_whoever_was_differentiated() -> None:
    """Kinship is side data: programs come from the cache whatever else was done with their graphs."""
    from staticgraph.compiler.graph_key import graph_key
    from staticgraph.runtime.cpu.host import host_target

    x = sg.placeholder("x", (3,))
    y = sg.sin(x)
    before = graph_key([x], [y], {}, host_target(), {}, ["y"], "tensor").digest
    sg.grad(sg.sum(y), x)
    assert graph_key([x], [y], {}, host_target(), {}, ["y"], "tensor").digest == before
