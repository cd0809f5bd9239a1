"""Graphs as files: versioned JSON that is read as data and checked, never run.

sizes (dimensions) and forms (the operations and their attributes) say what may stand in a file; bounds holds what the
kernels rely on against it; writer and reader are the two directions.
"""

from .reader import SavedGraph, load_graph
from .writer import save_graph

__all__ = ["SavedGraph", "load_graph", "save_graph"]
