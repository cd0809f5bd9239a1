"""SVG: one self-contained document for any viewer, without any program to draw it.

Comes in: a `Drawing`. Goes out: text; the same drawing gives the same bytes. No scripts, no fonts of its own, nothing
from elsewhere, no ids; every text is escaped. So it can also be put into a page of HTML, several times.

Themes: "light" and "dark" are fixed colours, written as attributes. "auto" is "light" with a style sheet for readers
who prefer dark: viewers that know no style sheets show it light.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from .drawing import Drawing, Group, Shape, Text
from .palette import colour
from .text import escape

FONT = "DejaVu Sans Mono, Menlo, Consolas, Liberation Mono, monospace"


def render_svg(drawing: Drawing, theme: str = "auto") -> str:
    """The document."""
    ink = _Ink(theme)
    body = [line for item in drawing.items for line in _item(ink, item)]
    width, height = _n(drawing.width), _n(drawing.height)
    paper = f'<rect width="100%" height="100%" {ink.fill("paper")}/>'
    lines = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
             f'viewBox="0 0 {width} {height}" role="img" font-family="{FONT}">',
             f"<title>{escape(drawing.title)}</title>", *ink.style_sheet(), paper,
             *body, "</svg>"]
    return "\n".join(lines) + "\n"


class _Ink:
    """Colours as attributes, and the style sheet that exchanges them."""

    def __init__(self, theme: str) -> None:
        self.auto = theme == "auto"
        self.theme = "dark" if theme == "dark" else "light"
        self.used: dict[str, tuple[str, str]] = {}

    def fill(self, role: str) -> str:
        return f'fill="{colour(role, self.theme)}"{self._class(("fill", role))}'

    def both(self, fill: str, stroke: str) -> str:
        """Fill and stroke; "" is none."""
        found = [(kind, role) for kind, role in (("fill", fill), ("stroke", stroke)) if role]
        text = " ".join(f'{kind}="{colour(role, self.theme)}"' for kind, role in found)
        return ("" if fill else 'fill="none" ') + text + self._class(*found)

    def _class(self, *uses: tuple[str, str]) -> str:
        if not self.auto:
            return ""
        names = [f"sg{kind[0]}-{role.replace(' ', '-')}" for kind, role in uses]
        self.used.update(zip(names, uses, strict=True))
        return f' class="{" ".join(names)}"'

    def style_sheet(self) -> Iterator[str]:
        """What readers who prefer dark see instead; called last."""
        if self.auto:
            rules = "".join(f".{name}{{{kind}:{colour(role, 'dark')}}}" for name, (kind, role) in self.used.items())
            yield f"<style>@media (prefers-color-scheme:dark){{{rules}}}</style>"


def _item(ink: _Ink, item: Group | Shape | Text) -> Iterable[str]:
    if isinstance(item, Shape):
        return [_shape(ink, item)]
    if isinstance(item, Text):
        return [_text(ink, item)]
    number = f'data-{"step" if item.kind in ("kernel", "entry") else "node"}="{item.number}"'
    inner = "".join(line for each in item.items for line in _item(ink, each))
    return [f'<g class="{item.kind}" {number}><title>{escape(item.tooltip)}</title>{inner}</g>']


def _shape(ink: _Ink, shape: Shape) -> str:
    steps = [f"M{_n(shape.start[0])} {_n(shape.start[1])}"]
    for piece in shape.pieces:
        steps.append("LC"[len(piece) == 3] + " ".join(f"{_n(x)} {_n(y)}" for x, y in piece))
    tint = f' fill-opacity="{shape.tint:g}"' if shape.tint != 1.0 else ""
    dash = f' stroke-dasharray="{" ".join(map(_n, shape.dash))}"' if shape.dash else ""
    thickness = f' stroke-width="{_n(shape.thickness)}"' if shape.stroke else ""
    return (f'<path d="{"".join(steps)}{"Z" * shape.closed}" {ink.both(shape.fill, shape.stroke)}{thickness}'
            f'{tint}{dash}/>')


def _text(ink: _Ink, text: Text) -> str:
    how = ' text-anchor="middle"' if text.middle else ""
    how += ' font-weight="bold"' if text.bold else ""
    if text.halo:
        colours = ink.both(text.role, "paper") + ' stroke-width="4" paint-order="stroke"'
    else:
        colours = ink.fill(text.role)
    return f'<text x="{_n(text.x)}" y="{_n(text.y)}" font-size="{text.size}" {colours}{how}>{escape(text.text)}</text>'


def _n(value: float) -> str:
    """A number with at most one decimal; the same text on every machine."""
    text = f"{value:.1f}"
    return "0" if text == "-0.0" else text.removesuffix(".0")
