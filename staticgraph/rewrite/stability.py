"""Rules that repair formulas: the same real function, by operations that neither overflow nor cancel.

Applied before differentiation and before compilation. Each row promises a result at least as accurate as the formula
that was written (a few units in the last place aside), at every point where that formula has a value; the tests judge
both sides against mpmath. Infinities and nan keep their meaning, or gain one (``log(exp(x))`` at inf is inf).
Two exceptions: a row with +inf has no softmax at all (by hand, its finite elements came out as 0), and hypot(inf, nan)
is inf, as in C.

The tables are read bottom-up: by the time a rule sees ``log(softmax(x))``, a softmax written by hand is one already.
"""

from __future__ import annotations

import math
from typing import Any

from ..op import as_tensor, broadcast, registry
from ..tensor import Tensor, build
from ..types import Size, product
from .algebra import SPELLING
from .pattern import Match, Pattern, Rule, attr, either, kept_shape, ops, rule, scalar_value, spread, var

a, b, n, x, y = var("a"), var("b"), var("n"), var("x"), var("y")
axes = attr("axes")
p: Any = ops


def squared(base: Pattern) -> Pattern:
    """The spellings of a square."""
    return either(p.square(base), base * base, p.pow(base, 2))


def one_axis(found: Match) -> bool:
    return len(found.bound["axes"]) == 1


def kept(reduced: Pattern) -> Pattern:
    """A reduced tensor as it stands, or with its axes kept."""
    return either(reduced, spread(reduced, axes))


# One spelling of each difference, so that the rules below meet them all, and cleaning up after other rules; the same
# bits.
CANONICAL = (
    *SPELLING,
    rule("stop-gradient-inside", p.stop_gradient(p.reshape(x, shape=attr("shape"))),
         p.reshape(p.stop_gradient(x), shape=attr("shape")), why="one order of the two", exact=True),
)


def to_softmax(found: Match) -> Tensor:
    return registry["softmax"](found.bound["x"], axis=found.bound["axes"][0])


def same_axis(found: Match) -> bool:
    return tuple(found.bound["axes"]) == (found.bound["axis"],)


def to_logsumexp(found: Match) -> Tensor:
    """In the shape of the node that is replaced: reduced, or with its axes kept."""
    shape, reduced = found.nodes[0].shape, tuple(found.bound["axes"])
    result = registry["logsumexp"](found.bound["x"], axes=reduced)
    if result.shape == shape:
        return result
    return broadcast(registry["reshape"](result, shape=kept_shape(result.shape, reduced)), shape)


# A reduction and its exponentials: the row maximum has to come out first.
shift = either(p.max(x, axes=axes), p.stop_gradient(p.max(x, axes=axes)))
log_sum = p.logsumexp(x, axes=axes)
shifted_log_sum = p.logsumexp(x - spread(shift, axes), axes=axes)

SOFTMAX = (
    rule("softmax", p.exp(x) / spread(p.sum(p.exp(x), axes=axes), axes), to_softmax, where=one_axis,
         why="exp overflows where its quotient is between 0 and 1"),
    rule("softmax-shift", p.softmax(x - spread(shift, axes), axis=attr("axis")), p.softmax(x, axis=attr("axis")),
         where=same_axis, why="softmax takes the maximum out itself"),
    rule("softmax-log", p.exp(p.log_softmax(x, axis=attr("axis"))), p.softmax(x, axis=attr("axis")),
         why="exp magnifies the rounding of a large logarithm"),
    rule("log-softmax", p.log(p.softmax(x, axis=attr("axis"))), p.log_softmax(x, axis=attr("axis")),
         why="a probability that underflows to 0 has a finite logarithm"),
    rule("log-softmax-difference", x - spread(log_sum, axes),
         lambda found: registry["log_softmax"](found.bound["x"], axis=found.bound["axes"][0]), where=one_axis,
         why="the maximum is taken out before it meets the sum"),
    rule("logsumexp", p.log(kept(p.sum(p.exp(x), axes=axes))), to_logsumexp, why="exp overflows"),
    rule("logsumexp-shift", either(shift + shifted_log_sum, spread(shift, axes) + spread(shifted_log_sum, axes)),
         to_logsumexp, why="logsumexp takes the maximum out itself"),
)


def is_positive_count(found: Match) -> bool:
    """A divisor that is a positive constant or a size: its logarithm has no surprises."""
    value = scalar_value(found.bound["n"])
    return size_behind(found.bound["n"]) is not None if value is None else bool(value > 0)


def size_behind(node: Tensor) -> Size | None:
    """The symbolic size that a stretched and cast number stands for."""
    while node.op.name in ("broadcast_to", "reshape", "astype"):
        node = node.inputs[0]
    return node.attrs["size"] if node.op.name == "size_of" else None


def is_shifted(node: Tensor) -> bool:
    """Has a maximum been taken out of x already?"""
    if node.op.name != "subtract":
        return False
    shift = node.inputs[1]
    while shift.op.name in ("broadcast_to", "reshape", "stop_gradient", "where"):
        shift = shift.inputs[1 if shift.op.name == "where" else 0]
    return shift.op.name == "max"


def shift_mean_of_exp(found: Match) -> Tensor | None:
    """``log(mean(exp(x)))`` with the row maximum taken out; its derivative is zero, so it is none of the gradient's."""
    x, axes, n = (found.bound[name] for name in ("x", "axes", "n"))
    if is_shifted(x) or any(isinstance(x.shape[axis], int) and x.shape[axis] == 0 for axis in axes):
        return None
    root = found.nodes[0]
    largest = registry["max"](x, axes=axes)
    largest = registry["stop_gradient"](registry["where"](registry["isfinite"](largest), largest, 0))
    whole = registry["reshape"](largest, shape=kept_shape(largest.shape, axes))
    total = registry["sum"](registry["exp"](registry["subtract"](x, whole)), axes=axes)
    if total.ndim != root.ndim:
        total, largest = registry["reshape"](total, shape=whole.shape), whole
    return registry["add"](registry["log"](registry["divide"](total, n)), largest)


def divides_by_count(found: Match) -> bool:
    """Is n the number of elements that were summed?"""
    x, n = found.bound["x"], found.bound["n"]
    count = product(x.shape[axis] for axis in found.bound["axes"])
    if isinstance(count, int):
        value = scalar_value(n)
        return value is not None and count > 0 and bool(value == count)
    return size_behind(n) == count


def centre_first(found: Match) -> Tensor:
    """The mean squared distance from the mean."""
    x, axes, n = (found.bound[name] for name in ("x", "axes", "n"))
    total, root = registry["sum"](x, axes=axes), found.nodes[0]
    whole = registry["reshape"](total, shape=kept_shape(total.shape, axes))
    count = n if scalar_value(n) is None else as_tensor(scalar_value(n))
    while count.op.name == "broadcast_to":
        count = count.inputs[0]
    centred = registry["subtract"](x, registry["divide"](whole, count))
    squares = registry["sum"](registry["square"](centred), axes=axes)
    if squares.shape != root.shape:
        squares = registry["reshape"](squares, shape=root.shape)
    return registry["divide"](squares, count)


def mean_of(inner: Pattern) -> Pattern:
    total: Pattern = p.sum(inner, axes=axes)
    return total / n


def kept_mean_of(inner: Pattern) -> Pattern:
    return spread(p.sum(inner, axes=axes), axes) / n


MEANS = (
    rule("log-mean-exp", p.log(kept(p.sum(p.exp(x), axes=axes)) / n), shift_mean_of_exp, where=is_positive_count,
         why="exp overflows"),
    rule("variance", either(mean_of(squared(x)) - squared(mean_of(x)),
                            kept_mean_of(squared(x)) - squared(kept_mean_of(x))),
         centre_first, where=divides_by_count, why="the squares cancel where the mean is far from 0"),
)


def log_inside(found: Match) -> Tensor:
    """The logarithm before the view: elementwise, so the order does not matter."""
    view = found.nodes[1]
    inner = registry["log"](view.inputs[0])
    return build(view.op, [inner, *view.inputs[1:]], view.attrs)


probabilities = either(p.softmax(x), p.sigmoid(x))
picked = either(*[getattr(p, name)(probabilities) for name in ("reshape", "permute_dims", "slice", "broadcast_to")],
                *[getattr(p, name)(probabilities, a) for name in ("gather", "gather_along")])

VIEWS = (
    rule("log-of-picked", p.log(picked), log_inside, why="softmax and sigmoid have logarithms of their own"),
)

# Logarithms and exponentials of one element.
LOGARITHMS = (
    rule("softplus", either(p.log(1 + p.exp(x)), p.log1p(p.exp(x))), p.softplus(x), why="exp overflows"),
    rule("logaddexp", p.log(p.exp(a) + p.exp(b)), p.logaddexp(a, b), why="exp overflows"),
    rule("log-exp", p.log(p.exp(x)), x, why="exp overflows and underflows"),
    rule("log1p-expm1", p.log1p(p.expm1(x)), x, why="exp overflows, and expm1 ends at -1"),
    rule("log-sqrt", p.log(p.sqrt(x)), 0.5 * p.log(x), why="the rounding of sqrt counts near 1"),
    rule("log-square", p.log(squared(x)), 2 * p.log(p.abs(x)), why="squares overflow and underflow"),
    rule("log-sigmoid", p.log(p.sigmoid(x)), -p.softplus(-x), why="sigmoid underflows, and rounds to 1"),
    rule("log1m-exp", either(p.log(-p.expm1(x)), p.log1p(-p.exp(x))),
         p.where(p.less(x, -math.log(2)), p.log1p(0 - p.exp(x)), p.log(0 - p.expm1(x))),
         why="1 - exp(x) cancels near 0 and rounds to 1 far from it"),
    # 0 - -expm1(x) is expm1(x), spelled so that the rule does not meet itself again.
    rule("log-expm1", p.log(p.expm1(x)),
         p.where(p.greater(x, 1), x + p.log(0 - p.expm1(-x)), p.log(0 - -p.expm1(x))), why="exp overflows"),
    rule("log1p", p.log(1 + x), p.log1p(x), why="1 + x rounds x away"),
    rule("log1p-minus", p.log(1 - x), p.log1p(-x), why="1 - x rounds x away"),
    rule("log2-of-sum", p.log2(1 + x), p.log1p(x) * (1 / math.log(2)), why="1 + x rounds x away"),
    rule("log10-of-sum", p.log10(1 + x), p.log1p(x) * (1 / math.log(10)), why="1 + x rounds x away"),
    rule("softplus-difference", p.softplus(x) - x, p.softplus(-x), why="cancels for large x"),
    rule("softplus-difference-minus", x - p.softplus(x), -p.softplus(-x), why="cancels for large x"),
    rule("logit", either(p.log(p.sigmoid(x) / p.sigmoid(-x)), p.softplus(x) - p.softplus(-x),
                         -p.softplus(-x) - -p.softplus(x)), x, why="underflows, and cancels near 0"),
    rule("log-cosh", p.log(p.cosh(x)),
         p.where(p.less(p.abs(x), 1), p.log1p(2 * p.square(p.sinh(0.5 * x))),
                 p.abs(x) + (p.log1p(p.exp(-2 * p.abs(x))) - math.log(2))),
         why="cosh overflows, and rounds to 1 near 0"),
    rule("exp-softplus", p.exp(-p.softplus(x)), p.sigmoid(-x), why="exp magnifies the rounding of softplus"),
)

# The logistic function and the hyperbolic ones, written by exponentials.
growing, falling = p.exp(x), p.exp(-x)

SIGMOIDS = (
    rule("sigmoid", either(1 / (1 + p.exp(x)), p.reciprocal(1 + p.exp(x))), p.sigmoid(-x), why="exp overflows"),
    rule("sigmoid-quotient", p.exp(x) / (1 + p.exp(x)), p.sigmoid(x), why="inf / inf"),
    rule("tanh", either((growing - falling) / (growing + falling), p.sinh(x) / p.cosh(x)), p.tanh(x),
         why="inf / inf, and cancels near 0"),
    rule("tanh-half", p.expm1(x) / (1 + p.exp(x)), p.tanh(0.5 * x), why="inf / inf"),
    rule("sinh", either((growing - falling) / 2, 0.5 * (growing - falling)), p.sinh(x), why="cancels near 0"),
    rule("tanh-slope", 1 - squared(p.tanh(x)), 4 * (p.sigmoid(2 * x) * p.sigmoid(-2 * x)),
         why="cancels as tanh nears 1"),
    rule("tanh-plus-one", 1 + p.tanh(x), 2 * p.sigmoid(2 * x), why="cancels for large negative x"),
)


def complement(name: str, function: Pattern, rest: Pattern, why: str) -> tuple[Rule, Rule]:
    """``1 - f(x)`` has a formula of its own; so then has ``f(x) - 1``."""
    return (rule(f"{name}-complement", 1 - function, rest, why=why),
            rule(f"{name}-minus-one", function - 1, -rest, why=why))


COMPLEMENTS = (
    *complement("exp", p.exp(x), -p.expm1(x), "cancels near 0"),
    *complement("sigmoid", p.sigmoid(x), p.sigmoid(-x), "cancels for large x"),
    *complement("tanh", p.tanh(x), 2 * p.sigmoid(-2 * x), "cancels for large x"),
    *complement("erf", p.erf(x), p.erfc(x), "cancels for large x"),
    *complement("erfc", p.erfc(x), p.erf(x), "cancels near 0"),
    *complement("cos", p.cos(x), 2 * p.square(p.sin(0.5 * x)), "cancels near 0"),
    rule("erf-plus-one", 1 + p.erf(x), p.erfc(-x), why="cancels for large negative x"),
)

# Roots, circles and areas.
OTHERS = (
    rule("abs", p.sqrt(squared(x)), p.abs(x), why="squares overflow and underflow"),
    rule("hypot", p.sqrt(squared(x) + squared(y)), p.hypot(x, y), why="squares overflow and underflow"),
    rule("difference-of-squares", squared(x) - squared(y), (x - y) * (x + y),
         why="the rounding of the squares is all that is left"),
    rule("one-minus-square", 1 - squared(x), (1 - x) * (1 + x), why="the rounding of the square is all that is left"),
    rule("square-minus-one", squared(x) - 1, (x - 1) * (x + 1), why="the rounding of the square is all that is left"),
    rule("asinh", p.log(x + p.sqrt(1 + squared(x))), p.asinh(x), why="cancels for negative x"),
    rule("atanh", 0.5 * p.log((1 + x) / (1 - x)), p.atanh(x), why="1 + x rounds x away"),
)

RULES = (*CANONICAL, *SOFTMAX, *MEANS, *VIEWS, *LOGARITHMS, *SIGMOIDS, *COMPLEMENTS, *OTHERS)
