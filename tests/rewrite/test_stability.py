"""Stability rules: structure, and accuracy judged against mpmath.

Every rule is instantiated from its own pattern, each spelling of it; a rule that is added is tested without a word
here. The result must be, at every point, at least as near to the exact value as the formula that was written, up to a
few units in the last place; where the written formula has a value at an infinity, the result has the same one.
"""

import itertools
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pytest
from mpmath import mp

import staticgraph as sg
from staticgraph.ops.composite import log_softmax, softmax
from staticgraph.ops.elementwise import sigmoid, softplus
from staticgraph.rewrite import stabilise
from staticgraph.rewrite.rewriter import RuleSet, rewrite
from staticgraph.rewrite.stability import CANONICAL, RULES
from tests.rewrite.exact import errors, exact, exact_slope

ROWS = {"softmax", "softmax-shift", "softmax-log", "log-softmax", "log-softmax-difference", "logsumexp",
        "logsumexp-shift", "log-mean-exp", "variance", "log-of-picked"}
WRITTEN = {
    "log-of-picked": [
        lambda x: sg.log(sg.reshape(softmax(x), (-1,))), lambda x: sg.log(softmax(x).T),
        lambda x: sg.log(sigmoid(x)[1:]), lambda x: sg.log(sg.broadcast_to(softmax(x), (2, *x.shape))),
        lambda x: sg.log(sg.take(softmax(x), [2, 1], axis=1)),
        lambda x: sg.log(sg.take_along_axis(softmax(x), np.arange(x.shape[0])[:, None] % 3, axis=1))],
}
"""Formulas for patterns that leave attributes open."""


class Formula(NamedTuple):
    """A formula of x in the place of a pattern."""

    function: Callable[[sg.Tensor], sg.Tensor]

    def build(self, bound):
        return self.function(bound["x"])


CASES = [(rule, number, variant) for rule in RULES if rule not in CANONICAL
         for number, variant in enumerate(map(Formula, WRITTEN[rule.name]) if rule.name in WRITTEN
                                          else rule.pattern.variants())]
IDS = [f"{rule.name}-{number}" for rule, number, _ in CASES]

MAGNITUDES = [1e-300, 1e-160, 1e-38, 1e-20, 1e-8, 1e-3, 0.1, 0.5, 0.693, 1.0, 1.5, 3.0, 12.0, 20.0, 40.0, 88.0, 103.0,
              360.0, 709.0, 745.0, 1400.0]
FAR = {"abs", "hypot", "log-square", "log-sqrt", "log-exp", "versine"}
"""Rules that are judged up to the end of the range; the others saturate long before."""
LARGEST = {"float32": 3e38, "float64": 1.7e308}
HUGE = [1e10, -1e10, 1e20, 3e38, 1e160, -1e200, 1.7e308]
SLACK = 6
"""Units in the last place that a rule may lose where the written formula was nearly exact: it has other roundings."""


def points(dtype):
    """Numbers over all magnitudes, and rows of them."""
    random = np.random.default_rng(0)
    grid = np.array([0.0, -0.0, *MAGNITUDES, *(-each for each in MAGNITUDES), *random.normal(size=10),
                     *random.normal(scale=30, size=10), *(1 + random.normal(scale=1e-4, size=6))])
    return grid.astype(dtype)


def rows(dtype):
    random = np.random.default_rng(1)
    scales = [1e-9, 1e-3, 1.0, 30.0, 300.0, 1400.0]
    made = [random.normal(size=4) * scale + shift for scale in scales for shift in (0.0, 700.0, -900.0)]
    return np.array([*made, [1000.0, 0.0, 0.0, -5.0], [0.0, 0.0, 0.0, 0.0], [-1e3, -1e3, -1e3, -1e3]]).astype(dtype)


def variables(rule):
    """Names of the tensors in a rule's pattern."""
    found, stack = [], [rule.pattern]
    while stack:
        node = stack.pop()
        if type(node).__name__ == "Variable" and node.name not in found:
            found.append(node.name)
        stack.extend(getattr(node, "inputs", ()) or getattr(node, "options", ()))
        stack.extend([node.inner] if hasattr(node, "inner") else [])
    return sorted(set(found) - {"n"})


def feed_for(rule, dtype):
    """Values of the rule's variables: rows for reductions, else all pairs of points."""
    names = variables(rule)
    if rule.name in ROWS:
        return {"x": rows(dtype)}
    values = points(dtype)
    if rule.name in FAR:
        values = np.concatenate([values, np.array(HUGE).clip(-LARGEST[dtype], LARGEST[dtype]).astype(dtype)])
    return combinations(names, values if len(names) == 1 else values[::2])


def combinations(names, values):
    """Every value for one variable; for two, every pair of values, and each value beside its neighbour."""
    table = np.array(list(itertools.product(values, repeat=len(names))))
    if len(names) == 2:
        neighbours = np.stack([values, np.nextafter(values, np.inf)], axis=1)
        table = np.concatenate([table, neighbours[np.isfinite(neighbours).all(axis=1)]])
    return {name: table[:, number] for number, name in enumerate(names)}


def instantiate(rule, variant, arrays, dtype):
    """The formula of the pattern on placeholders, and what feeds them."""
    bound = {name: sg.placeholder(name, array.shape, dtype) for name, array in arrays.items()}
    feed = {bound[name]: array for name, array in arrays.items()}
    count = sg.constant(4.0, dtype)  # rows have four elements
    return variant.build({**bound, "axes": (1,), "axis": 1, "n": count}), feed


def table_for(rule):
    """The rule alone; a rule that only prepares for others together with them."""
    return RuleSet([rule, *(each for each in RULES if each.name in ("log-softmax", "log-sigmoid"))]
                   if rule.name == "log-of-picked" else [rule])


def conditioning(rule, feed, reference):
    """Units of error that one rounding of an operand makes in the exact result, where that is more than a few.

    Taking out a maximum rounds x - max, and exp magnifies that: a probability p has |log p| units. A logarithm of sums
    near 0 has the units of its operands.
    """
    if rule.name in ("softmax", "softmax-shift", "softmax-log"):
        units = [float(abs(mp.log(each))) if each > 0 else 0.0 for each in reference.flat]
        return np.array(units).reshape(reference.shape)
    if rule.name in ("logaddexp", "log-mean-exp"):
        largest = np.max([np.abs(array) for array in feed.values()], axis=0)
        largest = np.maximum(largest.max(axis=1) if largest.ndim == 2 else largest, 1)
        units = [float(mp.mpf(float(a)) / abs(t)) if t else np.inf for a, t in zip(largest, reference.ravel())]
        return np.array(units).reshape(reference.shape)
    return 0


@pytest.mark.parametrize(("rule", "number", "variant"), CASES, ids=IDS)
def test_rule_fires_on_every_spelling(rule, number, variant):
    written, _ = instantiate(rule, variant, feed_for(rule, "float64"), "float64")
    (result,), remarks = rewrite([written], table_for(rule))
    assert [remark.split(":")[0] for remark in remarks][:1] == [rule.name]
    assert result is not written
    assert (result.dtype, result.shape) == (written.dtype, written.shape)


@pytest.mark.parametrize(("rule", "number", "variant"), CASES, ids=IDS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_rule_is_at_least_as_accurate(rule, number, variant, dtype):
    written, feed = instantiate(rule, variant, feed_for(rule, dtype), dtype)
    (result,), _ = rewrite([written], table_for(rule))
    reference = exact(written, feed)
    before, after = errors(sg.evaluate(written, feed), reference), errors(sg.evaluate(result, feed), reference)
    undefined = np.isnan(before)
    assert np.array_equal(np.isnan(sg.evaluate(result, feed)) & undefined, undefined)
    worse = ~undefined & (after > 2 * before + SLACK + conditioning(rule, feed, reference))
    assert not worse.any(), (np.argwhere(worse), feed, before[worse], after[worse])


FOLLOW_UPS = {"sinh", "tanh-half", "softmax-shift", "softmax-log", "log-softmax-difference", "logsumexp-shift",
              "exp-softplus", "sigmoid"}
"""Rules that save work, or only meet formulas which other rules have repaired."""
REPAIRS = [each for each in CASES if each[0].name not in FOLLOW_UPS]


@pytest.mark.parametrize(("rule", "number", "variant"), REPAIRS, ids=[f"{each[0].name}-{each[1]}" for each in REPAIRS])
def test_rule_repairs_something(rule, number, variant):
    """Somewhere the written formula is wrong in most of its digits, and the result is not."""
    written, feed = instantiate(rule, variant, feed_for(rule, "float64"), "float64")
    (result,), _ = rewrite([written], table_for(rule))
    reference = exact(written, feed)
    before, after = errors(sg.evaluate(written, feed), reference), errors(sg.evaluate(result, feed), reference)
    assert np.nanmax(np.where(after < 100, before, 0)) > 1e4


@pytest.mark.parametrize(("rule", "number", "variant"), CASES, ids=IDS)
def test_rule_keeps_infinities_and_nan(rule, number, variant):
    special = [np.inf, -np.inf, np.nan, 0.0, -0.0, 1.5]
    names = variables(rule)
    arrays = {"x": np.array(list(itertools.product(special, repeat=3)))} if rule.name in ROWS else (
        combinations(names, special))
    written, feed = instantiate(rule, variant, arrays, "float64")
    (result,), _ = rewrite([written], table_for(rule))
    before, after = sg.evaluate([written, result], feed)
    defined = ~np.isnan(before)
    if rule.name in ("softmax", "log-softmax-difference"):
        # inf / inf is nan for the element that is inf; with the maximum taken out, for its whole row.
        defined &= ~np.isposinf(arrays["x"]).any(axis=1, keepdims=True)
    assert np.allclose(before[defined], after[defined], rtol=1e-12, atol=1e-12), (arrays, before, after)
    # hypot(inf, nan) is inf, as in C: every real number in the place of nan gives inf.
    if rule.name not in ("hypot", "log-of-picked"):
        lost = np.logical_or.reduce([np.isnan(array) for array in arrays.values()])
        lost = lost.any(axis=1) if lost.ndim == 2 else lost
        assert np.isnan(after[lost]).all()


SLOPES = [each for each in CASES if each[0].name not in ROWS and each[1] == 0 and len(variables(each[0])) == 1]


@pytest.mark.parametrize(("rule", "number", "variant"), SLOPES, ids=[each[0].name for each in SLOPES])
def test_gradient_is_that_of_the_repaired_formula(rule, number, variant):
    """Far from 0 and close to it the slope has its digits too: formulas are repaired before they are differentiated."""
    sizes = np.array([1e-8, 1e-3, 0.3, 0.9, 3.0, 20.0, 90.0, 360.0, 700.0])
    values = np.concatenate([sizes, -sizes])
    written, feed = instantiate(rule, variant, {variables(rule)[0]: values}, "float64")
    (leaf,) = feed
    slopes = sg.evaluate(sg.stabilise(sg.grad(written, leaf, cotangent=1.0)), feed)
    for value, slope, true in zip(values, slopes, exact_slope(written, leaf, values)):
        if mp.isfinite(true) and abs(true) < 1e307:
            assert abs(mp.mpf(float(slope)) - true) <= 1e-7 * abs(true) + mp.mpf("1e-300"), (value, slope, float(true))


def test_table_is_well_formed():
    names = [rule.name for rule in RULES]
    assert len(set(names)) == len(names)
    assert all(rule.why and rule.looks() for rule in RULES)


x = sg.placeholder("x", (3, 4), "float64")
CHAINS = {
    "log of a softmax by hand": (sg.log(sg.exp(x) / sg.sum(sg.exp(x), axis=1, keepdims=True)), log_softmax(x)),
    "softmax by hand, shifted": (
        sg.exp(x - sg.max(x, axis=1, keepdims=True))
        / sg.sum(sg.exp(x - sg.max(x, axis=1, keepdims=True)), axis=1, keepdims=True), softmax(x)),
    "softmax over the first axis": (sg.exp(x) / sg.sum(sg.exp(x), axis=0), softmax(x, axis=0)),
    "log-softmax by hand": (x - sg.log(sg.sum(sg.exp(x), axis=1, keepdims=True)), log_softmax(x)),
    "logsumexp by hand, shifted": (
        sg.max(x, axis=1) + sg.log(sg.sum(sg.exp(x - sg.max(x, axis=1, keepdims=True)), axis=1)),
        sg.logsumexp(x, axis=1)),
    "logsumexp by hand, shifted, keepdims": (
        sg.log(sg.sum(sg.exp(x - sg.max(x, axis=1, keepdims=True)), axis=1, keepdims=True))
        + sg.max(x, axis=1, keepdims=True), sg.logsumexp(x, axis=1, keepdims=True)),
    "log of a sigmoid by hand": (sg.log(1 / (1 + sg.exp(-x))), -softplus(-x)),
    "log of its complement": (sg.log(1 - 1 / (1 + sg.exp(-x))), -softplus(x)),
    "both halves of a cross entropy": (sg.log(1 - sigmoid(x)), -softplus(x)),
    "softplus of a negation": (sg.log(sg.exp(-x) + 1.0), softplus(-x)),
    "normal distribution": (0.5 * (1 + sg.erf(x / 1.5)), 0.5 * sg.erfc(-(x / 1.5))),
    "a norm": (sg.sqrt(x[0] ** 2 + x[1] * x[1]), sg.hypot(x[0], x[1])),
}


@pytest.mark.parametrize("name", CHAINS)
def test_rules_chain(name):
    written, expected = CHAINS[name]
    assert stabilise([written])[0][0] is expected


UNTOUCHED = {
    "log of any sum": sg.log(sg.sum(x, axis=1)),
    "softmax over two axes": sg.exp(x) / sg.sum(sg.exp(x)),
    "exp of a logarithm": sg.exp(sg.log(x)),  # nan below 0, where x is not
    "log with a floor": sg.log(softmax(x) + 1e-8),
    "another constant": 2 - sg.square(sg.tanh(x)),
    "another variable": sg.exp(x) / (1 + sg.exp(2 * x)),
}


@pytest.mark.parametrize("name", UNTOUCHED)
def test_other_formulas_are_left_alone(name):
    (result,), remarks = stabilise([UNTOUCHED[name]])
    assert result is UNTOUCHED[name]
    assert remarks == []


def test_a_square_matrix_is_normalised_over_the_axis_that_is_meant():
    square = sg.placeholder("square", (3, 3), "float64")
    wrong = sg.exp(square) / sg.expand_dims(sg.sum(sg.exp(square), axis=0), 1)  # sums of columns, along rows
    assert stabilise([wrong])[1] == []
    right = sg.exp(square) / sg.expand_dims(sg.sum(sg.exp(square), axis=1), 1)
    assert stabilise([right])[0][0] is softmax(square)


@pytest.mark.parametrize("axis", [None, 0, 1, (0, 1)])
@pytest.mark.parametrize("keepdims", [False, True])
@pytest.mark.parametrize("shape", [(5, 4), ("n", 4), ("n", "m")])
def test_variance_by_hand(axis, keepdims, shape):
    z = sg.placeholder("z", shape, "float64")
    written = sg.mean(z ** 2, axis=axis, keepdims=keepdims) - sg.square(sg.mean(z, axis=axis, keepdims=keepdims))
    (result,), remarks = stabilise([written])
    assert [remark.split(":")[0] for remark in remarks] == ["variance"]
    value = 1e9 + np.random.default_rng(0).normal(size=(5, 4))
    np.testing.assert_allclose(sg.evaluate(result, {z: value}), np.var(value, axis=axis, keepdims=keepdims), rtol=1e-6)


def test_no_variance_with_another_count():
    for count in (5.0, 3.5, sg.placeholder("count", (), "float64")):
        assert stabilise([sg.sum(x ** 2, axis=1) / count - (sg.sum(x, axis=1) / count) ** 2])[1] == []
    assert stabilise([sg.mean(x ** 2, axis=1) - sg.mean(x + 1, axis=1) ** 2])[1] == []


@pytest.mark.parametrize("keepdims", [False, True])
@pytest.mark.parametrize("shape", [(3, 4), ("n", "m")])
def test_log_mean_exp(keepdims, shape):
    z = sg.placeholder("z", shape, "float64")
    written = sg.log(sg.mean(sg.exp(z), axis=1, keepdims=keepdims))
    (result,), remarks = stabilise([written])
    assert len(remarks) == 1
    value = np.array([[1000.0, 1000.0, -5.0, 1000.0], [-900.0] * 4, [-np.inf] * 4])
    expected = np.array([1000 + np.log(0.75), -900.0, -np.inf]).reshape((3, 1) if keepdims else 3)
    np.testing.assert_allclose(sg.evaluate(result, {z: value}), expected)
    slope = sg.grad(written, z, cotangent=1.0)
    np.testing.assert_allclose(sg.evaluate(slope, {z: value})[:2], [[1 / 3, 1 / 3, 0, 1 / 3], [0.25] * 4], atol=1e-12)
