"""The page: data, scripts and style sheet in one file that needs no network and no other file.

The policy in the page names each script and style sheet by its hash and forbids everything else, so nothing that
somebody put into a name, a path or a source text can run or load anything. Data are JSON in an element of their own, in
which `<` is written as an escape; the scripts put texts into the page as texts only.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from html import escape
from importlib import resources
from typing import Any

from ..difference import difference
from ..palette import COLOURS
from ..subject import find_subject
from .compare import comparison_data
from .gather import memory_figure, subject_data

SCRIPTS = ("dagre.min.js", "dom.js", "decode.js", "python.js", "groups.js", "place.js", "camera.js", "draw.js",
           "minimap.js", "details.js", "search.js", "graph.js", "history.js", "memory.js", "diff.js", "main.js")
"""In the order in which they run; each may use what those before it have put into `sgpage`."""
STYLE = "page.css"


def render_page(obj: Any, stage: str | None = None, *, title: str = "", theme: str = "auto") -> str:
    """The explorer of a tensor, of several tensors, of an Executable or of a Compilation; it opens at `stage`. With
    theme "auto" it follows the reader's setting until the switch in the page is used."""
    found = find_subject(obj)
    data = subject_data(found)
    title = title or ", ".join(name for name, _ in data["stages"][0]["outputs"])[:60]
    shown = [each["name"] for each in data["stages"]]
    start = stage or next(name for name in ("fused", "tensor") if name in shown)
    return document({"kind": "graph", "title": title, "theme": theme, "start": start, **data}, memory_figure(found))


def render_comparison(a: Any, b: Any, *, names: Sequence[str] = ("first", "second"), theme: str = "auto") -> str:
    """What differs between two of what `render_page` takes, by these names."""
    subjects = [find_subject(each) for each in (a, b)]
    data = comparison_data(difference(*subjects), subjects, names)
    return document({"title": f"{names[0]} → {names[1]}", "theme": theme, "start": "summary", **data})


def document(data: Mapping[str, Any], figure: str = "") -> str:
    """The file. `figure` is markup of our own making that the scripts find as #figure."""
    title = f"{data['title']} · staticgraph" if data["title"] else "staticgraph"
    text = json.dumps(data, separators=(",", ":")).replace("<", "\\u003c")
    return "\n".join([
        "<!doctype html>", '<html lang="en">', "<head>", '<meta charset="utf-8">',
        f"<title>{escape(_plain(title))}</title>",
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f'<meta http-equiv="Content-Security-Policy" content="{_policy(_styles_of(figure))}">',
        f"<style>{style()}</style>", "</head>", "<body>",
        f"<!--\nThe layouts in this page are made by dagre:\n\n{asset('dagre.LICENSE.txt').strip()}\n-->",
        '<noscript><p>This page is drawn by its scripts, which this browser does not run.</p></noscript>',
        '<div id="page"></div>', f'<template id="figure">{figure}</template>',
        f'<script type="application/json" id="data">{text}</script>',
        *(f"<script>{asset(name)}</script>" for name in SCRIPTS), "</body>", "</html>", ""])


def _plain(text: str) -> str:
    return " ".join(text.encode("utf-8", "replace").decode("utf-8").split())


@cache
def asset(name: str) -> str:
    """A file that stands beside this module."""
    return resources.files(__package__).joinpath(name).read_text(encoding="utf-8")


@cache
def style() -> str:
    """The style sheet, below the colours that all pictures share."""
    light, dark = ("".join(f"--{role.replace(' ', '-')}:{pair[theme]};" for role, pair in COLOURS.items())
                   for theme in (0, 1))
    return f':root{{{light}}}\n:root[data-theme="dark"]{{{dark}}}\n{asset(STYLE)}'


def _policy(styles: Iterable[str]) -> str:
    scripts = " ".join(_hash(asset(name)) for name in SCRIPTS)
    sheets = " ".join(map(_hash, (style(), *styles)))
    return (f"default-src 'none'; script-src {scripts}; style-src {sheets}; base-uri 'none'; form-action 'none'")


def _hash(text: str) -> str:
    digest = hashlib.sha256(text.encode("utf-8")).digest()
    return f"'sha256-{base64.b64encode(digest).decode('ascii')}'"


def _styles_of(figure: str) -> list[str]:
    """The style sheets inside of a figure."""
    return [part.split("</style>", 1)[0] for part in figure.split("<style>")[1:]]
