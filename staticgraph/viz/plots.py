"""Plots as inline SVG: bars of ratios and of times, and the roofline. Numbers in, markup out; colours are the page's.

A bar is a picture of its own, one line high, whose lengths are percentages: it fits into any width and its text keeps
its size on a phone, and lines can be shown and hidden one by one. Scales are logarithmic: twice as fast and half as
fast are the same distance from 1.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from ..runtime.figures import digits, seconds

LEAST_RATIO, MOST_RATIO = 0.25, 64.0
BAR_HEIGHT = 18


def ratio_place(ratio: float) -> float:
    """Where a ratio lies on the scale, in percent of the width; what is beyond the scale lies at its end."""
    inside = min(max(ratio, LEAST_RATIO), MOST_RATIO)
    return 100 * math.log(inside / LEAST_RATIO) / math.log(MOST_RATIO / LEAST_RATIO)


def ratio_bar(ratio: float, wanted: float = 0.0, title: str = "") -> str:
    """A bar from 1 to a ratio, with a mark at the figure to reach."""
    one, end = ratio_place(1.0), ratio_place(ratio)
    kind = "ahead" if ratio >= 1 else "behind"
    mark = (f'<line class="wanted" x1="{ratio_place(wanted):.2f}%" x2="{ratio_place(wanted):.2f}%" y1="0" '
            f'y2="{BAR_HEIGHT}"/>' if wanted else "")
    text = f"{digits(ratio)}×"
    inside = end > 85
    anchor = f'x="{end:.2f}%" dx="{-5 if inside else 5}" text-anchor="{"end" if inside else "start"}"'
    if ratio < 1:
        anchor = f'x="{one:.2f}%" dx="5" text-anchor="start"'
    return (f'<svg class="bar" role="img" aria-label="{escape(title or text)}" height="{BAR_HEIGHT}">'
            f"<title>{escape(title or text)}</title>"
            f'<rect class="{kind}" x="{min(one, end):.2f}%" width="{max(abs(end - one), 0.3):.2f}%" y="3" '
            f'height="{BAR_HEIGHT - 6}" rx="2"/>'
            f'<line class="one" x1="{one:.2f}%" x2="{one:.2f}%" y1="0" y2="{BAR_HEIGHT}"/>{mark}'
            f'<text class="{"on" if inside else "beside"}" {anchor} y="{BAR_HEIGHT - 5}">{text}</text></svg>')


def ratio_scale() -> str:
    """The marks of the scale, to stand above bars."""
    marks = "".join(f'<text x="{ratio_place(value):.2f}%" y="11" text-anchor="{anchor}">{value:g}×</text>'
                    for value, anchor in ((0.25, "start"), (0.5, "middle"), (1, "middle"), (2, "middle"), (4, "middle"),
                                          (8, "middle"), (16, "middle"), (32, "middle"), (64, "end")))
    return f'<svg class="bar scale" aria-hidden="true" height="14">{marks}</svg>'


def time_bar(value: float, most: float, kind: str, title: str) -> str:
    """A bar as long as its share of the longest time."""
    width = 100 * value / most if most else 0.0
    inside = width > 80
    return (f'<svg class="bar" role="img" aria-label="{escape(title)}" height="{BAR_HEIGHT}">'
            f"<title>{escape(title)}</title>"
            f'<rect class="{kind}" x="0" width="{max(width, 0.3):.2f}%" y="3" height="{BAR_HEIGHT - 6}" rx="2"/>'
            f'<text class="{"on" if inside else "beside"}" x="{width:.2f}%" dx="{-5 if inside else 5}" '
            f'text-anchor="{"end" if inside else "start"}" y="{BAR_HEIGHT - 5}">{seconds(value)}</text></svg>')


@dataclass(frozen=True)
class Point:
    """A mark on the roofline: operations for each byte, and GFlop/s. `suite` is the number of its colour; a label
    stands beside it."""

    name: str
    intensity: float
    gflop_s: float
    suite: int
    radius: float = 5.0
    label: str = ""


WIDTH, HEIGHT = 640, 380
LEFT, RIGHT, TOP, BOTTOM = 52, 14, 12, 44
DECADES = (-2.0, 3.0)     # of operations a byte


def roofline(points: Sequence[Point], copy_gb_s: float, fma_gflop_s: float, name: str = "Roofline of all cases") -> str:
    """Points below two roofs: what memory can feed, and what the arithmetic can do. Empty without points."""
    points = [point for point in points if point.intensity > 0 and point.gflop_s > 0]
    if not points or copy_gb_s <= 0 or fma_gflop_s <= 0:
        return ""
    top = math.ceil(math.log10(max(fma_gflop_s, *(point.gflop_s for point in points))) + 0.05)
    bottom = min(-1.0, math.floor(math.log10(min(point.gflop_s for point in points))))
    bottom = max(bottom, top - 7.0)

    def x(value: float) -> float:
        at = min(max(math.log10(value), DECADES[0]), DECADES[1])
        return LEFT + (WIDTH - LEFT - RIGHT) * (at - DECADES[0]) / (DECADES[1] - DECADES[0])

    def y(value: float) -> float:
        at = min(max(math.log10(value), bottom), top)
        return TOP + (HEIGHT - TOP - BOTTOM) * (top - at) / (top - bottom)

    ridge, start = fma_gflop_s / copy_gb_s, max(10 ** DECADES[0], 10**bottom / copy_gb_s)
    roof = (f'<polyline class="roof" points="{x(start):.1f},{y(start * copy_gb_s):.1f} {x(ridge):.1f},'
            f'{y(fma_gflop_s):.1f} {x(10 ** DECADES[1]):.1f},{y(fma_gflop_s):.1f}"/>')
    marks = "".join(
        f'<circle class="suite{point.suite}" cx="{x(point.intensity):.1f}" cy="{y(point.gflop_s):.1f}" '
        f'r="{point.radius:g}"><title>'
        f"{escape(point.name)}: {digits(point.gflop_s)} GFlop/s, {digits(point.intensity)} operations a byte</title>"
        "</circle>" for point in points)
    marks += "".join(_point_label(point, x(point.intensity), y(point.gflop_s)) for point in points)
    return (f'<svg class="roofline" role="img" aria-label="{escape(name)}" viewBox="0 0 {WIDTH} {HEIGHT}">'
            f"{_grid(x, y, bottom, top)}{roof}{marks}</svg>")


def _point_label(point: Point, x: float, y: float) -> str:
    """On the side where there is room."""
    if not point.label:
        return ""
    left = x > WIDTH * 0.6
    return (f'<text class="beside" x="{x + (-1 if left else 1) * (point.radius + 4):.1f}" y="{y + 4:.1f}" '
            f'text-anchor="{"end" if left else "start"}">{escape(point.label)}</text>')


def _grid(x: object, y: object, bottom: float, top: float) -> str:
    """Lines at powers of ten with their numbers, and the names of the axes."""
    assert callable(x) and callable(y)
    across = "".join(
        f'<line class="grid" x1="{x(10.0**k):.1f}" x2="{x(10.0**k):.1f}" y1="{TOP}" y2="{HEIGHT - BOTTOM}"/>'
        f'<text x="{x(10.0**k):.1f}" y="{HEIGHT - BOTTOM + 16}" text-anchor="middle">{10.0**k:g}</text>'
        for k in range(int(DECADES[0]), int(DECADES[1]) + 1))
    up = "".join(
        f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y(10.0**k):.1f}" y2="{y(10.0**k):.1f}"/>'
        f'<text x="{LEFT - 6}" y="{y(10.0**k) + 4:.1f}" text-anchor="end">{10.0**k:g}</text>'
        for k in range(int(bottom), int(top) + 1))
    names = (f'<text x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 8}" text-anchor="middle">operations for each byte '
             f'of inputs and results</text><text transform="translate(13 {(TOP + HEIGHT - BOTTOM) / 2}) rotate(-90)" '
             'text-anchor="middle">GFlop/s</text>')
    return across + up + names


PAPER, INK, QUIET, LINE, AHEAD, BEHIND = "#ffffff", "#1b1f24", "#5b6470", "#d5dbe1", "#2f74b8", "#c2552d"
ROW, NAMES, PLOT, MARGIN = 17.0, 250.0, 470.0, 16.0


def overview(rows: Sequence[tuple[str, str, float, str, bool | None]], title: str) -> str:
    """One picture of a whole run as a file of its own: for each (suite, case, ratio, best peer, figure reached) a bar
    from 1 to how many times as long the best peer takes. White background, colours of its own."""
    lines, y, suite = [], MARGIN + 44, ""

    def x(ratio: float) -> float:
        return NAMES + PLOT * ratio_place(ratio) / 100
    for group, case, ratio, peer, reached in rows:
        if group != suite:
            suite, y = group, y + 26
            lines.append(f'<text x="{MARGIN}" y="{y - 5:.0f}" font-weight="bold" fill="{INK}">{escape(group)}</text>')
        start, end = sorted((x(1.0), x(ratio)))
        sign = "" if reached is None else "\u2713 " if reached else "\u2717 "
        lines.append(
            f'<text x="{MARGIN + 8}" y="{y + 11:.0f}" fill="{INK}">{escape(case)}</text>'
            f'<rect x="{start:.1f}" y="{y + 2:.0f}" width="{max(end - start, 1):.1f}" height="{ROW - 5:.0f}" rx="2" '
            f'fill="{AHEAD if ratio >= 1 else BEHIND}"/><text x="{max(x(1.0), x(ratio)) + 5:.1f}" y="{y + 11:.0f}" '
            f'fill="{QUIET}">{sign}{digits(ratio)}\u00d7 {escape(peer)}</text>')
        y += ROW
    height, width = y + MARGIN, NAMES + PLOT + 150
    scale = "".join(
        f'<line x1="{x(value):.1f}" x2="{x(value):.1f}" y1="{MARGIN + 44:.0f}" y2="{y:.0f}" '
        f'stroke="{QUIET if value == 1 else LINE}"/><text x="{x(value):.1f}" y="{MARGIN + 38:.0f}" '
        f'text-anchor="middle" fill="{QUIET}">{value:g}\u00d7</text>' for value in (0.25, 0.5, 1, 2, 4, 8, 16, 32, 64))
    return (f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="{height:.0f}" role="img" '
            f'viewBox="0 0 {width:.0f} {height:.0f}" font-family="system-ui, sans-serif" font-size="11">'
            f'<title>{escape(title)}</title><rect width="100%" height="100%" fill="{PAPER}"/>'
            f'<text x="{MARGIN}" y="{MARGIN + 8:.0f}" font-size="13" font-weight="bold" fill="{INK}">{escape(title)}'
            f"</text>{scale}{''.join(lines)}</svg>\n")
