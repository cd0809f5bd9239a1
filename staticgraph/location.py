"""Where in the user's files a node was made.

Locations are side data of a node: they are never part of its identity. A node built by the user carries the first
frame outside of this package; a node built by a gradient rule or a rewrite carries the lines of what it came from
(`using`). Name scopes are kept here for the same reason.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import NamedTuple

from .kinship import Kinship


class Location(NamedTuple):
    """A line of a user's file; prints as ``model.py:12``, in a cell of a notebook as ``In[3]:12``."""

    file: str
    line: int

    def __str__(self) -> str:
        return f"{_cell(self.file) or os.path.basename(self.file)}:{self.line}"


def _cell(file: str) -> str:
    """The name of a notebook's cell that has this file; nothing of any other."""
    if "ipykernel_" not in file:
        return ""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    number = getattr(getattr(shell, "compile", None), "_filename_map", {}).get(file)
    return "" if number is None else f"In[{number}]"


class _Context(threading.local):
    def __init__(self) -> None:
        self.inherited: tuple[Location, ...] = ()
        self.kin: Kinship | None = None
        self.scope = ""


_context = _Context()


def current() -> tuple[Location, ...]:
    """The lines that a node made now belongs to: the inherited ones, else the caller's own line."""
    return _context.inherited or (caller(),)


def caller() -> Location:
    """The innermost line outside of this package; one outside of Python's own library too, where there is one."""
    frame: FrameType | None = sys._getframe(1)
    start = nearest = frame
    while frame is not None:
        module = frame.f_globals.get("__name__", "")
        if not module.startswith("staticgraph.") and module != "staticgraph":
            if not _is_library(frame.f_code.co_filename):
                return Location(frame.f_code.co_filename, frame.f_lineno)
            nearest = frame if nearest is start else nearest
        frame = frame.f_back
    assert nearest is not None     # a thread that was started with a function of this package, say
    return Location(nearest.f_code.co_filename, nearest.f_lineno)


LIBRARY = os.path.dirname(os.__file__) + os.sep
PACKAGES = f"{os.sep}site-packages{os.sep}"


def _is_library(file: str) -> bool:
    return file.startswith(LIBRARY) and PACKAGES not in file


def side_data() -> tuple[tuple[Location, ...], Kinship | None, str]:
    """What a node that is made now carries: its lines, whom it belongs to if a derivative or a rewrite makes it, and
    its scope."""
    context = _context
    return context.inherited or (caller(),), context.kin, context.scope


@contextmanager
def using(locations: Sequence[Location], kin: Kinship | None = None, scope: str = "") -> Iterator[None]:
    """Nodes made inside belong to these lines, to this kin, and to this scope where one is given: for gradient rules
    and rewrites."""
    before = _context.inherited, _context.kin, _context.scope
    _context.inherited, _context.kin, _context.scope = tuple(locations), kin, scope or _context.scope
    try:
        yield
    finally:
        _context.inherited, _context.kin, _context.scope = before


def union(groups: Sequence[Sequence[Location]]) -> tuple[Location, ...]:
    """All lines of the groups, each once, in order."""
    return tuple(dict.fromkeys(line for group in groups for line in group))


@contextmanager
def name_scope(name: str) -> Iterator[None]:
    """Nodes made inside are grouped under `name` in listings and pictures; scopes nest as ``outer/inner``."""
    before = _context.scope
    _context.scope = f"{before}/{name}" if before else str(name)
    try:
        yield
    finally:
        _context.scope = before
