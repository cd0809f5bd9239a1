"""Words and what is made of them: the published vectors, and each distribution against its definition in Python.

Here the meaning in NumPy is on trial (`sg.evaluate`); tests/compiler/test_random.py holds kernels to it.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

import staticgraph as sg
from staticgraph.op import registry
from staticgraph.ops.random import random_bits
from tests.ops import philox

Array = np.ndarray[Any, Any]
SEED, COUNTER = 0x0123456789ABCDEF, 77


def generator(seed: int = SEED, counter: int = COUNTER) -> sg.random.Generator:
    made = sg.random.generator(seed)
    made.counter.value = counter
    return made


def words(count: int, stream: int, seed: int = SEED, counter: int = COUNTER) -> list[int]:
    return [philox.word(index, seed, counter, stream) for index in range(count)]


def doubles(count: int, stream: int) -> list[int]:
    """Numbers of 64 bits: words 2i and 2i + 1, the low one first."""
    single = words(2 * count, stream)
    return [low + (high << 32) for low, high in zip(single[::2], single[1::2], strict=True)]


# Words.

@pytest.mark.parametrize(("counter", "key", "block"), philox.VECTORS)
def test_the_published_vectors(counter: tuple[int, ...], key: tuple[int, ...], block: tuple[int, ...]) -> None:
    """Every counter word and key word comes from one operand of the op."""
    assert philox.block(counter, key) == block
    index = np.array([4 * counter[0] + place for place in range(4)], np.uint64)
    node = random_bits(index, np.uint64(key[0] | key[1] << 32), np.uint64(counter[2] | counter[3] << 32),
                       np.int64(counter[1]))
    assert node.dtype == np.uint32 and sg.evaluate(node).tolist() == list(block)


def test_words_of_any_number_seed_counter_and_stream() -> None:
    rng = np.random.default_rng(0)
    index = np.concatenate([np.arange(9), rng.integers(0, 2**50, 40), [2**34 - 1, 2**34, 2**34 + 5, 2**49]])
    for seed, counter, stream in [(0, 0, 0), (2**64 - 1, 2**48 - 1, 2**32 - 1), (5, 2**32, 1), (2**33, 7, 12)]:
        node = random_bits(index, np.uint64(seed), np.uint64(counter), stream)
        assert sg.evaluate(node).tolist() == [philox.word(each, seed, counter, stream) for each in index]


def test_blocks_do_not_meet() -> None:
    """The high half of a block's number stands above the high half of any counter below 2**48."""
    places = [(0, 0), (2**34, 0), (0, 2**32), (2**34, 2**32), (2**49, 0), (0, 2**47)]
    blocks = {tuple(philox.word(4 * (index // 4) + place, 1, counter, 0) for place in range(4))
              for index, counter in places}
    assert len(blocks) == len(places)


def test_words_need_integers() -> None:
    with pytest.raises(sg.DTypeError, match=r"random_bits: needs integers\n  a: float64\[\]"):
        random_bits(0.5, np.uint64(1), np.uint64(1), 0)


def test_a_number_for_each_element() -> None:
    """iota without an axis counts in row-major order, in any shape."""
    for shape in [(), (0,), (1,), (5,), (2, 3), (3, 0), (2, 1, 4)]:
        ramp = registry["iota"](shape=shape, axis=None, dtype=np.dtype(np.int64))
        np.testing.assert_array_equal(sg.evaluate(ramp), np.arange(math.prod(shape)).reshape(shape), strict=True)


# Distributions, element by element.

def test_bits() -> None:
    g = generator()
    assert sg.evaluate(g.bits((2, 3))).tolist() == np.reshape(words(6, 0), (2, 3)).tolist()
    assert sg.evaluate(g.bits(5, "uint64")).tolist() == doubles(5, 1)
    assert g.bits(()).dtype == np.uint32 and sg.evaluate(g.bits(())).shape == ()


def test_uniform() -> None:
    g = generator()
    single, double = sg.evaluate([g.uniform(50), g.uniform(50, dtype="float64")])
    assert single.dtype == np.float32 and single.tolist() == [(word >> 8) / 2**24 for word in words(50, 0)]
    assert double.dtype == np.float64 and double.tolist() == [(number >> 11) / 2**53 for number in doubles(50, 1)]


def test_uniform_between_numbers() -> None:
    g = generator()
    value = sg.evaluate(g.uniform((1000,), -3, 5.5, "float64"))
    np.testing.assert_allclose(value, [-3 + 8.5 * (number >> 11) / 2**53 for number in doubles(1000, 0)], rtol=1e-15)


@pytest.mark.parametrize(("low", "high"), [(1.0, 1.0000001), (16777216.0, 16777218.0), (-1.0, 1e-9), (0.0, 3.0),
                                           (-1e38, 1e38), (1e-45, 3e-45), (0.1, 0.7)])
def test_rounding_does_not_reach_the_upper_end(low: float, high: float) -> None:
    """All ones is the largest fraction; fed instead of the sample's words."""
    for dtype in ("float32", "float64"):
        sample = generator().uniform((2,), low, high, dtype)
        found: list[sg.Tensor] = [node for node in sg.tensor.toposort([sample]) if node.op is random_bits]
        for word in (0, 2**32 - 1):
            value = sg.evaluate(sample, {each: np.full(2, word, np.uint32) for each in found})
            assert ((value >= np.dtype(dtype).type(low)) & (value < np.dtype(dtype).type(high))).all()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_normal(dtype: str) -> None:
    value = sg.evaluate(generator().normal((1001,), dtype=dtype))
    bits = 8 * value.itemsize
    numbers = words(1002, 0) if bits == 32 else doubles(1002, 0)
    expected = []
    for first, second in zip(numbers[::2], numbers[1::2], strict=True):
        radius, angle = math.sqrt(-2 * math.log((first | 1) / 2**bits)), 2 * math.pi * second / 2**bits
        expected += [radius * math.cos(angle), radius * math.sin(angle)]
    assert value.dtype == dtype
    np.testing.assert_allclose(value, expected[:1001], rtol=0, atol=3e-6 if bits == 32 else 1e-14)


def test_normal_of_extreme_words_is_finite() -> None:
    for dtype in ("float32", "float64"):
        sample = generator().normal((2,), dtype=dtype)
        found = [node for node in sg.tensor.toposort([sample]) if node.op is random_bits]
        for word in (0, 1, 2**31, 2**32 - 1):
            value = sg.evaluate(sample, {each: np.full(2, word, np.uint32) for each in found})
            assert np.isfinite(value).all() and (abs(value) < 10).all()


@pytest.mark.parametrize("p", [0, 0.0, 1e-9, 2.0**-32, 0.25, np.float32(0.3), 0.999999, 1 - 2.0**-40, 1])
def test_bernoulli(p: Any) -> None:
    g = generator()
    sample = g.bernoulli((200,), p)
    limit = math.floor(float(p) * 2**32 + 0.5)
    assert sample.dtype == np.bool_ and sg.evaluate(sample).tolist() == [word < limit for word in words(200, 0)]
    [word] = [node for node in sg.tensor.toposort([sample]) if node.op is random_bits]
    for edge in (0, 1, limit - 1, limit, 2**32 - 1):
        if 0 <= edge < 2**32:
            value = sg.evaluate(sample, {word: np.full(200, edge, np.uint32)})
            assert (value == (edge < limit)).all()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_bernoulli_of_a_tensor(dtype: str) -> None:
    p = np.array([[0.0, 1.0, 0.5], [2.0**-33, 0.1, np.nan]], dtype)
    sample = generator().bernoulli((40, 2, 3), sg.constant(p))
    limits = [[0, 2**32, 2**31], [0, round(float(p[1, 1]) * 2**32), -1]]
    drawn = np.reshape(words(240, 0), (40, 2, 3))
    assert sg.evaluate(sample).tolist() == (drawn < np.array(limits)).tolist()


RANGES = [("int8", -128, 128), ("uint8", 0, 256), ("int16", -5, 7), ("int32", 0, 1), ("int64", -2**63, 2**63),
          ("uint64", 0, 2**64), ("int64", 0, 2**32), ("int64", -1, 2**32), ("uint64", 2**63, 2**64 - 1),
          ("int64", -2**62, 2**63), ("uint32", 7, 2**32), ("int64", 10, 3 * 2**40 + 12345)]


@pytest.mark.parametrize(("dtype", "low", "high"), RANGES)
def test_integers(dtype: str, low: int, high: int) -> None:
    sample = generator().integers((100,), low, high, dtype)
    assert sample.dtype == dtype
    assert sg.evaluate(sample).tolist() == [low + (number * (high - low) >> 64) for number in doubles(100, 0)]


def test_integers_below_a_symbolic_size() -> None:
    g = generator()
    x = sg.placeholder("x", ("n",))
    below, between = g.integers((50,), x.shape[0]), g.integers(x.shape, -x.shape[0], 2 * x.shape[0] + 3, "int32")
    for n in (1, 1000):
        results = sg.evaluate([below, between], {x: np.zeros(n, "float32")})
        assert results[0].tolist() == [number * n >> 64 for number in doubles(50, 0)]
        assert results[1].tolist() == [-n + (number * (3 * n + 3) >> 64) for number in doubles(n, 1)]
        assert results[1].dtype == np.int32


def test_permutations() -> None:
    g = generator()
    x = sg.placeholder("x", ("n", 3))
    rows = np.arange(15, dtype="float32").reshape(5, 3)
    samples = [g.permutation(5), g.permutation(x.shape[0]), g.permutation(x), g.permutation(x, axis=-1),
               g.permutation([10, 20, 30])]
    orders = [np.argsort(np.array(doubles(count, stream), np.uint64), kind="stable")
              for stream, count in enumerate((5, 5, 5, 3, 3))]
    values = sg.evaluate(samples, {x: rows})
    for value, expected in zip(values, [orders[0], orders[1], rows[orders[2]], rows[:, orders[3]],
                                        np.array([10, 20, 30])[orders[4]]], strict=True):
        np.testing.assert_array_equal(value, expected, strict=True)
    assert sg.evaluate(g.permutation(0)).shape == (0,) and sg.evaluate(g.permutation(1)).tolist() == [0]


# What users get wrong.

def test_errors() -> None:
    g = generator()
    x = sg.placeholder("x", (4,), "float64")
    refused: list[tuple[Any, type[Exception], str]] = [
        (lambda: g.uniform(0.0, 1.0), sg.ArgumentError, "uniform: the shape comes first: .* got 0.0"),
        (lambda: g.normal(None), sg.ArgumentError, "normal: the shape comes first"),
        (lambda: g.normal(x), sg.ArgumentError, "normal: the shape comes first"),
        (lambda: g.bits("n"), sg.ArgumentError, "bits: the shape comes first"),
        (lambda: g.bits((2, 0.5)), sg.ArgumentError, "bits: 0.5 of type float is not a size"),
        (lambda: g.normal((2, -1)), sg.ShapeError, r"normal: a size cannot be negative, got shape \(2, -1\)"),
        (lambda: g.uniform(3, 1, 1), sg.ArgumentError, "uniform: needed low < high in float32.* got 1.0 and 1.0"),
        (lambda: g.uniform(3, 2, 1), sg.ArgumentError, "uniform: needed low < high"),
        (lambda: g.uniform(3, 1, 1 + 1e-9), sg.ArgumentError, "uniform: needed low < high in float32"),
        (lambda: g.uniform(3, -1e308, 1e308, "float64"), sg.ArgumentError, "a finite distance"),
        (lambda: g.uniform(3, 0, math.inf), sg.ArgumentError, "uniform: high is a finite number or a tensor, got inf"),
        (lambda: g.uniform(3, (0, 1)), sg.ArgumentError, r"uniform: low is a finite number or a tensor, got \(0, 1\)"),
        (lambda: g.uniform(3, dtype="int32"), sg.DTypeError, "uniform: samples are floating-point numbers, got dtype"),
        (lambda: g.normal(3, dtype="float16"), sg.DTypeError, "dtype float16 is not supported"),
        (lambda: g.normal(3, scale=-1), sg.ArgumentError, "normal: scale is at least 0, got -1"),
        (lambda: g.normal(3, scale=math.nan), sg.ArgumentError, "normal: scale is at least 0, got nan"),
        (lambda: g.normal((2, 3), loc=x), sg.ShapeError, r"normal: shapes do not broadcast"),
        (lambda: g.normal((1,), loc=x), sg.ShapeError,
         r"normal: loc does not broadcast to the sample's shape\n  a: float64\[4\]   'x'   test_random.py:\d+\n"
         r"  needed \(1,\), got \(4,\)"),
        (lambda: g.normal(4, loc=x, dtype="float32"), sg.DTypeError,
         r"normal: loc does not fit a sample of float32\n  a: float64\[4\]   'x'.*\n.*use sg.astype, or dtype=\"float"),
        (lambda: g.bernoulli(3, 1.5), sg.ArgumentError, "bernoulli: p is a probability, between 0 and 1, got 1.5"),
        (lambda: g.bernoulli(3, math.nan), sg.ArgumentError, "bernoulli: p is a finite number or a tensor, got nan"),
        (lambda: g.bernoulli(3, True), sg.ArgumentError, "bernoulli: p is a finite number or a tensor, got True"),
        (lambda: g.integers(3, 5, 5), sg.ArgumentError, "integers: needed low < high, got 5 and 5"),
        (lambda: g.integers(3, 0), sg.ArgumentError, "integers: needed low < high, got 0 and 0"),
        (lambda: g.integers(3, 0.5, 2), sg.ArgumentError, "integers: 0.5 of type float is not a size"),
        (lambda: g.integers(3, 0, 257, "uint8"), sg.DTypeError, "integers: uint8 does not hold all integers from 0 up"),
        (lambda: g.integers(3, -1, 5, "uint8"), sg.DTypeError, "integers: uint8 does not hold"),
        (lambda: g.integers(3, 5, dtype="float32"), sg.DTypeError, "integers: needed a dtype of integers, got float32"),
        (lambda: g.bits(3, "int32"), sg.DTypeError, "bits: needed dtype uint32 or uint64, got int32"),
        (lambda: g.permutation(-1), sg.ArgumentError, "permutation: needed a size or a tensor, got -1"),
        (lambda: g.permutation(2.5), sg.ArgumentError, "permutation: 2.5 of type float is not a size"),
        (lambda: g.permutation(x, axis=1), sg.ShapeError, "permutation: axis 1 is out of range"),
    ]
    for build, error, text in refused:
        with pytest.raises(error, match=text):
            build()
