"""Formats that other programs read: DOT, Mermaid, PNG, and themes. Each carries every mark and arrow, whatever they are
called."""

from __future__ import annotations

import html
import json
import re
import shutil
import struct
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import networkx as nx
import numpy as np
import pytest

import staticgraph as sg
from staticgraph.api import compile_only
from staticgraph.viz.display import display
from staticgraph.viz.export import FORMATS
from staticgraph.viz.marks import Display
from staticgraph.viz.mermaid import MOST_EDGES, label
from staticgraph.viz.model import STAGES, collect
from staticgraph.viz.palette import COLOURS, PARTS, ROLES, colour, fill_of
from tests.viz.graphs import HOSTILE, compiled, residual

AWKWARD = "1. a `b` *c* _d_ #35; &amp; end {x} |y| \u202eright to left"
"""What Markdown, Mermaid and terminals would take for something else."""

# Mermaid, as much of the grammar as is written: a strict reader of our own, and the labels that it finds.

_CHARACTER = r"(?:[A-Za-z0-9 .,:%()\[\]/_·…ᵀ⟳↧]|#\d+;)"
_LABEL = rf'"(?P<label>{_CHARACTER}*(?:<br/>{_CHARACTER}*)*)"'
_SHAPES = {"([": "])", "[(": ")]", "(": ")", "{{": "}}", "[/": "/]", ">": "]", "[": "]"}
_NODE = re.compile(rf'(?P<id>m\d+)(?P<start>\(\[|\[\(|\{{\{{|\[/|\(|>|\[){_LABEL}(?P<end>[\])}}/]+):::(?P<role>\w+)')
_EDGE = re.compile(r"(m\d+) (-->|-\.->)(?:\|(\d+)\|)? (m\d+)")
_BOX = re.compile(rf'subgraph (k\d+)\[{_LABEL}\]')
_COLOURS = re.compile(r"(classDef|style) (\w+) fill:#[0-9a-f]{6}(?:17)?,stroke:#[0-9a-f]{6}(?:,color:#[0-9a-f]{6})?"
                      r"(?:,stroke-dasharray:3 2)?")


def read_mermaid(text: str) -> tuple[dict[str, tuple[str, str]], list[tuple[str, str, bool, str]]]:
    """({id: (label, box)}, [(source, target, dashed, order)]); fails on any line that is none of the above."""
    lines = text.splitlines()
    assert lines[0] == lines[2] == "---" and re.fullmatch(rf"title: {_LABEL}", lines[1]) and lines[3] == "flowchart TB"
    nodes: dict[str, tuple[str, str]] = {}
    edges, box, roles, defined = [], "", set(), set()
    for line in lines[4:]:
        line = line.strip()
        if found := _NODE.fullmatch(line):
            assert _SHAPES[found["start"]] == found["end"] and found["id"] not in nodes
            nodes[found["id"]] = (decoded(found["label"]), box)
            roles.add(found["role"])
        elif found := _EDGE.fullmatch(line):
            edges.append((found[1], found[4], found[2] == "-.->", found[3] or ""))
        elif found := _BOX.fullmatch(line):
            assert not box
            box = found[1]
        elif line == "end":
            assert box
            box = ""
        elif found := _COLOURS.fullmatch(line):
            defined.add(found[2])
        else:
            assert line.startswith("%% Larger than"), line
    assert not box and roles <= defined and {each for edge in edges for each in edge[:2]} <= set(nodes)
    return nodes, edges


def decoded(text: str) -> str:
    return html.unescape(re.sub(r"#(\d+);", r"&#\1;", text.replace("<br/>", "\n")))


def safe(text: str) -> str:
    return re.sub("[\x00-\x09\x0b-\x1f\ud800-\udfff]", "\ufffd", text)


def check_mermaid(text: str, shown: Display) -> None:
    nodes, edges = read_mermaid(text)
    for number, mark in enumerate(shown.marks):
        sign = "⟳ " * (mark.role == "update")
        told = "\n".join([sign + mark.label, *filter(None, mark.detail.split("\n"))])
        assert nodes[f"m{number}"] == (safe(told), f"k{mark.kernel}" if mark.kernel >= 0 else "")
    assert edges == [(f"m{arrow.source}", f"m{arrow.target}", bool(arrow.folded), str(arrow.order or ""))
                     for arrow in shown.arrows]
    assert len(nodes) == len(shown.marks)


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("names", [("x", "w1"), (HOSTILE, AWKWARD)])
def test_mermaid_carries_all_marks_and_arrows(stage: str, names: tuple[str, str]) -> None:
    compilation = compiled(names)
    check_mermaid(sg.viz.to_mermaid(compilation, stage), display(collect(compilation, stage)))


def test_mermaid_labels_mean_nothing_to_anyone() -> None:
    assert label('a"b') == "a#34;b" and label("1. x") == "1#46; x" and label("0.5") == "0.5"
    assert label("<b>#35;") == "#60;b#62;#35;35#59;" and label("\x00\ud800") == "#65533;#65533;"


def test_large_mermaid_says_what_it_needs() -> None:
    x = sg.placeholder("x", shape=(2,))
    assert "%%" not in sg.viz.to_mermaid(sg.exp(x))
    text = sg.viz.to_mermaid(residual(120))
    limits = re.search(r"^%% Larger than .*maxTextSize: (\d+), maxEdges: (\d+)", text, re.M)
    assert limits is not None and int(limits[1]) >= len(text) and int(limits[2]) >= text.count("-->") > MOST_EDGES


@pytest.mark.skipif(shutil.which("dot") is None, reason="Graphviz is not installed")
@pytest.mark.parametrize("stage", STAGES)
def test_graphviz_reads_dot(stage: str) -> None:
    compilation = compiled((HOSTILE, AWKWARD))
    shown = display(collect(compilation, stage))
    done = subprocess.run(["dot", "-Tplain"], input=sg.viz.to_dot(compilation, stage), capture_output=True, text=True,
                          check=True, encoding="utf-8")
    rows = [line.split(" ", 1)[0] for line in done.stdout.splitlines()]
    assert (rows.count("node"), rows.count("edge")) == (len(shown.marks), len(shown.arrows)) and done.stderr == ""


def test_names_of_everything_are_data_in_every_format(tmp_path: Path) -> None:
    """Scopes, dimensions, keys of outputs, variables and strings in attributes, not of placeholders only."""
    x = sg.placeholder(AWKWARD, shape=("größe", 2), dtype="float32")
    with sg.name_scope(HOSTILE):
        v = sg.variable(np.zeros(2, "float32"), name=HOSTILE)
        y = sg.sum(sg.exp(x) * v)
    compilation = compile_only([x], {HOSTILE: y, AWKWARD: x * 2.0}, updates={v: v - sg.grad(y, v)})
    for stage in STAGES:
        model = collect(compilation, stage)
        assert "größe" in "".join(node.type for node in model.nodes)
        root = ElementTree.fromstring(sg.viz.to_svg(compilation, stage))
        tags = {element.tag.rpartition("}")[2] for element in root.iter()}
        assert tags == {"svg", "g", "title", "path", "rect", "text", "style"}
        sg.viz.export(compilation, tmp_path / "a.graphml", stage)
        assert len(nx.read_graphml(tmp_path / "a.graphml")) == len(model.nodes)
        data = json.loads(sg.viz.to_json(compilation, stage))
        assert [node["type"] for node in data["nodes"]] == [node.type for node in model.nodes]
        check_mermaid(sg.viz.to_mermaid(compilation, stage), display(model))
        listed = sg.viz.to_text(compilation, stage).splitlines()
        assert sum(line.lstrip().startswith("%") for line in listed) == len(model.nodes)


def test_names_do_not_command_terminals() -> None:
    text = sg.viz.to_text(sg.exp(sg.placeholder("\x1b[31mred\x9b\u202eturned", shape=(2,))))
    assert "placeholder '\ufffd[31mred\ufffd\ufffdturned'" in text


# PNG.


def size_of(content: bytes) -> tuple[int, int]:
    assert content[:8] == b"\x89PNG\r\n\x1a\n" and content[12:16] == b"IHDR" and content[-8:-4] == b"IEND"
    width, height = struct.unpack(">II", content[16:24])
    return width, height


def test_png_is_the_picture_twice_as_large() -> None:
    pytest.importorskip("matplotlib")
    compilation = compiled((HOSTILE, "漢字 $x$ $y$"))
    svg = ElementTree.fromstring(sg.viz.to_svg(compilation))
    width, height = size_of(sg.viz.to_png(compilation))
    assert abs(width - 2 * float(svg.attrib["width"])) <= 2 and abs(height - 2 * float(svg.attrib["height"])) <= 2


def test_png_shows_ink_of_its_theme() -> None:
    pytest.importorskip("matplotlib")
    from matplotlib.image import imread

    x = sg.placeholder("x", shape=(2,))
    for theme in ("light", "dark"):
        pixels = imread(stream(sg.viz.to_png(sg.exp(x), theme=theme)))[..., :3]
        paper = [int(colour("paper", theme)[at:at + 2], 16) / 255 for at in (1, 3, 5)]
        assert abs(pixels[1, 1] - paper).max() < 0.01
        assert 0.005 < (abs(pixels - paper).max(axis=2) > 0.3).mean() < 0.2


def stream(content: bytes) -> object:
    import io

    return io.BytesIO(content)


def test_png_of_nothing_and_of_much_is_limited() -> None:
    pytest.importorskip("matplotlib")
    from staticgraph.viz import png
    from staticgraph.viz.drawing import Drawing, Text

    size_of(sg.viz.to_png(sg.compile([sg.placeholder("x", shape=(2,))], [])))
    ribbon = Drawing("a ribbon", 900.0, 120_000.0, (Text(10.0, 100.0, "far above", 12),))
    assert max(size_of(png.render_png(ribbon))) <= png.LONGEST


def test_settings_of_matplotlib_play_no_part() -> None:
    matplotlib = pytest.importorskip("matplotlib")
    x = sg.exp(sg.placeholder("x", shape=(2,)))
    plain = sg.viz.to_png(x)
    changed = {"path.sketch": (1.0, 100.0, 2.0), "font.size": 30.0, "savefig.facecolor": "red", "figure.dpi": 30.0}
    with matplotlib.rc_context(changed):
        assert sg.viz.to_png(x) == plain
        assert matplotlib.rcParams["font.size"] == 30.0     # and they stay as they are


def test_png_without_matplotlib_tells_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    monkeypatch.setitem(sys.modules, "matplotlib.backends.backend_agg", None)
    with pytest.raises(sg.MissingPackageError, match=r'pip install "staticgraph\[viz\]"') as caught:
        sg.viz.export(sg.placeholder("x", shape=(2,)), tmp_path / "x.png")
    assert isinstance(caught.value, ImportError) and list(tmp_path.iterdir()) == []


# Themes, and names of functions.


def test_svg_follows_its_reader_or_keeps_its_theme() -> None:
    compilation = compiled()
    auto, light, dark = (sg.viz.to_svg(compilation, theme=theme) for theme in ("auto", "light", "dark"))
    assert auto == sg.viz.to_svg(compilation) and "prefers-color-scheme:dark" in auto
    assert "<style" not in light + dark and "class=\"sg" not in light + dark
    assert f'fill="{colour("paper", "dark")}"' in dark and colour("paper", "dark") not in light
    used = set(re.findall(r'[" ](sg[fs]-[\w-]+)', auto))
    rules = dict(re.findall(r"\.(sg[fs]-[\w-]+){(?:fill|stroke):(#[0-9a-f]{6})}", auto))
    assert used == set(rules) and "sgf-ink" in rules     # every colour has one for dark paper


def test_unknown_themes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(sg.ArgumentError, match="themes are auto, light, dark"):
        sg.viz.export(sg.placeholder("x", shape=(2,)), tmp_path / "x.svg", theme="blue")


def contrast(one: str, other: str) -> float:
    """Of two colours, as WCAG counts it."""
    def light(text: str) -> float:
        parts = [int(text[at:at + 2], 16) / 255 for at in (1, 3, 5)]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2] + 0.05

    return max(light(one), light(other)) / min(light(one), light(other))


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_texts_can_be_read_on_every_fill(theme: str) -> None:
    fills = {fill_of(role, "") for role in ROLES} | {fill_of("op", part) for part in ("", *PARTS)}
    assert fills <= set(COLOURS)
    for fill in fills:
        assert contrast(colour("ink", theme), colour(fill, theme)) > 7
        assert contrast(colour("quiet", theme), colour(fill, theme)) > 4.5


def test_every_format_has_a_function_of_its_name(tmp_path: Path) -> None:
    names = {".txt": "to_text", ".dot": "to_dot", ".mmd": "to_mermaid", ".svg": "to_svg", ".json": "to_json",
             ".graphml": "to_graphml"}
    compilation = compiled()
    for suffix, name in names.items():
        assert suffix in FORMATS
        sg.viz.export(compilation, tmp_path / f"a{suffix}", "program")
        written = (tmp_path / f"a{suffix}").read_text(encoding="utf-8")
        assert getattr(sg.viz, name)(compilation, "program") == written
