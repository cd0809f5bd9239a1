"""The explorer: a graph at every stage, its kernels, its history and its memory on one page of HTML.

    gather.py    everything that the page shows of one subject, as plain data (columns.py, lines.py)
    past.py      the rewrite history of it
    compare.py   two subjects against each other
    document.py  the data, the scripts and the style sheet as one file

The scripts are plain JavaScript that runs as it is written, one idea a file; `document.SCRIPTS` is their order. Layouts
of what is expanded and collapsed in the page are made there by dagre, whose licence stands beside it and in the page.
"""

from __future__ import annotations

from .document import render_comparison, render_page

__all__ = ["render_comparison", "render_page"]
