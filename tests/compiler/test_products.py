"""Products where their matrices lie: permuted and repeated batch axes without copies, results written in the order in
which they are wanted, single rows."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import staticgraph as sg
from staticgraph.tensor import Tensor
from staticgraph.types import evaluate_size

Array = np.ndarray[Any, Any]


def values(*shape: int, dtype: str = "float32") -> Array:
    random = np.random.default_rng(shape)
    return (random.standard_normal(shape) * 3).astype(dtype)


def check(feed: dict[Tensor, Array], y: Tensor) -> sg.Executable:
    step = sg.compile(list(feed), y)
    got, wanted = step(*feed.values()), sg.evaluate(sg.stabilise(y), feed)
    np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-4)
    assert got.shape == wanted.shape
    return step


def kernels(step: sg.Executable) -> list[str]:
    return [step.program.kernels[each.kernel].name for each in step.program.steps]


def heads(x: Tensor, count: int) -> Tensor:
    *batch, length, width = x.shape
    split = sg.reshape(x, (*batch, length, count, width // count))
    axes = list(range(split.ndim))
    axes[-3], axes[-2] = axes[-2], axes[-3]
    return sg.permute_dims(split, axes)


@pytest.mark.parametrize("batch", [(), ("b",)])
def test_attention_copies_nothing(batch: tuple[str, ...]) -> None:
    """Heads are read from where they were computed, and what they give is written in the order of the tokens."""
    shape = (*batch, "t", 24)
    sizes = (*(3 for _ in batch), 10, 24)
    x, w = sg.placeholder("x", shape), sg.placeholder("w", (24, 24))
    q, k, v = (heads(sg.placeholder(name, shape), 4) for name in "qkv")
    feed = {each.inputs[0].inputs[0]: values(*sizes) + number for number, each in enumerate((q, k, v))}
    mixed = sg.nn.softmax(q @ k.mT) @ v
    axes = [*range(mixed.ndim - 3), mixed.ndim - 2, mixed.ndim - 3, mixed.ndim - 1]
    joined = sg.reshape(sg.permute_dims(mixed, axes), x.shape)
    step = check({**feed, w: values(24, 24)}, joined @ w)
    assert [each.split("_")[0] for each in kernels(step)] == ["matmul", "row", "matmul", "matmul"]
    leaves = list(feed)
    gradients = sg.compile([*leaves, w], sg.grad(sg.sum(sg.square(joined @ w)), leaves))
    assert not [name for name in kernels(gradients) if name == "map_copy"]
    wanted = sg.evaluate(sg.grad(sg.sum(sg.square(joined @ w)), leaves), {**feed, w: values(24, 24)})
    for got, want in zip(gradients(*feed.values(), values(24, 24)), wanted, strict=True):
        np.testing.assert_allclose(got, want, rtol=2e-3, atol=2e-3 * np.abs(want).max())


@pytest.mark.parametrize("dtype", ["float64", "int32"])
def test_a_permuted_result_is_written_as_it_is_wanted(dtype: str) -> None:
    a, b = sg.placeholder("a", ("h", "m", 5), dtype), sg.placeholder("b", ("h", 5, 6), dtype)
    feed = {a: values(3, 7, 5, dtype=dtype), b: values(3, 5, 6, dtype=dtype)}
    assert len(kernels(check(feed, sg.permute_dims(a @ b, (1, 0, 2))))) == 1
    assert len(kernels(check(feed, sg.permute_dims(a @ b, (0, 2, 1))))) == 1     # as b.T @ a.T
    assert len(kernels(check(feed, sg.permute_dims(a @ b, (2, 0, 1))))) == 1
    assert len(kernels(check(feed, sg.permute_dims(a @ b, (2, 1, 0))))) == 2     # no columns that are contiguous
    product = a @ b
    twice = sg.compile([a, b], [product, sg.permute_dims(product, (1, 0, 2))])     # wanted in both orders
    for got, axes in zip(twice(*feed.values()), ((0, 1, 2), (1, 0, 2)), strict=True):
        np.testing.assert_array_equal(got, np.transpose(feed[a] @ feed[b], axes))


def test_batches_that_repeat_or_are_permuted() -> None:
    a, b = sg.placeholder("a", (2, 3, 4, 5, 6)), sg.placeholder("b", (6, 7))
    c, d = sg.placeholder("c", (3, 1, 6, 7)), sg.placeholder("d", (4, 3, 2, 6, 7))
    feed = {each: values(*map(int, each.shape)) for each in (a, b, c, d)}
    assert kernels(check({a: feed[a], b: feed[b]}, a @ b)) == ["matmul_float32"]
    # three axes that no strides can join: the one operand that stands across is copied
    assert kernels(check({a: feed[a], d: feed[d]}, a @ sg.permute_dims(d, (2, 1, 0, 3, 4)))) == [
        "map_copy", "matmul_float32"]
    check({a: feed[a], c: feed[c]}, a @ c)
    two = sg.placeholder("two", (3, 2, 5, 6))
    assert kernels(check({two: values(3, 2, 5, 6), c: feed[c]}, sg.permute_dims(two, (1, 0, 2, 3)) @ sg.reshape(
        c, (3, 6, 7)))) == ["matmul_float32"]


@pytest.mark.parametrize("dtype", ["float32", "int64"])
@pytest.mark.parametrize("count, parts", [(768, 3), (50, 1), ("n", 1)])
def test_a_vector_times_a_matrix_is_shared_by_runs_of_columns(count: int | str, parts: int, dtype: str) -> None:
    size = 40 if isinstance(count, str) else count
    row, column = sg.placeholder("row", (1, 33), dtype), sg.placeholder("column", (33, 1), dtype)
    b = sg.placeholder("b", (33, count), dtype)
    feed = {row: values(1, 33, dtype=dtype), column: values(33, 1, dtype=dtype), b: values(33, size, dtype=dtype)}
    for y in (row @ b, b.T @ column, sg.abs(row @ b) + 1):
        step = check(feed, y)
        assert evaluate_size(step.program.steps[0].extent, {"n": size}) == parts


@pytest.mark.parametrize("a, b", [((5,), (5, 0)), ((1, 5), (5, 0)), ((0, 5), (5,)), ((0, 5), (5, 1)), ((0,), (0, 4))])
def test_a_vector_times_a_matrix_with_a_size_of_zero(a: tuple[int, ...], b: tuple[int, ...]) -> None:
    x, y = sg.placeholder("x", a), sg.placeholder("y", b)
    check({x: values(*a), y: values(*b)}, x @ y)


@pytest.mark.parametrize("dtype", ["float32", "int64"])
def test_a_row_times_columns_that_lie_along_k_is_shared_by_columns(dtype: str) -> None:
    a, b = sg.placeholder("a", (1, "k"), dtype), sg.placeholder("b", (50, "k"), dtype)
    step = check({a: values(1, 33, dtype=dtype), b: values(50, 33, dtype=dtype)}, a @ b.T)
    assert step.program.steps[0].extent == 50
