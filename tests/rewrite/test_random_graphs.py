"""Random graphs: the exact rules keep every bit, all rules together keep types, and gradients stay those of the graph.

Operations are the correctly rounded ones, so that NumPy gives the same bits for an array and for one of its elements;
values include infinities, nan, both zeros, and arrays without elements.
"""

import numpy as np
import pytest

import staticgraph as sg
from staticgraph.rewrite import SIMPLIFICATION, simplify, stabilise
from staticgraph.rewrite.rewriter import RuleSet, rewrite
from staticgraph.tensor import toposort

EXACT = RuleSet([rule for rule in SIMPLIFICATION.rules if rule.exact or rule.name == "fold"])
NUMBERS = (0.0, -0.0, 1.0, -1.0, 2.0, 0.25, -8.0, 3.0)
DTYPES = ("float64", "float32", "int32", "bool")


class Grower:
    """Grows a graph node by node from a seed."""

    def __init__(self, seed, rows=3, smooth=False):
        self.random = np.random.default_rng(seed)
        self.rows = rows
        self.smooth = smooth
        shapes = [("rows", 4), (), (4,), ("rows", 1), (2, 1)]
        kinds = DTYPES[:1] if smooth else DTYPES
        self.leaves = [sg.placeholder(f"leaf{number}", shape, dtype)
                       for number, (shape, dtype) in enumerate((s, d) for s in shapes for d in kinds)]
        self.nodes = list(self.leaves)

    def choose(self, options):
        return options[int(self.random.integers(len(options)))]

    def pick(self, dtype=None):
        return self.choose([node for node in self.nodes if dtype is None or node.dtype == dtype])

    def feed(self):
        result = {}
        for leaf in self.leaves:
            shape = tuple(self.rows if not isinstance(size, int) else size for size in leaf.shape)
            if leaf.dtype.kind == "b":
                result[leaf] = self.random.random(shape) > 0.5
            elif leaf.dtype.kind == "i":
                result[leaf] = self.random.integers(-50, 50, shape).astype(leaf.dtype)
            else:
                special = self.random.choice([0.0, -0.0, np.inf, -np.inf, np.nan, 1.0, 1e300], shape)
                plain = self.random.normal(size=shape) * 3
                chance = 0.0 if self.smooth else 0.3
                with np.errstate(over="ignore"):
                    result[leaf] = np.where(self.random.random(shape) < chance, special, plain).astype(leaf.dtype)
        return result

    def grow(self, count):
        while len(self.nodes) < len(self.leaves) + count:
            try:
                node = self.step()
            except (sg.ShapeError, sg.DTypeError):
                continue  # these two do not go together
            if not any(each.guards for each in toposort([node])):  # nor may they only go together at some calls
                self.nodes.append(node)
        return [node for node in self.nodes[len(self.leaves):] if node.op.kind != "leaf"]

    def step(self):
        kind = self.choose(["binary", "binary", "unary", "constant", "view", "choice", "reduce", "cast"])
        return getattr(self, kind)()

    def binary(self):
        a = self.pick()
        name = self.choose(["add", "subtract", "multiply", "maximum", "minimum", "divide"])
        if self.smooth and name == "divide":
            name = "multiply"
        return getattr(sg, name)(a, self.choose([self.pick(a.dtype), a, -a if a.dtype.kind != "b" else a]))

    def unary(self):
        a = self.pick()
        names = ["negative", "square"] if self.smooth else ["negative", "abs", "square", "logical_not", "reciprocal"]
        return getattr(sg, self.choose(names))(a if a.dtype.kind != "i" else sg.abs(a) + 1)

    def constant(self):
        a = self.pick()
        operation = self.choose([sg.add, sg.subtract, sg.multiply, sg.divide, lambda x, c: c - x, lambda x, c: c * x])
        number = self.choose(NUMBERS)
        if a.dtype.kind == "f":
            return operation(a, number if number or operation is not sg.divide else 1.0)
        return sg.add(a, int(number)) if a.dtype.kind == "i" else sg.logical_and(a, self.choose([True, False]))

    def view(self):
        a = self.pick()
        options = [lambda: sg.expand_dims(a, 0), lambda: sg.flip(a), lambda: sg.permute_dims(a, range(a.ndim)[::-1]),
                   lambda: sg.reshape(a, (-1,)), lambda: a[..., ::2], lambda: a[..., 1:], lambda: a.T,
                   lambda: sg.broadcast_to(a, (2, *a.shape)), lambda: sg.squeeze(a)]
        if a.ndim > 3:
            return sg.sum(sg.astype(a, "float64"), axis=0)
        return self.choose(options[3:4] if a.ndim == 0 else options)()

    def choice(self):
        a = self.pick()
        condition = self.choose([self.pick(np.dtype(bool)) for _ in range(2)] if not self.smooth else [a > 0.5])
        return sg.where(condition, a, self.choose([self.pick(a.dtype), a]))

    def reduce(self):
        a = self.pick()
        function = self.choose([sg.max, sg.min]) if a.dtype.kind == "f" and not self.smooth else sg.sum
        axes = [None, *range(a.ndim)]
        return function(a, axis=self.choose(axes), keepdims=bool(self.random.integers(2)))

    def cast(self):
        a = self.pick()
        target = self.choose(DTYPES[:1] if self.smooth else DTYPES)
        return sg.stop_gradient(a) if a.dtype.kind == "f" and target == "bool" else sg.astype(
            a, target if not (a.dtype.kind == "f" and target[0] == "i") else "float64")


def same_bits(before, after):
    assert (before.dtype, before.shape) == (after.dtype, after.shape)
    np.testing.assert_array_equal(after, before)
    if before.dtype.kind == "f":
        known = ~np.isnan(before)
        assert np.array_equal(np.signbit(before[known]), np.signbit(after[known]))


@pytest.mark.parametrize("seed", [*range(150), 1572, 2198])
def test_exact_rules_keep_every_bit(seed):
    grower = Grower(seed)
    outputs = grower.grow(30)
    feed = grower.feed()
    result, _ = rewrite(outputs, EXACT)
    for before, after in zip(sg.evaluate(outputs, feed), sg.evaluate(result, feed)):
        same_bits(before, after)


@pytest.mark.parametrize("seed", range(150, 180))
def test_rewriting_keeps_types_and_comes_to_rest(seed):
    outputs = Grower(seed).grow(60)
    for pass_ in (stabilise, simplify):
        result, _ = pass_(outputs)
        assert [(node.dtype, node.shape) for node in result] == [(node.dtype, node.shape) for node in outputs]
        again, remarks = pass_(result)
        assert remarks == []
        assert all(a is b for a, b in zip(again, result))


@pytest.mark.parametrize("seed", range(200, 230))
def test_without_elements(seed):
    grower = Grower(seed, rows=0, smooth=True)
    outputs = grower.grow(20)
    feed = grower.feed()
    result, _ = simplify(outputs)
    for before, after in zip(sg.evaluate(outputs, feed), sg.evaluate(result, feed)):
        assert before.shape == after.shape
        np.testing.assert_allclose(after, before)


@pytest.mark.parametrize("seed", [*range(300, 340), 3001, 3029])
def test_gradients_of_random_graphs(seed):
    """Against central differences, and the same before and after both passes."""
    grower = Grower(seed, smooth=True)
    scaled = [sg.sum(sg.tanh(node * 0.1)) for node in grower.grow(12) if node.dtype.kind == "f"]
    y = scaled[0]
    for each in scaled[1:]:
        y = y + each
    used = {id(node) for node in toposort([y])}
    leaves = [leaf for leaf in grower.leaves if id(leaf) in used]
    feed = grower.feed()
    sg.verify_grad(y, leaves, feed)
    slopes = sg.grad(y, leaves, unconnected="zero")
    after, _ = simplify(stabilise(slopes)[0])
    for a, b in zip(sg.evaluate(slopes, feed), sg.evaluate(after, feed)):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12)
