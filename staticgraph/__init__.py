"""staticgraph: define a symbolic graph, differentiate it, compile it, run it.

>>> import numpy as np, staticgraph as sg
>>> x = sg.placeholder("x", shape=("batch", 64))
>>> w = sg.variable(np.zeros((64, 10), "float32"), name="w")
>>> loss = sg.mean(sg.square(x @ w))
>>> step = sg.compile([x], loss, updates={w: w - 0.1 * sg.grad(loss, w)})

Importing this imports NumPy and nothing else; Numba is loaded by the first call of `compile`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from . import api, nn, ops, optim, random, tensor
from .api import compile, devices
from .autodiff import grad, hessian, jacobian, jvp, stabilise, verify_grad, vjp
from .errors import (
    ArgumentError,
    AssertionFailed,
    DeviceError,
    DTypeError,
    FileFormatError,
    GradientError,
    MissingPackageError,
    NonFiniteError,
    OutOfMemoryError,
    OutOfRangeError,
    ShapeError,
    StateError,
    StaticGraphError,
    UnsupportedError,
    VerificationError,
)
from .formatting import format_graph
from .interpreter import evaluate
from .location import Location, name_scope
from .ops import *
from .tensor import Tensor
from .types import Dim

if TYPE_CHECKING:
    from . import viz
    from .api import DeviceArray, DeviceInfo, Executable
    from .graph_file import SavedGraph, load_graph, save_graph
    from .state import SavedState, load, save

__all__ = [
    "ArgumentError", "AssertionFailed", "DTypeError", "DeviceArray", "DeviceError", "DeviceInfo", "Dim",
    "Executable", "FileFormatError", "GradientError", "Location", "MissingPackageError", "NonFiniteError",
    "OutOfMemoryError", "OutOfRangeError", "SavedGraph", "SavedState", "ShapeError", "StateError",
    "StaticGraphError", "Tensor", "UnsupportedError", "VerificationError", "compile", "devices", "evaluate",
    "format_graph", "grad", "hessian", "jacobian", "jvp", "load", "load_graph", "name_scope", "nn", "optim",
    "random", "save", "save_graph", "stabilise", "verify_grad", "viz", "vjp",
]
__all__ += ops.__all__


def _display(shown: Any) -> str:
    """What notebooks show of tensors, executables and profiles."""
    return str(import_module("staticgraph.viz").notebook_html(shown))


tensor.display_hook = _display


def _draw(compilation: Any, folder: Any) -> dict[str, str]:
    """The pictures of a dump: the roof's, like `viz` below."""
    for suffix in (".svg", ".html", ".json"):
        import_module("staticgraph.viz").export(compilation, folder / f"graph{suffix}")
    return {"graph.svg, graph.html, graph.json": "the graph with its fused kernels, as a picture, as a page to explore "
                                                 "and as data"}


api.draw = _draw


# Files are not for every process: what reads and writes them is imported when it is asked for.
_OF_FILES = {"SavedGraph": "graph_file", "load_graph": "graph_file", "save_graph": "graph_file", "SavedState": "state",
             "load": "state", "save": "state"}


def __getattr__(name: str) -> Any:
    if name in _OF_FILES:
        return getattr(import_module(f"staticgraph.{_OF_FILES[name]}"), name)
    if name in ("DeviceArray", "DeviceInfo", "Executable"):
        return getattr(api, name)
    if name == "viz":     # the roof, which imports networkx; `from . import viz` would ask for this attribute again
        return import_module("staticgraph.viz")
    raise AttributeError(f"module 'staticgraph' has no attribute '{name}'")
