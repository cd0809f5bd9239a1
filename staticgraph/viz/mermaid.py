"""Mermaid: a flowchart for pages that draw it themselves (GitHub, GitLab, many documentation tools).

Comes in: a `Display`. Goes out: text. Labels stand in quotes; whatever could mean something to Mermaid, to Markdown or
to HTML in them is written as the number of its character (``#60;``). Outlines and colours are those of other pictures.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from .marks import Display, Mark
from .palette import colour, fill_of, hue

MOST_EDGES, MOST_TEXT = 500, 50_000
"""What Mermaid draws unless its page allows more."""

OUTLINES = {"input": ("([", "])"), "variable": ("[(", ")]"), "output": ("([", "])"), "update": ("([", "])"),
            "jump": ("(", ")")}
PARTS = {"backward": ("{{", "}}"), "update": ("[/", "/]"), "mixed": (">", "]")}
"""Of ops; everything else is a rectangle."""

_PLAIN = re.compile(r"[^A-Za-z0-9 .,:%()\[\]/_·…ᵀ⟳↧]|(?<=\d)\.(?= )|^ +| +$")


def render_mermaid(display: Display, title: str) -> str:
    """The flowchart."""
    body = [*_marks(display), *_arrows(display), *_colours(display)]
    head = ["---", f'title: "{label(title)}"', "---", "flowchart TB"]
    if len(display.arrows) > MOST_EDGES or sum(map(len, body)) + len(body) > MOST_TEXT - 1000:
        most = 10 ** len(str(sum(map(len, body)) + 2 * len(body)))
        head.append(f"%% Larger than Mermaid draws by itself: mermaid.initialize({{maxTextSize: {most}, "
                    f"maxEdges: {10 ** len(str(len(display.arrows)))}}})")
    return "\n".join([*head, *body]) + "\n"


def _marks(display: Display) -> Iterator[str]:
    by_kernel: dict[int, list[int]] = {}
    for number, mark in enumerate(display.marks):
        by_kernel.setdefault(mark.kernel, []).append(number)
    for kernel, numbers in sorted(by_kernel.items()):
        lines = [f"  m{number}{_mark(display.marks[number])}" for number in numbers]
        if kernel < 0:
            yield from lines
        else:
            yield f'  subgraph k{kernel}["{label(display.kernels[kernel])}"]'
            yield from ("  " + line for line in lines)
            yield "  end"


def _mark(mark: Mark) -> str:
    start, end = (PARTS.get(mark.part) if mark.role == "op" else OUTLINES.get(mark.role)) or ("[", "]")
    sign = "⟳ " if mark.role == "update" else ""
    text = "<br/>".join(label(line) for line in (sign + mark.label, *filter(None, mark.detail.split("\n"))))
    return f'{start}"{text}"{end}:::{fill_of(mark.role, mark.part)}'


def _arrows(display: Display) -> Iterator[str]:
    for arrow in display.arrows:
        line = "-.->" if arrow.folded else "-->"
        yield f"  m{arrow.source} {line}{f'|{arrow.order}|' if arrow.order else ''} m{arrow.target}"


def _colours(display: Display) -> Iterator[str]:
    for role in dict.fromkeys(fill_of(mark.role, mark.part) for mark in display.marks):
        dash = ",stroke-dasharray:3 2" if role == "jump" else ""
        yield (f"  classDef {role} fill:{colour(role, 'light')},stroke:{colour(f'{role} edge', 'light')},"
               f"color:{colour('ink', 'light')}{dash}")
    for kernel in sorted({mark.kernel for mark in display.marks} - {-1}):
        tint = colour(hue(kernel), "light")
        yield f"  style k{kernel} fill:{tint}17,stroke:{tint}"


def label(text: str) -> str:
    """The text for the inside of quotes."""
    return _PLAIN.sub(lambda found: "".join(f"#{_shown(each)};" for each in found[0]), text)


def _shown(character: str) -> int:
    """The number of a character, or of the replacement for those that HTML does not have."""
    number = ord(character)
    return 0xFFFD if number < 32 or 0xD800 <= number < 0xE000 or 0x7F <= number < 0xA0 else number
