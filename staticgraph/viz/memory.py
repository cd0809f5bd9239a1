"""The picture of a memory plan: buffers as boxes over steps, each at its place in the arena, with the peak marked.

Comes in: a `MemoryPlan`. Goes out: one self-contained SVG document, the same bytes for the same plan. Above is how much
of the arena is in use at each step; below are the buffers, then who holds the peak, by buffer and by line of yours.

The scale of places is stretched where buffers are small, so that each can be seen and read; its marks say the bytes.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

from ..errors import ArgumentError
from .export import write_whole
from .memory_plan import MemoryPlan, PlannedBuffer, memory_plan
from .palette import colour
from .svg import FONT
from .text import clip, columns, escape, one_line

__all__ = ["MemoryPlan", "PlannedBuffer", "export_memory", "memory_plan", "render_memory_svg"]

OWN = {
    "rule": ("#d5dbe1", "#38424d"), "peak": ("#c2552d", "#ef8354"), "held": ("#ffe5d6", "#4a2e20"),
    "area": ("#8fb2d9", "#3f6d9c"), "value": ("#dbe9f8", "#20364d"), "value-edge": ("#6d9bcb", "#4f82b5"),
    "result": ("#d3f5dc", "#1d4229"), "result-edge": ("#2e9d52", "#56b878"), "workspace": ("#ebe2f8", "#3a2d50"),
    "workspace-edge": ("#8a5fc0", "#a987dd"),
}
COLOURS = {theme: {**{role: colour(role, theme) for role in ("paper", "ink", "quiet")},
                   **{role: both[theme == "dark"] for role, both in OWN.items()}} for theme in ("light", "dark")}
"""Paper and ink are those of other pictures."""

THEMES = (*COLOURS, "auto")
ROLES = {"value": "value", "result": "copied to the caller", "workspace": "workspace of one step"}

MARGIN, LEFT, RIGHT = 20.0, 96.0, 24.0
PLOT, NARROWEST, COLUMN_LEAST, COLUMN_MOST = 1000.0, 720.0, 3.0, 90.0
USE_HEIGHT, PLACE_HEIGHT = 80.0, 380.0
READABLE, VISIBLE, MANY = 15.0, 4.0, 72
"""The least height of a place: for a text where there are few, else for a box."""

LETTER = 0.605     # of the font's size, in this font
HOLDERS_SHOWN = 10


def export_memory(obj: Any, path: str | os.PathLike[str], theme: str = "auto", *,
                  sizes: Mapping[str, int] | None = None) -> None:
    """Write the memory plan of an executable or a compilation to `path`, which ends in .svg. theme: "light", "dark", or
    "auto" for what the reader's system asks for. sizes: of which symbolic sizes the plan is, as of `memory_plan`.

    >>> sg.viz.export_memory(step, "plan.svg", sizes={"batch": 256})
    """
    target = Path(path)
    if target.suffix.lower() != ".svg":
        raise ArgumentError(f"cannot export to '{target.name}': the picture of a memory plan is an .svg")
    write_whole(target, render_memory_svg(memory_plan(obj, sizes), theme))


def render_memory_svg(plan: MemoryPlan, theme: str = "light") -> str:
    """The document. "light" and "dark" have colours of their own; "auto" follows the data-theme of the page that it is
    put into, else what the system asks for."""
    if theme not in THEMES:
        raise ArgumentError(f"there is no theme '{theme}'; themes are {', '.join(THEMES)}")
    return _Picture(plan, theme).render()


def bytes_text(nbytes: int) -> str:
    """1,536 bytes is 1.54 kB."""
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if nbytes >= factor:
            value = nbytes / factor
            return f"{value:.{2 if value < 10 else 1 if value < 100 else 0}f} {unit}"
    return f"{nbytes} B"


def _n(value: float) -> str:
    text = f"{value:.1f}"
    return "0" if text == "-0.0" else text.removesuffix(".0")


@dataclass
class _Places:
    """Where bytes of the arena are in the picture: every place that is used is high enough to be seen."""

    bounds: list[int]
    heights: list[float] = field(default_factory=list)

    def __init__(self, buffers: Sequence[PlannedBuffer]) -> None:
        self.bounds = sorted({0, *(each.offset for each in buffers), *(each.offset + each.nbytes for each in buffers)})
        least = READABLE if len(self.bounds) <= MANY else VISIBLE
        used = [False] * len(self.bounds)
        at = {bound: number for number, bound in enumerate(self.bounds)}
        for each in buffers:
            for number in range(at[each.offset], at[each.offset + each.nbytes]):
                used[number] = True
        whole = max(self.bounds[-1], 1)
        self.heights = [0.0]
        for number, (low, high) in enumerate(pairwise(self.bounds)):
            height = max(PLACE_HEIGHT * (high - low) / whole, least if used[number] else 0.0)
            self.heights.append(self.heights[-1] + height)
        self._at = at

    def height_of(self, place: int) -> float:
        return self.heights[self._at[place]]

    @property
    def total(self) -> float:
        return self.heights[-1]

    def ticks(self) -> Iterator[tuple[int, float]]:
        """(bytes, height) of marks that do not touch each other, the first and the last among them."""
        last = -20.0
        for bound, height in zip(self.bounds, self.heights):
            ends = bound == self.bounds[-1]
            if ends or (height - last >= 14 and self.total - height >= 14):
                yield bound, height
                last = height


class _Picture:
    """Draws one plan."""

    def __init__(self, plan: MemoryPlan, theme: str) -> None:
        self.plan, self.theme = plan, theme
        self.buffers = [each for each in plan.arena if each.nbytes and each.touched]
        self.places = _Places(self.buffers)
        count = max(len(plan.steps), 1)
        self.column = min(max(PLOT / count, COLUMN_LEAST), COLUMN_MOST)
        self.width = max(LEFT + self.column * count + RIGHT + MARGIN, NARROWEST)
        self.drawn = {each.index: life for each, life in zip(self.buffers, _lives(self.buffers))}
        self.holding = {each.index for each in plan.holders()}

    def render(self) -> str:
        head, top = self._head()
        below_use = top + USE_HEIGHT
        places_top = below_use + 14
        foot = places_top + self.places.total
        table, bottom = self._holders(foot + 58)
        style = _style(self.theme)
        body = [*head]
        if self.buffers:
            body += [*self._band(top, foot), *self._use(top), *self._axis(places_top),
                     *(self._box(each, places_top) for each in self.buffers), *self._steps(top, foot), *table]
        else:
            bottom = top + 30
            body.append(self._text(MARGIN, top + 10, "nothing is kept between steps: no arena", 12, "quiet"))
        return "\n".join([
            f'<svg xmlns="http://www.w3.org/2000/svg" class="sgm sgm-{self.theme}" width="{_n(self.width)}" '
            f'height="{_n(bottom + MARGIN)}" viewBox="0 0 {_n(self.width)} {_n(bottom + MARGIN)}" role="img" '
            f'font-family="{FONT}">', f"<title>{escape(self._headline())}</title>", f"<style>{style}</style>",
            '<rect class="sgm-paper" width="100%" height="100%"/>', *body, "</svg>"]) + "\n"

    def _x(self, step: float) -> float:
        return LEFT + self.column * step

    def _headline(self) -> str:
        plan = self.plan
        if not self.buffers:
            return f"memory plan: {len(plan.steps)} steps, no arena"
        return (f"memory plan: {len(self.buffers)} buffers in an arena of {bytes_text(plan.totals['arena'])}, "
                f"{len(plan.steps)} steps")

    def _head(self) -> tuple[list[str], float]:
        """Headline, sizes, what lies outside of the arena, the legend; where the plot begins."""
        plan, y = self.plan, MARGIN + 10
        lines = [self._text(MARGIN, y, self._headline(), 14, "ink", bold=True)]
        sizes = ", ".join(f"{name} = {size}{' (assumed)' if name in plan.assumed else ''}"
                          for name, size in plan.sizes.items())
        outside = ", ".join(f"{name} {bytes_text(plan.totals[name])}"
                            for name in ("inputs", "outputs", "variables", "constants") if plan.totals[name])
        for text in filter(None, (f"sizes: {sizes}" if sizes else "",
                                  f"beside the arena, through the whole call: {outside}" if outside else "")):
            y += 18
            lines.append(self._text(MARGIN, y, clip(one_line(text), int((self.width - 2 * MARGIN) / 11 / LETTER)), 11,
                                    "quiet"))
        y += 22
        x = MARGIN
        for role in [role for role in ROLES if any(each.role == role for each in self.buffers)]:
            lines.append(f'<rect class="sgm-{role}" x="{_n(x)}" y="{_n(y - 9)}" width="18" height="11" rx="2"/>')
            lines.append(self._text(x + 24, y, ROLES[role], 11, "ink"))
            x += 24 + len(ROLES[role]) * 11 * LETTER + 22
        if self.holding:
            lines.append(f'<rect class="sgm-held" x="{_n(x)}" y="{_n(y - 9)}" width="18" height="11" rx="2"/>')
            lines.append(self._text(x + 24, y, "held at the peak", 11, "ink"))
        return lines, y + 34

    def _band(self, top: float, foot: float) -> Iterator[str]:
        """The peak's step through both plots."""
        yield (f'<rect class="sgm-band" x="{_n(self._x(self.plan.peak_step))}" y="{_n(top - 6)}" '
               f'width="{_n(max(self.column, 2))}" height="{_n(foot - top + 6)}"/>')

    def _use(self, top: float) -> Iterator[str]:
        """How much is in use at each step, and the peak's name."""
        plan, base = self.plan, top + USE_HEIGHT
        most = max(plan.peak, 1)
        points = [f"M{_n(self._x(0))} {_n(base)}"]
        for number, held in enumerate(plan.held):
            points.append(f"V{_n(base - USE_HEIGHT * held / most)}H{_n(self._x(number + 1))}")
        yield f'<path class="sgm-area" d="{"".join(points)}V{_n(base)}z"/>'
        for share in (0.0, 0.5, 1.0):
            y = base - USE_HEIGHT * share
            yield self._rule(y)
            yield self._text(LEFT - 8, y + 4, bytes_text(round(most * share)), 10, "quiet", anchor="end")
        text = f"peak {bytes_text(plan.peak)} at step {plan.peak_step}"
        room = len(text) * 11 * LETTER
        x = min(self._x(plan.peak_step + 0.5), self.width - RIGHT - room / 2)
        yield self._text(max(x, LEFT + room / 2), top - 11, text, 11, "peak", anchor="middle", bold=True)

    def _axis(self, top: float) -> Iterator[str]:
        for nbytes, height in self.places.ticks():
            yield self._rule(top + height)
            yield self._text(LEFT - 8, top + height + 4, bytes_text(nbytes), 10, "quiet", anchor="end")
        middle = top + self.places.total / 2
        yield (f'<text class="sgm-quiet" font-size="11" text-anchor="middle" transform="translate({_n(MARGIN - 4)} '
               f'{_n(middle)}) rotate(-90)">place in the arena</text>')

    def _rule(self, y: float) -> str:
        return f'<path class="sgm-rule" d="M{_n(LEFT)} {_n(y)}H{_n(self._x(len(self.plan.steps)))}"/>'

    def _box(self, buffer: PlannedBuffer, top: float) -> str:
        first, last = self.drawn[buffer.index]
        x, width = self._x(first), self.column * (last - first + 1)
        y = top + self.places.height_of(buffer.offset)
        height = top + self.places.height_of(buffer.offset + buffer.nbytes) - y
        kind = buffer.role + " sgm-held" * (buffer.index in self.holding) + " sgm-thin" * (min(width, height) < 8)
        gap = 0.5 if min(width, height) < 6 else 1.0
        return (f'<g data-buffer="{buffer.index}"><title>{escape(_tooltip(self.plan, buffer))}</title>'
                f'<rect class="sgm-{kind}" x="{_n(x + gap)}" y="{_n(y + gap)}" '
                f'width="{_n(max(width - 2 * gap, 0.8))}" height="{_n(max(height - 2 * gap, 0.8))}" rx="2"/>'
                f"{self._label(buffer, x, y, width, height)}</g>")

    def _label(self, buffer: PlannedBuffer, x: float, y: float, width: float, height: float) -> str:
        """As much of name, bytes and type as there is room for."""
        fit = int((width - 8) / (10 * LETTER))
        if height < 12 or fit < 3:
            return ""
        name, size = one_line(buffer.name), bytes_text(buffer.nbytes)
        two = height >= 28
        long = () if two else (f"{name} · {size} · {buffer.type}", f"{name} · {size}")
        first = next((text for text in (*long, name) if columns(text) <= fit), clip(name, fit))
        middle = y + height / 2 + (-2 if two else 3.5)
        label = self._text(x + 4, middle, first, 10, "ink")
        if two:
            second = next((text for text in (f"{size} · {buffer.type}", size) if columns(text) <= fit), "")
            label += self._text(x + 4, middle + 12, second, 9, "quiet")
        return label

    def _steps(self, top: float, foot: float) -> Iterator[str]:
        """Numbers of steps, and what each is when pointed at."""
        every = next(every for every in (1, 2, 5, 10, 20, 50, 100, 200, 500, 10**9) if every * self.column >= 26)
        for number, step in enumerate(self.plan.steps):
            if number % every == 0:
                yield self._text(self._x(number + 0.5), foot + 16, str(number), 10, "quiet", anchor="middle")
            words = "\n".join([f"step {number}: {step.kernel}", step.title, *step.lines,
                               f"{self.plan.held[number]:,} bytes in use"])
            yield (f'<rect class="sgm-step" x="{_n(self._x(number))}" y="{_n(top)}" width="{_n(self.column)}" '
                   f'height="{_n(USE_HEIGHT)}"><title>{escape(words)}</title></rect>')
        yield self._text(LEFT, foot + 32, "step", 11, "quiet")

    def _holders(self, top: float) -> tuple[list[str], float]:
        """Two lists side by side, or one below the other where it is narrow; where they end."""
        plan = self.plan
        step = plan.steps[plan.peak_step] if plan.steps else None
        buffers = [(each.nbytes, f"{one_line(each.name)} · {each.type}", f"steps {each.first} to {each.last}")
                   for each in plan.holders()]
        lines = [(nbytes, one_line(line), "") for line, nbytes in plan.lines()]
        if step is None or not buffers:
            return [], top
        title = f"At the peak, step {plan.peak_step} ({step.kernel}):"
        out = [self._text(MARGIN, top, clip(title, int((self.width - 2 * MARGIN) / 12 / LETTER)), 12, "ink", bold=True)]
        half = (self.width - 3 * MARGIN) / 2
        left, left_end = self._list("buffer", buffers, MARGIN, top + 22, half)
        right, right_end = self._list("line (a buffer of several lines counts for each)", lines, 2 * MARGIN + half,
                                      top + 22, half)
        return [*out, *left, *right], max(left_end, right_end)

    def _list(self, title: str, rows: Sequence[tuple[int, str, str]], x: float, y: float,
              width: float) -> tuple[list[str], float]:
        out = [self._text(x, y, title, 11, "quiet")]
        fit = int((width - 170) / 11 / LETTER)
        for nbytes, name, more in rows[:HOLDERS_SHOWN]:
            y += 18
            share = nbytes / max(self.plan.peak, 1)
            text = f"{name} · {more}" if more and columns(name) + len(more) + 3 <= fit else name
            out.append(f'<rect class="sgm-area" x="{_n(x)}" y="{_n(y - 9)}" width="{_n(max(60 * min(share, 1), 1))}" '
                       f'height="11" rx="2"/>')
            out.append(self._text(x + 132, y, bytes_text(nbytes), 11, "ink", anchor="end"))
            out.append(self._text(x + 142, y, clip(text, max(fit, 8)), 11, "ink"))
        if len(rows) > HOLDERS_SHOWN:
            y += 18
            rest = sum(nbytes for nbytes, *_ in rows[HOLDERS_SHOWN:])
            out.append(self._text(x + 132, y, bytes_text(rest), 11, "quiet", anchor="end"))
            out.append(self._text(x + 142, y, f"{len(rows) - HOLDERS_SHOWN} more", 11, "quiet"))
        return out, y

    def _text(self, x: float, y: float, text: str, size: int, colour: str, *, anchor: str = "",
              bold: bool = False) -> str:
        where = f' text-anchor="{anchor}"' if anchor else ""
        weight = ' font-weight="bold"' if bold else ""
        return (f'<text class="sgm-{colour}" x="{_n(x)}" y="{_n(y)}" font-size="{size}"{where}{weight}>'
                f"{escape(text)}</text>")


def _lives(buffers: Sequence[PlannedBuffer]) -> Iterator[tuple[int, int]]:
    """The steps that each is drawn over: all that it is held in, but for two that take turns in one place inside of a
    chain only those that touch it."""
    for each in buffers:
        shares = any(other is not each and other.first <= each.last and each.first <= other.last
                     and other.offset < each.offset + each.nbytes and each.offset < other.offset + other.nbytes
                     for other in buffers)
        yield (each.touched[0], each.touched[-1]) if shares else (each.first, each.last)


def _tooltip(plan: MemoryPlan, buffer: PlannedBuffer) -> str:
    writer = plan.steps[buffer.touched[0]].kernel
    return "\n".join([
        f"{one_line(buffer.name)}: {buffer.type}, {buffer.nbytes:,} bytes at {buffer.offset:,}",
        f"{ROLES[buffer.role]}, held from step {buffer.first} to {buffer.last}, filled by {writer}", *buffer.lines])


def _style(theme: str) -> str:
    """Class names are this picture's own, for it may stand in a page with others."""
    root = f".sgm-{theme}"
    colours = {name: f"var(--sgm-{name})" for name in COLOURS["light"]} if theme == "auto" else COLOURS[theme]
    rules = [f"{root} text{{fill:{colours['ink']};text-rendering:geometricPrecision}}",
             f"{root} .sgm-paper{{fill:{colours['paper']}}}",
             f"{root} .sgm-area{{fill:{colours['area']}}}", f"{root} .sgm-step{{fill:transparent}}",
             f"{root} .sgm-band{{fill:{colours['peak']};opacity:.18}}",
             f"{root} .sgm-rule{{stroke:{colours['rule']};stroke-width:1;fill:none}}"]
    rules += [f"{root} text.sgm-{name}{{fill:{colours[name]}}}" for name in ("quiet", "peak")]
    rules += [f"{root} .sgm-{role}{{fill:{colours[role]};stroke:{colours[role + '-edge']};stroke-width:1}}"
              for role in ROLES]
    rules.append(f"{root} .sgm-held{{fill:{colours['held']};stroke:{colours['peak']};stroke-width:1.4}}"
                 f"{root} .sgm-thin{{stroke-width:.5}}")
    return "".join([*_variables(), *rules] if theme == "auto" else rules)


def _variables() -> Iterator[str]:
    """Light, unless the system or the page around asks for dark."""
    values = {theme: "".join(f"--sgm-{name}:{value};" for name, value in colours.items())
              for theme, colours in COLOURS.items()}
    yield f".sgm-auto{{{values['light']}}}"
    yield f"@media (prefers-color-scheme:dark){{.sgm-auto{{{values['dark']}}}}}"
    for theme, value in values.items():
        yield f"[data-theme={theme}] .sgm-auto{{{value}}}"
