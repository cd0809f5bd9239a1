"""Rules of algebra and movement: every row is instantiated, fires, and keeps the bits that it promises to keep.

Rows whose pattern says everything are built from it, in every dtype in which they fire. The others have examples here;
a row with neither fails `test_every_rule_has_an_example`.
"""

import itertools

import numpy as np
import pytest

import staticgraph as sg
from staticgraph.errors import DTypeError
from staticgraph.op import registry
from staticgraph.rewrite import algebra, movement, simplify, stability
from staticgraph.rewrite.pattern import Apply, OfKind
from staticgraph.rewrite.rewriter import RuleSet, rewrite
from staticgraph.tensor import toposort

RULES = {rule.name: rule for rule in (*algebra.RULES, *movement.RULES, *stability.CANONICAL)}
DTYPES = ("float64", "float32", "int64", "int8", "uint8", "bool")
ULPS = 4
"""What a rule may change that does not promise the same bits: two powers that are each correct to a unit or two."""


def op(name, *inputs, **attrs):
    return registry[name](*inputs, **attrs)


def values(dtype):
    """Special and ordinary values of a dtype."""
    if dtype == "bool":
        return np.array([True, False])
    if dtype in ("float32", "float64"):
        info = np.finfo(dtype)
        special = [0.0, -0.0, 1.0, -1.0, 0.5, -2.0, 3.0, np.inf, -np.inf, np.nan, info.max, -info.tiny, info.eps,
                   info.smallest_subnormal, 1e19, -1.5e-9]
        return np.array([*special, *np.random.default_rng(0).normal(size=6) * 10]).astype(dtype)
    info = np.iinfo(dtype)
    return np.array([0, 1, 2, 3, 7, 100, info.max, info.min, info.min + 1]).astype(dtype)


def names_in(pattern):
    if hasattr(pattern, "name"):
        return {pattern.name: type(pattern).__name__}
    inside = getattr(pattern, "inputs", ()) or getattr(pattern, "options", ()) or (
        (pattern.inner,) if hasattr(pattern, "inner") else ())
    return {name: kind for each in inside for name, kind in names_in(each).items()}


def is_open(pattern):
    """Does the pattern leave an attribute open that building it needs?"""
    if isinstance(pattern, OfKind):
        return True
    views = {"reshape", "broadcast_to", "permute_dims", "slice", "astype", "sum", "max", "min", "any", "all"}
    inside = getattr(pattern, "inputs", ()) or getattr(pattern, "options", ())
    return (isinstance(pattern, Apply) and pattern.op in views) or any(map(is_open, inside))


def automatic(rule, dtype, nonnegative):
    """Every spelling of the rule's pattern in one dtype, with what feeds it."""
    kinds = names_in(rule.pattern)
    tensors = sorted(name for name, kind in kinds.items() if kind == "Variable")
    numbers = sorted(name for name, kind in kinds.items() if kind == "AnyNumber")
    table = np.array(list(itertools.product(values(dtype), repeat=min(len(tensors), 2))))
    leaves = {name: sg.placeholder(name, (len(table),), "bool" if name == "c" else dtype) for name in tensors}
    feed = {leaf: table[:, number % 2].astype(leaf.dtype) for number, leaf in enumerate(leaves.values())}
    bound = {name: abs(leaf) if nonnegative else leaf for name, leaf in leaves.items()}
    for variant in rule.pattern.variants():
        for number in [0.25, -8.0, 2.0 ** 100] if numbers else [None]:
            try:
                yield variant.build(bound | {name: np.dtype(dtype).type(number) for name in numbers}), feed
            except (DTypeError, OverflowError):
                continue  # no such op on this dtype


x = sg.placeholder("x", (2, 3), "float64")
n = sg.placeholder("n", ("batch", 3), "float64")
row = sg.placeholder("row", (3,), "float32")
one = sg.placeholder("one", (1,), "float64")
scalar = sg.placeholder("scalar", (), "float64")
count = sg.placeholder("count", (2, 1), "int32")
wide = sg.placeholder("wide", (), "int64")
flags = sg.placeholder("flags", (2, 1), "bool")
cube = sg.placeholder("cube", (2, 3, 4), "float64")


def full_slice(tensor):
    return op("slice", tensor, starts=(0,) * tensor.ndim, steps=(1,) * tensor.ndim, shape=tensor.shape)


def cut(tensor, starts, steps, shape):
    return op("slice", tensor, starts=starts, steps=steps, shape=shape)


def stretched(tensor, *shape):
    return op("broadcast_to", tensor, shape=shape)


EXAMPLES = {
    "reshape-same": [op("reshape", x, shape=(2, 3)), op("reshape", n, shape=n.shape)],
    "broadcast-same": [stretched(x, 2, 3), stretched(n, *n.shape)],
    "permute-same": [op("permute_dims", x, axes=(0, 1))],
    "slice-same": [full_slice(x), full_slice(n)],
    "reshape-twice": [op("reshape", op("reshape", x, shape=(6,)), shape=(3, 2))],
    "broadcast-twice": [stretched(stretched(row, 2, 3), 4, 2, 3), stretched(stretched(one, 5, 1), 5, 4)],
    "permute-twice": [op("permute_dims", op("permute_dims", cube, axes=(1, 2, 0)), axes=(0, 2, 1))],
    "slice-twice": [cut(cut(x, (1, 2), (-1, -1), (2, 3)), (0, 0), (1, 2), (1, 2)),
                    cut(cut(x, (0, 0), (1, 1), (2, 2)), (1, 1), (1, -1), (1, 2))],
    "broadcast-leading-ones": [stretched(op("reshape", row, shape=(1, 3)), 4, 3),
                               stretched(op("reshape", scalar, shape=(1, 1)), 2, 3)],
    "broadcast-one-value": [stretched(op("reshape", one, shape=(1, 1, 1)), 2, 3, 1),
                            stretched(op("reshape", scalar, shape=(1,)), 2)],
    "reshape-one-value": [op("reshape", stretched(scalar, 2, 3), shape=(6,)),
                          op("reshape", stretched(one, 2, 3), shape=(3, 2))],
    "permute-one-value": [op("permute_dims", stretched(scalar, 2, 3), axes=(1, 0))],
    "slice-one-value": [cut(stretched(scalar, 2, 3), (1, 2), (1, -2), (1, 2))],
    "sum-broadcast": [op("sum", stretched(wide, 2, 3), axes=(0, 1)), op("sum", stretched(scalar, 4, 2), axes=(1,)),
                      op("sum", stretched(sg.expand_dims(row, 0), 4, 3), axes=(0, 1)),
                      op("sum", stretched(cube, 5, 2, 3, 4), axes=(0, 2)),
                      op("sum", stretched(sg.expand_dims(x, 1), 2, 7, 3), axes=(1, 2)),
                      op("sum", stretched(sg.constant(2.5), *n.shape), axes=(0,)),
                      op("sum", stretched(wide, *n.shape), axes=(0, 1))],
    "max-broadcast": [op("max", stretched(x, 4, 2, 3), axes=(0,)), op("max", stretched(count, 2, 3), axes=(0, 1))],
    "min-broadcast": [op("min", stretched(x, 4, 2, 3), axes=(0, 2)), op("min", stretched(one, 4), axes=(0,))],
    "any-broadcast": [op("any", stretched(flags, 2, 3), axes=(1,)), op("any", stretched(flags, 2, 3), axes=(0, 1))],
    "all-broadcast": [op("all", stretched(flags, 2, 3), axes=(1,)), op("all", stretched(flags, 3, 2, 1), axes=(0,))],
    "hoist": [op("multiply", stretched(scalar, 2, 3), stretched(sg.exp(scalar), 2, 3)),
              op("add", stretched(row, 2, 3), stretched(sg.constant(1.0, "float32"), 2, 3)),
              op("negative", stretched(one, 4)), op("astype", stretched(count, 2, 3), dtype=np.dtype("float32"))],
    "fold": [sg.constant([1.0, -2.0]) * sg.constant([3.0, 0.5]), op("sum", sg.constant([[1, 2], [3, 4]]), axes=(0,)),
             op("reshape", sg.constant([1, 2, 3]), shape=(3, 1)), sg.exp(sg.constant(1.0)),
             sg.sqrt(sg.constant(-1.0))],
    "cast-same": [op("astype", x, dtype=np.dtype("float64"))],
    "cast-twice": [op("astype", op("astype", row, dtype=np.dtype("float64")), dtype=np.dtype("float32")),
                   op("astype", op("astype", count, dtype=np.dtype("int64")), dtype=np.dtype("uint8")),
                   op("astype", op("astype", count, dtype=np.dtype("float64")), dtype=np.dtype("float32")),
                   op("astype", op("astype", flags, dtype=np.dtype("int64")), dtype=np.dtype("bool"))],
    "stop-gradient-inside": [sg.stop_gradient(op("reshape", x, shape=(6,)))],
}


def arrays_for(outputs):
    random = np.random.default_rng(3)
    feed = {}
    for node in toposort([*outputs, n]):  # n also gives "batch" where only the size is used
        if node.op.name == "placeholder":
            shape = tuple(5 if not isinstance(size, int) else size for size in node.shape)
            kind = node.dtype.kind
            feed[node] = random.random(shape) > 0.5 if kind == "b" else (
                random.integers(-1000, 1000, shape) if kind == "i" else np.exp(random.normal(size=shape)))
            feed[node] = feed[node].astype(node.dtype)
    return feed


def compare(rule, before, after):
    assert (before.dtype, before.shape) == (after.dtype, after.shape)
    if not rule.exact:
        assert np.array_equal(np.isnan(before), np.isnan(after))
        np.testing.assert_allclose(after, before, rtol=ULPS * 1e-7 if before.dtype == np.float32 else ULPS * 3e-16)
        return
    np.testing.assert_array_equal(after, before)
    if before.dtype.kind == "f":
        known = ~np.isnan(before)
        assert np.array_equal(np.signbit(before[known]), np.signbit(after[known]))


def cases():
    for rule in RULES.values():
        for number, written in enumerate(EXAMPLES.get(rule.name, ())):
            yield pytest.param(rule, [(written, arrays_for([written]))], id=f"{rule.name}-{number}")
        if not is_open(rule.pattern):
            for dtype in DTYPES:
                built = [*automatic(rule, dtype, nonnegative=False), *automatic(rule, dtype, nonnegative=True)]
                fired = [each for each in built if rewrite([each[0]], RuleSet([rule]))[1]]
                if fired:
                    yield pytest.param(rule, fired, id=f"{rule.name}-{dtype}")


CASES = list(cases())


@pytest.mark.parametrize(("rule", "written"), CASES)
def test_rule_keeps_the_value(rule, written):
    for formula, feed in written:
        (result,), remarks = rewrite([formula], RuleSet([rule]))
        assert {remark.split(":")[0] for remark in remarks} == {rule.name}
        assert result is not formula
        compare(rule, *sg.evaluate([formula, result], feed))


@pytest.mark.parametrize(("rule", "written"), CASES)
def test_whole_table_keeps_the_value(rule, written):
    for formula, feed in written:
        (result,), remarks = simplify([formula])
        assert remarks
        loose = algebra.RULES[-1]
        before, after = sg.evaluate([formula, result], feed)
        compare(loose if not rule.exact or formula.dtype.kind == "f" else rule, before, after)


def test_every_rule_has_an_example():
    assert set(RULES) == {case.id.rsplit("-", 1)[0] for case in CASES}


OUTCOMES = {
    "reshape-twice": [op("reshape", x, shape=(3, 2))],
    "broadcast-twice": [stretched(row, 4, 2, 3), stretched(one, 5, 4)],
    "permute-twice": [op("permute_dims", cube, axes=(1, 0, 2))],
    "slice-twice": [cut(x, (1, 2), (1, -2), (1, 2)), cut(x, (1, 1), (1, -1), (1, 2))],
    "broadcast-leading-ones": [stretched(row, 4, 3), stretched(scalar, 2, 3)],
    "broadcast-one-value": [stretched(op("reshape", one, shape=()), 2, 3, 1), stretched(scalar, 2)],
    "reshape-one-value": [stretched(scalar, 6), stretched(op("reshape", one, shape=()), 3, 2)],
    "permute-one-value": [stretched(scalar, 3, 2)],
    "slice-one-value": [stretched(scalar, 1, 2)],
    "sum-broadcast": [wide * 6, stretched(scalar, 4) * 2.0,
                      op("sum", sg.expand_dims(row, 0), axes=(0, 1)) * np.float32(4), op("sum", cube, axes=(1,)) * 5.0,
                      op("sum", sg.expand_dims(x, 1), axes=(1, 2)) * 7.0,
                      stretched(sg.constant(2.5), 3) * sg.astype(n.shape[0] + 0, "float64"),
                      wide * sg.astype(n.size, "int64")],
    "max-broadcast": [x, op("max", count, axes=(0, 1))],
    "hoist": [stretched(scalar * sg.exp(scalar), 2, 3), stretched(row + sg.constant(1.0, "float32"), 2, 3),
              stretched(-one, 4), stretched(sg.astype(count, "float32"), 2, 3)],
    "fold": [sg.constant([3.0, -1.0]), sg.constant([4, 6]), sg.constant([[1], [2], [3]])],
    "cast-twice": [row, sg.astype(count, "uint8"), sg.astype(count, "float32"), flags],
}


@pytest.mark.parametrize("name", OUTCOMES)
def test_outcome(name):
    for written, expected in zip(EXAMPLES[name], OUTCOMES[name]):
        (result,), _ = rewrite([written], RuleSet([RULES[name]]))
        assert result is expected


LEFT_ALONE = {
    "inf and nan have no product with zero": x * 0.0,
    "-0.0 + 0.0 is 0.0": x + 0.0,
    "0.0 - 0.0 is not -0.0": 0.0 - x,
    "square roots differ at -0.0 and -inf": x ** 0.5,
    "and so do their reciprocals": x ** -0.5,
    "a - b is never -0.0 where b - a is 0.0": -(x - sg.exp(x)),
    "nan - nan": x - x,
    "not a power of two": x / 3,
    "its reciprocal is subnormal": x / 2.0 ** 1023,
    "64-bit integers do not fit into float64": sg.astype(sg.astype(wide, "float64"), "int64"),
    "fractions do not fit into integers": sg.astype(sg.astype(x, "int32"), "float64"),
    "unsigned numbers wrap around": abs(-sg.astype(x > 0, "uint8")),
    "no elements, no inf": sg.sum(stretched(scalar, *n.shape)),
    "no elements, no maximum": sg.max(stretched(one, *n.shape[:1], 1), axis=0),
    "one operand is not stretched": x * stretched(row, 2, 3) if row.dtype == x.dtype else sg.exp(n) * n,
}


@pytest.mark.parametrize("why", LEFT_ALONE)
def test_what_would_change_a_value_is_left_alone(why):
    (result,), remarks = simplify([LEFT_ALONE[why]])
    assert remarks == []
    assert result is LEFT_ALONE[why]


def test_a_square_root_of_what_is_never_negative_is_one():
    norm = sg.sum(sg.square(x), axis=1) ** 0.5
    assert simplify([norm])[0][0] is sg.sqrt(sg.sum(sg.square(x), axis=1))
    assert simplify([sg.exp(x) + 0.0])[0][0] is sg.exp(x)
    assert simplify([sg.sqrt(x) + 0.0])[1] == []  # sqrt(-0.0) is -0.0


def test_large_constants_are_not_folded():
    large = sg.constant(np.zeros(algebra.FOLD_LIMIT + 1)) + sg.constant(np.ones(algebra.FOLD_LIMIT + 1))
    assert simplify([large]) == ([large], [])


def test_an_error_of_constants_is_left_for_the_call():
    index = op("check_index", sg.constant([0, 5]) + sg.constant([0, 0]), size=2, what="take")
    (result,), _ = simplify([index])
    with pytest.raises(sg.OutOfRangeError):
        sg.evaluate(result)


def test_scalar_arithmetic_is_done_once():
    """The bias corrections of Adam: everything 0-d stays 0-d until it meets the parameter."""
    step, rate = sg.placeholder("step", (), "float32"), sg.placeholder("rate", (), "float32")
    m = sg.placeholder("m", (128, 64), "float32")
    scale = stretched(rate, 128, 64) * stretched(sg.sqrt(1 - 0.999 ** step), 128, 64)
    (result,), _ = simplify([scale / stretched(1 - 0.9 ** step, 128, 64) * m])
    large = [node.op.name for node in toposort([result]) if node.shape == (128, 64)]
    assert sorted(large) == ["broadcast_to", "multiply", "placeholder"]


def test_permutation_before_matmul_stays():
    product = sg.matmul(op("permute_dims", x, axes=(1, 0)), x)
    assert simplify([product]) == ([product], [])
