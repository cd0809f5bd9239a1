"""Lines of the user: every node that a rule, a pass or a derivative makes carries those that it came from.

Formulas are built again with a line of its own for each node, so that it can be told which ones a result should have.
"""

import linecache
import sys
import types
from pathlib import Path

import pytest

import staticgraph as sg
from staticgraph import location
from staticgraph.api import compile_only
from staticgraph.compiler.pipeline import PASSES
from staticgraph.location import Location
from staticgraph.op import registry
from staticgraph.rewrite import SIMPLIFICATION, STABILITY
from staticgraph.rewrite.journal import Fired, Journal
from staticgraph.rewrite.rewriter import RuleSet, normalised
from staticgraph.tensor import LINES, build, toposort
from tests.compiler.graphs import GRAPHS
from tests.compiler.models import perceptron
from tests.rewrite import test_simplify, test_stability
from tests.rewrite.test_random_graphs import Grower

PACKAGE = str(Path(sg.__file__).resolve().parent)
CHECKOUT = [str(Path(PACKAGE).parent / name) for name in ("compiler", "runtime")]


def relocated(outputs, file):
    """The same graph on new leaves, each node on a line of its own. Constants stay, with the lines that they have."""
    done = {}
    for number, node in enumerate(toposort(outputs), 1):
        with location.using([Location(file, number)]):
            if node.op.name in ("placeholder", "variable"):
                done[node] = build(registry["placeholder"], (), {"shape": node.shape, "dtype": node.dtype})
            else:
                done[node] = build(node.op, [done[each] for each in node.inputs], node.attrs) if node.inputs else node
    return [done[output] for output in outputs]


def is_constant(node):
    """Is a node made of numbers, sizes and positions alone? All of a process share these."""
    return not any(each.op.name in ("placeholder", "variable") for each in toposort([node]))


def check_firing(fired, before):
    """What a firing made has a line of what was matched, and the result that of the node that went, first. (When this
    is looked at others may have wanted the same node, too.)"""
    allowed = {line for node in fired.matched for line in node.locations}
    for node in toposort([fired.result], stop=before.__contains__):
        if node not in before:
            first = node.locations if is_constant(node) else node.locations[:1]
            assert allowed.intersection(first), (fired.rule, repr(node), node.locations, allowed)
    if fired.result not in before and not is_constant(fired.result):
        assert fired.result.location == fired.node.location


def formulas():
    """An instance of every rule: (rules to apply, formula)."""
    for each in test_simplify.CASES:
        rule, written = each.values
        yield rule.name, RuleSet([rule]), written[0][0]
    for rule, _, variant in test_stability.CASES:
        written, _ = test_stability.instantiate(rule, variant, test_stability.feed_for(rule, "float64"), "float64")
        yield rule.name, test_stability.table_for(rule), written


FORMULAS = list(formulas())


def test_every_rule_is_here():
    assert {rule.name for rule in (*STABILITY.rules, *SIMPLIFICATION.rules)} <= {name for name, _, _ in FORMULAS}


@pytest.mark.parametrize("number", range(len(FORMULAS)), ids=[f"{each[0]}-{k}" for k, each in enumerate(FORMULAS)])
def test_rules_keep_the_lines_of_what_they_match(number):
    _, rules, formula = FORMULAS[number]
    (written,) = relocated([formula], f"/home/me/rule{number}.py")
    before, journal = set(toposort([written])), []
    _, fired = normalised([written], rules, (), journal)
    assert fired or is_constant(written)
    follow(before, journal)


def follow(before: set, journal: Journal):
    """Check each firing against all nodes that there were before it."""
    for entry in journal:
        if isinstance(entry, Fired):
            check_firing(entry, before)
            before.update(toposort([entry.result], stop=before.__contains__))
        else:
            assert entry.new in before or is_constant(entry.new) or entry.new.locations[0] == entry.old.locations[0]
            before.add(entry.new)


def check_compilation(compilation, allowed):
    """All nodes of all stages have lines of the user's, few enough; so has every kernel."""
    for roots in compilation.graphs.values():
        for node in toposort(roots):
            assert 1 <= len(node.locations) <= LINES
            assert node.location in allowed or is_constant(node)
            for line in node.locations:
                assert line.line > 0
                # numbers are shared by the process: a text that somebody else evaluated may have made one
                assert not is_library(line.file) or (line.file == "<string>" and line in allowed)
    for note in compilation.program.notes:
        assert note.lines and len(note.lines) <= 12
        assert set(note.lines) <= {str(line) for line in allowed}


def is_library(file):
    return file.startswith((PACKAGE, *CHECKOUT)) or file == "<string>"


def random_graph(seed):
    grower = Grower(seed, smooth=True)
    outputs = grower.grow(30)
    total = sum(sg.mean(each) for each in outputs[-4:])
    slopes = [each for each in sg.grad(total, grower.leaves, unconnected="zero") if each.op.kind != "leaf"]
    return grower.leaves, [*outputs, *slopes], {}


def adam():
    inputs, loss, parameters = perceptron()
    return inputs, loss, sg.optim.Adam(0.01).updates(loss, parameters)


WHOLE = {**GRAPHS, "adam": adam, **{f"random {seed}": lambda seed=seed: random_graph(seed) for seed in range(900, 908)}}


@pytest.mark.parametrize("device", ["cpu", "cuda"])
@pytest.mark.parametrize("name", WHOLE)
def test_passes_keep_lines(name, device):
    inputs, outputs, updates = WHOLE[name]()
    compilation = compile_only(inputs, outputs, updates=updates, device=device)
    allowed = {line for node in toposort(compilation.graphs["tensor"]) for line in node.locations}
    check_compilation(compilation, allowed)


@pytest.mark.parametrize("device", ["cpu", "cuda"])
@pytest.mark.parametrize("name", WHOLE)
def test_each_exchange_of_a_pass_keeps_lines(name, device):
    """The same, step by step, on a graph in which no two nodes share a line."""
    inputs, outputs, updates = WHOLE[name]()
    listed = list(outputs.values()) if isinstance(outputs, dict) else outputs if isinstance(outputs, list) else (
        [outputs] if isinstance(outputs, sg.Tensor) else [])
    roots = relocated([*listed, *updates.values()], f"/home/me/{device}_{name}.py")
    before = set(toposort(roots))
    for pass_name, graph_pass in PASSES:
        if pass_name != {"cpu": "absorb", "cuda": "direct"}[device]:
            journal: Journal = []
            roots, _ = graph_pass(roots, journal)
            follow(before, journal)
            before.update(toposort(roots))
    assert all(node.locations for node in toposort(roots))


def test_derivatives_carry_the_line_of_their_primal():
    x = sg.placeholder("x", ("n", 3))
    y = sg.tanh(x)
    z = sg.exp(
        y * 2)
    loss = sg.sum(z)
    slope = sg.grad(loss, x)
    own = {line for node in (x, y, z, z.inputs[0], loss) for line in node.locations}
    for node in toposort([slope]):
        assert is_constant(node) or node.location in own


def test_lines_of_shared_nodes_do_not_grow_for_ever():
    x = sg.placeholder("x", (3,))
    sources = "\n".join(f"nodes.append(sg.exp(x) * {number + 0.5})" for number in range(3 * LINES))
    nodes: list[sg.Tensor] = []
    exec(compile(sources, "/home/me/long.py", "exec"), {"sg": sg, "x": x, "nodes": nodes})
    shared = nodes[0].inputs[0]
    assert all(each.inputs[0] is shared for each in nodes)
    lines = [line.line for line in shared.locations]
    assert lines[0] == 1 and lines[-1] == 3 * LINES and len(lines) == LINES     # the first, and the newest
    assert [str(each.location) for each in nodes] == [f"long.py:{number + 1}" for number in range(3 * LINES)]


def test_records_tell_only_lines_of_their_own_graph():
    """Numbers are shared by all graphs of a process."""
    text = "y = sg.exp(x) * 17.25"
    graphs = []
    for file in ("/home/me/one.py", "/home/me/two.py"):
        names = {"sg": sg, "x": sg.placeholder("x", (3,))}
        exec(compile(text, file, "exec"), names)
        graphs.append(names)
    for names, file in zip(graphs, ("one.py", "two.py")):
        records = [*compile_only([names["x"]], names["y"]).program.graphs[1].nodes, *sg.viz.history(names["y"]).nodes]
        assert {line for node in records for line in node.lines if node.op != "placeholder"} == {f"{file}:1"}


def test_lines_of_cells_and_of_executed_text(monkeypatch):
    source = "x = sg.placeholder('x', (2,))\ny = sg.log(\n    1 + sg.exp(x))\n"
    for file in ("<ipython-input-3-0123456789ab>", "<string>", "<stdin>"):
        shown = f"{file}:2"
        linecache.cache[file] = (len(source), None, source.splitlines(True), file)
        names = {"sg": sg}
        exec(compile(source, file, "exec"), names)     # globals without a __name__ are the user's, too
        assert str(names["y"].location) == shown
        program = compile_only([names["x"]], names["y"]).program
        assert shown in program.notes[0].lines
        del linecache.cache[file]


def test_cells_of_a_notebook_go_by_their_number(monkeypatch):
    file = "/tmp/ipykernel_77/123456789.py"
    shell = types.SimpleNamespace(compile=types.SimpleNamespace(_filename_map={file: 12}))
    monkeypatch.setitem(sys.modules, "IPython", types.SimpleNamespace(get_ipython=lambda: shell))
    assert str(Location(file, 3)) == "In[12]:3"
    assert str(Location("/tmp/ipykernel_77/999.py", 3)) == "999.py:3"
    monkeypatch.setitem(sys.modules, "IPython", types.SimpleNamespace(get_ipython=lambda: None))
    assert str(Location(file, 3)) == "123456789.py:3"


def test_calls_through_the_standard_library_are_the_callers():
    from concurrent.futures import ThreadPoolExecutor
    from functools import reduce

    x = sg.placeholder("x", (2,))
    total = reduce(lambda a, b: a + b, [x, sg.exp(x), sg.sin(x)])
    assert total.location.file == __file__
    numbered = {key: sg.cos(value) for key, value in types.MappingProxyType({"a": x}).items()}
    assert numbered["a"].location.file == __file__
    with ThreadPoolExecutor(1) as executor:
        made = executor.submit(lambda: sg.tan(x)).result()
        alone = executor.submit(sg.asin, x).result()     # nobody but the library has called it
    assert made.location.file == __file__
    assert Path(alone.location.file).name == "thread.py"
