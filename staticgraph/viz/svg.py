"""SVG: the picture of a graph with its fused kernels, for any viewer and without any program to draw it.

Comes in: a `Scene`. Goes out: one self-contained SVG document with a white background: no scripts, no style sheets, no
fonts of its own. Every text is escaped, every mark has a tooltip, and the same graph gives the same bytes.
"""

from __future__ import annotations

import colorsys
from collections.abc import Iterator, Sequence

from .display import Mark
from .model import Model
from .scene import TITLE_HEIGHT, Box, Path, Scene
from .text import clip, escape

FONT = "DejaVu Sans Mono, Menlo, Consolas, Liberation Mono, monospace"
MARGIN = 24.0
INK, QUIET, LINE = "#1b1f24", "#5b6470", "#7b8694"
ROLES = {"input": ("#d7ebff", "#2f7cc4", "input"), "variable": ("#ffe9c7", "#c98a1b", "variable"),
         "constant": ("#eceff2", "#8b95a1", "constant"), "output": ("#d3f5dc", "#2e9d52", "output"),
         "update": ("#ffdede", "#cf4a4a", "new value of a variable"),
         "jump": ("#ffffff", "#8b95a1", "value from far above")}
PARTS = {"forward": "#3b6fb6", "backward": "#b5562f", "update": "#b03a72", "": "#59636e"}
LEGEND_ROW, LEGEND_MOST, LEGEND_WIDEST = 17.0, 60, 64


def kernel_colours(number: int) -> tuple[str, str]:
    """(fill, border) of a kernel: hues a golden angle apart, so that neighbours differ."""
    hue = (0.58 + number * 0.381966) % 1.0
    return tuple("#" + "".join(f"{round(channel * 255):02x}" for channel in colorsys.hls_to_rgb(hue, light, rich))
                 for light, rich in ((0.955, 0.75), (0.58, 0.45)))  # type: ignore[return-value]


def render_svg(model: Model, scene: Scene) -> str:
    """The document."""
    legend = list(_legend(model, scene))
    legend_height = max((y for y, _ in legend), default=0.0) + 18.0
    shift = MARGIN + legend_height
    widest = max([scene.width + 2 * MARGIN, 720.0])
    height = shift + scene.height + MARGIN
    left = (widest - scene.width) / 2
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_n(widest)}" height="{_n(height)}" '
        f'viewBox="0 0 {_n(widest)} {_n(height)}" role="img" font-family="{FONT}">',
        f"<title>{escape(_headline(model))}</title>",
        '<defs><marker id="arrow" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
        f'<path d="M0 0.8L8 4L0 7.2z" fill="{LINE}"/></marker></defs>',
        '<rect width="100%" height="100%" fill="#ffffff"/>',
        *(text for _, text in legend),
        f'<g transform="translate({_n(left)} {_n(shift)})">',
        *(_kernel(model, number, box) for number, box in sorted(scene.kernels.items())),
        *(_path(scene, path) for path in scene.paths),
        *(_kernel_title(scene, number, box) for number, box in sorted(scene.kernels.items())),
        *(_mark(mark, box) for mark, box in zip(scene.display.marks, scene.marks, strict=True)),
        *_orders(scene), "</g>", "</svg>"]
    return "\n".join(lines) + "\n"


def _n(value: float) -> str:
    """A number with at most one decimal; the same text on every machine."""
    text = f"{value:.1f}"
    return "0" if text == "-0.0" else text.removesuffix(".0")


def _headline(model: Model) -> str:
    stage = {"tensor": "graph as it was built", "primitive": "graph after all passes",
             "fused": "graph with its fused kernels"}[model.stage]
    kernels = f", {len(model.kernels)} kernel calls" if model.kernels else ""
    return f"staticgraph: {stage}, {len(model.nodes)} nodes{kernels}"


def _legend(model: Model, scene: Scene) -> Iterator[tuple[float, str]]:
    """(lower edge, element) for each entry: the headline, what shapes mean, the kernels."""
    yield 14.0 + MARGIN, _text(MARGIN, MARGIN + 10, _headline(model), 14, INK, bold=True)
    y, x = MARGIN + 34.0, MARGIN
    roles = {mark.role for mark in scene.display.marks}
    entries = [(name, fill, border) for role, (fill, border, name) in ROLES.items() if role in roles]
    parts = dict.fromkeys(mark.part for mark in scene.display.marks if mark.role == "op" and mark.part)
    entries += [(f"{part} op", "#ffffff", PARTS[part]) for part in PARTS if part in parts]
    right = max(scene.width + 2 * MARGIN, 720.0) - MARGIN
    for name, fill, border in entries:
        y, x = _next_place(y, x, 24 + len(name) * 6.7, right)
        yield y, (f'<rect x="{_n(x)}" y="{_n(y - 9)}" width="18" height="11" rx="3" fill="{fill}" stroke="{border}" '
                  f'stroke-width="1.5"/>' + _text(x + 24, y, name, 11, INK))
        x += 24 + len(name) * 6.7 + 22
    if any(path.folded for path in scene.paths):
        y, x = _next_place(y, x, 32 + 32 * 6.7, right)
        yield y, (f'<path d="M{_n(x)} {_n(y - 4)}h26" stroke="{LINE}" stroke-width="1.2" stroke-dasharray="4 3"/>'
                  + _text(x + 32, y, "through views, which cost nothing", 11, INK))
    numbers = sorted(scene.kernels)
    longest = max((len(scene.display.kernels[number]) for number in numbers), default=0)
    column_width = 24 + min(longest, LEGEND_WIDEST) * 6.7 + 24
    fit = max(1, int(max(scene.width, 720.0 - 2 * MARGIN) // column_width))
    y += 26.0
    for place, number in enumerate(numbers[:LEGEND_MOST]):
        row, column = divmod(place, fit)
        yield _legend_kernel(model, number, scene.display.kernels[number], MARGIN + column * column_width,
                             y + row * LEGEND_ROW)
    if len(numbers) > LEGEND_MOST:
        y += (LEGEND_MOST - 1) // fit * LEGEND_ROW + LEGEND_ROW
        yield y, _text(MARGIN, y, f"and {len(numbers) - LEGEND_MOST} more kernels", 11, QUIET)


def _next_place(y: float, x: float, width: float, right: float) -> tuple[float, float]:
    """Where an entry of the legend goes: on this line, or on the next one where this is full."""
    return (y, x) if x + width <= right else (y + LEGEND_ROW, MARGIN)


def _legend_kernel(model: Model, number: int, title: str, x: float, y: float) -> tuple[float, str]:
    fill, border = kernel_colours(number)
    return y, (f'<g><title>{escape(_kernel_tooltip(model, number))}</title>'
               f'<rect x="{_n(x)}" y="{_n(y - 9)}" width="18" height="11" rx="2" fill="{fill}" stroke="{border}"/>'
               + _text(x + 24, y, clip(title, LEGEND_WIDEST), 11, INK) + "</g>")


def _kernel_tooltip(model: Model, number: int) -> str:
    kernel = model.kernels[number]
    rows = [f"step {kernel.step}: {kernel.name}", f"parallel iterations: {kernel.extent}"]
    rows += ["writes variables, after everything that can fail"] if kernel.commit else []
    return "\n".join([*rows, *kernel.lines])


def _text(x: float, y: float, text: str, size: int, colour: str, *, middle: bool = False, bold: bool = False) -> str:
    anchor = ' text-anchor="middle"' if middle else ""
    weight = ' font-weight="bold"' if bold else ""
    return f'<text x="{_n(x)}" y="{_n(y)}" font-size="{size}" fill="{colour}"{anchor}{weight}>{escape(text)}</text>'


def _kernel(model: Model, number: int, box: Box) -> str:
    fill, border = kernel_colours(number)
    return (f'<g class="kernel" data-step="{number}"><title>{escape(_kernel_tooltip(model, number))}</title>'
            f'<rect x="{_n(box.x)}" y="{_n(box.y)}" width="{_n(box.width)}" height="{_n(box.height)}" rx="6" '
            f'fill="{fill}" stroke="{border}" stroke-width="1.2"/></g>')


def _kernel_title(scene: Scene, number: int, box: Box) -> str:
    """Above the paths that enter here, on a halo in the kernel's colour."""
    text = _text(box.x + 8, box.y + TITLE_HEIGHT - 9, scene.display.kernels[number], 11, INK)
    halo = f'<text stroke="{kernel_colours(number)[0]}" stroke-width="4" paint-order="stroke"'
    return text.replace("<text", halo, 1)


def _path(scene: Scene, path: Path) -> str:
    dash = ' stroke-dasharray="4 3"' if path.folded else ""
    head = ' marker-end="url(#arrow)"' if path.target >= 0 else ""
    source = scene.display.marks[path.source]
    tooltip = f"{source.label} {source.detail}".strip()
    if path.target >= 0:
        tooltip += f" to {scene.display.marks[path.target].label}"
    if path.folded:
        tooltip += "\nthrough " + ", ".join(reversed(path.folded))
    return (f'<path d="{_curve(path.points)}" fill="none" stroke="{LINE}" stroke-width="1.2"{dash}{head}>'
            f"<title>{escape(tooltip)}</title></path>")


def _curve(points: Sequence[tuple[float, float]]) -> str:
    """Straight where it goes straight down, else a curve that leaves and arrives vertically."""
    x, y = points[0]
    steps = [f"M{_n(x)} {_n(y)}"]
    for next_x, next_y in points[1:]:
        if _n(next_x) == _n(x) and _n(next_y) == _n(y):
            continue
        if abs(next_x - x) < 0.5:
            steps.append(f"L{_n(next_x)} {_n(next_y)}")
        else:
            middle = (y + next_y) / 2
            steps.append(f"C{_n(x)} {_n(middle)} {_n(next_x)} {_n(middle)} {_n(next_x)} {_n(next_y)}")
        x, y = next_x, next_y
    return "".join(steps)


def _mark(mark: Mark, box: Box) -> str:
    x, y, width, height = box.x, box.y, box.width, box.height
    if mark.role == "op":
        fill, border, radius = "#ffffff", PARTS[mark.part], 4.0
    else:
        fill, border, _ = ROLES[mark.role]
        radius = {"variable": 0.0, "constant": 0.0}.get(mark.role, height / 2)
    centre = x + width / 2
    dash = ' stroke-dasharray="3 2"' if mark.role == "jump" else ""
    shape = (f'<rect x="{_n(x)}" y="{_n(y)}" width="{_n(width)}" height="{_n(height)}" rx="{_n(radius)}" '
             f'fill="{fill}" stroke="{border}" stroke-width="1.4"{dash}/>')
    if mark.detail:
        text = (_text(centre, y + 15, mark.label, 12, INK, middle=True)
                + _text(centre, y + 29, mark.detail, 10, QUIET, middle=True))
    else:
        sign = {"update": "⟳ ", "jump": "↧ "}.get(mark.role, "")
        text = _text(centre, y + height / 2 + 4, sign + mark.label, 12, INK, middle=True)
    return (f'<g class="{mark.role}" data-node="{mark.node}"><title>{escape(mark.tooltip)}</title>{shape}{text}</g>')


def _orders(scene: Scene) -> Iterator[str]:
    """Small numbers beside arrows where the order of operands matters: outside of the leftmost, else to the right."""
    leftmost: dict[int, float] = {}
    for path in scene.paths:
        if path.order:
            leftmost[path.target] = min(path.points[-1][0], leftmost.get(path.target, path.points[-1][0]))
    for path in scene.paths:
        if path.order:
            x, y = path.points[-1]
            yield _text(x + (-10 if x == leftmost[path.target] else 5), y - 3, str(path.order), 9, QUIET)
