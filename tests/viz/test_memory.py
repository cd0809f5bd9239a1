"""Memory plans: their numbers are the executable's, buffers never lie on each other, and the picture is sound."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

import staticgraph as sg
from staticgraph.api import compile_only
from staticgraph.errors import ArgumentError
from staticgraph.viz.memory import COLOURS, bytes_text
from staticgraph.viz.memory_plan import MemoryPlan
from tests.viz.graphs import HOSTILE, compiled, training

SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(scope="module")
def step() -> sg.Executable:
    inputs, loss, updates = training()
    return sg.compile(inputs, {"loss": loss}, updates=updates, options={"threads": 2})


def boxes(svg: str) -> list[ElementTree.Element]:
    return [each for each in ElementTree.fromstring(svg).iter(f"{SVG}g") if each.get("data-buffer")]


def test_the_numbers_are_those_of_the_executable(step: sg.Executable) -> None:
    step(np.zeros((5, 8), "float32"), np.zeros(5, "int64"))
    plan = sg.viz.memory_plan(step)
    assert (plan.sizes, plan.assumed) == ({"batch": 5}, ())
    memory = step.memory
    assert plan.totals == {name: getattr(memory, name).last
                           for name in ("arena", "inputs", "outputs", "variables", "constants", "peak")}
    assert len(plan.buffers) == len(step.program.buffers)
    assert 0 < plan.peak == max(plan.held) <= plan.totals["arena"]
    assert max(each.offset + each.nbytes for each in plan.arena) <= plan.totals["arena"]
    larger = sg.viz.memory_plan(step, {"batch": 500})
    assert larger.totals["arena"] == memory.arena.formula.evaluate({"batch": 500})     # type: ignore[union-attr]
    assert sg.viz.memory_plan(compiled()).assumed == ("batch",)


def test_buffers_alive_together_lie_apart(step: sg.Executable) -> None:
    plan = sg.viz.memory_plan(step, {"batch": 300})
    chained = {number for chain in step.program.chains for number in range(chain.first, chain.first + chain.count)}
    for a, b in combinations(plan.arena, 2):
        alive = range(max(a.first, b.first), min(a.last, b.last) + 1)
        if max(a.offset, b.offset) < min(a.offset + a.nbytes, b.offset + b.nbytes):
            assert set(alive) <= chained, (a, b)
    for number, held in enumerate(plan.held):
        assert held <= sum(each.nbytes for each in plan.holders(number))


def test_who_holds_the_peak() -> None:
    x = sg.placeholder("x", (1000, 8), "float32")
    wide = x @ np.ones((8, 64), "float32")
    total = sg.sum(sg.sin(wide), axis=1)
    narrow = total @ np.ones((1000, 3), "float32")
    plan = sg.viz.memory_plan(compile_only([x], [wide, narrow, sg.sum(wide)]))
    (largest, *_), ((line, nbytes), *_) = plan.holders(), plan.lines()
    assert plan.steps[plan.peak_step].kernel and largest.nbytes == max(each.nbytes for each in plan.arena)
    assert largest.lines and all("test_memory.py:" in each for each in largest.lines)
    assert nbytes <= plan.peak and line in {each for buffer in plan.holders() for each in buffer.lines}


def test_what_has_no_plan() -> None:
    x = sg.placeholder("x", ("n",))
    with pytest.raises(ArgumentError, match="only what has been compiled"):
        sg.viz.memory_plan(x)
    with pytest.raises(ArgumentError, match="no symbolic size 'm'; it has: n"):
        sg.viz.memory_plan(compile_only([x], x + 1), {"m": 3})
    plan = sg.viz.memory_plan(compile_only([x], x + 1))
    assert (plan.held, plan.arena, plan.peak) == ((0,), (), 0)
    assert "no arena" in sg.viz.render_memory_svg(plan)
    nothing = sg.viz.memory_plan(compile_only([x], []))
    assert (nothing.held, nothing.peak) == ((), 0) and "no arena" in sg.viz.render_memory_svg(nothing)


@pytest.mark.parametrize("theme", ["light", "dark", "auto"])
def test_the_picture(theme: str) -> None:
    plan = sg.viz.memory_plan(compiled((HOSTILE, HOSTILE)))
    svg = sg.viz.render_memory_svg(plan, theme)
    assert svg == sg.viz.render_memory_svg(sg.viz.memory_plan(compiled((HOSTILE, HOSTILE))), theme)
    assert len(boxes(svg)) == len([each for each in plan.arena if each.nbytes])
    assert all(each.find(f"{SVG}title") is not None for each in boxes(svg))
    assert f"peak {bytes_text(plan.peak)} at step {plan.peak_step}" in svg
    for name, colours in COLOURS.items():
        assert (colours["value-edge"] in svg) is (theme in (name, "auto"))


def test_many_buffers_are_all_drawn() -> None:
    x = sg.placeholder("x", ("n", 8))
    weights = [sg.variable(np.zeros((8, 8)), name=f"w{number}") for number in range(40)]
    value = x
    for weight in weights:
        value = sg.tanh(value @ weight)
    gradients = sg.grad(sg.sum(value), weights)
    updates = {weight: weight - gradient for weight, gradient in zip(weights, gradients, strict=True)}
    plan = sg.viz.memory_plan(compile_only([x], [], updates=updates), {"n": 3})
    drawn = boxes(sg.viz.render_memory_svg(plan))
    assert len(drawn) == len(plan.arena) > 100
    for each in drawn:
        rectangle = each.find(f"{SVG}rect")
        assert rectangle is not None
        assert min(float(rectangle.attrib["width"]), float(rectangle.attrib["height"])) >= 0.8


def test_into_a_file(step: sg.Executable, tmp_path: Path) -> None:
    sg.viz.export_memory(step, tmp_path / "plan.svg", "dark")
    assert COLOURS["dark"]["paper"] in (tmp_path / "plan.svg").read_text(encoding="utf-8")
    sg.viz.export_memory(step, tmp_path / "plan.svg", sizes={"batch": 4321})
    assert "batch = 4321" in (tmp_path / "plan.svg").read_text(encoding="utf-8")
    with pytest.raises(ArgumentError, match="no symbolic size 'rows'"):
        sg.viz.export_memory(step, tmp_path / "plan.svg", sizes={"rows": 2})
    with pytest.raises(ArgumentError, match=r"is an \.svg"):
        sg.viz.export_memory(step, tmp_path / "plan.pdf")
    with pytest.raises(ArgumentError, match="no theme 'blue'"):
        sg.viz.render_memory_svg(MemoryPlan("cpu", {}, (), (), (), (), 0, {}), "blue")


def test_bytes_in_words() -> None:
    assert [bytes_text(each) for each in (0, 999, 1536, 262144, 3068928, 45_000_000_000)] == [
        "0 B", "999 B", "1.54 kB", "262 kB", "3.07 MB", "45.0 GB"]
