"""export(): a graph into a file, in the format that its name asks for; and the same as strings, to_svg() and its like.

Every format is a function of (obj, stage, theme) and a row in `FORMATS`. Text is written as UTF-8, bytes as they are.
The theme ("auto", "light" or "dark") is for pictures, the others leave it aside.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ..errors import ArgumentError
from ..files import replacing
from .data import render_graphml, render_json
from .display import display
from .dot import render_dot
from .drawing import draw, headline
from .listing import render_text
from .mermaid import render_mermaid
from .model import collect
from .scene import arrange
from .svg import render_svg

THEMES = ("auto", "light", "dark")


def to_text(obj: Any, stage: str | None = None) -> str:
    """The graph as a table, one row a node. `obj` and `stage` as of `export`."""
    return render_text(collect(obj, stage))


def to_dot(obj: Any, stage: str | None = None) -> str:
    """The picture as text for Graphviz. `obj` and `stage` as of `export`."""
    return render_dot(display(collect(obj, stage)))


def to_mermaid(obj: Any, stage: str | None = None) -> str:
    """The picture as a Mermaid flowchart. `obj` and `stage` as of `export`."""
    model = collect(obj, stage)
    return render_mermaid(display(model), headline(model))


def to_json(obj: Any, stage: str | None = None) -> str:
    """The graph as JSON, in networkx's node-link form. `obj` and `stage` as of `export`."""
    return render_json(collect(obj, stage))


def to_graphml(obj: Any, stage: str | None = None) -> str:
    """The graph as GraphML. `obj` and `stage` as of `export`."""
    return render_graphml(collect(obj, stage))


def to_svg(obj: Any, stage: str | None = None, *, theme: str = "auto") -> str:
    """The picture as SVG. `obj`, `stage` and `theme` as of `export`."""
    model = collect(obj, stage)
    return render_svg(draw(model, arrange(display(model))), theme)


def to_png(obj: Any, stage: str | None = None, *, theme: str = "auto") -> bytes:
    """The picture as PNG, which needs matplotlib (the extra [viz]). `obj`, `stage` and `theme` as of `export`."""
    from .png import render_png

    model = collect(obj, stage)
    return render_png(draw(model, arrange(display(model))), theme)


def to_html(obj: Any, stage: str | None = None, *, theme: str = "auto", title: str = "") -> str:
    """The explorer: one page with all stages, the kernels, the rewrite history and the memory plan, which opens at
    `stage`. `obj` and `theme` as of `export`; without a title it is called after its outputs."""
    from .page import render_page

    return render_page(obj, stage, title=title, theme=theme)


Renderer = Callable[[Any, str | None, str], str | bytes]

FORMATS: dict[str, Renderer] = {
    ".txt": lambda obj, stage, _: to_text(obj, stage),
    ".dot": lambda obj, stage, _: to_dot(obj, stage),
    ".mmd": lambda obj, stage, _: to_mermaid(obj, stage),
    ".svg": lambda obj, stage, theme: to_svg(obj, stage, theme=theme),
    ".png": lambda obj, stage, theme: to_png(obj, stage, theme=theme),
    ".json": lambda obj, stage, _: to_json(obj, stage),
    ".graphml": lambda obj, stage, _: to_graphml(obj, stage),
    ".html": lambda obj, stage, theme: to_html(obj, stage, theme=theme),
}
"""What each suffix means: (obj, stage, theme) -> the file's content. What is heavy is imported inside of a renderer."""


def export(obj: Any, path: str | os.PathLike[str], stage: str | None = None, *, theme: str = "auto") -> None:
    """Write the graph of `obj` to `path`; the suffix says how: .txt, .dot, .mmd (Mermaid), .svg, .png, .json, .graphml
    or .html.

    obj: a tensor, a list, tuple or dict of tensors, an Executable, or a Compilation.
    stage: "tensor" shows the graph as it was built, "primitive" after all passes, "fused" with the kernel that computes
    each node, "program" the steps and the buffers between them. Without it: "fused" for what has been compiled,
    "tensor" for tensors.
    theme: colours of pictures. "auto" follows the reader's light or dark setting where the format can, and
    is light elsewhere.

    The file appears under its name only when it is complete. Raises ArgumentError for anything else than a graph, for
    an unknown suffix, stage or theme; MissingPackageError for .png without matplotlib; OSError where the file cannot be
    written.
    """
    target = Path(path)
    write_whole(target, rendered(obj, target.suffix.lower(), stage, theme, f"export to '{target.name}': its suffix"))


def rendered(obj: Any, suffix: str, stage: str | None, theme: str, what: str) -> str | bytes:
    """The content of a file with this suffix; `what` begins the message where there is no such format."""
    if suffix not in FORMATS:
        raise ArgumentError(f"cannot {what} is not one of {', '.join(FORMATS)}")
    _check_theme(theme)
    return FORMATS[suffix](obj, stage, theme)


def export_diff(a: Any, b: Any, path: str | os.PathLike[str], *, names: Sequence[str] = ("first", "second"),
                theme: str = "auto") -> None:
    """Write what differs between two compiles to `path`, which ends in .html: both graphs as one, with what came, went
    and changed; the kernels line by line; passes, options and memory. `diff` is the same as data.

    a, b: executables, compilations, or tensors (one, or a list, tuple or dict of them), which are compiled for this.
    names: what the page calls them. theme: as of `export`.

    >>> sg.viz.export_diff(sg.compile(x, y), sg.compile(x, y, options={"stabilise": False}), "diff.html")
    """
    target = Path(path)
    if target.suffix.lower() != ".html":
        raise ArgumentError(f"cannot export to '{target.name}': what differs is shown by an .html")
    _check_theme(theme)
    from .page import render_comparison

    write_whole(target, render_comparison(a, b, names=names, theme=theme))


def _check_theme(theme: str) -> None:
    if theme not in THEMES:
        raise ArgumentError(f"there is no theme '{theme}'; themes are {', '.join(THEMES)}")


def write_whole(target: Path, content: str | bytes) -> None:
    """Write a file that appears, or takes another one's place, when it is complete."""
    with replacing(target) as file:
        file.write(content.encode("utf-8", errors="replace") if isinstance(content, str) else content)
