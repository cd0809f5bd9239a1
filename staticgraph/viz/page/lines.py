"""What stands in the user's own files on the lines that a graph was built by.

Comes in: the graph's tensors, whose locations know whole paths. Goes out: the text of each line as the page names it,
``model.py:12``. Only these lines go into the page, never a path. A name that stands for two different files has no
text.
"""

from __future__ import annotations

import linecache
from collections.abc import Iterable

from ...location import Location
from ...tensor import Tensor, toposort
from ..text import clip

WIDEST_LINE = 160


def places(roots: Iterable[Tensor]) -> dict[str, Location]:
    """Where each named line is, as far as that is without doubt."""
    found: dict[str, Location] = {}
    doubtful: set[str] = set()
    for node in toposort(list(roots)):
        for place in node.locations:
            known = found.setdefault(str(place), place)
            if known != place:
                doubtful.add(str(place))
    return {name: place for name, place in found.items() if name not in doubtful}


def source_lines(wanted: Iterable[str], known: dict[str, Location]) -> dict[str, str]:
    """The text of each wanted line whose file can be read now (cells of a notebook can too)."""
    texts = {}
    for name in wanted:
        place = known.get(name)
        text = linecache.getline(place.file, place.line).strip() if place is not None else ""
        if text:
            texts[name] = clip(text, WIDEST_LINE)
    return texts
