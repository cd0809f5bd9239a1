"""Graphviz text: the marks and arrows of a display, one cluster for each kernel."""

from __future__ import annotations

import re
from collections.abc import Iterator

from .marks import Display, Mark
from .palette import colour, fill_of, hue

PART_SHAPES = {"": "box", "forward": "box", "backward": "hexagon", "update": "parallelogram", "mixed": "cds"}
ROLE_SHAPES = {"input": "ellipse", "variable": "box3d", "constant": "note", "buffer": "box", "output": "ellipse",
               "update": "ellipse", "jump": "plaintext"}
_CONTROL = re.compile("[\x00-\x1f\x7f\ud800-\udfff]")


def render_dot(display: Display) -> str:
    """The digraph."""
    lines = ["digraph staticgraph {", '  graph [rankdir=TB, fontname="monospace", compound=true];',
             '  node [fontname="monospace", fontsize=11, style=filled];', '  edge [color="#7b8694"];']
    by_kernel: dict[int, list[int]] = {}
    for number, mark in enumerate(display.marks):
        by_kernel.setdefault(mark.kernel, []).append(number)
    for kernel, numbers in sorted(by_kernel.items()):
        if kernel < 0:
            lines += [_mark(number, display.marks[number], "  ") for number in numbers]
        else:
            lines += _cluster(display, kernel, numbers)
    lines += _arrows(display)
    return "\n".join([*lines, "}"]) + "\n"


def _cluster(display: Display, kernel: int, numbers: list[int]) -> list[str]:
    border = colour(hue(kernel), "light")
    return [f"  subgraph cluster_{kernel} {{", f"    label={quoted(display.kernels[kernel])};",
            f'    style=filled; fillcolor="{border}17"; color="{border}";',
            *(_mark(number, display.marks[number], "    ") for number in numbers), "  }"]


def _mark(number: int, mark: Mark, indent: str) -> str:
    role = fill_of(mark.role, mark.part)
    shape = PART_SHAPES[mark.part] if mark.role == "op" else ROLE_SHAPES[mark.role]
    fill, border = colour(role, "light"), colour(f"{role} edge", "light")
    sign = "⟳ " if mark.role == "update" else ""
    label = sign + mark.label + ("\n" + mark.detail if mark.detail else "")
    return (f'{indent}m{number} [label={quoted(label)}, tooltip={quoted(mark.tooltip)}, shape={shape}, '
            f'fillcolor="{fill}", color="{border}"];')


def _arrows(display: Display) -> Iterator[str]:
    for arrow in display.arrows:
        attributes = [f'headlabel="{arrow.order}"'] if arrow.order else []
        if arrow.folded:
            attributes.append("style=dashed")
        told = "\n".join([display.marks[arrow.source].detail, *reversed(arrow.folded)]).strip()
        yield f"  m{arrow.source} -> m{arrow.target} [{', '.join([*attributes, f'tooltip={quoted(told)}'])}];"


def quoted(text: str) -> str:
    """A DOT string. Backslashes start escapes in labels, so they are doubled; newlines become line breaks."""
    text = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return '"' + _CONTROL.sub("\ufffd", text) + '"'
