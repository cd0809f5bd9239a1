"""What differs between two compiles, as data and as a page."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import staticgraph as sg
from staticgraph.api import compile_only
from staticgraph.compiler.pipeline import Compilation
from staticgraph.viz.difference import line_difference
from staticgraph.viz.page.compare import merged
from tests.viz.graphs import HOSTILE, training
from tests.viz.test_page import read


def logistic(scale: float = 1.0, width: int = 10, **options: Any) -> Compilation:
    x = sg.placeholder("x", shape=("batch", 8), dtype="float32")
    w = sg.variable(np.zeros((8, width), "float32"), name="w")
    with sg.name_scope("head"):
        chances = sg.log(sg.nn.softmax(x @ w))
    loss = -sg.mean(chances[:, 0])
    if scale != 1.0:
        loss = loss * scale
    return compile_only([x], {"loss": loss}, updates={w: w - 0.1 * sg.grad(loss, w)}, options=options)


def test_the_same_model_built_twice_does_not_differ() -> None:
    found = sg.viz.diff(logistic(), logistic())
    assert [graph.stage for graph in found.graphs] == ["tensor", "primitive"]
    for graph in found.graphs:
        assert not graph.added and not graph.removed and graph.count("same") == len(graph.after.nodes)
    assert {kernel.status for kernel in found.kernels} == {"same"}
    assert not found.rules and not found.options and all(before == after for _, before, after in found.figures)


def test_an_option_shows_in_rules_and_kernels() -> None:
    found = sg.viz.diff(logistic(), logistic(stabilise=False))
    assert ("stabilise", "True", "False") in found.options
    assert ("stabilise", "log-softmax", 1, 0) in found.rules
    tensor, primitive = found.graphs
    assert not tensor.added and primitive.count("same") < len(primitive.after.nodes)
    changed = [kernel for kernel in found.kernels if kernel.status == "changed"]
    assert changed and all({line[:2] for line in kernel.lines} >= {"- ", "+ "} for kernel in changed)
    assert "log-softmax fired 1 times, then 0" in str(found) and "option stabilise: True, then False" in str(found)


def test_nodes_that_came_are_added_and_others_stay() -> None:
    tensor, _ = sg.viz.diff(logistic(), logistic(scale=3.0)).graphs
    assert not tensor.removed
    assert "multiply" in {tensor.after.nodes[number].op for number in tensor.added}
    back, _ = sg.viz.diff(logistic(scale=3.0), logistic()).graphs
    assert not back.added and len(back.removed) == len(tensor.added)


def test_other_sizes_change_nodes() -> None:
    tensor, _ = sg.viz.diff(logistic(), logistic(width=12)).graphs
    names = {tensor.after.nodes[after].name for _, after, how in tensor.pairs if how == "changed"}
    assert "w" in names and len(tensor.added) < 3


def test_a_merged_graph_is_a_graph() -> None:
    for a, b in ((logistic(), logistic(scale=3.0)), (logistic(scale=3.0), logistic(stabilise=False))):
        for graph in sg.viz.diff(a, b).graphs:
            model, status, _ = merged(graph)
            assert len(model.nodes) == len(status) == len(graph.after.nodes) + len(graph.removed)
            for number, node in enumerate(model.nodes):     # inputs first, and nothing of the old graph is read now
                assert all(each < number for each in node.inputs)
                assert status[number] == "removed" or all(status[each] != "removed" for each in node.inputs)


def test_lines_of_two_texts() -> None:
    assert line_difference("a\nb\nc", "a\nx\nc\nd") == ("  a", "- b", "+ x", "  c", "+ d")
    assert line_difference("", "a") == ("+ a",) and line_difference("a", "") == ("- a",)


def test_the_page_is_whole_and_named(tmp_path: Path) -> None:
    inputs, loss, updates = training((HOSTILE, HOSTILE + "2"))
    first = compile_only(inputs, loss, updates=updates)
    second = compile_only(inputs, loss * 2.0, updates=updates, options={"stabilise": False})
    path = tmp_path / "diff.html"
    sg.viz.export_diff(first, second, path, names=(HOSTILE, "b.py:step"))
    page = path.read_text(encoding="utf-8")
    _, data = read(page)
    assert "alert('x')</script>" not in page and data["names"][1] == "b.py:step"
    assert [stage["name"] for stage in data["stages"]] == ["tensor", "primitive"]
    assert "added" in data["stages"][0]["status"] and len(page) < 2_000_000


def test_what_cannot_be_compared_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(sg.ArgumentError, match=r"shown by an \.html"):
        sg.viz.export_diff(logistic(), logistic(), tmp_path / "diff.svg")
    with pytest.raises(sg.ArgumentError, match="only tensors"):
        sg.viz.diff(logistic(), 3)


def test_results_that_one_side_alone_has_or_computes_otherwise() -> None:
    x = sg.placeholder("x", shape=("n", 3))
    w = sg.variable([0.0, 0.0, 0.0], name="w")
    a, b, total = sg.exp(x), sg.tanh(x), sg.sum(x, axis=0)
    first = compile_only([x], {"a": a, "b": b, "c": b}, updates={w: w + total})
    second = compile_only([x], {"a": b, "b": a, "c": b})
    rows = sg.viz.diff(first, second).results
    assert [(name, before.split()[1:2], after.split()[1:2]) for name, before, after in rows] == [
        ("output a", ["exp"], ["tanh"]), ("output b", ["tanh"], ["exp"]), ("new value of w", ["add"], [])]
    text = str(sg.viz.diff(first, second))
    assert "output a: %" in text and "at test_difference.py:" in text and "new value of w: %" in text
    assert text.count("then none") == 1 and sg.viz.diff(first, first).results == ()
