"""Random samples as graph: one primitive, and what is made of its words.

A *stream* is a sequence of 32-bit words, made by Philox4x32-10 from a seed, a counter and the stream's number. Word k
is word ``k % 4`` of block ``k // 4``, and the block is the ten-round bijection of

    counter   (low half of k // 4, stream, low half of the counter, high half of the counter)
    key       (low half of the seed, high half of the seed)

where the high half of ``k // 4``, times 2**16, is xored into the last word: blocks below 2**48 under counters below
2**48 never meet. Each word is a function of its number alone, so that the same bits come out on every device, for any
number of threads, and whatever else a kernel computes.

Element i of a sample (in row-major order) is made of number i of its stream: word i where 32 bits are enough, else
words 2i (low) and 2i + 1 (high). From a number of n bits:

    bits        the number itself
    uniform     its upper 24 (float32) or 53 (float64) bits, as a fraction: exact, below 1, 0 included
    normal      Box and Muller: elements 2k and 2k + 1 share the radius sqrt(-2 log(a)), where a is number 2k with its
                last bit set, as a fraction of 2**n, and the angle t, which is number 2k + 1 as a signed fraction of a
                turn; the elements are radius * cos(t) and radius * sin(t)
    bernoulli   true where 32 bits, as a fraction, are below p rounded to a multiple of 2**-32: 0 never, 1 always
    integers    low + (64 bits * (high - low)) // 2**64: each value's probability is off by less than 2**-64
    permutation the order of 64 bits each; equal ones, which hardly exist, keep their order

Floats are made of bits by exact steps and correctly rounded ones, then by the kernel language's own log, sqrt and sin.
No gradient flows into words; it flows through the arithmetic around them: to loc and scale of a normal sample.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import ArgumentError, DTypeError, ShapeError
from ..op import (
    Inference,
    as_tensor,
    broadcast_shapes,
    common_dtype,
    elementwise,
    operands_message,
    primitive,
)
from ..shapes import as_shape, as_size, normalise_axis, shape_text
from ..tensor import Tensor
from ..types import Dim, Shape, Size, TensorType, as_dtype
from .elementwise import (
    astype,
    bitwise_and,
    bitwise_left_shift,
    bitwise_or,
    bitwise_right_shift,
    less,
    less_equal,
    log,
    maximum,
    minimum,
    round,
    sin,
    sqrt,
    where,
)
from .indexing import argsort, take
from .leaf import iota, size_of

Array = np.ndarray[Any, Any]

UINT32, UINT64, INT64 = np.dtype(np.uint32), np.dtype(np.uint64), np.dtype(np.int64)
MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
WEYL = (0x9E3779B9, 0xBB67AE85)
LOW = np.uint64(0xFFFFFFFF)
HALF = np.uint64(32)


def philox(counter: Sequence[Array], key: Sequence[Array]) -> tuple[Array, ...]:
    """Philox4x32-10 of four counter words and two key words, uint64 arrays below 2**32, as four of the same."""
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(10):
        p0, p1 = c0 * np.uint64(MULTIPLIERS[0]), c2 * np.uint64(MULTIPLIERS[1])
        c0, c1, c2, c3 = p1 >> HALF ^ c1 ^ k0, p1 & LOW, p0 >> HALF ^ c3 ^ k1, p0 & LOW
        k0, k1 = k0 + np.uint64(WEYL[0]) & LOW, k1 + np.uint64(WEYL[1]) & LOW
    return c0, c1, c2, c3


def _bits_meaning(index: Array, seed: Array, counter: Array, stream: Array) -> Array:
    number, seed, counter, stream = (np.asarray(each).astype(np.uint64) for each in (index, seed, counter, stream))
    block = number >> np.uint64(2)
    last = counter >> HALF ^ (block >> HALF << np.uint64(16) & LOW)
    words = philox((block & LOW, stream & LOW, counter & LOW, last), (seed & LOW, seed >> HALF))
    return np.choose((number & np.uint64(3)).astype(np.intp), words).astype(np.uint32)


def _infer_bits(context: Inference, *types: TensorType) -> TensorType:
    if any(each.dtype.kind not in "iu" for each in types):
        raise context.dtype_error("needs integers")
    return TensorType(UINT32, elementwise(context, *types).shape)


random_bits = primitive(
    "random_bits", doc="Word number `index` of a stream of random 32-bit words: random_bits(index, seed, counter, "
    "stream).", infer=_infer_bits, ref=_bits_meaning, scalar="philox({0}, {1}, {2}, {3})")


@dataclass(frozen=True, eq=False)
class Stream:
    """What the words of one sample are made from. The stream's number reaches kernels as an argument, so that samples
    that differ in nothing else share one."""

    seed: Tensor
    counter: Tensor
    number: int

    def words(self, index: Tensor) -> Tensor:
        """The words of the given numbers."""
        return random_bits(index, self.seed, self.counter, size_of(size=self.number))

    def numbers(self, index: Tensor, bits: int) -> Tensor:
        """The unsigned numbers of 32 or 64 bits with the given numbers."""
        if bits == 32:
            return self.words(index)
        low, high = self.words(index * 2), self.words(bitwise_or(index * 2, 1))
        return bitwise_or(astype(low, UINT64), bitwise_left_shift(astype(high, UINT64), 32))


def counters(nodes: Iterable[Tensor]) -> list[Tensor]:
    """The counters of all generators that the nodes sample from: variables, each once, in order of appearance."""
    found: dict[int, Tensor] = {}
    for node in nodes:
        if node.op is random_bits:
            counter = node.inputs[2]
            while counter.op.kind == "view":
                counter = counter.inputs[0]
            if counter.op.name == "variable":
                found.setdefault(id(counter), counter)
    return list(found.values())


def sample_shape(function: str, shape: Any) -> Shape:
    """The shape of a sample: an int or a Dim, or several."""
    if isinstance(shape, float | Tensor | str) or shape is None:
        raise ArgumentError(f"{function}: the shape comes first: an int, a symbolic size or a tuple of them; "
                            f"got {shape!r}")
    sizes = as_shape(function, shape)
    for size in sizes:
        if isinstance(size, int) and size < 0:
            raise ShapeError(f"{function}: a size cannot be negative, got shape {shape_text(sizes)}")
    return sizes


def _positions(shape: Shape) -> Tensor:
    ramp: Tensor = iota(shape=shape, axis=None, dtype=INT64)
    return ramp


# Parameters of distributions.

def _is_number(value: Any) -> bool:
    return isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)


def _check_number(function: str, name: str, value: Any) -> float:
    if not _is_number(value) or not math.isfinite(value):
        raise ArgumentError(f"{function}: {name} is a finite number or a tensor, got {value!r}")
    return float(value)


def _is_array(value: Any) -> bool:
    return isinstance(value, Tensor | np.ndarray) and (isinstance(value, Tensor) or value.ndim > 0)


def _float_dtype(function: str, dtype: Any, parameters: Sequence[Any]) -> np.dtype[Any]:
    """The dtype asked for, or that of the parameters that are tensors, or float32."""
    arrays = [each for each in parameters if _is_array(each)]
    if dtype is None and arrays:
        common = common_dtype(arrays)
        return common if common.kind == "f" else np.dtype(np.float64)
    target = as_dtype("float32" if dtype is None else dtype)
    if target.kind != "f":
        raise DTypeError(f"{function}: samples are floating-point numbers, got dtype {target}")
    return target


def _fitting(function: str, sample: Tensor, **parameters: Any) -> list[Tensor]:
    """The parameters as tensors of the sample's dtype that broadcast to its shape."""
    result = []
    for name, value in parameters.items():
        tensor = as_tensor(value) if _is_array(value) else as_tensor(_check_number(function, name, value), sample.dtype)
        if not np.can_cast(tensor.dtype, sample.dtype, "safe"):
            raise DTypeError(operands_message(f"{function}: {name} does not fit a sample of {sample.dtype}", [tensor],
                                              f"got {tensor.dtype}; use sg.astype, or dtype=\"{tensor.dtype}\""))
        if broadcast_shapes(function, [sample, tensor]) != sample.shape:
            raise ShapeError(operands_message(f"{function}: {name} does not broadcast to the sample's shape", [tensor],
                                              f"needed {shape_text(sample.shape)}, got {shape_text(tensor.shape)}"))
        result.append(astype(tensor, sample.dtype))
    return result


# Distributions.

def bits(stream: Stream, shape: Any, dtype: Any = "uint32") -> Tensor:
    """Unsigned integers of 32 or 64 random bits."""
    target = as_dtype(dtype)
    if target not in (UINT32, UINT64):
        raise DTypeError(f"bits: needed dtype uint32 or uint64, got {target}")
    return stream.numbers(_positions(sample_shape("bits", shape)), 8 * target.itemsize)


def _fractions(stream: Stream, shape: Shape, dtype: np.dtype[Any]) -> Tensor:
    """Evenly spaced fractions in [0, 1)."""
    width, digits = 8 * dtype.itemsize, np.finfo(dtype).nmant + 1
    number = stream.numbers(_positions(shape), width)
    return astype(bitwise_right_shift(number, width - digits), dtype) * 2.0**-digits


def uniform(stream: Stream, shape: Any, low: Any, high: Any, dtype: Any) -> Tensor:
    """low + (high - low) * a fraction below 1."""
    target = _float_dtype("uniform", dtype, (low, high))
    fraction = _fractions(stream, sample_shape("uniform", shape), target)
    if _is_array(low) or _is_array(high):
        least, most = _fitting("uniform", fraction, low=low, high=high)
        return least + (most - least) * fraction
    return _between(fraction, _check_number("uniform", "low", low), _check_number("uniform", "high", high))


def _between(fraction: Tensor, low: float, high: float) -> Tensor:
    """Fractions stretched to [low, high), which rounding does not reach."""
    if (low, high) == (0.0, 1.0):
        return fraction
    with np.errstate(over="ignore"):
        first, end, span = (fraction.dtype.type(each) for each in (low, high, high - low))
    if not first < end or not np.isfinite(span):
        raise ArgumentError(f"uniform: needed low < high in {fraction.dtype}, and a finite distance, got {low} and "
                            f"{high}")
    result: Tensor = fraction * span + first
    largest = span * np.nextafter(fraction.dtype.type(1), 0) + first
    return minimum(result, np.nextafter(end, first)) if largest >= end else result


def normal(stream: Stream, shape: Any, loc: Any, scale: Any, dtype: Any) -> Tensor:
    """loc + scale * a standard normal number."""
    target = _float_dtype("normal", dtype, (loc, scale))
    if _is_number(scale) and not scale >= 0:
        raise ArgumentError(f"normal: scale is at least 0, got {scale!r}")
    sample = _standard_normal(stream, sample_shape("normal", shape), target)
    mean, deviation = _fitting("normal", sample, loc=loc, scale=scale)
    if not (_is_number(scale) and scale == 1):
        sample = sample * deviation
    return sample if _is_number(loc) and loc == 0 else sample + mean


def _standard_normal(stream: Stream, shape: Shape, dtype: np.dtype[Any]) -> Tensor:
    width = 8 * dtype.itemsize
    index = _positions(shape)
    first = stream.numbers(bitwise_and(index, -2), width)
    second = stream.numbers(bitwise_or(index, 1), width)
    radius = sqrt(-2.0 * log(astype(bitwise_or(first, 1), dtype) * 2.0**-width))
    # cos(t) is sin(t + a quarter of a turn), and turns of integers wrap around.
    turned = where(bitwise_and(index, 1) == 0, second + 2 ** (width - 2), second)
    angle = astype(astype(turned, f"int{width}"), dtype) * (math.pi * 2.0 ** (1 - width))
    return radius * sin(angle)


def bernoulli(stream: Stream, shape: Any, p: Any) -> Tensor:
    """True with probability p."""
    word = stream.words(_positions(sample_shape("bernoulli", shape)))
    if _is_array(p):
        [p] = _fitting("bernoulli", astype(word, common_dtype([as_tensor(p), np.float32(0)])), p=p)
        limit = astype(minimum(maximum(round(p * 2.0**32), 0), 2.0**32), INT64)
        return less(astype(word, INT64), limit)
    if not 0 <= _check_number("bernoulli", "p", p) <= 1:
        raise ArgumentError(f"bernoulli: p is a probability, between 0 and 1, got {p!r}")
    threshold = math.floor(float(p) * 2**32 + 0.5)
    return less(word, threshold) if threshold < 2**32 else less_equal(word, 2**32 - 1)


def integers(stream: Stream, shape: Any, low: Any, high: Any, dtype: Any) -> Tensor:
    """Integers from low to high - 1, which are ints or Dims; without high from 0 to low - 1."""
    first, end = (0, low) if high is None else (low, high)
    first, end = (as_size("integers", each) for each in (first, end))
    target = as_dtype(dtype)
    if target.kind not in "iu":
        raise DTypeError(f"integers: needed a dtype of integers, got {target}")
    limits = np.iinfo(target)
    if isinstance(first, int) and isinstance(end, int) and not first < end:
        raise ArgumentError(f"integers: needed low < high, got {first} and {end}")
    if (isinstance(first, int) and first < limits.min) or (isinstance(end, int) and end - 1 > limits.max):
        raise DTypeError(f"integers: {target} does not hold all integers from {first} up to, without, {end}")
    drawn = stream.numbers(_positions(sample_shape("integers", shape)), 64)
    return astype(_scaled(drawn, end - first) + _modulo(first), target)


def _scaled(drawn: Tensor, span: Size) -> Tensor:
    """(drawn * span) // 2**64 for 64-bit numbers, in parts of 32 bits."""
    if isinstance(span, int) and span == 2**64:
        return drawn
    high, low = bitwise_right_shift(drawn, 32), bitwise_and(drawn, 2**32 - 1)
    factor = _modulo(span)
    if isinstance(span, int) and span <= 2**32:
        return bitwise_right_shift(high * factor + bitwise_right_shift(low * factor, 32), 32)
    upper, lower = bitwise_right_shift(factor, 32), bitwise_and(factor, 2**32 - 1)
    middle = high * lower + bitwise_right_shift(low * lower, 32)
    carried = low * upper + bitwise_and(middle, 2**32 - 1)
    return high * upper + bitwise_right_shift(middle, 32) + bitwise_right_shift(carried, 32)


def _modulo(size: Size) -> Tensor:
    """A size as a 64-bit number that wraps around."""
    return astype(as_tensor(size), UINT64) if isinstance(size, Dim) else as_tensor(size % 2**64, UINT64)


def permutation(stream: Stream, x: Any, axis: Any) -> Tensor:
    """0 ... x - 1 in random order for a size x, or x with the slices along an axis in random order."""
    if not isinstance(x, Tensor | np.ndarray | list):
        count = as_size("permutation", x)
        if isinstance(count, int) and count < 0:
            raise ArgumentError(f"permutation: needed a size or a tensor, got {count}")
        return argsort(bits(stream, (count,), UINT64))
    tensor = as_tensor(x)
    number = normalise_axis("permutation", tensor, axis)
    return take(tensor, argsort(bits(stream, (tensor.shape[number],), UINT64)), axis=number)
