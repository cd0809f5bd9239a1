"""Pictures and files of graphs: `sg.viz.export(executable, "model.svg")`.

    model.py    a tensor, a Compilation or an Executable, as plain data
    display.py  what a picture shows of it
    layout.py   where things go (layering.py, ordering.py, scene.py)
    svg.py dot.py data.py listing.py   the formats
"""

from __future__ import annotations

from .data import to_networkx
from .export import export

__all__ = ["export", "to_networkx"]
