"""Patterns: small trees that are matched against graph, and built from graph.

A pattern is written as the formula that it stands for: with ``x = var("x")`` and ``p = ops`` the pattern of
``log(1 + x)`` is ``p.log(1 + x)``. The same tree serves as the right-hand side of a rule (`instantiate`), and lets a
test build every left-hand side that exists (`variants`).

What matching sees: numbers match scalar constants, also stretched ones (``broadcast_to(1.0)``) and tell 0.0 from -0.0;
commutative ops match both ways; a variable that occurs twice must meet the same node; `spread` is a reduced tensor put
back over its axes, however that was written. An opaque tensor is a leaf: it matches a variable and nothing else.
Recursion is over the pattern, never over the graph.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import reduce
from typing import Any, NamedTuple

import numpy as np

from ..errors import ArgumentError
from ..op import as_tensor, registry
from ..tensor import Tensor
from ..types import Shape

COMMUTATIVE = frozenset({
    "add", "multiply", "maximum", "minimum", "logaddexp", "hypot", "equal", "not_equal", "logical_and", "logical_or",
    "logical_xor", "bitwise_and", "bitwise_or", "bitwise_xor"})


SCALAR_SPELLINGS = frozenset({"constant", "broadcast_to", "reshape"})


class Match(NamedTuple):
    """What the variables stand for, and the nodes that matched an op of the pattern, root first."""

    bound: Mapping[str, Any] = {}
    nodes: tuple[Tensor, ...] = ()

    def bind(self, name: str, value: Any) -> Match | None:
        """With the variable bound; None when it stands for something else already."""
        if name in self.bound:
            return self if same(self.bound[name], value) else None
        return Match({**self.bound, name: value}, self.nodes)

    def through(self, node: Tensor) -> Match:
        return Match(self.bound, (*self.nodes, node))


def same(a: Any, b: Any) -> bool:
    if isinstance(a, Tensor) or isinstance(b, Tensor):
        return a is b
    return bool(a == b)


class Pattern:
    """Base of all patterns; operators build patterns."""

    def __add__(self, other: Any) -> Pattern: return ops.add(self, other)
    def __radd__(self, other: Any) -> Pattern: return ops.add(other, self)
    def __sub__(self, other: Any) -> Pattern: return ops.subtract(self, other)
    def __rsub__(self, other: Any) -> Pattern: return ops.subtract(other, self)
    def __mul__(self, other: Any) -> Pattern: return ops.multiply(self, other)
    def __rmul__(self, other: Any) -> Pattern: return ops.multiply(other, self)
    def __truediv__(self, other: Any) -> Pattern: return ops.divide(self, other)
    def __rtruediv__(self, other: Any) -> Pattern: return ops.divide(other, self)
    def __neg__(self) -> Pattern: return ops.negative(self)

    def match(self, node: Tensor, found: Match, opaque: frozenset[int]) -> Iterator[Match]:
        """All ways in which the pattern matches the node, given what is bound already."""
        raise NotImplementedError

    def heads(self) -> frozenset[str] | None:
        """Names of the ops at which the pattern can match; None for any. Most rules are turned down by this look."""
        return None

    def build(self, bound: Mapping[str, Any]) -> Any:
        """The graph that the pattern stands for (or a bare number, which ops take as a weak operand)."""
        raise NotImplementedError

    def variants(self) -> Iterator[Pattern]:
        """The pattern without alternatives, once for each choice."""
        yield self


@dataclass(frozen=True, eq=False)
class Variable(Pattern):
    """Any tensor."""

    name: str

    def match(self, node: Tensor, found: Match, opaque: frozenset[int]) -> Iterator[Match]:
        bound = found.bind(self.name, node)
        if bound is not None:
            yield bound

    def build(self, bound: Mapping[str, Any]) -> Any:
        return bound[self.name]


@dataclass(frozen=True, eq=False)
class Number(Pattern):
    """A scalar constant of this very value."""

    value: float

    def heads(self) -> frozenset[str]:
        return SCALAR_SPELLINGS

    def match(self, node: Tensor, found: Match, opaque: frozenset[int]) -> Iterator[Match]:
        value = None if id(node) in opaque else scalar_value(node)
        if value is not None and value == self.value and np.signbit(float(value)) == np.signbit(float(self.value)):
            yield found

    def build(self, bound: Mapping[str, Any]) -> Any:
        return self.value


@dataclass(frozen=True, eq=False)
class AnyNumber(Pattern):
    """Any scalar constant; the variable stands for its value, a NumPy scalar."""

    name: str

    def heads(self) -> frozenset[str]:
        return SCALAR_SPELLINGS

    def match(self, node: Tensor, found: Match, opaque: frozenset[int]) -> Iterator[Match]:
        value = None if id(node) in opaque else scalar_value(node)
        bound = None if value is None else found.bind(self.name, value)
        if bound is not None:
            yield bound

    def build(self, bound: Mapping[str, Any]) -> Any:
        return as_tensor(bound[self.name])


@dataclass(frozen=True)
class Attribute:
    """Stands for the value of an attribute."""

    name: str


@dataclass(frozen=True, eq=False)
class Apply(Pattern):
    """An op on patterns. Attributes that are not named match anything; a literal matches an equal value."""

    op: str
    inputs: tuple[Pattern, ...]
    attrs: Mapping[str, Any] = field(default_factory=dict)

    def heads(self) -> frozenset[str]:
        return frozenset((self.op,))

    def match(self, node: Tensor, found: Match, opaque: frozenset[int]) -> Iterator[Match]:
        if node.op.name != self.op or len(node.inputs) != len(self.inputs) or id(node) in opaque:
            return
        attributes = self._match_attributes(node, found.through(node))
        if attributes is None:
            return
        yield from match_all(self.inputs, node.inputs, attributes, opaque)
        if self.op in COMMUTATIVE and node.inputs[0] is not node.inputs[1]:
            yield from match_all(self.inputs, node.inputs[::-1], attributes, opaque)

    def _match_attributes(self, node: Tensor, found: Match) -> Match | None:
        result: Match | None = found
        for name, wanted in self.attrs.items():
            if isinstance(wanted, Attribute):
                result = result.bind(wanted.name, node.attrs[name]) if result is not None else None
            elif node.attrs[name] != wanted:
                return None
        return result

    def build(self, bound: Mapping[str, Any]) -> Any:
        attrs = {name: bound[value.name] if isinstance(value, Attribute) else value
                 for name, value in self.attrs.items()}
        return registry[self.op](*[each.build(bound) for each in self.inputs], **attrs)

    def variants(self) -> Iterator[Pattern]:
        for inputs in itertools.product(*[list(each.variants()) for each in self.inputs]):
            yield Apply(self.op, inputs, self.attrs)


@dataclass(frozen=True, eq=False)
class Either(Pattern):
    """One of several spellings of the same value."""

    options: tuple[Pattern, ...]

    def heads(self) -> frozenset[str] | None:
        return union_of_heads(option.heads() for option in self.options)

    def match(self, node: Tensor, found: Match, opaque: frozenset[int]) -> Iterator[Match]:
        for option in self.options:
            yield from option.match(node, found, opaque)

    def build(self, bound: Mapping[str, Any]) -> Any:
        return self.options[0].build(bound)

    def variants(self) -> Iterator[Pattern]:
        for option in self.options:
            yield from option.variants()


@dataclass(frozen=True, eq=False)
class Spread(Pattern):
    """A tensor that was reduced over `axes`, put back over them: with keepdims, by reshape or by plain broadcasting."""

    inner: Pattern
    axes: Attribute

    def heads(self) -> frozenset[str] | None:
        return union_of_heads((self.inner.heads(), frozenset(("broadcast_to", "reshape"))))

    def match(self, node: Tensor, found: Match, opaque: frozenset[int]) -> Iterator[Match]:
        path: list[Tensor] = []
        while True:
            for result in self.inner.match(node, Match(found.bound, (*found.nodes, *path)), opaque):
                if is_spread(node.shape, path, result.bound[self.axes.name]):
                    yield result
            if node.op.name not in ("broadcast_to", "reshape") or id(node) in opaque or len(path) == 2:
                return
            path.append(node)
            node = node.inputs[0]

    def build(self, bound: Mapping[str, Any]) -> Any:
        inner = self.inner.build(bound)
        return registry["reshape"](inner, shape=kept_shape(inner.shape, bound[self.axes.name]))

    def variants(self) -> Iterator[Pattern]:
        for inner in self.inner.variants():
            yield Spread(inner, self.axes)


@dataclass(frozen=True, eq=False)
class OfKind(Pattern):
    """Any op of these kinds; it binds nothing, the replacement looks at the node itself."""

    kinds: tuple[str, ...]

    def match(self, node: Tensor, found: Match, opaque: frozenset[int]) -> Iterator[Match]:
        if node.op.kind in self.kinds and id(node) not in opaque:
            yield found.through(node)


def union_of_heads(heads: Iterable[frozenset[str] | None]) -> frozenset[str] | None:
    return reduce(lambda a, b: None if a is None or b is None else a | b, heads)


def kept_shape(reduced: Shape, axes: tuple[int, ...]) -> Shape:
    """The shape with a 1 for each reduced axis."""
    shape = list(reduced)
    for axis in sorted(axes):
        shape.insert(axis, 1)
    return tuple(shape)


def is_spread(reduced: Shape, path: list[Tensor], axes: tuple[int, ...]) -> bool:
    """Do these views (outermost first) put a tensor of shape `reduced` back over `axes`?"""
    kept, kinds = kept_shape(reduced, axes), [view.op.name for view in path]
    if kinds in (["reshape"], ["broadcast_to", "reshape"]):
        return path[-1].shape == kept and path[0].ndim == len(kept)
    if kinds == ["broadcast_to"]:
        # Plain broadcasting aligns on the right: right only where the leading axes were reduced.
        return path[0].ndim == len(kept) and tuple(axes) == tuple(range(len(axes)))
    return not kinds and not axes


def match_all(patterns: tuple[Pattern, ...], nodes: tuple[Tensor, ...], found: Match,
              opaque: frozenset[int]) -> Iterator[Match]:
    """Matches of all patterns with all nodes, in order, with backtracking."""
    if not patterns:
        yield found
        return
    for result in patterns[0].match(nodes[0], found, opaque):
        yield from match_all(patterns[1:], nodes[1:], result, opaque)


def scalar_value(node: Tensor) -> Any:
    """The value of a scalar constant, also when stretched or reshaped; None of anything else."""
    while node.op.name in SCALAR_SPELLINGS and node.inputs:
        node = node.inputs[0]
    if node.op.name != "constant" or node.attrs["value"].size != 1:
        return None
    return node.attrs["value"].reshape(())[()]


def as_pattern(value: Any) -> Pattern:
    return value if isinstance(value, Pattern) else Number(value)


class _Ops:
    """``ops.exp(x)``: the pattern of the op of that name."""

    def __getattr__(self, name: str) -> Callable[..., Pattern]:
        return lambda *inputs, **attrs: Apply(name, tuple(map(as_pattern, inputs)), attrs)


ops = _Ops()


def var(name: str) -> Pattern:
    return Variable(name)


def number(name: str) -> Pattern:
    return AnyNumber(name)


def attr(name: str) -> Attribute:
    return Attribute(name)


def either(*options: Any) -> Pattern:
    return Either(tuple(map(as_pattern, options)))


def spread(inner: Pattern, axes: Attribute) -> Pattern:
    return Spread(inner, axes)


def any_of_kind(*kinds: str) -> Pattern:
    return OfKind(kinds)


Look = tuple[frozenset[str] | None, ...] | None
"""The names of the ops that each operand may be made by; None where that does not matter."""

Replacement = Callable[[Match], "Tensor | None"]


@dataclass(frozen=True, eq=False)
class Rule:
    """``pattern -> replacement``. `exact` promises the same bits; other rules promise to be at least as accurate."""

    name: str
    pattern: Pattern
    replacement: Pattern | Replacement
    why: str
    where: Callable[[Match], bool] | None = None
    exact: bool = False

    def looks(self) -> list[tuple[str, Look]]:
        """At which ops (or kinds of them, as ``kind elementwise``) the pattern can match, and what their operands must
        look like there."""
        if isinstance(self.pattern, OfKind):
            return [(f"kind {kind}", None) for kind in self.pattern.kinds]
        options = self.pattern.options if isinstance(self.pattern, Either) else (self.pattern,)
        found: list[tuple[str, Look]] = []
        for option in options:
            if not isinstance(option, Apply):
                raise ArgumentError(f"rule '{self.name}': the root of a pattern is an op")
            look = tuple(each.heads() for each in option.inputs)
            found.append((option.op, look))
            if option.op in COMMUTATIVE:
                found.append((option.op, look[::-1]))
        return found

    def instantiate(self, found: Match) -> Any:
        if isinstance(self.replacement, Pattern):
            return self.replacement.build(found.bound)
        return self.replacement(found)


def rule(name: str, pattern: Pattern, replacement: Any, *, why: str, where: Callable[[Match], bool] | None = None,
         exact: bool = False) -> Rule:
    """A row of a rule table; `replacement` is a pattern over the same variables, a number, or a function of the match
    that may decline with None."""
    if not isinstance(replacement, Pattern) and not callable(replacement):
        replacement = Number(replacement)
    return Rule(name, pattern, replacement, why, where, exact)
