"""A picture as shapes and texts with roles for colours: what SVG and PNG are both written from.

Comes in: a model and its `Scene`. Goes out: a `Drawing`, in pixels, back to front. It knows what each thing looks like
and says nothing about a format. Forward, backward and update differ by outline as well as by colour: rounded, pointed,
slanted.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from .marks import Mark
from .model import Model
from .palette import PARTS, ROLES, fill_of, hue
from .scene import SLANT, TITLE_HEIGHT, Box, Path, Scene
from .text import clip, columns

MARGIN = 24.0
NARROWEST = 720.0
LEGEND_ROW, LEGEND_MOST, LEGEND_WIDEST = 17.0, 60, 64
ROUND = 18.0
SMALL = 6.7
"""The width of a character of the legend."""

Point = tuple[float, float]
Piece = tuple[Point, ...]
"""Where a piece of an outline leads: one point by a line, three by a Bézier curve."""


@dataclass(frozen=True)
class Shape:
    """An outline from `start` on. `fill` and `stroke` are roles, or "" for none; `tint` is how much of the fill covers
    what is below."""

    start: Point
    pieces: tuple[Piece, ...]
    fill: str = ""
    stroke: str = ""
    thickness: float = 1.2
    dash: tuple[float, ...] = ()
    closed: bool = True
    tint: float = 1.0


@dataclass(frozen=True)
class Text:
    """A line of text on its base line, in a fixed-width font; `halo` keeps lines below it off."""

    x: float
    y: float
    text: str
    size: int
    role: str = "ink"
    middle: bool = False
    bold: bool = False
    halo: bool = False


@dataclass(frozen=True)
class Group:
    """Things that belong together and have a tooltip. `kind` and `number` say what they show: a mark's role and its
    node, or "kernel" and its step."""

    kind: str
    number: int
    tooltip: str
    items: tuple[Shape | Text, ...]


@dataclass(frozen=True)
class Drawing:
    """The whole picture, on paper of this size."""

    title: str
    width: float
    height: float
    items: tuple[Group | Shape | Text, ...]


def draw(model: Model, scene: Scene) -> Drawing:
    """The legend, and the scene below it."""
    width = max(scene.width + 2 * MARGIN, NARROWEST)
    legend = list(_legend(model, scene, width))
    top = MARGIN + max(y for y, _ in legend) + 18.0
    pen = _Pen((width - scene.width) / 2, top)
    body: list[Group | Shape | Text] = [
        *(pen.outline([(x, 0.0), (x, scene.height)], stroke="jump edge", dash=(1.0, 6.0), closed=False)
          for x in scene.rules),
        *(_kernel(pen, scene, number, box) for number, box in sorted(scene.kernels.items())),
        *(_path(pen, scene, path) for path in scene.paths),
        *(_kernel_title(pen, scene, number, box) for number, box in sorted(scene.kernels.items())),
        *(_mark(pen, mark, box) for mark, box in zip(scene.display.marks, scene.marks, strict=True)),
        *_orders(pen, scene)]
    return Drawing(headline(model), width, top + scene.height + MARGIN, (*(item for _, item in legend), *body))


def headline(model: Model) -> str:
    """What the picture shows."""
    if model.stage == "program":
        buffers = len({fact["buffer"] for fact in model.facts if "buffer" in fact})
        return f"staticgraph: program, {_count(len(model.kernels), 'step')} over {_count(buffers, 'buffer')}"
    stage = {"tensor": "graph as it was built", "primitive": "graph after all passes",
             "fused": "graph with its fused kernels"}[model.stage]
    kernels = f", {_count(len(model.kernels), 'kernel call')}" if model.kernels else ""
    return f"staticgraph: {stage}, {_count(len(model.nodes), 'node')}{kernels}"


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'s' * (number != 1)}"


@dataclass(frozen=True)
class _Pen:
    """Draws with its origin at (x, y)."""

    x: float
    y: float

    def text(self, x: float, y: float, text: str, size: int, role: str = "ink", **how: bool) -> Text:
        return Text(self.x + x, self.y + y, text, size, role, **how)

    def outline(self, points: Sequence[Point], **how: object) -> Shape:
        start, *rest = ((self.x + x, self.y + y) for x, y in points)
        return Shape(start, tuple((point,) for point in rest), **how)  # type: ignore[arg-type]

    def rounded(self, box: Box, radius: float, **how: object) -> Shape:
        """A rectangle with round corners."""
        r = min(radius, box.height / 2, box.width / 2)
        if r <= 0:
            return self.outline(_corners(box), **how)
        x, y, right, bottom = self.x + box.x, self.y + box.y, self.x + box.x + box.width, self.y + box.y + box.height
        k = r * 0.4477     # what is left of the handle of a quarter of a circle
        return Shape((x + r, y), (
            ((right - r, y),), ((right - k, y), (right, y + k), (right, y + r)),
            ((right, bottom - r),), ((right, bottom - k), (right - k, bottom), (right - r, bottom)),
            ((x + r, bottom),), ((x + k, bottom), (x, bottom - k), (x, bottom - r)),
            ((x, y + r),), ((x, y + k), (x + k, y), (x + r, y))), **how)  # type: ignore[arg-type]

    def mark(self, role: str, part: str, box: Box, **how: object) -> Shape:
        """The outline of a mark, in its colours."""
        fill = fill_of(role, part)
        how |= {"fill": fill, "stroke": f"{fill} edge", "thickness": 1.4, "dash": (3.0, 2.0) if role == "jump" else ()}
        if role == "op" and part in ("backward", "update", "mixed"):
            return self.outline(_slanted(part, box), **how)
        square = {"op": 4.0, "variable": 0.0, "constant": 0.0, "buffer": 0.0}
        return self.rounded(box, square.get(role, ROUND), **how)


def _corners(box: Box) -> list[Point]:
    right, bottom = box.x + box.width, box.y + box.height
    return [(box.x, box.y), (right, box.y), (right, bottom), (box.x, bottom)]


def _slanted(part: str, box: Box) -> list[Point]:
    """Backward: pointed at both ends; mixed: at the right end; update: slanted."""
    x, y, right, bottom = box.x, box.y, box.x + box.width, box.y + box.height
    slant, middle = min(SLANT, box.height / 3), (y + bottom) / 2
    if part == "update":
        return [(x + slant, y), (right, y), (right - slant, bottom), (x, bottom)]
    ahead = [(right - slant, y), (right, middle), (right - slant, bottom)]
    if part == "mixed":
        return [(x, y), *ahead, (x, bottom)]
    return [(x, middle), (x + slant, y), *ahead, (x + slant, bottom)]


# The legend.


def _legend(model: Model, scene: Scene, width: float) -> Iterator[tuple[float, Group | Shape | Text]]:
    """(lower edge, item): the headline, what outlines and lines mean, the kernels."""
    pen = _Pen(0.0, 0.0)
    yield MARGIN + 14.0, pen.text(MARGIN, MARGIN + 10, headline(model), 14, bold=True)
    x, y = MARGIN, MARGIN + 34.0
    roles = {mark.role for mark in scene.display.marks}
    parts = {mark.part for mark in scene.display.marks if mark.role == "op"}
    entries = [(role, "", name) for role, name in ROLES.items() if role in roles]
    entries += [("op", part, name) for part, name in PARTS.items() if part in parts]
    if any(path.folded for path in scene.paths):
        entries.append(("", "", "memory that is written again" if model.stage == "program" else
                        "through views, which cost nothing"))
    for role, part, name in entries:
        needed = 34 + columns(name) * SMALL
        if x + needed > width - MARGIN:
            x, y = MARGIN, y + LEGEND_ROW + 3
        yield y, (pen.mark(role, part, Box(x, y - 10, 26, 13)) if role else
                  pen.outline([(x, y - 4), (x + 26, y - 4)], stroke="line", dash=(4.0, 3.0), closed=False))
        yield y, pen.text(x + 32, y, name, 11)
        x += needed + 20
    yield from _kernel_list(pen, scene, width, y + 26.0)


def _kernel_list(pen: _Pen, scene: Scene, width: float, y: float) -> Iterator[tuple[float, Group | Text]]:
    numbers = sorted(scene.kernels)
    longest = max((columns(scene.display.kernels[number]) for number in numbers), default=0)
    column_width = 48 + min(longest, LEGEND_WIDEST) * SMALL
    fit = max(1, int((width - 2 * MARGIN) // column_width))
    for place, number in enumerate(numbers[:LEGEND_MOST]):
        row, column = divmod(place, fit)
        left, base = MARGIN + column * column_width, y + row * LEGEND_ROW
        title = clip(scene.display.kernels[number], LEGEND_WIDEST)
        yield base, Group("entry", number, scene.display.tooltips[number], (
            pen.rounded(Box(left, base - 9, 18, 11), 2, fill=hue(number), stroke=hue(number), tint=0.15),
            pen.text(left + 24, base, title, 11)))
    if len(numbers) > LEGEND_MOST:
        y += ((LEGEND_MOST - 1) // fit + 1) * LEGEND_ROW
        yield y, pen.text(MARGIN, y, f"and {len(numbers) - LEGEND_MOST} more", 11, "quiet")


# The scene.


def _kernel(pen: _Pen, scene: Scene, number: int, box: Box) -> Group:
    return Group("kernel", number, scene.display.tooltips[number], (
        pen.rounded(box, 6, fill=hue(number), stroke=hue(number), tint=0.09),))


def _kernel_title(pen: _Pen, scene: Scene, number: int, box: Box) -> Text:
    """Above the paths that enter here."""
    return pen.text(box.x + 8, box.y + TITLE_HEIGHT - 9, scene.display.kernels[number], 11, halo=True)


def _path(pen: _Pen, scene: Scene, path: Path) -> Group:
    source = scene.display.marks[path.source]
    tooltip = f"{source.label} {source.detail}".strip()
    if path.target >= 0:
        tooltip += f" to {scene.display.marks[path.target].label}"
    if path.folded:
        tooltip += "\nthrough " + ", ".join(reversed(path.folded))
    (x, y), *rest = ((pen.x + x, pen.y + y) for x, y in path.points)
    line = Shape((x, y), tuple(_curve((x, y), rest)), stroke="line", dash=(4.0, 3.0) if path.folded else (),
                 closed=False)
    x, y = rest[-1]
    head = Shape((x, y), (((x - 2.8, y - 7.0),), ((x + 2.8, y - 7.0),)), fill="line")     # arrows arrive from above
    return Group("path", path.source, tooltip, (line, head) if path.target >= 0 else (line,))


def _curve(start: Point, points: Sequence[Point]) -> Iterator[Piece]:
    """Straight where it goes straight down, else a curve that leaves and arrives vertically."""
    x, y = start
    for next_x, next_y in points:
        if abs(next_y - y) < 0.05 and abs(next_x - x) < 0.05:
            continue
        if abs(next_x - x) < 0.5:
            yield ((next_x, next_y),)
        else:
            middle = (y + next_y) / 2
            yield ((x, middle), (next_x, middle), (next_x, next_y))
        x, y = next_x, next_y


def _mark(pen: _Pen, mark: Mark, box: Box) -> Group:
    centre = box.x + box.width / 2
    details = mark.detail.split("\n") if mark.detail else []
    sign = {"update": "⟳ ", "jump": "↧ "}.get(mark.role, "")
    base = box.y + 15 if details else box.y + box.height / 2 + 4
    lines = [pen.text(centre, base, sign + mark.label, 12, middle=True)]
    lines += [pen.text(centre, base + 14 + 12 * number, detail, 10, "quiet", middle=True)
              for number, detail in enumerate(details)]
    return Group(mark.role, mark.node, mark.tooltip, (pen.mark(mark.role, mark.part, box), *lines))


def _orders(pen: _Pen, scene: Scene) -> Iterator[Text]:
    """Small numbers beside arrows where the order of operands matters: outside of the leftmost, else to the right."""
    leftmost: dict[int, float] = {}
    for path in scene.paths:
        if path.order:
            leftmost[path.target] = min(path.points[-1][0], leftmost.get(path.target, path.points[-1][0]))
    for path in scene.paths:
        if path.order:
            x, y = path.points[-1]
            yield pen.text(x + (-10 if x == leftmost[path.target] else 5), y - 3, str(path.order), 9, "quiet")
