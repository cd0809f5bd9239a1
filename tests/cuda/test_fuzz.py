"""Random programs for CUDA: what their kernels compute in the interpreter of PTX, against the oracle.

A program grows from a few arguments and variables by random ops; what it computes and how it changes its variables is
compared on two calls. In every other program the interpreter runs warps in an adversarial order.
``python -m tests.cuda.test_fuzz 0 1000`` tries other programs than the suite does.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

import staticgraph as sg
from staticgraph.tensor import Tensor
from staticgraph.types import Size, evaluate_size
from tests.cuda import skip_without_compiler

skip_without_compiler()

from tests.cuda.simulate import compile_simulated  # noqa: E402

Array = np.ndarray[Any, Any]
LENGTHS = (0, 1, 2, 3, 5, 8, 31, 32, 33, 40, 64, 100, 257, 1025)
DTYPES = ("float32", "float32", "float32", "float64", "int32", "int64", "uint8", "bool")
ELEMENTS = 9000
FEW_BUT_LONG = ((2, 20000), (3, 2, 9000), (30000, 2), (40000,), (600, 4, 16), (9, 1024), (9, 1024), (30, 1024))
TOLERANCE = 2e-3
SEEDS = range(40, 57)


class Program:
    """A program that grows; `pool` are the tensors that exist."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.special = self.chance(0.15)
        self.sizes = {name: self.one_of(LENGTHS) for name in "nmk"}
        long = self.one_of(FEW_BUT_LONG) if self.chance(0.15) else None
        self.inputs: list[Tensor] = []
        self.shapes: list[tuple[int, ...]] = []
        for number in range(self.number(1, 3)):
            self.argument(long if number == 0 else None)
        self.variables = [self.variable(number) for number in range(self.number(0, 3))]
        self.pool: list[Tensor] = [*self.inputs, *self.variables]

    # Choices.

    def number(self, low: int, high: int) -> int:
        return int(self.rng.integers(low, high + 1))

    def chance(self, probability: float) -> bool:
        return bool(self.rng.random() < probability)

    def one_of(self, choices: Sequence[Any]) -> Any:
        return choices[self.number(0, len(choices) - 1)]

    def pick(self, dtype: str = "") -> Tensor:
        """A tensor, recent ones more often, so that graphs grow deep."""
        fitting = [each for each in [*self.pool, *self.pool[-3:], *self.pool[-3:]] if dtype in ("", str(each.dtype))]
        tensor: Tensor = self.one_of(fitting)
        return tensor

    def axis(self, x: Tensor) -> int:
        return self.number(0, x.ndim - 1)

    def axes(self, x: Tensor) -> tuple[int, ...]:
        return tuple(sorted(int(axis) for axis in self.rng.permutation(x.ndim)[:self.number(1, x.ndim)]))

    # Leaves.

    def argument(self, long: tuple[int, ...] | None) -> None:
        shape: Sequence[str | int] = ()
        real = (ELEMENTS + 1,)
        while int(np.prod(real)) > ELEMENTS and real != long:
            shape = long or [self.one_of((*"nmkn", 1, 2, 3, self.one_of(LENGTHS))) for _ in range(self.number(1, 4))]
            real = tuple(self.sizes[size] if isinstance(size, str) else size for size in shape)
        self.inputs.append(sg.placeholder(f"x{len(self.inputs)}", shape, self.one_of(DTYPES)))
        self.shapes.append(real)

    def arrays(self) -> list[Array]:
        return [self.values(shape, str(x.dtype)) for x, shape in zip(self.inputs, self.shapes, strict=True)]

    def values(self, shape: tuple[int, ...], dtype: str) -> Array:
        if dtype == "bool":
            return self.rng.random(shape) < 0.5
        if not dtype.startswith("float"):
            return self.rng.integers(0 if dtype == "uint8" else -5, 12, shape).astype(dtype)
        values = 1.5 * self.rng.standard_normal(shape)
        if self.special:
            odd = self.rng.choice(np.array([np.nan, np.inf, -np.inf, -0.0, 0.0]), shape)
            values = np.where(self.rng.random(shape) < 0.02, odd, values)
        return values.astype(dtype)

    def variable(self, number: int) -> Tensor:
        shape = self.one_of([(), (1,), (5,), (33, 33), (33, 33), (1025,), (1025,), (4, 64)])
        return sg.variable(self.values(shape, "float32"), f"v{number}")

    # Growth.

    def value(self, size: Size) -> int:
        return int(evaluate_size(size, self.sizes))

    def shape(self, x: Tensor) -> tuple[int, ...]:
        return tuple(map(self.value, x.shape))

    def fits(self, x: Tensor, y: Tensor) -> bool:
        """Whether the two broadcast, also with the sizes at hand."""
        def is_one(size: Size) -> bool:
            return isinstance(size, int) and size == 1

        pairs = zip(reversed(x.shape), reversed(y.shape), strict=False)
        return all(is_one(a) or is_one(b) or self.value(a) == self.value(b) for a, b in pairs)

    def grow(self) -> None:
        """One tensor or two more, if the op drawn fits what there is."""
        new = self.one_of(GROWTH)(self, self.pick())
        for each in new if isinstance(new, list) else [] if new is None else [new]:
            if each.ndim <= 4 and int(np.prod(self.shape(each))) <= 40000:
                self.pool.append(each)

    def updates(self) -> dict[Tensor, Tensor]:
        return {each: self.update(each) for each in self.variables if self.chance(0.7)}

    def update(self, variable: Tensor) -> Tensor:
        """A new value that reads the old one in place, moved, or reduced, and other variables."""
        same = [each for each in self.variables if each.shape == variable.shape]
        floats = [each for each in self.pool if is_float(each)]
        total = sg.tanh(sg.astype(sg.sum(self.one_of(floats)), "float32"))
        forms: list[Callable[[], Tensor]] = [
            lambda: variable * 0.5 + self.one_of(same), lambda: sg.tanh(variable + total), lambda: self.one_of(same),
            lambda: variable + self.one_of(same) * total]
        if variable.ndim:
            forms += [lambda: sg.flip(variable, 0) * 0.5, lambda: variable - sg.mean(variable, 0, keepdims=True),
                      lambda: variable / (1 + sg.sum(sg.abs(variable), -1, keepdims=True))]
        if variable.ndim == 2 and variable.shape[0] == variable.shape[1]:
            forms.append(lambda: variable.T + 1)
        new: Tensor = self.one_of(forms)()
        return new


def is_float(x: Tensor) -> bool:
    return str(x.dtype).startswith("float")


def is_bool(x: Tensor) -> bool:
    return str(x.dtype) == "bool"


ONE_FLOAT = [sg.tanh, sg.negative, sg.sin, sg.sigmoid, sg.abs, lambda a: 0.5 * a + 0.25, lambda a: sg.exp(-sg.abs(a)),
             sg.nn.relu, lambda a: sg.where(a > 0.12, a, 0.1 * a), lambda a: a / (1 + sg.abs(a)), sg.square]
ONE_INTEGER = [sg.negative, sg.abs, lambda a: a + 1, lambda a: a // 2, lambda a: a % 3, sg.bitwise_invert, sg.square]
TWO_FLOATS = [sg.add, sg.subtract, sg.multiply, sg.maximum, sg.minimum, lambda a, b: sg.where(a < b, a, b)]
TWO_INTEGERS = [sg.add, sg.subtract, sg.multiply, sg.maximum, sg.bitwise_xor, sg.less,
                lambda a, b: sg.where(a < b, a, b)]
TWO_BOOLS = [sg.logical_and, sg.logical_or, sg.logical_xor, sg.equal]


def unary(p: Program, x: Tensor) -> Any:
    return p.one_of(ONE_FLOAT if is_float(x) else [sg.logical_not] if is_bool(x) else ONE_INTEGER)(x)


def binary(p: Program, x: Tensor) -> Any:
    y = sg.astype(p.pick(), str(x.dtype)) if is_float(x) and p.chance(0.2) else p.pick(str(x.dtype))
    if not p.fits(x, y):
        return None
    result = p.one_of(TWO_FLOATS if is_float(x) else TWO_BOOLS if is_bool(x) else TWO_INTEGERS)(x, y)
    return sg.tanh(result) if is_float(x) else result


def cast(p: Program, x: Tensor) -> Any:
    if is_float(x):
        small = sg.clip(sg.round(x), 0, 99)
        return sg.astype(sg.where(sg.isnan(small), 7.0, small), p.one_of(("int32", "uint8", "int64", "float64")))
    return sg.astype(x, p.one_of(DTYPES))


def reduction(p: Program, x: Tensor) -> Any:
    if x.ndim == 0:
        return None
    axes, keep = p.axes(x), p.chance(0.5)
    if is_bool(x):
        return p.one_of([sg.any, sg.all, sg.count_nonzero])(x, axes)
    if all(p.shape(x)[axis] for axis in axes) and p.chance(0.5):
        if p.chance(0.5):
            return p.one_of([sg.argmax, sg.argmin])(x, axes[0], keepdims=keep)
        return p.one_of([sg.max, sg.min])(x, axes, keepdims=keep)
    if is_float(x):
        return sg.tanh(0.1 * sg.sum(x, axes, keepdims=keep))
    return p.one_of([sg.sum, sg.sum, sg.prod])(x, axes, keepdims=keep)


def row_program(p: Program, x: Tensor) -> Any:
    """Reduce and spread again."""
    if x.ndim == 0 or not is_float(x):
        return None
    axis = p.axis(x)
    if p.shape(x)[axis] == 0:
        return None
    which = p.number(0, 3)
    if which == 0:
        return sg.nn.softmax(x, axis)
    if which == 1:
        return sg.logsumexp(x, axis, keepdims=True) - x
    if which == 2:
        most = sg.max(x, axis, keepdims=True)
        return [most, sg.tanh(x - most)]
    centred = x - sg.mean(x, axis, keepdims=True)
    return centred / sg.sqrt(sg.mean(sg.square(centred), axis, keepdims=True) + 1.0)


def view(p: Program, x: Tensor) -> Any:
    which = p.number(0, 6 if x.ndim else 3)
    if which == 0:
        return sg.permute_dims(x, [int(axis) for axis in p.rng.permutation(x.ndim)])
    if which == 1:
        return sg.reshape(x, (x.size,))
    if which == 2:
        return sg.expand_dims(x, p.number(0, x.ndim))
    if which == 3:
        return sg.broadcast_to(x, (p.number(1, 3), *x.shape))
    if which == 4:
        return sg.flip(x, p.axes(x))
    key: list[Any] = [slice(None)] * x.ndim
    axis = p.axis(x)
    if which == 5:
        key[axis] = slice(p.one_of((None, 1, 2, 4)), p.one_of((None, -1, -4, 3)), p.one_of((None, 2, -1, -2)))
    elif p.shape(x)[axis]:
        key[axis] = p.one_of((0, -1))
    return x[tuple(key)]


def product(p: Program, x: Tensor) -> Any:
    if x.ndim < 2 or is_bool(x):
        return None
    if not is_float(x):
        return x @ x.mT
    biases = [each for each in p.pool if each.dtype == x.dtype and each.shape == x.shape[-2:-1]]
    if biases and p.chance(0.6):
        return sg.nn.relu(x @ x.mT + p.one_of(biases))
    return sg.tanh(x @ x.mT)


def join(p: Program, x: Tensor) -> Any:
    if x.ndim == 0:
        return sg.stack([x, x])
    axis = p.axis(x)
    if p.chance(0.5):
        return sg.pad(x, [(1, 2) if each == axis else (0, 0) for each in range(x.ndim)])
    return sg.concat([x, sg.flip(x, axis), x], axis)


def gather(p: Program, x: Tensor) -> Any:
    if x.ndim == 0:
        return None
    axis = p.axis(x)
    if p.shape(x)[axis] == 0:
        return None
    size = x.shape[axis]
    which = p.number(0, 4)
    if which == 0:
        return sg.take(x, np.array([-1, 0, 0]), axis)
    if which == 1:
        return sg.take(x, size - 1 - sg.arange(size), axis)
    if which == 2:
        indices = [sg.astype(sg.remainder(sg.astype(each, "int64"), size), "int64") for each in p.pool
                   if str(each.dtype) in ("int32", "uint8") and each.ndim <= 2]
        return sg.take(x, p.one_of(indices), axis) if indices else None
    if which == 3:
        return sg.take_along_axis(x, sg.argsort(x, axis), axis)
    return None if is_bool(x) else sg.scatter_add(x, sg.remainder(sg.arange(size) * 7, size), x, axis)


def scan(p: Program, x: Tensor) -> Any:
    if x.ndim == 0 or is_bool(x):
        return None
    total = sg.cumulative_sum(x, p.axis(x))
    return sg.tanh(0.1 * total) if is_float(x) else total


def sort(p: Program, x: Tensor) -> Any:
    return sg.sort(x, p.axis(x), descending=p.chance(0.5)) if x.ndim else None


GROWTH: list[Callable[[Program, Tensor], Any]] = [
    *[unary] * 3, *[binary] * 5, cast, *[reduction] * 4, *[row_program] * 2, *[view] * 4, product, join, gather, gather,
    scan, sort]


def check(seed: int) -> None:
    p = Program(seed)
    for _ in range(p.number(3, 11)):
        p.grow()
    outputs = p.pool[-p.number(1, 3):]
    floats = [each for each in [*p.inputs, *p.variables] if is_float(each)]
    losses = [sg.sum(sg.sin(sg.astype(each, "float64"))) for each in outputs if is_float(each)]
    if floats and losses and p.chance(0.3):
        outputs = [*outputs, *sg.grad(sum(losses[1:], start=losses[0]), floats, unconnected="zero")]
    updates = p.updates()
    compiled = compile_simulated(p.inputs, outputs, updates=updates)
    compiled.seed = seed if seed % 2 else None
    for _ in range(2 if updates else 1):
        arrays = p.arrays()
        with np.errstate(all="ignore"):
            expected = sg.evaluate(list(sg.stabilise([*outputs, *updates.values()])),
                                   dict(zip(p.inputs, arrays, strict=True)))
        actual = [*compiled(*arrays), *(each.value for each in updates)]
        for number, (one, other) in enumerate(zip(actual, expected, strict=True)):
            what = f"seed {seed}, result {number} of\n{sg.format_graph(outputs)}\nsizes {p.sizes}"
            compare(np.asarray(one), other, what)


def compare(actual: Array, expected: Array, what: str) -> None:
    assert actual.dtype == expected.dtype and actual.shape == expected.shape, what
    if expected.dtype.kind == "f":
        np.testing.assert_allclose(actual, expected, rtol=TOLERANCE, atol=TOLERANCE, err_msg=what)
    else:
        np.testing.assert_array_equal(actual, expected, err_msg=what)


@pytest.mark.parametrize("seed", SEEDS)
def test_random_programs(seed: int) -> None:
    check(seed)


if __name__ == "__main__":
    for tried in range(int(sys.argv[1]), int(sys.argv[2])):
        try:
            check(tried)
        except Exception as error:
            print(f"seed {tried}: {type(error).__name__}: {error}", flush=True)
