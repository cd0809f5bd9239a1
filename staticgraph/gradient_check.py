"""The numerical side of `verify_grad`: a graph in double precision, and its slopes by central differences.

Differences need digits, so a graph of float32 is checked as the same graph in float64: a gradient rule is a formula and
does not depend on the dtype. Everything is projected on one random direction of the output, so that each entry of
`wrt` costs two evaluations, however large the output.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from .interpreter import evaluate
from .op import as_tensor, registry
from .tensor import Tensor, build, toposort

Array = np.ndarray[Any, Any]

DOUBLE = np.dtype(np.float64)

STEP = float(np.cbrt(np.finfo(np.float64).eps))
"""Relative step of the differences: balances rounding (eps / step) against curvature (step squared)."""

TOLERANCE = 1e-6
ENTRIES = 256
"""Entries of a tensor that are checked; of larger ones, a random choice."""


class Entry(NamedTuple):
    """One compared entry: which tensor of `wrt`, where, and both slopes."""

    number: int
    place: tuple[int, ...]
    gradient: float
    difference: float

    def excess(self, scale: float) -> float:
        """How far the two are apart, in units of what is allowed; nan counts as infinitely far."""
        allowed = TOLERANCE * max(1.0, abs(self.gradient), abs(self.difference)) + 1e-9 * scale
        ratio = abs(self.gradient - self.difference) / allowed
        return float("inf") if np.isnan(ratio) else ratio


def in_float64(outputs: Sequence[Tensor], feed: Mapping[Tensor, Any]) -> tuple[list[Tensor], dict[Tensor, Any]]:
    """The graph with every float32 as float64, and the feed for it; variables become fed placeholders."""
    lifted: dict[int, Tensor] = {}
    lifted_feed: dict[Tensor, Any] = {}
    for node in toposort(outputs):
        new = lifted[id(node)] = in_double(node, [lifted[id(each)] for each in node.inputs])
        if node in feed:
            lifted_feed[new] = np.asarray(feed[node], new.dtype)
        elif node.op.name == "variable" and new is not node:
            lifted_feed[new] = node.value.astype(np.float64)
    return [lifted[id(output)] for output in outputs], lifted_feed


def in_double(node: Tensor, inputs: Sequence[Tensor]) -> Tensor:
    """The node on other inputs, as float64 if it is a float."""
    if node.op.name in ("placeholder", "variable"):
        if node.dtype.kind != "f":
            return node
        new = build(registry["placeholder"], (), {"shape": node.shape, "dtype": DOUBLE})
        new._label = node.name
        return new
    if node.op.name == "constant":
        return as_tensor(node.attrs["value"], DOUBLE) if node.dtype.kind == "f" else node
    if not node.op.interned:  # a random sample stays the sample that it is
        return build(registry["astype"], (node,), {"dtype": DOUBLE}) if node.dtype.kind == "f" else node
    attrs = {name: DOUBLE if isinstance(value, np.dtype) and value.kind == "f" else value
             for name, value in node.attrs.items()}
    return build(node.op, inputs, attrs)


def projected(y: Tensor, feed: Mapping[Tensor, Any], seed: int) -> Array:
    """A random direction in the space of y."""
    direction: Array = np.random.default_rng(seed).standard_normal(evaluate(y, feed).shape)
    return direction


def compare(y: Tensor, wrt: Sequence[Tensor], gradients: Sequence[Array], feed: Mapping[Tensor, Any], direction: Array,
            seed: int) -> tuple[Entry, float] | None:
    """The entry whose gradient is farthest from its central difference, and by how much; None if there is no entry."""
    values = [np.asarray(value) for value in evaluate(list(wrt), feed)]
    scale = float(np.abs(direction * evaluate(y, feed)).sum())
    worst: tuple[Entry, float] | None = None
    for number, (tensor, value, gradient) in enumerate(zip(wrt, values, gradients, strict=True)):
        for index in chosen_entries(value.shape, seed):
            slope = central_difference(y, tensor, value, index, feed, direction)
            entry = Entry(number, index, float(gradient[index]), slope)
            excess = entry.excess(scale)
            if worst is None or excess > worst[1]:
                worst = entry, excess
    return worst


def chosen_entries(shape: tuple[int, ...], seed: int) -> list[tuple[int, ...]]:
    size = int(np.prod(shape, dtype=np.int64))
    flat = np.arange(size) if size <= ENTRIES else np.sort(np.random.default_rng(seed).permutation(size)[:ENTRIES])
    return [tuple(int(each) for each in np.unravel_index(int(position), shape)) for position in flat]


def central_difference(y: Tensor, tensor: Tensor, value: Array, index: tuple[int, ...], feed: Mapping[Tensor, Any],
                       direction: Array) -> float:
    """The slope of ``sum(direction * y)`` along one entry of a tensor."""
    sides, places = [], []
    step = STEP * max(1.0, abs(float(value[index])))
    for sign in (1, -1):
        moved = value.copy()
        moved[index] += sign * step
        places.append(float(moved[index]))
        sides.append(evaluate(y, {**feed, tensor: moved}))
    return float((direction * (sides[0] - sides[1])).sum() / (places[0] - places[1]))
