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

from ..op import broadcast, registry
from ..tensor import Tensor
from .pattern import Match, Pattern, attr, either, kept_shape, ops, rule, spread, var

a, b, c, x, y = var("a"), var("b"), var("c"), var("x"), var("y")
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


# Cleaning up after other rules; the same bits.
CANONICAL = (
    rule("negate-twice", p.negative(p.negative(x)), x, why="-(-x) is x", exact=True),
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
    rule("log1p", p.log(1 + x), p.log1p(x), why="1 + x rounds x away"),
    rule("log1p-minus", p.log(1 - x), p.log1p(-x), why="1 - x rounds x away"),
    rule("expm1", p.exp(x) - 1, p.expm1(x), why="cancels near 0"),
    rule("expm1-minus", 1 - p.exp(x), -p.expm1(x), why="cancels near 0"),
    rule("softplus-difference", p.softplus(x) - x, p.softplus(-x), why="cancels for large x"),
    rule("softplus-difference-minus", x - p.softplus(x), -p.softplus(-x), why="cancels for large x"),
    rule("exp-softplus", p.exp(-p.softplus(x)), p.sigmoid(-x), why="exp magnifies the rounding of softplus"),
)

# The logistic function and the hyperbolic tangent, written by exponentials.
SIGMOIDS = (
    rule("sigmoid", either(1 / (1 + p.exp(x)), p.reciprocal(1 + p.exp(x))), p.sigmoid(-x), why="exp overflows"),
    rule("sigmoid-quotient", p.exp(x) / (1 + p.exp(x)), p.sigmoid(x), why="inf / inf"),
    rule("sigmoid-complement", 1 - p.sigmoid(x), p.sigmoid(-x), why="cancels for large x"),
    rule("tanh", (p.exp(x) - p.exp(-x)) / (p.exp(x) + p.exp(-x)), p.tanh(x), why="inf / inf, and cancels near 0"),
    rule("tanh-half", p.expm1(x) / (1 + p.exp(x)), p.tanh(0.5 * x), why="inf / inf"),
    rule("tanh-slope", 1 - squared(p.tanh(x)), 4 * (p.sigmoid(2 * x) * p.sigmoid(-2 * x)),
         why="cancels as tanh nears 1"),
)

# Roots, circles and the error function.
OTHERS = (
    rule("abs", p.sqrt(squared(x)), p.abs(x), why="squares overflow and underflow"),
    rule("hypot", p.sqrt(squared(x) + squared(y)), p.hypot(x, y), why="squares overflow and underflow"),
    rule("versine", 1 - p.cos(x), 2 * p.square(p.sin(0.5 * x)), why="cancels near 0"),
    rule("erfc", 1 - p.erf(x), p.erfc(x), why="cancels for large x"),
    rule("erfc-minus", 1 + p.erf(x), p.erfc(-x), why="cancels for large negative x"),
    rule("erf", 1 - p.erfc(x), p.erf(x), why="cancels near 0"),
)

RULES = (*CANONICAL, *SOFTMAX, *LOGARITHMS, *SIGMOIDS, *OTHERS)
