"""Random graphs: compiled against evaluated, forward and backward, sizes 0 to 5, static and symbolic.

A graph starts from a few placeholders and grows by random ops: elementwise, reductions, views, products, joins,
gathers. Values stay moderate (what grows goes through tanh), so that rounding alone cannot make two orders of summation
disagree by more than the tolerance.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import staticgraph as sg
from staticgraph.tensor import Tensor
from staticgraph.types import Size, provably_different


def examples(count: int) -> settings:
    """The same examples on every run, however long each takes."""
    return settings(max_examples=count, deadline=None, derandomize=True, database=None, print_blob=False,
                    suppress_health_check=list(HealthCheck))


TOLERANCE = {"float64": 1e-9, "float32": 2e-4}
NAMES = ("n", "m", "k")

Draw = Callable[[Any], Any]


class Grower:
    """Grows a graph; `pool` are the float tensors that exist."""

    def __init__(self, draw: Draw, dtype: str) -> None:
        self.draw = draw
        self.dtype = dtype
        self.sizes = {name: draw(st.integers(0, 5)) for name in NAMES}
        self.inputs = [self.placeholder(number) for number in range(draw(st.integers(1, 3)))]
        self.variable = sg.variable(np.linspace(-1, 1, 6).reshape(2, 3).astype(dtype), "w")
        self.pool: list[Tensor] = [*self.inputs, self.variable]

    def placeholder(self, number: int) -> Tensor:
        shape = [self.draw(st.sampled_from((*NAMES, "n", 1, 2, 3, 0))) for _ in range(self.draw(st.integers(0, 3)))]
        return sg.placeholder(f"x{number}", shape, self.dtype)

    def pick(self) -> Tensor:
        # Recent ones more often, so that graphs grow deep.
        tensor: Tensor = self.draw(st.sampled_from([*self.pool, *self.pool[-3:], *self.pool[-3:]]))
        return tensor

    def axis(self, x: Tensor) -> int:
        return int(self.draw(st.integers(0, x.ndim - 1)))

    def axes(self, x: Tensor) -> tuple[int, ...]:
        return tuple(sorted(self.draw(st.sets(st.integers(0, x.ndim - 1), min_size=1))))

    def flag(self) -> bool:
        return bool(self.draw(st.booleans()))

    def value(self, size: Size) -> int:
        return size if isinstance(size, int) else int(sg.types.evaluate_size(size, self.sizes))

    def fits(self, x: Tensor, y: Tensor) -> bool:
        """Whether the two broadcast, also with the sizes at hand."""
        pairs = list(zip(reversed(x.shape), reversed(y.shape), strict=False))
        return all(_is_one(a) or _is_one(b) or (not provably_different(a, b) and self.value(a) == self.value(b))
                   for a, b in pairs)

    def grow(self) -> None:
        """One more tensor, if the op drawn fits what there is."""
        x = self.pick()
        new = self.draw(st.sampled_from(GROWTH))(self, x)
        if new is not None and new.ndim <= 4 and self.moderate(new):
            self.pool.append(new)

    def moderate(self, x: Tensor) -> bool:
        return int(np.prod([self.value(size) for size in x.shape])) <= 2000


def _is_one(size: Size) -> bool:
    return isinstance(size, int) and size == 1


UNARY = [sg.tanh, sg.negative, sg.sin, sg.sigmoid, sg.abs, lambda x: 0.5 * x + 0.25, lambda x: sg.tanh(sg.square(x)),
         lambda x: sg.exp(-sg.abs(x)), lambda x: sg.where(x > 0.123, x, 0.1 * x), sg.nn.relu, sg.nn.gelu,
         lambda x: sg.log(1 + sg.square(x)), lambda x: x / (1 + sg.abs(x)), sg.stop_gradient]
BINARY = [sg.add, sg.subtract, sg.multiply, sg.maximum, lambda x, y: sg.where(x < y + 0.117, x, y), sg.hypot,
          lambda x, y: x / (1 + y * y)]


def unary(g: Grower, x: Tensor) -> Tensor | None:
    return g.draw(st.sampled_from(UNARY))(x)


def binary(g: Grower, x: Tensor) -> Tensor | None:
    y = g.pick()
    if not g.fits(x, y):
        return None
    return sg.tanh(g.draw(st.sampled_from(BINARY))(x, y))


def reduction(g: Grower, x: Tensor) -> Tensor | None:
    if x.ndim == 0:
        return None
    axes, keep = g.axes(x), g.flag()
    which = g.draw(st.sampled_from(("sum", "mean", "max", "prod", "logsumexp")))
    if which == "sum":
        return sg.tanh(sg.sum(x, axes, keepdims=keep))
    if any(g.value(x.shape[axis]) == 0 for axis in axes):
        return None
    if which == "prod":
        return sg.prod(sg.tanh(x), axes, keepdims=keep)
    return getattr(sg, which)(x, axes, keepdims=keep)


def row_program(g: Grower, x: Tensor) -> Tensor | None:
    """Reduce and spread again: softmax, its like by hand, a normalisation."""
    if x.ndim == 0:
        return None
    axis = g.axis(x)
    if g.value(x.shape[axis]) == 0:
        return None
    which = g.draw(st.integers(0, 3))
    if which == 0:
        return sg.nn.softmax(x, axis)
    if which == 1:
        return sg.nn.log_softmax(x, axis)
    if which == 2:
        e = sg.exp(x - sg.max(x, axis, keepdims=True))
        return e / sg.sum(e, axis, keepdims=True)
    centred = x - sg.mean(x, axis, keepdims=True)
    return centred / sg.sqrt(sg.mean(sg.square(centred), axis, keepdims=True) + 1.0)


def view(g: Grower, x: Tensor) -> Tensor | None:
    which = g.draw(st.integers(0, 6))
    if which == 0:
        return sg.permute_dims(x, g.draw(st.permutations(range(x.ndim))))
    if which == 1:
        return sg.reshape(x, (-1,)) if all(g.value(size) for size in x.shape) else sg.reshape(x, (x.size,))
    if which == 2:
        return sg.expand_dims(x, g.draw(st.integers(0, x.ndim)))
    if which == 3:
        return sg.broadcast_to(x, (2, *x.shape))
    if x.ndim == 0:
        return None
    if which == 4:
        return sg.flip(x, g.axes(x))
    if which == 5:
        key: list[Any] = [slice(None)] * x.ndim
        key[g.axis(x)] = slice(g.draw(st.sampled_from((None, 1))), g.draw(st.sampled_from((None, -1, 3))),
                               g.draw(st.sampled_from((None, 2, -1))))
        return x[tuple(key)]
    axis = g.axis(x)
    if g.value(x.shape[axis]) == 0:
        return None
    key = [slice(None)] * x.ndim
    key[axis] = g.draw(st.sampled_from((0, -1)))
    return x[tuple(key)]


def product_of_matrices(g: Grower, x: Tensor) -> Tensor | None:
    if x.ndim < 2:
        return None
    if g.flag():
        return sg.tanh(x @ x.mT)
    y = g.pick()
    if y.ndim != 2 or provably_different(x.shape[-1], y.shape[0]) or g.value(x.shape[-1]) != g.value(y.shape[0]):
        return None
    return sg.tanh(x @ y)


def join(g: Grower, x: Tensor) -> Tensor | None:
    if x.ndim == 0:
        return sg.stack([x, g.inputs[0][(0,) * 0] if g.inputs[0].ndim == 0 else x])
    axis = g.axis(x)
    if g.flag():
        return sg.pad(x, [(1, 2) if each == axis else (0, 0) for each in range(x.ndim)], constant_values=0.5)
    y = g.pick()
    same = y.ndim == x.ndim and all(a == b for each, (a, b) in enumerate(zip(x.shape, y.shape)) if each != axis)
    return sg.concat([x, y if same else sg.sin(x), x], axis)


def gather(g: Grower, x: Tensor) -> Tensor | None:
    if x.ndim == 0:
        return None
    axis = g.axis(x)
    if g.value(x.shape[axis]) == 0:
        return None
    which = g.draw(st.integers(0, 2))
    if which == 0:
        return sg.take(x, np.array([-1, 0, 0]), axis)
    size = x.shape[axis]
    backwards = size - 1 - sg.arange(size)
    if which == 1:
        return sg.take(x, backwards, axis)
    return sg.scatter_add(x, backwards, sg.cos(x), axis)


def running(g: Grower, x: Tensor) -> Tensor | None:
    if x.ndim == 0:
        return None
    return sg.tanh(sg.cumulative_sum(x, g.axis(x)))


GROWTH = [unary, unary, binary, binary, binary, reduction, reduction, row_program, view, view, product_of_matrices,
          join, gather, running]


def near(actual: Any, expected: Any, what: str) -> None:
    assert actual.dtype == expected.dtype and actual.shape == expected.shape, what
    tolerance = TOLERANCE[str(expected.dtype)]
    np.testing.assert_allclose(actual, expected, rtol=tolerance, atol=tolerance, err_msg=what)


def run(draw: Draw, dtype: str, gradients: bool, stabilise: bool) -> None:
    g = Grower(draw, dtype)
    for _ in range(draw(st.integers(3, 14))):
        g.grow()
    outputs = g.pool[-draw(st.integers(1, 3)):]
    if gradients:
        loss = sum((sg.sum(sg.sin(each + 0.3)) for each in outputs), start=sg.constant(np.zeros((), dtype)))
        outputs = [*outputs, *sg.grad(loss, [*g.inputs, g.variable], unconnected="zero")]
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    feed = {x: rng.standard_normal([g.value(size) for size in x.shape]).astype(dtype) for x in g.inputs}
    compiled = sg.compile(g.inputs, outputs, options={"stabilise": stabilise})
    expected = sg.evaluate(list(sg.stabilise(outputs)) if stabilise else outputs, feed)
    for number, (actual, wanted) in enumerate(zip(compiled(*feed.values()), expected, strict=True)):
        near(actual, wanted, f"output {number} of\n{sg.format_graph(outputs)}\nsizes {g.sizes}")


@examples(110)
@given(st.data())
def test_forward(data: st.DataObject) -> None:
    dtype = data.draw(st.sampled_from(("float64", "float32")))
    run(data.draw, dtype, gradients=False, stabilise=data.draw(st.booleans()))


@examples(70)
@given(st.data())
def test_gradients(data: st.DataObject) -> None:
    run(data.draw, "float64", gradients=True, stabilise=data.draw(st.booleans()))


# Integers and bools: exact, to the last bit and through every overflow.

INTEGERS = ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")
TWO_INTEGERS: list[Callable[[Tensor, Tensor], Tensor]] = [
    sg.add, sg.subtract, sg.multiply, sg.floor_divide, sg.remainder, sg.maximum, sg.minimum, sg.bitwise_xor,
    sg.bitwise_and, sg.bitwise_left_shift, sg.bitwise_right_shift, lambda a, b: sg.where(a < b, a, b),
    lambda a, b: sg.where((a == b) | (a > 3), b, a), lambda a, b: a + sg.astype(a >= b, a.dtype),
    lambda a, b: a * 3 - b // 2, lambda a, b: sg.square(a) % 7]
ONE_INTEGER: list[Callable[[Tensor], Tensor]] = [
    lambda a: a + 1, sg.negative, sg.abs, sg.sign, sg.bitwise_invert, lambda a: a.T, lambda a: sg.flip(a, 0),
    lambda a: sg.astype(sg.sum(a, 0, keepdims=True), a.dtype), lambda a: sg.max(a, 1, keepdims=True),
    lambda a: sg.prod(a, 1, keepdims=True, dtype=a.dtype), lambda a: sg.sort(a, 1),
    lambda a: sg.cumulative_sum(a, 0, a.dtype),
    lambda a: sg.astype(sg.argmax(a, 1, keepdims=True), a.dtype), lambda a: sg.astype(a, "int16").astype(a.dtype),
    lambda a: sg.astype(sg.astype(a, "uint32"), a.dtype), lambda a: sg.astype(sg.count_nonzero(a, 0), a.dtype) + a * 0]


def whole_numbers(dtype: str, shape: tuple[int, int], seed: int) -> Any:
    """Small numbers and both ends of the range."""
    rng = np.random.default_rng(seed)
    limits = np.iinfo(dtype)
    extreme = rng.choice(np.array([limits.min, limits.max, limits.max // 2], dtype), shape)
    small = rng.integers(0 if limits.min == 0 else -9, 10, shape).astype(dtype)
    return np.where(rng.random(shape) < 0.2, extreme, small)


@examples(120)
@given(st.data())
def test_integers(data: st.DataObject) -> None:
    draw = data.draw
    dtype, size = draw(st.sampled_from(INTEGERS)), draw(st.integers(1, 6))
    inputs = [sg.placeholder(name, ("n", "n"), dtype) for name in "ab"]
    pool: list[Tensor] = list(inputs)
    for _ in range(draw(st.integers(3, 16))):
        a, b = draw(st.sampled_from(pool[-4:])), draw(st.sampled_from(pool[-6:]))
        new = (draw(st.sampled_from(TWO_INTEGERS))(a, b) if draw(st.booleans())
               else sg.broadcast_to(draw(st.sampled_from(ONE_INTEGER))(a), a.shape))
        pool.append(new)
    outputs = pool[-3:]
    feed = {x: whole_numbers(dtype, (size, size), number) for number, x in enumerate(inputs)}
    compiled = sg.compile(inputs, outputs)(*feed.values())
    for actual, expected in zip(compiled, sg.evaluate(outputs, feed), strict=True):
        assert actual.dtype == expected.dtype
        np.testing.assert_array_equal(actual, expected, err_msg=sg.format_graph(outputs))
