"""The history of a compile: what each pass did to the graph, exchange by exchange, as plain data."""

from __future__ import annotations

from typing import Any

from ..compiler.history import History, record
from ..compiler.pipeline import Compilation
from ..errors import ArgumentError
from ..tensor import toposort
from .model import tensors_of


def history(obj: Any) -> History:
    """The `History` of an executable, of a compilation, or of tensors (one, or a list, tuple or dict of them).

    The passes of the compiler run once more, with journals; nothing is loaded. The result is plain data without
    tensors. ``history.nodes`` are all nodes that ever existed, each once: op, type as text (``float32[batch, 64]``),
    the user's lines, operands and gradient partners as positions in ``history.nodes``, and costs as text (operations
    and bytes: numbers, or formulas of the symbolic sizes). ``history.stages`` are the graph as it was built and after
    each pass. Each stage has its ``firings`` in order: rule, why, what was matched, removed and added, the user's
    lines, and the cost before and after. `staticgraph.compiler.history.replay` gives the graph after any number of
    them.

    Raises ArgumentError for an executable that was loaded as a bare program, without the graph, and for anything else
    that is none of these.
    """
    if isinstance(obj, Compilation):
        return record(obj)
    if hasattr(obj, "program"):
        if getattr(obj, "definition", None) is None:
            raise ArgumentError("history: this executable was loaded as a program, without the graph it was made of")
        return record(obj.definition.prepare())
    from ..api import prepare

    outputs = tensors_of(obj)
    return record(prepare([node for node in toposort(outputs) if node.op.name == "placeholder"], obj))
