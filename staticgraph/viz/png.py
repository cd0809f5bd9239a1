"""PNG: the drawing as pixels, painted by matplotlib, which the extra [viz] brings.

Comes in: a `Drawing`. Goes out: the file's bytes; the same drawing and matplotlib give the same bytes. Two pixels for
each of the drawing's keep text sharp; what would become larger than `MOST_PIXELS`, or than `LONGEST` on a side, is
drawn smaller. matplotlib's own settings play no part, and no window is opened.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from ..errors import MissingPackageError
from .drawing import Drawing, Group, Shape, Text
from .palette import colour
from .text import columns

SHARPNESS = 2.0
MOST_PIXELS = 80e6
LONGEST = 16_000
POINTS = 72.0
"""Of matplotlib's, in an inch: sizes are given in points, so that at this resolution they are pixels."""
ADVANCE = 0.602
"""The width of a character of size 1."""
MARKS, TITLES, TEXT = 3, 2, 4
"""Layers, above kernels (0) and lines (1)."""
FONTS = ["DejaVu Sans Mono", "DejaVu Sans"]
"""Both come with matplotlib; the second has what the first lacks."""


def render_png(drawing: Drawing, theme: str = "auto") -> bytes:
    """The file. A picture cannot follow its reader's setting: "auto" is light."""
    try:
        from matplotlib import rc_context, rcdefaults
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingPackageError(f'PNG needs matplotlib: pip install "staticgraph[viz]"   ({error})') from None
    theme = "light" if theme == "auto" else theme
    scale = min(SHARPNESS, (MOST_PIXELS / (drawing.width * drawing.height)) ** 0.5,
                LONGEST / max(drawing.width, drawing.height))
    file = io.BytesIO()
    with rc_context():
        rcdefaults()
        figure = Figure((drawing.width / POINTS, drawing.height / POINTS), dpi=POINTS * scale,
                        facecolor=colour("paper", theme))
        canvas = FigureCanvasAgg(figure)
        _Painter(figure, drawing.height, theme).paint(drawing.items)
        canvas.print_png(file, metadata={"Title": drawing.title, "Software": "staticgraph"},
                         pil_kwargs={"compress_level": 4})
    return file.getvalue()


def _flat(items: Iterable[Group | Shape | Text]) -> Iterator[tuple[int, Shape | Text]]:
    """Every shape and text with its layer. Within a layer nothing covers anything else."""
    for item in items:
        if isinstance(item, Group):
            for each in item.items:
                yield (TEXT if isinstance(each, Text) else {"kernel": 0, "path": 1}.get(item.kind, MARKS)), each
        else:
            yield (TITLES if item.halo else TEXT) if isinstance(item, Text) else 1, item


class _Painter:
    """Paints on a figure whose axis leads upwards. What has one style is painted at once, which is a hundred times
    faster than one thing after another; so texts are painted as outlines of their characters."""

    def __init__(self, figure: Any, height: float, theme: str) -> None:
        from matplotlib.transforms import Affine2D

        self.figure = figure
        self.height = height
        self.theme = theme
        self.place = Affine2D().scale(1 / POINTS) + figure.dpi_scale_trans
        self.glyphs: dict[tuple[str, bool], Any] = {}

    def paint(self, items: Iterable[Group | Shape | Text]) -> None:
        found: dict[tuple[int, object], list[Shape | Text]] = {}
        for layer, item in _flat(items):
            found.setdefault((layer, _style(item)), []).append(item)
        for layer, style in sorted(found, key=lambda key: key[0]):
            alike = found[layer, style]
            self._texts([each for each in alike if isinstance(each, Text)])
            self._shapes([each for each in alike if isinstance(each, Shape)])

    def _add(self, paths: list[Any], **how: Any) -> None:
        from matplotlib.collections import PathCollection

        self.figure.add_artist(PathCollection(paths, transform=self.place, zorder=len(self.figure.artists), **how))

    def _shapes(self, shapes: list[Shape]) -> None:
        if not shapes:
            return
        first = shapes[0]
        fill = (*_channels(colour(first.fill, self.theme)), first.tint) if first.fill else "none"
        edge = colour(first.stroke, self.theme) if first.stroke else "none"
        dashes = (0.0, tuple(each / first.thickness for each in first.dash)) if first.dash else "solid"
        self._add([self._path(shape) for shape in shapes], facecolors=[fill], edgecolors=[edge],
                  linewidths=[first.thickness], linestyles=[dashes], capstyle="butt")

    def _path(self, shape: Shape) -> Any:
        from matplotlib.path import Path

        points, codes = [shape.start], [Path.MOVETO]
        for piece in shape.pieces:
            points.extend(piece)
            codes.extend([Path.LINETO] if len(piece) == 1 else [Path.CURVE4] * 3)
        if shape.closed:
            points.append(shape.start)
            codes.append(Path.CLOSEPOLY)
        return Path([(x, self.height - y) for x, y in points], codes)

    def _texts(self, texts: list[Text]) -> None:
        if not texts:
            return
        paths = [path for path in map(self._outlines, texts) if path is not None]
        if texts[0].halo:
            paper = colour("paper", self.theme)
            self._add(paths, facecolors=[paper], edgecolors=[paper], linewidths=[4.0], joinstyle="round")
        self._add(paths, facecolors=[colour(texts[0].role, self.theme)], edgecolors=["none"])

    def _outlines(self, text: Text) -> Any:
        """All characters of a line as one path; None where there is nothing to see."""
        from matplotlib.path import Path

        advance = ADVANCE * text.size
        x = text.x - columns(text.text) * advance / 2 if text.middle else text.x
        vertices, codes = [], []
        for character in text.text:
            glyph = self._glyph(character, text.bold)
            vertices.append(glyph.vertices * text.size + (x, self.height - text.y))
            codes.append(glyph.codes)
            x += columns(character) * advance
        if not any(len(each) for each in vertices):
            return None
        return Path(np.concatenate(vertices), np.concatenate(codes))

    def _glyph(self, character: str, bold: bool) -> Any:
        """The outline of a character, 1 pixel large. Sentences with $ are no formulas: characters come one by one."""
        from matplotlib.font_manager import FontProperties
        from matplotlib.path import Path
        from matplotlib.textpath import TextPath

        if (character, bold) not in self.glyphs and character.isspace():
            self.glyphs[character, bold] = Path(np.zeros((0, 2)), np.zeros(0, Path.code_type))
        elif (character, bold) not in self.glyphs:
            font = FontProperties(family=FONTS, weight="bold" if bold else "normal", style="normal")
            with warnings.catch_warnings():     # what the fonts do not have is shown as a box
                warnings.simplefilter("ignore")
                path = TextPath((0, 0), character if character.isprintable() else "\ufffd", 100.0, prop=font)
            self.glyphs[character, bold] = Path(np.asarray(path.vertices) / 100.0, path.codes)
        return self.glyphs[character, bold]


def _style(item: Shape | Text) -> object:
    if isinstance(item, Text):
        return (item.role, item.size, item.halo)
    return (item.fill, item.stroke, item.thickness, item.dash, item.tint)


def _channels(text: str) -> tuple[float, float, float]:
    """Red, green and blue of #rrggbb, from 0 to 1."""
    red, green, blue = (int(text[at:at + 2], 16) / 255 for at in (1, 3, 5))
    return red, green, blue
