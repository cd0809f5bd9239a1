"""What notebooks show: complete where it is small, bounded where it is large, and text only in what is the user's."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

import staticgraph as sg
from staticgraph.viz.display import display
from staticgraph.viz.marks import Display
from staticgraph.viz.model import collect
from staticgraph.viz.notebook import ROWS, nearest
from tests.viz.graphs import HOSTILE, residual, training

ROOT = Path(__file__).resolve().parents[2]
SVG = "{http://www.w3.org/2000/svg}"


def shown(obj: object) -> ElementTree.Element:
    """The piece of HTML, which is well-formed and has nothing in it that acts or loads."""
    text = obj._repr_html_()  # type: ignore[attr-defined]
    root = ElementTree.fromstring(f"<div>{text}</div>")
    allowed = {"div", "p", "b", "table", "tr", "td", "code", "details", "summary",
               *(SVG + name for name in ("svg", "g", "path", "rect", "text", "title", "style"))}
    for element in root.iter():
        assert element.tag in allowed
        assert {name for name in element.attrib if name.startswith("on") or name in ("href", "src", "id")} == set()
    return root


def texts(root: ElementTree.Element) -> list[str]:
    return [element.text or "" for element in root.iter() if element.tag in ("td", "b", "p", f"{SVG}text", "summary")]


def test_a_tensor_shows_its_facts_and_its_graph() -> None:
    inputs, loss, _ = training()
    found = texts(shown(loss))
    assert {"op", "divide", "type", "float32[]", "x", "w1", "b1", "cross_entropy"} <= set(found)
    assert any("graphs.py:" in text for text in found)
    alone = shown(inputs[0])
    assert "Tensor x" in texts(alone) and alone.find(f".//{SVG}svg") is None


def test_an_executable_shows_its_steps_and_kernels() -> None:
    inputs, loss, updates = training()
    executable = sg.compile(inputs, {"loss": loss}, updates=updates)
    root = shown(executable)
    found = texts(root)
    assert {"loss", "cpu"} <= set(found) and any("x: float32[batch, 8]" in text for text in found)
    for kernel in executable.program.kernels:
        assert kernel.name in found
    assert root.find(f".//details//{SVG}svg") is not None


def test_long_programs_are_told_in_part() -> None:
    x = sg.placeholder("x", shape=(3, 3))
    value = x
    for _ in range(ROWS + 5):
        value = value @ x
    executable = sg.compile([x], value)
    assert len(executable.program.steps) == ROWS + 5
    assert any(text.startswith("5 more steps: ") for text in texts(shown(executable)))
    assert "explain(verbose=True)" in executable._repr_html_()


@pytest.mark.parametrize("number", range(2))
def test_hostile_names_are_text(number: int) -> None:
    inputs, loss, updates = training((HOSTILE, HOSTILE))
    with sg.name_scope(HOSTILE):
        scoped = loss + 1.0
    if number:
        found = "\n".join(texts(shown(sg.compile(inputs, {HOSTILE: loss}, updates=updates))))
    else:
        found = "\n".join([*texts(shown(inputs[0])), *texts(shown(scoped))])
    assert "<script>alert('x')</script>" in found


def test_large_graphs_are_bounded() -> None:
    deep = residual(400)
    text = deep._repr_html_()
    assert text is not None and len(text) < 100_000 and "more marks" in text
    graph = sg.viz.graph(deep)
    assert len(graph._repr_html_()) < 300_000 and len(graph._repr_svg_()) < 300_000
    assert len(sg.viz.graph([sg.exp(deep) * float(number) for number in range(300)])._repr_html_()) < 400_000


def test_the_part_that_is_drawn_is_next_to_the_result() -> None:
    whole = display(collect(residual(100)))
    part, left_out = nearest(whole, 30)
    kept = [mark for mark in part.marks if mark.role != "jump"]
    assert len(kept) == 30 and left_out == len(whole.marks) - 30
    assert "output" in {mark.role for mark in kept}
    ended = {arrow.target for arrow in part.arrows}
    for number, mark in enumerate(part.marks):     # everything that is kept has all of its operands, or jumps for them
        assert number in ended or mark.role in ("jump", "input")
    least = min(mark.node for mark in kept if mark.role == "op" and mark.label != "exp")
    assert least > max(mark.node for mark in whole.marks) / 2
    assert nearest(whole, 10_000) == (whole, 0) and nearest(Display("tensor"), 3)[1] == 0


def test_graphs_show_and_print_themselves() -> None:
    inputs, loss, updates = training()
    executable = sg.compile(inputs, loss, updates=updates)
    graph = sg.viz.graph(executable, "program")
    assert graph.stage == "program" and repr(graph).startswith("<staticgraph: program, ")
    assert str(graph) == sg.viz.to_text(executable, "program")
    assert ElementTree.fromstring(graph._repr_svg_()).tag == f"{SVG}svg"
    assert graph._repr_svg_().partition("<title>")[2] in graph._repr_html_()
    assert sg.viz.graph(loss).stage == "tensor" and sg.viz.graph(executable).stage == "fused"


def test_pictures_come_only_when_they_are_asked_for() -> None:
    code = ("import sys, staticgraph as sg\nx = sg.exp(sg.placeholder('x', shape=(2,)))\n"
            "assert 'staticgraph.viz' not in sys.modules and 'networkx' not in sys.modules\n"
            "assert '<svg' in x._repr_html_() and 'staticgraph.viz.notebook' in sys.modules\n"
            "assert 'numba' not in sys.modules and 'matplotlib' not in sys.modules")
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
