"""Costs: operations and bytes of nodes by the kind of their op, and of whole programs."""

import numpy as np
import pytest

import staticgraph as sg
from staticgraph.api import compile_only
from staticgraph.compiler.cost import bytes_of, cost_of, flops_of, total
from staticgraph.tensor import toposort
from staticgraph.types import Dim, evaluate_size

from .graphs import GRAPHS

n = Dim("n")
x = sg.placeholder("x", ("n", 12))
square = sg.placeholder("square", (8, 8), "float64")
row = sg.placeholder("row", (12,))
at = sg.placeholder("at", ("k",), "int32")
updates = sg.placeholder("updates", ("k", 12))
k = Dim("k")
images = sg.placeholder("images", ("n", 2, 6, 6))
weights = sg.placeholder("weights", (3, 2, 3, 3))

COSTS = {
    "add": (x + x * 1, n * 12, n * 12 * 4 * 3),
    "same operand twice": (x * x, n * 12, n * 12 * 4 * 2),
    "number": (x + 1, n * 12, n * 12 * 4 * 2),
    "stretched": (x + row, n * 12, n * 12 * 4 * 2 + 48),
    "transcendental": (sg.exp(x), n * 12 * 15, n * 12 * 4 * 2),
    "conversion": (sg.astype(x, "float64"), 0, n * 12 * 12),
    "view": (x.T, 0, 0),
    "leaf": (x, 0, 0),
    "positions": (sg.arange(12), 0, 0),
    "sum": (sg.sum(x, 1), n * 12, n * 12 * 4 + n * 4),
    "argmax": (sg.argmax(x, 0), n * 12, n * 12 * 4 + 12 * 8),
    "product": (x @ sg.placeholder("w", (12, 5)), n * 5 * 12 * 2, n * 12 * 4 + 12 * 5 * 4 + n * 5 * 4),
    "running sum": (sg.cumulative_sum(square, 0), 64, 64 * 8 * 2),
    "recurrence": (sg.linear_recurrence(square, square * 2), 128, 64 * 8 * 3),
    "sort": (sg.argsort(square, 1), 64 * 3, 64 * 16),
    "join": (sg.concat([x, x * 2], 1), 0, n * 24 * 4 * 2),
    "pad": (sg.pad(x, ((0, 0), (1, 1))), 0, n * 12 * 4 + n * 14 * 4),
    "convolution": (sg.conv2d(images, weights, padding=1), n * 3 * 36 * 18 * 2, n * 72 * 4 + 54 * 4 + n * 108 * 4),
}


def unview(node, kind):
    while node.op.kind == "view" and kind != "view":
        node = node.inputs[0]
    return node


@pytest.mark.parametrize("name", COSTS)
def test_costs_of_a_node(name):
    node, flops, nbytes = COSTS[name]
    node = unview(node, name)
    assert (flops_of(node), bytes_of(node)) == (flops, nbytes)
    assert cost_of(node) == (1, flops, nbytes)


def test_a_gather_reads_as_much_of_its_table_as_comes_out():     # its indices are int64 by then
    node = next(each for each in toposort([sg.take(x, at, 0)]) if each.op.kind == "gather")
    assert (flops_of(node), bytes_of(node)) == (0, k * 12 * 4 * 2 + k * 8)


def test_a_scatter_adds_each_update_and_reads_what_it_adds_to():
    node = next(each for each in toposort([sg.scatter_add(x, at, updates, axis=0)]) if each.op.kind == "scatter")
    assert flops_of(node) == k * 12
    assert bytes_of(node) == (n * 12 * 4) * 2 + k * 12 * 4 + k * 8 + k * 12 * 4 * 2


def test_a_composite_costs_its_expansion_and_leaves_the_graph_as_it_was():
    y = sg.nn.softmax(x)
    before = [(node, node.locations) for node in toposort([y])]
    assert y.op.kind == "composite"
    assert flops_of(y) == n * 12 * (1 + 1 + 15 + 1 + 1)
    assert bytes_of(y) == n * 12 * 4 * 2
    assert [(node, node.locations) for node in toposort([y])] == before


def test_random_numbers_cost_their_rounds():
    (node,) = (each for each in toposort([sg.random.generator(0).uniform((100,))]) if each.op.name == "random_bits")
    assert flops_of(node) == 100 * 100


def test_a_convolution_costs_the_same_as_one_node_and_as_a_kernel_of_its_own():
    y = sg.conv2d(images, weights, padding=1, stride=2)
    compilation = compile_only([images, weights], sg.grad(sg.sum(y), [images, weights]))
    made = {node.op.name: node for node in toposort(compilation.graphs["settle"]) if node.op.kind == "windowed"}
    assert set(made) == {"spread_conv", "direct_conv_weights"}
    assert flops_of(made["direct_conv_weights"]) == n * 3 * 9 * 18 * 2
    # of each row and column of windows 1, 2 or 1 meets the image: 4 parts of 9 places, 9 weights in all
    assert evaluate_size(flops_of(made["spread_conv"]), {"n": 1}) == 2 * 3 * 2 * 9 * 9


@pytest.mark.parametrize("name", GRAPHS)
def test_notes_tell_each_node_once(name):
    inputs, outputs, changes = GRAPHS[name]()
    compilation = compile_only(inputs, outputs, updates=changes)
    program = compilation.program
    computed = dict.fromkeys(node for step in compilation.schedule.steps for node in nodes_of(step, compilation))
    told = sum((note.flops for note in program.notes), 0)
    assert told == total(computed).flops


def nodes_of(step, compilation):
    group = step.work
    if hasattr(group, "at"):
        return compilation.schedule.fused.members(group)
    return [group] if hasattr(group, "op") else []


def test_records_tell_costs_as_text():
    record = compile_only([x], sg.exp(x)).program.graphs[1]
    assert [(node.op, node.flops, node.bytes_moved) for node in record.nodes] == [
        ("placeholder", "0", "0"), ("exp", "n*180", "n*96")]
    assert np.all([isinstance(node.flops, str) for node in record.nodes])
