"""The history of a compile: from each stage's graph to the next by its firings, costs that add up, and plain data."""

from itertools import pairwise

import numpy as np
import pytest

import staticgraph as sg
from staticgraph.api import compile_only, prepare
from staticgraph.compiler import history as history_module
from staticgraph.compiler.cost import Cost
from staticgraph.compiler.history import STAGES, record, replay
from staticgraph.compiler.pipeline import PASSES
from staticgraph.errors import ArgumentError
from staticgraph.rewrite.journal import Fired
from staticgraph.tensor import toposort
from tests.rewrite.test_random_graphs import Grower

from .graphs import GRAPHS
from .models import perceptron

SEEDS = range(700, 706)


def history_of(inputs, outputs, updates=None, device="cpu"):
    return record(prepare(inputs, outputs, updates=updates, device=device))


def perceptron_history(device):
    inputs, loss, parameters = perceptron()
    steps = sg.optim.Adam(0.01).updates(loss, parameters)
    return history_of(inputs, loss, steps, device)


def random_history(seed, device):
    """Random nodes and the gradient of some of them."""
    grower = Grower(seed, smooth=True)
    outputs = grower.grow(25)
    total = sum(sg.mean(each) for each in outputs[-4:])
    slopes = [each for each in sg.grad(total, grower.leaves, unconnected="zero") if each.op.kind != "leaf"]
    return history_of(grower.leaves, [*outputs, *slopes], None, device)


MADE = {**{name: lambda device, build=build: history_of(*build(), device) for name, build in GRAPHS.items()},
        "perceptron": perceptron_history,
        **{f"random {seed}": lambda device, seed=seed: random_history(seed, device) for seed in SEEDS}}


@pytest.mark.parametrize("device", ["cpu", "cuda"])
@pytest.mark.parametrize("name", MADE)
def test_a_history_is_whole(name, device):
    history = MADE[name](device)
    only = {"cpu": "direct", "cuda": "absorb"}[device]
    expected = [each for each, _ in PASSES if each not in ("direct", "absorb") or each == only]
    assert [stage.name for stage in history.stages] == ["tensor", *expected, "fuse"]
    assert history.stages[0].firings == () and history.stages[0].seconds == 0
    check_nodes(history)
    for number in range(1, len(history.stages)):
        check_stage(history, number)
    check_kernels(history)


def check_nodes(history):
    """Each node once, operands first; every position is one of a node, and every node is of some use."""
    for number, node in enumerate(history.nodes):
        assert all(0 <= operand < number for operand in node.inputs)
        assert node.lines or node.kind == "leaf"
    kinds = [(node.op, node.detail, node.inputs, node.type) for node in history.nodes if node.inputs]
    assert len(set(kinds)) == len(kinds)
    used = set()
    for stage in history.stages:
        used.update(stage.order)
        used.update(*(pair for firing in stage.firings for pair in firing.rebuilt), *stage.rebuilt)
        for firing in stage.firings:
            assert firing.node in firing.matched
            assert firing.rule and firing.why and firing.lines
            used.update(firing.matched, firing.added, (firing.result,))
    assert not {number for number, node in enumerate(history.nodes) if node.inputs} - _below(history, used)


def _below(history, used):
    found, stack = set(), list(used)
    while stack:
        node = stack.pop()
        if node not in found:
            found.add(node)
            stack.extend(history.nodes[node].inputs)
    return found


def check_stage(history, number):
    before, stage = history.stages[number - 1], history.stages[number]
    assert stage.what == STAGES[stage.name]
    plain = {node: history.nodes[node].inputs for node in before.order}
    assert list(replay(history, number, 0)) == list(before.order) and replay(history, number, 0) == plain
    after = replay(history, number)
    assert list(after) == list(stage.order)
    assert all(inputs == history.nodes[node].inputs for node, inputs in after.items())
    graphs = [replay(history, number, count) for count in range(len(stage.firings) + 1)]
    for firing, (old, new) in zip(stage.firings, pairwise(graphs)):
        check_firing(firing, old, new)
    if stage.name != "fuse":
        for part in range(3):
            change = sum((each.after[part] - each.before[part] for each in stage.firings), 0)
            assert before.cost[part] + change == stage.cost[part]


def check_firing(firing, old, new):
    """What fired was there, its result is there afterwards, and what was added was not there before."""
    renewed = dict(firing.rebuilt)
    here = {renewed.get(node, node) for node in old} | set(renewed.values())
    assert firing.node in here
    assert firing.result in new or not firing.added
    assert set(firing.added) <= set(new) and not set(firing.added) & set(old) - set(renewed.values())
    assert firing.before.nodes - firing.after.nodes == len(old) - len(new) or firing.rebuilt


def check_kernels(history):
    fused = history.stages[-1]
    assert fused.cost.nodes == len(history.kernels)
    inside = [node for nodes in history.kernels for node in nodes]
    assert all(node in history.nodes[node].inputs or history.nodes[node].steps for node in set(inside))


def test_a_stage_without_firings_is_the_stage_before():
    x = sg.placeholder("x", (3,))
    history = history_of([x], sg.exp(x))
    assert len({stage.order for stage in history.stages}) == 1
    assert [stage.cost for stage in history.stages[:-1]] == [Cost(2, 45, 24)] * (len(history.stages) - 1)


def test_a_rule_tells_what_it_did():
    x = sg.placeholder("x", ("n", 4))
    y = sg.log(sg.nn.softmax(x))
    history = history_of([x], y)
    (firing,) = next(stage for stage in history.stages if stage.name == "stabilise").firings
    nodes = history.nodes
    assert (firing.rule, nodes[firing.node].op, nodes[firing.result].op) == ("log-softmax", "log", "log_softmax")
    assert [nodes[each].op for each in firing.matched] == ["log", "softmax"]
    assert firing.added == (firing.result,) and firing.lines == (str(y.location),)
    assert (str(firing.before.flops), str(firing.after.flops)) == ("n*136", "n*91")
    assert (firing.before.nodes, firing.after.nodes) == (2, 1)


def test_nothing_is_kept_without_journals():
    x = sg.placeholder("x", (3,))
    compilation = compile_only([x], sg.nn.softmax(x))
    assert compilation.journals is None
    assert record(compilation).stages[0].order == (0, 1)
    assert compilation.journals is None
    for name, graph_pass in PASSES:
        if name not in ("absorb", "direct"):
            _, fired = graph_pass([sg.nn.softmax(x)], None)
            assert all(isinstance(each, Fired) for each in fired)


def test_sizes_in_memory_are_exchanged_at_the_roots_only():
    x = sg.placeholder("x", ("n",))
    size = sg.constant(0) + x.shape[0]
    history = history_of([x], [size, x * size])
    settled = next(stage for stage in history.stages if stage.name == "settle")
    assert [(firing.rule, firing.at_roots) for firing in settled.firings] == [("store-size", True)]
    check_stage(history, history.stages.index(settled))


def test_stages_that_are_not_there():
    x = sg.placeholder("x", (3,))
    history = history_of([x], sg.exp(x))
    for stage in (0, len(history.stages), -1):
        with pytest.raises(IndexError, match="stages that firings led to are 1 to 6"):
            replay(history, stage)


def test_the_public_door():
    x = sg.placeholder("x", ("n", 4))
    y = sg.nn.softmax(x)
    expected = sg.viz.history(y)
    executable = sg.compile([x], y)
    for given in ([y], {"y": y}, executable, compile_only([x], y)):
        history = sg.viz.history(given)
        assert history.nodes == expected.nodes
        assert [stage.firings for stage in history.stages] == [stage.firings for stage in expected.stages]
    executable.definition = None
    with pytest.raises(ArgumentError, match="without the graph"):
        sg.viz.history(executable)
    with pytest.raises(ArgumentError, match="got int"):
        sg.viz.history(3)


def test_every_pass_says_what_it_does():
    assert set(STAGES) == {"tensor", "fuse", *(name for name, _ in PASSES)}


def test_thousands_of_nodes_have_a_history():
    x = sg.placeholder("x", (2,))
    y = x
    for number in range(600):
        y = sg.log(1 + sg.exp(y)) * (1.0 if number % 2 else 0.5)
    history = history_of([x], y)
    stabilised = history.stages[1]
    assert len(stabilised.firings) == 600
    assert len(stabilised.order) < len(history.stages[0].order) == len(toposort([y]))
    assert list(replay(history, 1)) == list(stabilised.order)
    assert isinstance(np.asarray(stabilised.cost.flops).item(), int)
    assert history_module.Cost is Cost
