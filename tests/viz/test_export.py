"""Files: every format is well-formed whatever things are called, complete, and the same in every process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from itertools import combinations
from pathlib import Path
from xml.etree import ElementTree

import networkx as nx
import numpy as np
import pytest

import staticgraph as sg
from staticgraph.viz.display import display
from staticgraph.viz.export import FORMATS
from staticgraph.viz.model import collect
from staticgraph.viz.scene import Box, Scene, arrange
from tests.viz.graphs import HOSTILE, compiled, residual

ROOT = Path(__file__).resolve().parents[2]
TEXTS = [suffix for suffix in FORMATS if suffix != ".png"]     # which test_formats.py looks at
SVG = "{http://www.w3.org/2000/svg}"


def exported(obj: object, path: Path, stage: str | None = None) -> str:
    sg.viz.export(obj, path, stage)
    return path.read_text(encoding="utf-8")


def overlaps(a: Box, b: Box) -> bool:
    return (a.x < b.x + b.width - 1e-6 and b.x < a.x + a.width - 1e-6
            and a.y < b.y + b.height - 1e-6 and b.y < a.y + a.height - 1e-6)


def check_scene(scene: Scene) -> None:
    """Marks lie in their own kernel's box and in no other, and nothing overlaps."""
    for kernel, other in combinations(scene.kernels.values(), 2):
        assert not overlaps(kernel, other)
    for mark, box in zip(scene.display.marks, scene.marks, strict=True):
        for number, kernel in scene.kernels.items():
            if number == mark.kernel:
                assert kernel.x <= box.x and box.x + box.width <= kernel.x + kernel.width
                assert kernel.y <= box.y and box.y + box.height <= kernel.y + kernel.height
            else:
                assert not overlaps(box, kernel)
    rows = sorted(scene.marks, key=lambda box: box.y)
    for number, box in enumerate(rows):
        for other in rows[number + 1:]:
            if other.y >= box.y + box.height:
                break
            assert not overlaps(box, other)


@pytest.mark.parametrize("stage", ["tensor", "primitive", "fused", "program"])
def test_scene_of_a_training_graph(stage: str) -> None:
    shown = display(collect(compiled(), stage))
    scene = arrange(shown)
    check_scene(scene)
    assert set(scene.kernels) == {mark.kernel for mark in shown.marks} - {-1}
    assert {path.target for path in scene.paths} - {-1} == {arrow.target for arrow in shown.arrows}
    for path in scene.paths:
        if path.target >= 0:     # an arrow ends on its mark, from above
            x, y = path.points[-1]
            box = scene.marks[path.target]
            assert box.x <= x <= box.x + box.width and y == pytest.approx(box.y) and path.points[-2][1] <= y + 1e-6


def test_svg_of_a_training_graph(tmp_path: Path) -> None:
    compilation = compiled()
    root = ElementTree.fromstring(exported(compilation, tmp_path / "step.svg"))
    program = compilation.program
    assert program is not None
    boxes = root.findall(f".//{SVG}g[@class='kernel']")
    assert [int(box.attrib["data-step"]) for box in boxes] == list(range(len(program.steps)))
    texts = [element.text or "" for element in root.iter(f"{SVG}text")]
    for number, step in enumerate(program.steps):     # in the legend and on the box
        assert texts.count(f"{number}  {program.kernels[step.kernel].name}") == 2
    assert {"x", "t", "w1", "loss", "⟳ w1", "⟳ count"} <= set(texts)
    tooltips = [element.text or "" for element in root.iter(f"{SVG}title")]
    assert any("graphs.py:" in text and "scope: hidden" in text and "kernel: " in text for text in tooltips)
    background = root.find(f"{SVG}rect")
    assert background is not None and background.attrib["fill"] == "#ffffff"


@pytest.mark.parametrize("suffix", TEXTS)
def test_suffix_chooses_the_format(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"step{suffix.upper()}"
    text = exported(compiled(), path)
    start = {".txt": "%0", ".dot": "digraph", ".mmd": "---", ".svg": "<svg", ".json": "{", ".graphml": "<?xml",
             ".html": "<!doctype html>"}[suffix]
    assert text.lstrip().startswith(start)
    assert text.endswith("\n") and os.listdir(tmp_path) == [path.name]


def test_unknown_suffix_and_missing_folder(tmp_path: Path) -> None:
    x = sg.placeholder("x", shape=(2,))
    with pytest.raises(sg.ArgumentError, match=r"suffix is not one of \.txt"):
        sg.viz.export(x, tmp_path / "x.pdf")
    with pytest.raises(FileNotFoundError, match=r"there is no folder '.*missing'.*x\.svg'$"):
        sg.viz.export(x, tmp_path / "missing" / "x.svg")
    for wrong, got in (([], "an empty list"), ({"a": x, "b": 2}, "a dict with int in it"), (2, "int")):
        with pytest.raises(sg.ArgumentError, match=f"only tensors .* got {got}$"):
            sg.viz.export(wrong, tmp_path / "x.svg")
    assert os.listdir(tmp_path) == []


def test_a_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.txt"
    x = sg.placeholder("x", shape=(2,))
    before = exported(x, path)

    def refuse(*_: object) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(OSError, match="no space left"):
        sg.viz.export(sg.exp(x), path)
    assert path.read_text() == before and os.listdir(tmp_path) == ["x.txt"]


@pytest.mark.parametrize("stage", ["tensor", "fused"])
def test_hostile_names_are_data(stage: str, tmp_path: Path) -> None:
    compilation = compiled((HOSTILE, HOSTILE))
    safe = HOSTILE.replace("\x01", "\ufffd").replace("\ud800", "\ufffd")
    svg = exported(compilation, tmp_path / "a.svg", stage)
    assert "<script" not in svg and "<b>" not in svg
    root = ElementTree.fromstring(svg)
    assert any(" ".join(safe.split()) in (element.text or "") for element in root.iter(f"{SVG}title"))
    graphml = nx.read_graphml(tmp_path_of(compilation, tmp_path / "a.graphml", stage), node_type=int)
    assert safe in {data.get("name") for _, data in graphml.nodes(data=True)}
    data = json.loads(exported(compilation, tmp_path / "a.json", stage))
    assert HOSTILE in {node["name"] for node in data["nodes"]}
    text = exported(compilation, tmp_path / "a.txt", stage)
    assert sum(line.lstrip().startswith("%") for line in text.splitlines()) == len(data["nodes"])
    check_dot(exported(compilation, tmp_path / "a.dot", stage))


def tmp_path_of(obj: object, path: Path, stage: str) -> Path:
    sg.viz.export(obj, path, stage)
    return path


def check_dot(text: str) -> None:
    """Quotes are balanced and braces too once strings are taken out; there is no raw control character."""
    outside, inside, escaped = [], False, False
    for character in text:
        if escaped:
            escaped = False
        elif inside and character == "\\":
            escaped = True
        elif character == '"':
            inside = not inside
        elif not inside:
            outside.append(character)
        else:
            assert character >= " "
    rest = "".join(outside)
    assert not inside and rest.count("{") == rest.count("}") and rest.startswith("digraph staticgraph {")
    assert "<" not in rest and "script" not in rest


def test_dot_has_a_cluster_for_each_kernel(tmp_path: Path) -> None:
    compilation = compiled()
    text = exported(compilation, tmp_path / "step.dot")
    assert compilation.program is not None
    assert text.count("subgraph cluster_") == len(compilation.program.steps)
    shown = display(collect(compilation))
    assert text.count(" -> ") == len(shown.arrows)


@pytest.mark.parametrize("stage", ["tensor", "primitive", "fused", "program"])
def test_json_and_graphml_come_back_through_networkx(stage: str, tmp_path: Path) -> None:
    compilation = compiled()
    graph = sg.viz.to_networkx(compilation, stage)
    data = json.loads(exported(compilation, tmp_path / "step.json", stage))
    assert (data["format"], data["version"], data["stage"]) == ("staticgraph-graph", 1, stage)
    again = nx.node_link_graph(data, edges="edges")
    sg.viz.export(compilation, tmp_path / "step.graphml", stage)
    other = nx.read_graphml(tmp_path / "step.graphml", node_type=int)
    for found in (again, other):
        assert list(found.nodes) == list(graph.nodes) and set(found.edges) == set(graph.edges)
        assert dict(found.edges) == dict(graph.edges)
        for number, attributes in graph.nodes(data=True):     # GraphML readers drop empty strings
            assert {key: value or "" for key, value in found.nodes[number].items() if value} == {
                key: value for key, value in attributes.items() if value}


def test_json_lists_kernels_and_results(tmp_path: Path) -> None:
    compilation = compiled()
    data = json.loads(exported(compilation, tmp_path / "step.json"))
    assert compilation.program is not None
    assert [kernel["step"] for kernel in data["kernels"]] == list(range(len(compilation.program.steps)))
    assert data["kernels"][-1]["stage"] == "commit"
    assert [each["name"] for each in data["outputs"]] == ["loss"]
    assert len(data["updates"]) == 7
    for kernel in data["kernels"]:
        assert kernel["nodes"] and {data["nodes"][number]["step"] for number in kernel["nodes"]} == {kernel["step"]}


def test_a_node_may_take_several_steps(tmp_path: Path) -> None:
    x = sg.placeholder("x", shape=("n", 3))
    executable = sg.compile([x], sg.concat([x, sg.exp(x)], axis=1))
    data = json.loads(exported(executable, tmp_path / "joined.json"))
    (joined,) = (node["id"] for node in data["nodes"] if node["op"] == "concat")
    assert [kernel["nodes"] for kernel in data["kernels"]].count([joined]) == 2
    assert "1, 2  map_copy" in exported(executable, tmp_path / "joined.svg")


def test_ops_of_all_kinds(tmp_path: Path) -> None:
    x = sg.placeholder("x", shape=("n", 6), dtype="float32")
    i = sg.placeholder("i", shape=("n",), dtype="int64")
    outputs = {"joined": sg.concat([x, sg.exp(x)], axis=1), "padded": sg.pad(sg.exp(x), ((1, 1), (0, 2))),
               "sorted": sg.sort(x, axis=1), "running": sg.cumulative_sum(x, axis=0), "taken": sg.take(x, i, axis=0),
               "sliced": x[1:, ::2], "normal": sg.nn.layer_norm(x), "where": sg.argmax(x, axis=1),
               "array": x + sg.constant(np.arange(6, dtype="float32")), "turned": x.T, "product": x.T @ x}
    executable = sg.compile([x, i], outputs)
    for stage in ("tensor", "primitive", "fused", "program"):
        model = collect(executable, stage)
        shown = display(model)
        check_scene(arrange(shown))
        assert {mark.label for mark in shown.marks if mark.role == "output"} == set(outputs)
        ended = {arrow.target for arrow in shown.arrows}
        for number, mark in enumerate(shown.marks):     # what has operands has arrows, or says them in its label
            assert (number in ended or mark.role in ("input", "constant") or mark.label.startswith("iota")
                    or (model.nodes[mark.node].kind == "step" and not model.nodes[mark.node].inputs))
        for suffix in TEXTS:
            exported(executable, tmp_path / f"all{suffix}", stage)


def test_text_names_the_kernel_of_each_node(tmp_path: Path) -> None:
    text = exported(compiled(), tmp_path / "step.txt")
    matmuls = [line for line in text.splitlines() if " matmul(" in line]
    assert len(matmuls) == 5 and all("matmul_float32" in line and "graphs.py:" in line for line in matmuls)
    assert "output loss = %" in text and "variable w1 becomes %" in text


def test_an_empty_graph_can_be_exported(tmp_path: Path) -> None:
    executable = sg.compile([sg.placeholder("x", shape=(2,))], [])
    for suffix in TEXTS:
        assert exported(executable, tmp_path / f"empty{suffix}")


SCRIPT = """
import sys
from pathlib import Path
import staticgraph as sg
from tests.viz.graphs import compiled
compilation = compiled()
for suffix in sys.argv[2].split():
    for stage in ("program",) if suffix in (".png", ".html") else ("tensor", "primitive", "fused", "program"):
        sg.viz.export(compilation, Path(sys.argv[1]) / f"{stage}{suffix}", stage)
"""


def test_two_processes_write_the_same_bytes(tmp_path: Path) -> None:
    suffixes = [*TEXTS, ".png"] if find_spec("matplotlib") else TEXTS
    folders = []
    for seed in ("1", "2"):
        folder = tmp_path / seed
        folder.mkdir()
        subprocess.run([sys.executable, "-c", SCRIPT, str(folder), " ".join(suffixes)], cwd=ROOT, check=True,
                       capture_output=True, env={**os.environ, "PYTHONHASHSEED": seed,
                                                 "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])})
        folders.append({path.name: path.read_bytes() for path in folder.iterdir()})
    assert folders[0] == folders[1] and len(folders[0]) == 4 * (len(TEXTS) - 1) + len(suffixes) - len(TEXTS) + 1


@pytest.mark.parametrize("stage", ["tensor", "fused"])
def test_two_thousand_nodes(stage: str, tmp_path: Path) -> None:
    value = residual(400)
    model = collect(value, stage)
    assert len(model.nodes) > 2000
    scene = arrange(display(model))
    check_scene(scene)
    ElementTree.fromstring(exported(value, tmp_path / "large.svg", stage))
    assert scene.width < 20_000 and scene.height < 12_000
    if stage == "tensor":     # one value is read in every layer: instead of links over hundreds of them
        jumps = [mark for mark in scene.display.marks if mark.role == "jump"]
        others = [mark for mark in jumps if model.nodes[mark.node].op != "exp"]
        assert len(jumps) - len(others) > 300     # and where a column ends, two or three values go on
        assert len(others) <= 3 * len(scene.rules) and scene.rules
        for jump in jumps:     # whoever looks for the source finds its number there
            assert jump.label in {mark.label for mark in scene.display.marks if mark.role == "op"}
