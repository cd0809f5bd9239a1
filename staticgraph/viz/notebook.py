"""What notebooks show: tensors, executables, profiles, and graphs that are asked for with `sg.viz.graph`.

Comes in: the object. Goes out: a piece of HTML without scripts and without styles for anything else, every text
escaped. Its size is bounded: of a large graph the part nearest to the results is drawn, and the rest is counted. Text
has the colours of the page; pictures bring their paper along, light or dark as the reader prefers.

`_repr_html_` of tensors and executables comes here through `tensor.display_hook`, which the package sets; so nothing of
this is imported before something is shown.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from ..compiler.program import Program
from ..runtime.profile import Profile
from ..runtime.profile_text import profile_text
from ..tensor import Tensor, describe, toposort
from .display import display
from .drawing import Drawing, draw, headline
from .export import to_text
from .marks import Arrow, Display, Mark
from .model import Model, collect
from .scene import arrange
from .svg import render_svg
from .text import clip, escape, one_line

NEAR, DRAWN = 40, 150
"""Marks in the picture of a tensor, and in others."""
PROFILE_WIDTH = 130
ROWS = 14
"""Steps in the table of an executable."""
WIDEST = 160
SMALLEST = 0.55
"""How far a picture may be made smaller to fit the page's width."""

BOX = ("max-height:36em;max-width:100%;overflow:auto;border:1px solid rgba(128,128,128,.4);border-radius:6px;"
       "margin:.4em 0")
SEEN = "position:absolute;top:0;width:1px;height:1px;scroll-initial-target:nearest"
ASIDE = 300.0
CELL = "text-align:left;padding:.1em .8em .1em 0;vertical-align:top"


class Graph:
    """The graph of something at a stage: a notebook shows it as a picture, `print` as a table."""

    def __init__(self, obj: Any, stage: str | None = None) -> None:
        self._obj = obj
        self._model = collect(obj, stage)

    @property
    def stage(self) -> str:
        """The stage that is shown."""
        return self._model.stage

    def __repr__(self) -> str:
        return f"<{headline(self._model)}>"

    def __str__(self) -> str:
        return to_text(self._obj, self.stage)

    def _repr_html_(self) -> str:
        return _picture(self._model, DRAWN)

    def _repr_svg_(self) -> str:
        return render_svg(_drawing(self._model, DRAWN)[0])


def graph(obj: Any, stage: str | None = None) -> Graph:
    """The graph of a tensor, of several, or of an executable, as an object that notebooks draw and `print` lists.

    `obj` and `stage` are those of `export`, which also writes graphs of any size into files.
    """
    return Graph(obj, stage)


def notebook_html(obj: Any) -> str:
    """What a notebook shows of a tensor, of an executable or of a profile."""
    if isinstance(obj, Profile):     # its table, in the colours of the page
        return f'<div style="{BOX}"><pre>{escape(profile_text(obj, PROFILE_WIDTH))}</pre></div>'
    return _tensor(obj) if isinstance(obj, Tensor) else _executable(obj.program, obj)


def _tensor(node: Tensor) -> str:
    rows = [("op", node.op.name), ("type", str(node.type)), ("line", str(node.location))]
    rows += [("scope", node.scope)] if node.scope else []
    rows += [("operands", ", ".join(map(describe, node.inputs)))] if node.inputs else []
    title = f"Tensor {node.name}" if node.name else "Tensor"
    count = len(toposort([node]))
    return _head(title) + _facts(rows) + (_picture(collect(node), NEAR) if count > 1 else "")


def _executable(program: Program, obj: Any) -> str:
    names = [", ".join(f"{spec.name}: {spec.dtype}[{', '.join(map(str, spec.shape))}]" for spec in program.inputs),
             ", ".join(name for name, _ in program.graphs[0].outputs) if program.graphs else str(len(program.outputs)),
             ", ".join(spec.name for spec in program.variables if spec.written)]
    rows = [(what, text) for what, text in zip(("inputs", "outputs", "writes"), names, strict=True) if text]
    rows += [("device", program.device), ("arena", f"{program.arena_bytes} bytes")]
    rows += [("program", obj.account)] if obj.account else []
    steps = [(f"{number}", program.kernels[step.kernel].name, f"over {step.extent}",
              ", ".join(program.notes[step.note].lines)) for number, step in enumerate(program.steps[:ROWS])]
    more = _left_out(len(program.steps) - len(steps), "step", "print(executable.explain(verbose=True))")
    picture = _picture(collect(obj, "fused"), DRAWN) if program.graphs else ""
    return (_head(f"Executable: {len(program.steps)} steps") + _facts(rows) + _table(steps) + more
            + f"<details><summary>graph with its fused kernels</summary>{picture}</details>" * bool(picture))


def _picture(model: Model, most: int) -> str:
    drawing, left_out, start = _drawing(model, most)
    fitting = f"position:relative;max-width:{round(drawing.width)}px;min-width:{round(SMALLEST * drawing.width)}px"
    svg = render_svg(drawing).replace("<svg ", '<svg style="width:100%;height:auto" ', 1)
    seen = f'<div style="{SEEN};left:{start:.1%}"></div>'     # where a wide picture is looked at first
    inside = f'<div style="{fitting}">{svg}{seen}</div>'
    return f'<div style="{BOX}">{inside}</div>' + _left_out(left_out, "mark", 'sg.viz.export(…, "graph.html")')


def _drawing(model: Model, most: int) -> tuple[Drawing, int, float]:
    """The picture, how many marks it leaves out, and a place left of its first mark, as a share of its width."""
    shown, left_out = nearest(display(model), most)
    scene = arrange(shown)
    first = min(scene.marks, key=lambda box: (box.y, box.x), default=None)
    return draw(model, scene), left_out, max(first.x - ASIDE, 0.0) / scene.width if first and scene.width else 0.0


def _left_out(count: int, what: str, where: str) -> str:
    if count <= 0:
        return ""
    return f"<p>{count} more {what}{'s' * (count > 1)}: <code>{escape(where)}</code> shows all of them.</p>"


def _head(title: str) -> str:
    return f"<p><b>{_short(title)}</b></p>"


def _facts(rows: Iterable[tuple[str, str]]) -> str:
    return _table([(what, text) for what, text in rows])


def _table(rows: Sequence[Sequence[str]]) -> str:
    """Rows of text, the first column quiet."""
    lines = ("".join(f'<td style="{CELL}{";opacity:.65" * (not place)}">{_short(cell)}</td>'
                     for place, cell in enumerate(row)) for row in rows)
    return f"<table>{''.join(f'<tr>{line}</tr>' for line in lines)}</table>" if rows else ""


def _short(text: str) -> str:
    return escape(clip(one_line(text), WIDEST))


def nearest(shown: Display, most: int) -> tuple[Display, int]:
    """The marks nearest to the results, and how many are left out. What is read from outside becomes a jump."""
    if len(shown.marks) <= most:
        return shown, 0
    kept = _near(shown, most)
    place = {number: position for position, number in enumerate(sorted(kept))}
    marks: list[Mark] = [shown.marks[number] for number in place]
    jumps: dict[tuple[int, int], int] = {}
    arrows = []
    for arrow in shown.arrows:
        if arrow.target not in place:
            continue
        source = place.get(arrow.source, -1)
        if source < 0:
            target, origin = shown.marks[arrow.target], shown.marks[arrow.source]
            key = (arrow.source, target.kernel if target.kernel >= 0 else -2 - arrow.target)
            if key not in jumps:
                jumps[key] = len(marks)
                marks.append(Mark("jump", f"%{origin.node} {origin.label}", "", "not drawn:\n" + origin.tooltip,
                                  origin.node, target.kernel, origin.part))
            source = jumps[key]
        arrows.append(Arrow(source, place[arrow.target], arrow.order, arrow.folded))
    return Display(shown.stage, marks, arrows, shown.kernels, shown.tooltips), len(shown.marks) - len(kept)


def _near(shown: Display, most: int) -> set[int]:
    """Marks, from the outputs upwards; updates only where there is no output."""
    sources: dict[int, list[int]] = {}
    for arrow in shown.arrows:
        sources.setdefault(arrow.target, []).append(arrow.source)
    starts = [number for role in ("output", "update") for number, mark in enumerate(shown.marks) if mark.role == role]
    ends = {arrow.source for arrow in shown.arrows}
    queue = starts or [number for number in range(len(shown.marks)) if number not in ends]
    kept: dict[int, None] = {}
    for number in queue:     # which grows meanwhile
        if len(kept) == most:
            break
        if number not in kept:
            kept[number] = None
            queue.extend(sources.get(number, ()))
    return set(kept)
