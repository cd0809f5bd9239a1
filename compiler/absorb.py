"""Products with what follows them: ``relu(a @ b + bias)`` as one node, for devices whose product kernels can do that.

Comes in: the stabilised graph. Goes out: the same meaning, where a product, a bias along its last axis and an
activation are one `matmul_epilogue` (the vendor's library and our own tiled kernel apply them before they store). It is
done only where nothing else reads what lies between; that a gradient asks for ``z > 0`` does no harm, since it is
``relu(z) > 0``. A bias without an activation stays outside, where it costs nothing in the kernel that comes next,
unless the sum is wanted itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from staticgraph.op import Inference, primitive, registry
from staticgraph.rewrite.journal import Fired, Journal, Rebuilt
from staticgraph.rewrite.pattern import scalar_value
from staticgraph.tensor import Tensor, build, hand_on, made_of, rebuild, toposort
from staticgraph.types import TensorType

FLOATS = ("float32", "float64")


def _infer(context: Inference, a: TensorType, b: TensorType, *bias: TensorType, activation: str) -> TensorType:
    return TensorType(a.dtype, (*a.shape[:-1], b.shape[-1]))


def _meaning(a: Any, b: Any, *bias: Any, activation: str) -> Any:
    product = np.matmul(a, b)
    if bias:
        product = product + bias[0]
    if activation == "relu":
        return np.maximum(product, 0)
    if activation == "gelu":
        return product * 0.5 * (1 + np.tanh(np.sqrt(2 / np.pi) * (product + 0.044715 * product**3)))
    return product


matmul_epilogue = primitive(
    "matmul_epilogue", kind="contraction", doc="A product, a bias along its last axis, and an activation of the sum.",
    infer=_infer, ref=_meaning)


@dataclass(frozen=True, eq=False)
class _Found:
    """A product and what is taken into it: `result` is the node that stands for all of it."""

    product: Tensor
    bias: Tensor | None
    activation: str
    before: Tensor
    result: Tensor


def absorb(outputs: Sequence[Tensor], journal: Journal | None = None) -> tuple[list[Tensor], list[Fired]]:
    """The outputs with epilogues in their products, and what was exchanged."""
    order, roots = toposort(outputs), frozenset(outputs)
    users: dict[Tensor, list[Tensor]] = {}
    for node in order:
        for operand in node.inputs:
            users.setdefault(operand, []).append(node)
    parts: dict[Tensor, _Found] = {}     # the node that stands for all of it, and tests of the sum's sign
    for node in order:
        found = _find(node, users, roots)
        if found is not None:
            parts[found.result] = found
            parts.update({each: found for each in users.get(found.before, []) if found.activation})
    done: dict[Tensor, Tensor] = {}
    fired: list[Fired] = []
    for node in order if parts else ():
        if node in parts:
            done[node] = _exchanged(node, parts[node], done)
            fired.append(_fired(node, parts[node], done[node]))
        else:
            done[node] = rebuild(node, [done[each] for each in node.inputs])
        if journal is not None and done[node] is not node:
            journal.append(fired[-1] if node in parts else Rebuilt(node, done[node]))
    return [done.get(each, each) for each in outputs], fired


def _exchanged(node: Tensor, found: _Found, done: dict[Tensor, Tensor]) -> Tensor:
    new = _absorbed(found, done)
    if node is found.result:
        return new
    with made_of(node):
        return registry["greater"](new, done[node.inputs[1]])


def _fired(node: Tensor, found: _Found, result: Tensor) -> Fired:
    if node is not found.result:
        return Fired("sign-of-relu", "relu(z) > 0 where z > 0, and z is not stored any more", node, result,
                     (node, found.before))
    between = (each for each in (found.result, found.before, found.product) if each is not node)
    return Fired("absorb-" + (node.op.name if found.activation else "bias"),
                 "the product's kernel does it before it stores", node, result, (node, *dict.fromkeys(between)))


def _find(node: Tensor, users: dict[Tensor, list[Tensor]], roots: frozenset[Tensor]) -> _Found | None:
    if node.op.name != "matmul" or str(node.dtype) not in FLOATS or node in roots:
        return None
    total, bias = node, None
    following = users.get(node, [])
    if len(following) == 1 and following[0].op.name == "add":
        bias = _bias(following[0], node)
        total = following[0] if bias is not None else node
    if total in roots:
        return _Found(node, bias, "", total, total) if bias is not None else None
    activated = [each for each in users.get(total, []) if _activation(each)]
    others = [each for each in users.get(total, []) if each not in set(activated)]
    if len(activated) != 1:
        return None
    activation = _activation(activated[0])
    if others and not (activation == "relu" and all(_is_sign_test(each, total) for each in others)):
        return None
    return _Found(node, bias, activation, total, activated[0])


def _bias(total: Tensor, product: Tensor) -> Tensor | None:
    """The vector that is added along the last axis, or None."""
    other = total.inputs[1] if total.inputs[0] is product else total.inputs[0]
    if other is product or other.op.name != "broadcast_to":
        return None
    source = other.inputs[0]
    while source.op.name == "reshape" and source.inputs[0].ndim == 1 and source.shape[-1] == source.inputs[0].shape[0]:
        source = source.inputs[0]
    return source if source.ndim == 1 and source.shape[0] == product.shape[-1] else None


def _activation(node: Tensor) -> str:
    if node.op.name == "relu":
        return "relu"
    return "gelu" if node.op.name == "gelu" and node.attrs["approximate"] == "tanh" else ""


def _is_sign_test(node: Tensor, total: Tensor) -> bool:
    return node.op.name == "greater" and node.inputs[0] is total and scalar_value(node.inputs[1]) == 0


def _absorbed(found: _Found, done: dict[Tensor, Tensor]) -> Tensor:
    inputs = [*found.product.inputs, *([] if found.bias is None else [found.bias])]
    with made_of(found.result, found.before, found.product):
        made = build(matmul_epilogue, [done[each] for each in inputs], {"activation": found.activation})
    hand_on(found.result, made)
    return made
