"""What a compiled graph watches over: values to print, conditions to assert, nan and inf to find.

Level: tensor graph in, tensor graph out, in two steps that the compiler's pipeline takes.

* `taken_out` removes `debug_print` and `assert_that` before any rule looks at the graph. What is printed becomes one
  more result, and a condition one more *guard*, so neither keeps two nodes apart that a rewrite would join.
* `guards_against` finds the values in which a nan (or an infinity) would be seen at last, and guards those.

A guard is plain graph: the position of the first bad element in row-major order, by a maximum over all of them, given
to `guard`, an op that reports anything but 0. So it fuses with what computes the values, is vectorised, runs on every
device, and the smallest position wins for any number of threads. Kernels report before variables are written.

Which values are guarded: results and updates; and what goes into an op in which a nan may vanish (a comparison, a cast
to integers), unless it reaches a guarded value on another way that lets none vanish. A nan that `where`, a slice or a
gather leaves out is no fault, and neither is one that the graph itself asks for with `isnan`. So the memory that a
guard costs is small: most graphs are watched at their results.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from . import location
from .errors import AssertionFailed
from .op import as_tensor, elementwise, primitive, registry
from .ops.leaf import iota
from .ops.reduction import max as maximum_of
from .rewrite import stabilise
from .tensor import Tensor, rebuild, toposort

INT64_MAX = 2**63 - 1

NAMES = ("debug_print", "assert_that")


def _guard_meaning(x: Any, number: int) -> Any:
    if x.any():
        raise AssertionFailed(f"guard {number}")
    return x


guard_op = primitive(
    "guard", doc="The value, which has to be 0: kernels report anything else through their status slot.",
    infer=lambda context, x, number: elementwise(context, x), ref=_guard_meaning,
    scalar="{0}")


class Watched(NamedTuple):
    """What a guard watches: kind "nan" | "inf" (of `node`) or "assert" (of the `assert_that` node `node`, whose
    condition it is). `what` says for people where in the graph that is."""

    kind: str
    node: Tensor
    what: str = ""

    @property
    def value(self) -> Tensor:
        """The tensor that positions count in."""
        return self.node.inputs[1] if self.kind == "assert" else self.node


class Print(NamedTuple):
    """A `debug_print` node and the tensor, of the graph without such nodes, that it shows."""

    node: Tensor
    value: Tensor


def is_watch(node: Tensor) -> bool:
    """Is this node there to be watched?"""
    return node.op.name in NAMES and registry.get(node.op.name) is node.op


def taken_out(roots: Sequence[Tensor]) -> tuple[list[Tensor], list[Print], list[Watched], list[Tensor]]:
    """The roots without prints and assertions; the prints, in the order of the graph; the assertions; and the guard of
    each, numbered from 0."""
    roots = opened(roots)
    order = toposort(roots)
    if not any(map(is_watch, order)):
        return list(roots), [], [], []
    done: dict[Tensor, Tensor] = {}
    prints: list[Print] = []
    watched: list[Watched] = []
    guards: list[Tensor] = []
    for node in order:
        inputs = [done[each] for each in node.inputs]
        if not is_watch(node):
            done[node] = rebuild(node, inputs)
            continue
        done[node] = inputs[0]
        if node.op.name == "debug_print":
            prints.append(Print(node, inputs[0]))
        else:
            with location.using(node.locations):
                guards.append(guard(registry["logical_not"](inputs[1]), len(watched)))
            watched.append(Watched("assert", node))
    return [done[root] for root in roots], prints, watched, guards


def opened(roots: Sequence[Tensor]) -> list[Tensor]:
    """The roots with those functions of `custom_gradient` expanded that print or assert."""
    current = list(roots)
    while True:
        found: dict[Tensor, Tensor] = {}
        for node in toposort(current):
            if node.op.kind == "composite" and node.op.expand is not None and registry.get(node.op.name) is not node.op:
                with location.using(node.locations):
                    inside = node.op.expand(*node.inputs, **node.attrs)
                if any(map(is_watch, toposort([inside], stop=frozenset(node.inputs).__contains__))):
                    found[node] = inside
        if not found:
            return current
        current = _exchanged(current, found)


def _exchanged(roots: Sequence[Tensor], found: Mapping[Tensor, Tensor]) -> list[Tensor]:
    """As `substitute`, where what takes a node's place needs what takes the place of others."""
    done: dict[Tensor, Tensor] = {}
    waiting = dict(found)
    for node in toposort(roots):
        if node in waiting:
            inside = waiting[node]
            for each in toposort([inside], stop=lambda each: each in done):
                done.setdefault(each, rebuild(each, [done[operand] for operand in each.inputs])
                                if each.inputs else each)
            done[node] = done[inside]
        else:
            done[node] = rebuild(node, [done[each] for each in node.inputs])
    return [done[root] for root in roots]


def guard(bad: Tensor, number: int) -> Tensor:
    """A scalar that a program has to compute, and that is reported unless no element of `bad` is true. What is reported
    is INT64_MAX less the position of the first, so that the greatest is the first."""
    position = iota(shape=bad.shape, axis=None, dtype=np.dtype(np.int64)) if bad.ndim else as_tensor(0)
    rank = registry["where"](bad, registry["subtract"](as_tensor(INT64_MAX), position), as_tensor(0))
    first = maximum_of(rank) if bad.ndim else rank
    return guard_op(registry["maximum"](first, as_tensor(0)), number=number)


def position_of(report: int) -> int:
    """The row-major position that a guard has reported."""
    return INT64_MAX - report


# Where a nan would be seen.

SELECTING = frozenset("where slice gather gather_along windows".split())
"""Ops that may leave elements of an operand out: what is left out is nobody's fault."""

ASKING = frozenset("isnan isinf isfinite".split())
"""Ops with which a graph looks after such values itself."""

KEEPING_INF = frozenset("""
    add subtract multiply negative abs square sum prod cumulative_sum cumulative_prod linear_recurrence matmul fold
    reshape permute_dims broadcast_to concat pad astype stop_gradient floor ceil trunc round sqrt log log1p log2 log10
    sin cos tan sinh cosh asin acos asinh acosh atanh layer_norm mse
""".split())
"""Ops whose result holds an inf or nan wherever an operand does."""

KEEPING_NAN = KEEPING_INF | frozenset("""
    divide floor_divide remainder sign reciprocal exp exp2 expm1 logaddexp tanh atan atan2 erf erfc sigmoid softplus
    relu maximum minimum max min softmax log_softmax logsumexp gelu silu soft_cross_entropy
""".split())
"""Ops whose result holds a nan wherever an operand does."""


def bad_elements(value: Tensor, kind: str) -> Tensor:
    """True where the value is what `kind` looks for."""
    if kind == "nan":
        return registry["isnan"](value)
    return registry["logical_not"](registry["isfinite"](value))


def seen_values(roots: Sequence[Tensor], kind: str) -> list[Tensor]:
    """The floating-point values that are to be guarded, inputs first; see the module docstring."""
    order = toposort(roots)
    users: dict[Tensor, list[Tensor]] = {}
    for node in order:
        for operand in dict.fromkeys(node.inputs):
            users.setdefault(operand, []).append(node)
    wanted, seen, found = set(roots), set(), []
    keeping = KEEPING_NAN if kind == "nan" else KEEPING_INF
    for node in reversed(order):
        if node.dtype.kind != "f":
            continue
        around = users.get(node, ())
        if node not in wanted and any(user.op.name in keeping and user in seen for user in around):
            seen.add(node)
        elif node in wanted or any(_may_vanish(node, user, kind) for user in around):
            seen.add(node)
            found.append(node)
    return found[::-1]


def _may_vanish(operand: Tensor, user: Tensor, kind: str) -> bool:
    """May what is looked for in the operand be gone from the user's result, though the user looked at it?"""
    if user.op.name in SELECTING or user.op.name in ASKING:
        return False
    if user.op.name in ("equal", "not_equal") and all(each is operand for each in user.inputs):
        return False     # x != x asks for nan
    if user.dtype.kind == "f":
        return kind == "inf" and user.op.name not in KEEPING_INF
    return True


def guards_against(roots: Sequence[Tensor], outputs: Sequence[str], variables: Sequence[str], kind: str,
                   first: int) -> tuple[list[Watched], list[Tensor]]:
    """What is watched for nan ("nan") or for nan and infinities ("inf"), and its guards, numbered from `first`. The
    roots are outputs and new values of variables, with the names that these go by."""
    titles: dict[Tensor, str] = {}
    named = [*map(_output_title, outputs), *(f"the new value of '{name}'" for name in variables)]
    for title, root in zip(named, roots):
        titles.setdefault(root, title)
    watched: list[Watched] = []
    guards: list[Tensor] = []
    for node in seen_values(roots, kind):
        if any(isinstance(size, int) and size == 0 for size in node.shape):
            continue
        with location.using(node.locations):
            guards.append(guard(bad_elements(node, kind), first + len(watched)))
        watched.append(Watched(kind, node, titles.get(node, "")))
    return watched, guards


def _output_title(name: str) -> str:
    return name if name == "output" or name.startswith("output ") else f"output '{name}'"


def rewritten(outputs: Sequence[Tensor], updates: Mapping[Tensor, Tensor], names: Sequence[str],
              options: Mapping[str, Any]) -> tuple[list[Watched], list[Tensor], list[Tensor]]:
    """What a compile with these options watches, by number, and the graph before and after its formulas were
    stabilised: the compiler's first steps once more."""
    before, _, watched, _ = taken_out([*outputs, *updates.values()])
    after = stabilise(before)[0] if options["stabilise"] else before
    if options["check"]:
        variables = [each.name or "" for each in updates]
        watched += guards_against(after, names, variables, options["check"], len(watched))[0]
    return watched, before, after
