"""Pictures and files of graphs: `sg.viz.export(executable, "model.svg")`, or as a string, `sg.viz.to_svg(executable)`.

    model.py    a tensor, a Compilation or an Executable, as plain data
    display.py  what a picture shows of it
    layout.py   where things go (layering.py, ordering.py, scene.py)
    drawing.py  what it looks like (palette.py), for svg.py and png.py
    dot.py mermaid.py data.py listing.py   the other formats
    notebook.py  what notebooks show
    page/       the explorer, which shows all of it on one page of HTML
    rewrites.py  what the passes did, as data
    difference.py  two compiles against each other, as data
    memory_plan.py memory.py   which buffer lies where in the arena and when, as data and as a picture
    profile.py plots.py page_style.py   profiles as a page, with what pages of numbers share
"""

from __future__ import annotations

from .data import to_networkx
from .difference import diff
from .export import export, export_diff, to_dot, to_graphml, to_html, to_json, to_mermaid, to_png, to_svg, to_text
from .memory import export_memory, memory_plan, render_memory_svg
from .notebook import graph, notebook_html
from .profile import export_profile
from .rewrites import history

__all__ = ["diff", "export", "export_diff", "export_memory", "export_profile", "graph", "history", "memory_plan",
           "render_memory_svg", "to_dot", "to_graphml", "to_html", "to_json", "to_mermaid", "to_networkx", "to_png",
           "to_svg", "to_text"]
