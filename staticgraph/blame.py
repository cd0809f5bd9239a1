"""Where a nan was born: the error that names the op, the line and the operands' values.

Comes in: the graph that was computed, what is watched in it, where a kernel has found the first bad element, and the
inputs and state of that call. Goes out: the error to be raised. The kernels have found; this only looks for the cause,
so it may take its time: it evaluates what the watched value needs with NumPy, and goes back from the bad element, from
an op to the operand that brought it in, until an op has no bad operand there. That op bore it, or it is an input, a
variable or a constant that holds it.

Which operand brought it in is known for elementwise ops and views. Of all other ops it is found out by trial: the op
is evaluated again with the bad elements of its operands exchanged for ones. If its result is bad still, it was born
here; else the operand, and by halving the element, is the one that alone makes it bad again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from .errors import AssertionFailed, NonFiniteError, StaticGraphError, message
from .interpreter import bind_sizes, node_value
from .tensor import Tensor, operand_row, toposort
from .watching import SELECTING, Watched

Array = np.ndarray[Any, Any]
Index = tuple[int, ...]
Values = Mapping[int, Array]

LEAVES = {"placeholder": "input", "variable": "variable", "constant": "constant", "iota": "iota", "size_of": "size"}
LABELS = "abcdefghijklmnopqrstuvwxyz"
MOST_SHOWN = 6
"""Operands whose values are told."""


class Origin(NamedTuple):
    """The node that a bad element comes from, and which of its elements is the first."""

    node: Tensor
    place: Index


def finding_error(watched: Watched, index: Index, feed: Mapping[Tensor, Any],
                  made_from: Callable[[Tensor], str] = lambda node: "") -> StaticGraphError | None:
    """The error for a bad element at `index` of what is watched. `feed` holds the inputs, `made_from` says what a node
    was rewritten from. None where NumPy, whose last bits may differ, finds nothing bad."""
    run = Run(watched.value, feed)
    if watched.kind == "assert":
        return assertion_error(watched.node, index, run.values)
    if not is_bad(run.values[id(watched.node)], watched.kind).any():
        return None
    value = run.values[id(watched.node)]
    if not is_bad(value[index], watched.kind):
        index = first_of(is_bad(value, watched.kind))
    origin = run.origin(watched.node, index, watched.kind)
    return NonFiniteError(_told(origin, watched, index, run, made_from))


class Run:
    """The values of all that a tensor needs, by NumPy."""

    def __init__(self, target: Tensor, feed: Mapping[Tensor, Any]) -> None:
        self.sizes: dict[str, int] = {}
        fed = {id(tensor): np.asarray(value) for tensor, value in feed.items()}
        bind_sizes({tensor: fed[id(tensor)] for tensor in feed}, self.sizes)
        self.values = known_values([target], fed, self.sizes)

    def of(self, node: Tensor) -> Array:
        return self.values[id(node)]

    def origin(self, node: Tensor, index: Index, kind: str) -> Origin:
        """Back from a bad element to where it comes from; there, to the first that is born there, as long as no op on
        the way has left elements out, of which it might be one."""
        left_out = False
        while True:
            before = self.before(node, index, kind)
            if before is None:
                return Origin(node, index if left_out else self.first_born(node, index, kind))
            left_out = left_out or self.leaves_out(node) or node.op.kind == "composite"
            node, index = before

    def leaves_out(self, node: Tensor) -> bool:
        """May the op leave elements of an operand out? A slice as large as its operand has all of them."""
        return node.op.name in SELECTING and not (
            node.op.name == "slice" and self.of(node).size == self.of(node.inputs[0]).size)

    def before(self, node: Tensor, index: Index, kind: str) -> tuple[Tensor, Index] | None:
        """The operand and the element of it that made an element bad; None where the op itself did."""
        if node.op.name in LEAVES:
            return None
        if node.op.kind == "view":
            operand = node.inputs[0]
            numbers = np.arange(self.of(operand).size).reshape(self.of(operand).shape)
            with np.errstate(all="ignore"):
                place = node_value(node, {**self.values, id(operand): numbers}, self.sizes, typed=False)[index]
            return operand, _unravel(int(place), self.of(operand).shape)
        if node.op.name == "where":
            chosen = node.inputs[1 if self.of(node.inputs[0])[index] else 2]
            return chosen, index
        if node.op.kind == "elementwise":
            return next(((each, index) for each in node.inputs if is_bad(self.of(each)[index], kind)), None)
        return self.by_trial(node, index, kind)

    def by_trial(self, node: Tensor, index: Index, kind: str) -> tuple[Tensor, Index] | None:
        """As `before`, for an op of any form. Infinities make way too: next to a nan they are not to blame."""
        holes = {id(each): is_bad(self.of(each), "inf") for each in node.inputs}
        guilty = [each for each in dict.fromkeys(node.inputs) if is_bad(self.of(each), kind).any()]
        if not guilty or is_bad(self.again(node, holes)[index], kind):
            return None
        for operand in guilty:
            places = np.flatnonzero(is_bad(self.of(operand), kind))

            def spoilt(count: int, operand: Tensor = operand, places: Array = places) -> bool:
                """Is the element bad with only the first so many of the operand's left bad?"""
                mask = holes[id(operand)].copy()
                mask.flat[places[:count]] = False
                return bool(is_bad(self.again(node, {**holes, id(operand): mask})[index], kind))

            if not spoilt(len(places)):
                continue
            low, high = 0, len(places)     # not spoilt by the first `low`, spoilt by the first `high`
            while high - low > 1:
                middle = (low + high) // 2
                low, high = (low, middle) if spoilt(middle) else (middle, high)
            return operand, _unravel(int(places[high - 1]), holes[id(operand)].shape)
        return None

    def again(self, node: Tensor, holes: Mapping[int, Array]) -> Array:
        """The node's value with ones in place of some elements of its operands."""
        values = {**self.values}
        for each in node.inputs:
            if each.dtype.kind == "f":
                values[id(each)] = np.where(holes[id(each)], each.dtype.type(1), self.of(each))
        with np.errstate(all="ignore"):
            return node_value(node, values, self.sizes)

    def first_born(self, node: Tensor, index: Index, kind: str) -> Index:
        """The first bad element of a node that it bore itself."""
        bad = is_bad(self.of(node), kind)
        if node.op.name in LEAVES:
            return first_of(bad)
        if node.op.kind == "elementwise":
            for each in node.inputs:
                bad &= ~is_bad(self.of(each), kind)
        else:
            bad = is_bad(self.again(node, {id(each): is_bad(self.of(each), kind) for each in node.inputs}), kind)
        return first_of(bad) if bad.any() else index


def known_values(targets: Sequence[Tensor], fed: Values, sizes: Mapping[str, int]) -> dict[int, Array]:
    """The values of tensors and of all that they need; nothing is printed or asserted."""
    values = dict(fed)
    with np.errstate(all="ignore"):
        for node in toposort(targets, stop=lambda each: id(each) in values):
            if id(node) not in values:
                values[id(node)] = node_value(node, values, sizes)
    return values


def is_bad(value: Any, kind: str) -> Any:
    """Where a value is what "nan" or "inf" looks for; nothing but floats ever is."""
    array = np.asarray(value)
    if array.dtype.kind != "f":
        return np.zeros(array.shape, bool)
    return np.isnan(array) if kind == "nan" else ~np.isfinite(array)


def first_of(bad: Array) -> Index:
    return _unravel(int(np.argmax(bad)), bad.shape)


def _unravel(place: int, shape: tuple[int, ...]) -> Index:
    return tuple(int(each) for each in np.unravel_index(place, shape)) if shape else ()


def rewritten_from(node: Tensor, before: Sequence[Tensor], after: Sequence[Tensor]) -> str:
    """What a rewrite has put a node in the place of, such as ``log(softmax)``, by the graphs before and after; nothing
    where it is as it was built."""
    built = toposort(before)
    kept = {id(each) for each in toposort(after)}
    gone = [each for each in built if id(each) not in kept and set(each.locations) <= set(node.locations)]
    if any(each is node for each in built) or any(each.op is node.op for each in gone):
        return ""     # only its operands have changed
    texts: dict[int, str] = {}
    for each in gone:
        inside = [texts[id(operand)] for operand in map(stretched, each.inputs) if id(operand) in texts]
        texts[id(each)] = each.op.name + (f"({', '.join(inside)})" if inside else "")
    return max(texts.values(), key=len, default="")


# What is said.

def _told(origin: Origin, watched: Watched, found: Index, run: Run, made_from: Callable[[Tensor], str]) -> str:
    node, index = origin
    kind = "nan" if np.isnan(run.of(node)[index]) else str(run.of(node)[index])
    where = _place(index)
    bad = is_bad(run.of(node), watched.kind)
    if node.op.name in LEAVES:
        name = f" '{node.name}'" if node.name else ""
        headline = f"{LEAVES[node.op.name]}{name}: holds {kind}{where}"
        rows = [operand_row("here", node)]
    else:
        source = made_from(node)
        rewritten = f", rewritten from {source}" if source else ""
        headline = f"{node.op.name}{rewritten}: makes {kind}{where}"
        rows = [*_operand_rows(node.inputs), operand_row("result", node)]
    notes = [*_value_notes(node, index, run), *_line_notes(node)]
    if bad.size > 1:
        notes.append(f"{int(bad.sum())} of {bad.size} elements are {'nan' if watched.kind == 'nan' else 'nan or inf'}")
    if watched.node is not node:
        what = watched.what or f"'{watched.node.op.name}' of {watched.node.location}"
        notes.append(f"found in {what}{_place(found)}")
    return message(headline, rows, *notes)


def assertion_error(node: Tensor, index: Index, values: Values) -> AssertionFailed:
    """A condition that is false at `index`, with what it was made of there."""
    condition = node.inputs[1]
    rows = [*_operand_rows(condition.inputs), operand_row("condition", condition)]
    shown = [f"{label} = {values[id(each)][index]!s}" for label, each in zip(LABELS, condition.inputs)
             if id(each) in values and values[id(each)].shape == values[id(condition)].shape]
    text = node.attrs["message"] or "a condition does not hold"
    values_there = ", where " + ", ".join(shown) if shown else ""
    return AssertionFailed(message(
        f"assert_that: {text}", rows,
        f"{condition.op.name} is false{_place(index)}{values_there}",
        f"asserted at {', '.join(map(str, node.locations))}"))


def _operand_rows(operands: Sequence[Tensor]) -> list[tuple[str, str, str, str]]:
    return [operand_row(LABELS[number % len(LABELS)], stretched(each)) for number, each in enumerate(operands)]


def stretched(node: Tensor) -> Tensor:
    """What was stretched to be the operand that a node is: what the user wrote there."""
    while node.op.name == "broadcast_to":
        node = node.inputs[0]
    return node


def _value_notes(node: Tensor, index: Index, run: Run) -> list[str]:
    """What the operands were: at the element, else in the part that it was made of, from where to where."""
    labelled = list(zip(LABELS, node.inputs))[:MOST_SHOWN]
    if node.op.kind == "elementwise":
        return [f"where {', '.join(f'{label} = {run.of(each)[index]!s}' for label, each in labelled)}"]
    notes = []
    for number, (label, each) in enumerate(labelled):
        part = _part(node, number, index)
        shown = f"[{', '.join(':' if each is None else str(each) for each in part)}]" if part else ""
        place = tuple(slice(None) if each is None else each for each in part)
        notes.append(f"{label}{shown} {_summary(run.of(each)[place])}")
    return notes


def _part(node: Tensor, number: int, index: Index) -> tuple[int | None, ...]:
    """What an element is made of, of an operand: an index for each axis, None where it is all of it."""
    if node.op.kind == "reduction":
        rest = iter(index)
        return tuple(None if axis in node.attrs["axes"] else next(rest) for axis in range(node.inputs[0].ndim))
    if node.op.name == "matmul" and number < 2 and all(each.ndim == node.ndim for each in node.inputs[:2]):
        return (*index[:-2], index[-2], None) if number == 0 else (*index[:-2], None, index[-1])
    return ()


def _summary(value: Array) -> str:
    """The range of an array, and how many of its elements are no numbers."""
    if value.ndim == 0:
        return f"= {value!s}"
    if value.dtype.kind != "f" or not value.size:
        return f"is from {value.min()} to {value.max()}" if value.size and value.dtype.kind in "iu" else "has no floats"
    finite = value[np.isfinite(value)]
    text = f"is from {finite.min()!s} to {finite.max()!s}" if finite.size else "has no finite element"
    for name, bad in (("nan", np.isnan(value)), ("inf", value == np.inf), ("-inf", value == -np.inf)):
        if bad.any():
            text += f", {int(bad.sum())} {name} first{_place(first_of(bad))}"
    return text


def _line_notes(node: Tensor) -> list[str]:
    return [f"lines: {', '.join(map(str, node.locations))}"] if len(node.locations) > 1 else []


def _place(index: Index) -> str:
    return f" at {list(index)}" if index else ""
