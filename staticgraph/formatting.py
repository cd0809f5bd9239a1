"""format_graph(): a graph as text.

One row a node, inputs first: its number, its type, what it is, its name scope, and the user's lines. Scalar constants
stand in the rows that use them, also when they are stretched. The text depends on the graph only (and on where the
user's files are called), so two processes print the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from . import tensor as tensor_
from .interpreter import flatten
from .tensor import Tensor, toposort
from .types import Dim, is_anonymous

_WIDEST = 44  # a cell wider than this does not push its column


def format_graph(outputs: Any) -> str:
    """A listing of everything that a tensor, or a list, tuple or dict of tensors, is made of.

    >>> print(sg.format_graph(loss))
    """
    targets = flatten(outputs)
    wanted = {id(target) for target in targets}
    listed = [node for node in toposort(targets) if id(node) in wanted or _literal(node) is None]
    labels = {id(node): f"%{number}" for number, node in enumerate(listed)}
    rows = [(labels[id(node)], str(node.type) + ("~" if node.type.weak else ""), _definition(node, labels), node.scope,
             _lines(node)) for node in listed]
    text = _align(rows)
    names = list(outputs) if isinstance(outputs, Mapping) else [None] * len(targets)
    results = [labels[id(target)] if name is None else f"{name}={labels[id(target)]}"
               for name, target in zip(names, targets, strict=True)]
    return "\n".join([*text, f"outputs: {', '.join(results)}"])


def _align(rows: Sequence[tuple[str, ...]]) -> list[str]:
    widths = [max((min(len(row[column]), _WIDEST) for row in rows), default=0) for column in range(5)]
    lines = []
    for number, *cells in rows:
        line = number.rjust(widths[0])
        for cell, width in zip(cells, widths[1:], strict=True):
            if width:
                line += "  " + cell.ljust(width)
        lines.append(line.rstrip())
    return lines


def _literal(node: Tensor) -> str | None:
    """The text of a scalar constant, stretched or not; None for everything else."""
    while node.op.name == "broadcast_to":
        node = node.inputs[0]
    if node.op.name == "constant" and node.ndim == 0:
        return _value(node.attrs["value"][()])
    return None


def _definition(node: Tensor, labels: Mapping[int, str]) -> str:
    name = f" '{node.name}'" if node.name else ""
    if node.op.name in ("placeholder", "variable"):
        return node.op.name + name
    if node.op.name == "constant":
        return f"constant {format_attrs(node)}{name}"
    operands = [labels.get(id(each)) or str(_literal(each)) for each in node.inputs]
    attrs = format_attrs(node)
    return f"{node.op.name}({', '.join([*operands, attrs] if attrs else operands)}){name}"


def format_attrs(node: Tensor) -> str:
    """The attributes of a node as they stand in a listing, ``axis=1, dtype=int64``; of a constant, its value."""
    if node.op.name == "constant":
        return _value(node.attrs["value"])
    if node.op.name in ("placeholder", "variable"):
        return ""
    return ", ".join([f"{key}={_value(value)}" for key, value in node.attrs.items()])


def _value(value: Any) -> str:
    if isinstance(value, np.ndarray) and value.ndim:
        text = np.array2string(value, precision=6, separator=", ", threshold=8, edgeitems=2)
        return " ".join(text.split())
    if isinstance(value, np.ndarray | np.generic):
        return str(value)
    if isinstance(value, Dim):
        return "?" if is_anonymous(value) else str(value)
    if isinstance(value, tuple):
        return f"({', '.join(map(_value, value))}{',' * (len(value) == 1)})"
    return str(value) if isinstance(value, np.dtype) else repr(value)


def _lines(node: Tensor) -> str:
    shown = ", ".join(map(str, node.locations[:3]))
    return shown + (f" +{len(node.locations) - 3}" if len(node.locations) > 3 else "")


tensor_.functions["format_graph"] = format_graph
