"""Every primitive, compiled, against its NumPy meaning: dtypes, shapes with sizes 0 and 1, special values.

Many ops are outputs of one executable, so that a table of some thousand cases compiles in seconds. What is left out:
casts of floats to integers that cannot hold them, which are undefined in NumPy too.
"""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

import staticgraph as sg
from staticgraph.op import Op, registry
from staticgraph.ops import custom
from staticgraph.tensor import Tensor
from tests.compiler.compare import ANY_ZERO, DTYPES, FLOATS, INTEGERS, Array, check, ordinary, pairs, specials, ulps

UNARY = """negative abs sign square sqrt exp exp2 expm1 log log1p log2 log10 sin cos tan sinh cosh tanh asin acos atan
asinh acosh atanh erf erfc sigmoid softplus relu floor ceil trunc round reciprocal isnan isinf isfinite logical_not
bitwise_invert stop_gradient""".split()
BINARY = """add subtract multiply divide floor_divide remainder pow atan2 hypot maximum minimum copysign equal
not_equal less less_equal greater greater_equal logical_and logical_or logical_xor bitwise_and bitwise_or bitwise_xor
bitwise_left_shift bitwise_right_shift""".split()
CHOICE = ["where", "astype", "logaddexp"]
NOT_OF_BOOLS = {"negative", "sign", "subtract"}
OF_INTEGERS = {name for name in registry if name.startswith("bitwise")}
SHAPES: tuple[tuple[int, ...], ...] = ((), (0,), (1,), (7,), (3, 0), (2, 1, 3), (5, 1), (1, 1), (4, 3))

# Distance from NumPy in ulps, where both round: each side is within a few ulps of the truth.
BOUNDS = dict.fromkeys("""exp exp2 expm1 log log1p log2 log10 sin cos tan sinh cosh tanh asin acos atan asinh acosh
atanh erf erfc sigmoid softplus pow atan2 hypot""".split(), 4.0)
ROUNDING_OF_SUMS = 0.0
"""Ulps between a short sum and NumPy's: none where both add up in one order."""

# Which zero wins a tie of 0.0 and -0.0 depends on the position of the element in NumPy.
BOUNDS |= {"maximum": ANY_ZERO, "minimum": ANY_ZERO}


def applies(name: str, dtype: str) -> bool:
    kind = np.dtype(dtype).kind
    return not (kind == "b" and name in NOT_OF_BOOLS) and not (kind == "f" and name in OF_INTEGERS)


def exact_for_integers(dtype: str) -> dict[str, float]:
    """The bounds, but integer powers are exact."""
    return {**BOUNDS, "pow": BOUNDS["pow"] if np.dtype(dtype).kind == "f" else 0.0}


# Elementwise.

@pytest.mark.parametrize("dtype", DTYPES)
def test_unary(dtype: str) -> None:
    x = sg.placeholder("x", ("n",), dtype)
    outputs = {name: getattr(sg, name)(x) for name in UNARY if applies(name, dtype)}
    check(outputs, *({x: values} for values in (specials(dtype), *(ordinary(dtype, (n,)) for n in (0, 1, 7, 1000)))),
          bounds=BOUNDS)


@pytest.mark.parametrize("dtype", DTYPES)
def test_binary(dtype: str) -> None:
    a, b = sg.placeholder("a", ("n",), dtype), sg.placeholder("b", ("n",), dtype)
    outputs = {name: getattr(sg, name)(a, b) for name in BINARY if applies(name, dtype)}
    if np.dtype(dtype).kind == "i":
        outputs["pow"] = sg.pow(a, b & 63)     # NumPy refuses negative exponents
    left, right = pairs(dtype)
    check(outputs, {a: left, b: right}, *({a: ordinary(dtype, (n,)), b: ordinary(dtype, (n,), 1)} for n in (0, 1, 501)),
          bounds=exact_for_integers(dtype))


@pytest.mark.parametrize("dtype", FLOATS)
def test_logaddexp(dtype: str) -> None:
    """Near 0 the result has lost the digits that its operands lack: the bound is of ulps of 1 there."""
    a, b = sg.placeholder("a", ("n",), dtype), sg.placeholder("b", ("n",), dtype)
    y = sg.logaddexp(a, b)
    compiled = sg.compile([a, b], y)
    for left, right in (pairs(dtype), (ordinary(dtype, (2000,)), ordinary(dtype, (2000,), 1))):
        assert (ulps(compiled(left, right), sg.evaluate(y, {a: left, b: right}), least=1.0) <= 4).all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_where(dtype: str) -> None:
    condition = sg.placeholder("condition", ("n",), "bool")
    a, b = sg.placeholder("a", ("n",), dtype), sg.placeholder("b", ("n",), dtype)
    left, right = pairs(dtype)
    outputs = {"tensors": sg.where(condition, a, b), "number": sg.where(condition, a, 1),
               "self": sg.where(a == b, a, b)}
    check(outputs, *({condition: np.arange(len(left)) % 3 == start, a: left, b: right} for start in (0, 1)))


def castable(source: str, target: str) -> Array:
    """Special values of one dtype that the other can hold, where that is a question at all."""
    values = specials(source)
    if np.dtype(source).kind == "f" and np.dtype(target).kind in "iu":
        limits = np.iinfo(target)
        with np.errstate(invalid="ignore"):
            values = values[(values > max(limits.min, -2.0**62)) & (values < min(limits.max, 2.0**62))]
    return values


@pytest.mark.parametrize("source", DTYPES)
def test_astype(source: str) -> None:
    for target in DTYPES if np.dtype(source).kind == "f" else [None]:
        targets = DTYPES if target is None else (target,)
        x = sg.placeholder("x", ("n",), source)
        outputs = {each: sg.astype(x, each) for each in targets if each != source}
        if outputs:
            check(outputs, {x: castable(source, target or source)}, {x: castable(source, target or source)[:0]})


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_elementwise_shapes(shape: tuple[int, ...]) -> None:
    """Operands that broadcast, transposed and sliced, static and symbolic."""
    for sizes in (shape, tuple(f"n{axis}" for axis in range(len(shape)))):
        x, y = sg.placeholder("x", sizes), sg.placeholder("y", shape[-1:])
        z = sg.placeholder("z", sizes[::-1])
        outputs = {"same": x * x + 1, "last": x + y, "first": sg.reshape(y, (*y.shape, *(1,) * x.ndim)) - x,
                   "transposed": x - sg.transpose(z), "scalar": 2.5 * x - 0.5, "relu": sg.relu(sg.transpose(z) * x),
                   "flipped": sg.flip(x) * x}
        check(outputs, {x: ordinary("float32", shape), y: ordinary("float32", shape[-1:], 1),
                        z: ordinary("float32", shape[::-1], 2)})


def test_check_index() -> None:
    x = sg.placeholder("x", ("n",), "int32")
    checked = registry["check_index"](x, size=5, what="take, axis 0")
    compiled = check({"checked": checked}, {x: np.array([0, 4, -1, -5], np.int32)}, {x: np.zeros(0, np.int32)})
    with pytest.raises(sg.OutOfRangeError, match="take: index 5 is out of range for axis 0 of size 5"):
        compiled(np.array([0, 5], np.int32))
    assert compiled(np.array([1], np.int32))["checked"] == 1


# Leaves.

@pytest.mark.parametrize("dtype", DTYPES)
def test_leaves(dtype: str) -> None:
    value = specials(dtype)
    held = sg.variable(value, "held")
    outputs = {"constant": sg.constant(value), "scalar": sg.constant(value[-1]), "variable": held,
               "used": sg.constant(value) == held, "each": sg.stack([sg.constant(each) for each in value]),
               "full": sg.full((3, 2), value[1], dtype), "alike": sg.zeros_like(held)}
    check(outputs, {})


def test_sizes_as_values() -> None:
    x = sg.placeholder("x", ("n", "m"))
    n, m = x.shape
    outputs = {"iota": sg.arange(n), "of_m": sg.arange(m, dtype="int8"), "filled": sg.full((m, n), 2.5), "size": x * n,
               "mean": sg.sum(x) / (n * m), "alone": sg.constant(0) + n, "part": sg.arange(n)[1:],
               "eye": sg.eye(3, dtype="float32")}
    check(outputs, *({x: ordinary("float32", shape)} for shape in ((2, 3), (1, 1), (7, 2))),
          bounds={"mean": ROUNDING_OF_SUMS})


# Reductions, scans, sorts.

CUBES: tuple[tuple[int, ...], ...] = ((2, 3, 5), (1, 1, 1), (0, 3, 2), (3, 0, 2), (33, 1, 70), (1, 600, 3))
AXES: tuple[tuple[int, ...], ...] = ((0,), (1,), (2,), (0, 1), (0, 2), (1, 2), (0, 1, 2))
SIZES = ("bool", "int8", "uint16", "float32", "float64")
"""Dtypes for what only moves elements: one of each size."""
WHOLE = ("float32", "int64")
"""Dtypes that are tested along every axis; the rest take some."""
NEED_ONE = ("max", "min", "argmax", "argmin")


def reductions(x: Tensor, names: tuple[str, ...]) -> dict[str, Tensor]:
    return {f"{name} {axes}": getattr(sg, name)(x, axes[0] if name.startswith("arg") else axes)
            for name in names for axes in (AXES if str(x.dtype) in WHOLE else AXES[1:5])
            if len(axes) == 1 or not name.startswith("arg")}


@pytest.mark.parametrize("dtype", DTYPES)
def test_reductions(dtype: str) -> None:
    x = sg.placeholder("x", ("a", "b", "c"), dtype)
    full = reductions(x, ("sum", "prod", "any", "all"))
    check(full, *({x: ordinary(dtype, shape)} for shape in CUBES), relative=np.dtype(dtype).kind == "f")
    chosen = reductions(x, NEED_ONE)
    check(chosen, *({x: ordinary(dtype, shape)} for shape in CUBES if 0 not in shape),
          bounds=dict.fromkeys(chosen, ANY_ZERO))


@pytest.mark.parametrize("dtype", FLOATS)
def test_reductions_of_specials(dtype: str) -> None:
    """nan and infinities in every place of short rows, zeros of both signs, the first of equal extremes."""
    values = np.array([0.0, -0.0, 1.0, -np.inf, np.inf, np.nan], dtype)
    rows = np.array(list(itertools.product(values, repeat=3)), dtype)
    x = sg.placeholder("x", ("n", "m"), dtype)
    outputs = {f"{name} {axis}": getattr(sg, name)(x, axis) for name in ("sum", "prod", *NEED_ONE) for axis in (0, 1)}
    outputs |= {f"{name} {axis}": getattr(sg, name)(x != 0, axis) for name in ("any", "all") for axis in (0, 1)}
    check(outputs, {x: rows}, {x: rows.T.copy()}, {x: rows[:1]}, bounds=dict.fromkeys(outputs, ANY_ZERO))


@pytest.mark.parametrize("dtype", INTEGERS)
def test_integer_sums_wrap_around(dtype: str) -> None:
    x = sg.placeholder("x", ("n",), dtype)
    outputs = {f"{name} {kept}": getattr(sg, name)(x, dtype=kept) for name in ("sum", "prod") for kept in (dtype, None)}
    check(outputs, {x: specials(dtype)}, {x: np.repeat(specials(dtype), 40)})


def test_empty_extremes_are_an_error() -> None:
    x = sg.placeholder("x", ("n", "m"))
    largest = sg.compile([x], sg.max(x, 1))
    np.testing.assert_array_equal(largest(np.zeros((0, 3), "float32")), np.zeros(0))
    with pytest.raises(sg.ShapeError, match=r"(?s)max: axis 1 .* is empty \(m = 0\), so there is no max(?!.*got)"):
        largest(np.zeros((2, 0), "float32"))


@pytest.mark.parametrize("dtype", [each for each in DTYPES if each != "bool"])
def test_scans(dtype: str) -> None:
    x, a = sg.placeholder("x", ("a", "b", "c"), dtype), sg.placeholder("a", ("a", "b", "c"), dtype)
    outputs: dict[str, Tensor] = {}
    for axis in range(3) if dtype in WHOLE else (1,):
        outputs[f"sum {axis}"] = registry["cumulative_sum"](x, axis=axis)
        outputs[f"prod {axis}"] = registry["cumulative_prod"](x, axis=axis)
        outputs[f"wide {axis}"] = sg.cumulative_sum(x, axis)
        for reverse in (False, True):
            outputs[f"recurrence {axis} {reverse}"] = sg.linear_recurrence(a, x, axis, reverse)
    outputs["of a view"] = sg.cumulative_sum(sg.flip(sg.transpose(x)), 1)
    check(outputs, *({x: ordinary(dtype, shape), a: ordinary(dtype, shape, 1)} for shape in CUBES),
          relative=np.dtype(dtype).kind == "f")


@pytest.mark.parametrize("dtype", DTYPES)
def test_sorts(dtype: str) -> None:
    x = sg.placeholder("x", ("n", "m"), dtype)
    outputs: dict[str, Tensor] = {}
    for axis, descending in itertools.product((0, 1), (False, True)):
        outputs[f"argsort {axis} {descending}"] = sg.argsort(x, axis, descending)
        outputs[f"sort {axis} {descending}"] = sg.sort(x, axis, descending)
    outputs["sort of a view"] = sg.sort(sg.flip(x, 1), 1)
    values = np.tile(specials(dtype), 3)
    check(outputs, {x: np.stack([values, values[::-1], np.roll(values, 4)])},
          *({x: ordinary(dtype, shape)} for shape in ((0, 3), (3, 0), (1, 1), (5, 1), (4, 70))))


# Movement, gather, scatter, concat, pad.

@pytest.mark.parametrize("dtype", SIZES)
def test_views(dtype: str) -> None:
    x = sg.placeholder("x", ("a", "b", 6), dtype)
    a, b, _ = x.shape
    outputs = {
        "reshape": sg.reshape(x, (b, -1)), "permute": sg.permute_dims(x, (2, 0, 1)), "both": sg.reshape(x.T, (-1,)),
        "split": sg.reshape(x, (a, b, 2, 3)), "broadcast": sg.broadcast_to(x, (2, a, b, 6)), "flip": sg.flip(x),
        "slice": x[1:, :, 1:5:2], "back": x[::-1, ::-2, ::-3], "row": x[:, 0], "new": x[:, None, ..., 2],
        "rolled": sg.roll(x, 2, 2), "tiled": sg.tile(x, (2, 1, 1)), "repeated": sg.repeat(x, 3, 1),
        "mixed": sg.reshape(sg.flip(x, 1).T[::2], (3, -1)), "zero": sg.reshape(x, (-1,))[:0],
    }
    check(outputs, *({x: ordinary(dtype, shape)} for shape in ((2, 3, 6), (1, 1, 6), (5, 4, 6))))
    outputs.pop("row")
    check(outputs, *({x: ordinary(dtype, shape)} for shape in ((0, 3, 6), (2, 3, 6))))


@pytest.mark.parametrize("dtype", SIZES)
def test_joins(dtype: str) -> None:
    x, y = sg.placeholder("x", ("a", "b"), dtype), sg.placeholder("y", ("a", "c"), dtype)
    z = sg.placeholder("z", ("d", "b"), dtype)
    outputs = {"columns": sg.concat([x, y], 1), "rows": sg.concat([x, z, x], 0), "one": sg.concat([x], 0),
               "views": sg.concat([x.T[::-1], y.T], 0), "computed": sg.concat([x == x, sg.flip(y) == y], 1),
               "stack": sg.stack([x, x], 1),
               "pad": sg.pad(x, ((1, 2), (0, 3))), "filled": sg.pad(x, ((0, 0), (2, 1)), constant_values=1),
               "padded view": sg.pad(sg.flip(x.T, 0), ((2, 0), (0, 1)))}
    for a, b, c, d in ((2, 3, 4, 5), (1, 1, 1, 1), (0, 2, 3, 1), (3, 0, 2, 0), (2, 2, 0, 0)):
        check(outputs, {x: ordinary(dtype, (a, b)), y: ordinary(dtype, (a, c)), z: ordinary(dtype, (d, b))})


@pytest.mark.parametrize("dtype", SIZES)
def test_gathers_and_scatters(dtype: str) -> None:
    x, source = sg.placeholder("x", ("a", "b", "c"), dtype), sg.placeholder("source", ("a", "k", "c"), dtype)
    at, along = sg.placeholder("at", ("k",), "int64"), sg.placeholder("along", ("a", "k", "c"), "int16")
    grid = sg.placeholder("grid", ("k", 2), "int8")
    outputs = {
        "take": sg.take(x, at, 1), "take grid": sg.take(x, grid, 1), "flat": sg.take(x, grid), "one": sg.take(x, -1, 1),
        "of view": sg.take(sg.flip(x.T, 1), at, 1), "along": sg.take_along_axis(x, along, 1),
        "computed": sg.take(x == x, at, 1), "scatter": sg.scatter_add(x, at, source, 1),
        "rows": sg.scatter_add(sg.transpose(x, (1, 0, 2)), at, sg.transpose(source, (1, 0, 2)), 0),
        "scatter along": registry["scatter_add_along"](x, sg.astype(registry["check_index"](
            along, size=x.shape[1], what="along"), "int64"), source, axis=1),
    }
    for a, b, c, k in ((2, 3, 4, 5), (1, 1, 1, 1), (2, 4, 3, 0), (3, 7, 1, 40), (0, 3, 2, 2)):
        if a == 0:
            outputs.pop("flat")     # every index is out of range
        rng = np.random.default_rng(k)
        check(outputs, {x: ordinary(dtype, (a, b, c)), source: ordinary(dtype, (a, k, c), 1),
                        at: rng.integers(-b, b, k), along: rng.integers(-b, b, (a, k, c)).astype("int16"),
                        grid: rng.integers(-b, b, (k, 2)).astype("int8")})


# Matrix products.

@pytest.mark.parametrize("dtype", DTYPES)
def test_matmul(dtype: str) -> None:
    a, b = sg.placeholder("a", ("s", "m", "k"), dtype), sg.placeholder("b", ("s", "k", "n"), dtype)
    outputs = {"stack": a @ b, "one": a[0] @ b[0], "transposed": b[0].T @ a[0].T, "left": a @ b[0], "rows": a[0] @ b,
               "flipped": sg.flip(a, 2) @ b[:, :, ::-1], "vector": a[0] @ b[0, :, 0], "dot": a[0, 0] @ b[0, :, 0],
               "axes": sg.permute_dims(a, (1, 0, 2)) @ b[0]}
    for s, m, k, n in ((2, 3, 4, 5), (1, 1, 1, 1), (3, 17, 33, 9), (1, 2, 0, 3), (2, 70, 3, 130)):
        check(outputs, {a: ordinary(dtype, (s, m, k)), b: ordinary(dtype, (s, k, n), 1)},
              relative=np.dtype(dtype).kind == "f")
    empty = {"stack": a @ b}
    for s, m, k, n in ((0, 2, 3, 4), (2, 0, 3, 4), (2, 3, 4, 0)):
        check(empty, {a: ordinary(dtype, (s, m, k)), b: ordinary(dtype, (s, k, n), 1)})


# Declarations: every op on its own examples, forward and backward.

LIBRARY = [name for name, op in registry.items() if name not in custom._declared]


def cases(op: Op) -> list[tuple[tuple[Any, ...], dict[str, Any]]]:
    return [(inputs, attrs) for inputs, attrs in op.examples]


@pytest.mark.parametrize("name", [name for name in LIBRARY if registry[name].examples])
def test_examples_and_their_gradients(name: str) -> None:
    op = registry[name]
    rng = np.random.default_rng(5)
    for inputs, attrs in cases(op):
        arrays = [np.asarray(value) for value in inputs]
        feed: dict[Tensor, Any] = {sg.placeholder(f"x{number}", array.shape, array.dtype): array
                                   for number, array in enumerate(arrays)}
        y = op(*feed, **attrs)
        wrt = [each for each in feed if each.dtype.kind == "f"]
        ct = sg.placeholder("ct", y.shape, y.dtype)
        gradients = sg.vjp([y], wrt, [ct])
        outputs = {"y": y, **{f"gradient {number}": each for number, each in enumerate(gradients)}}
        check(outputs, {**feed, ct: rng.standard_normal([int(size) for size in y.shape])}, relative=True)


def test_every_op_is_tested() -> None:
    tested = {*UNARY, *BINARY, *CHOICE, "check_index", "guard", "placeholder", "variable", "constant", "iota",
              "size_of", "sum", "prod", "max", "min", "any", "all", "argmax", "argmin", "cumulative_sum",
              "cumulative_prod", "linear_recurrence", "argsort", "reshape", "permute_dims", "broadcast_to", "slice",
              "concat", "pad", "gather", "gather_along", "scatter_add", "scatter_add_along", "matmul", "random_bits",
              "max_pool_position"}
    # the compiler's own: tests/cuda/test_absorb.py, tests/compiler/test_convolution.py
    tested |= {"matmul_epilogue", "direct_conv", "direct_conv_weights", "spread_conv", "direct_place"} & set(LIBRARY)
    tested |= {name for name in LIBRARY if registry[name].examples}
    assert set(LIBRARY) == tested
