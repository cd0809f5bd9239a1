"""Sizes: the algebra of symbolic dimensions against integers."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from staticgraph.graph_file.sizes import SizeReader, SizeWriter
from staticgraph.types import (
    Dim,
    Size,
    divide_exactly,
    evaluate_size,
    floor_divide,
    maximum_size,
    minimum_size,
    modulo,
    provably_different,
    sign_of,
)

n, m = Dim.symbol("n"), Dim.symbol("m")
FEEDS = [{"n": p, "m": q} for p, q in itertools.product((0, 1, 2, 3, 5, 8), (0, 1, 2, 4, 7))]


def trees(leaf: Any) -> Any:
    constant = st.integers(-5, 5)
    return st.one_of(
        st.tuples(st.sampled_from(["+", "-", "min", "max"]), leaf, leaf),
        st.tuples(st.just("*"), leaf, constant),
        st.tuples(st.sampled_from(["//", "%"]), leaf, st.integers(1, 5)),
    )


TREES = st.recursive(st.one_of(st.sampled_from(["n", "m"]), st.integers(-4, 9)), trees, max_leaves=8)
SYMBOLIC = {"+": lambda a, b: a + b, "-": lambda a, b: a - b, "*": lambda a, b: a * b, "//": floor_divide, "%": modulo,
            "min": minimum_size, "max": maximum_size}
PLAIN = {**SYMBOLIC, "//": lambda a, b: a // b, "%": lambda a, b: a % b, "min": min, "max": max}


def build(tree: Any, leaves: dict[str, Any], table: dict[str, Any]) -> Any:
    if isinstance(tree, tuple):
        return table[tree[0]](build(tree[1], leaves, table), build(tree[2], leaves, table))
    return leaves[tree] if isinstance(tree, str) else tree


@settings(max_examples=400, deadline=None, derandomize=True)
@given(TREES, TREES)
def test_formulas_mean_what_integers_mean(first: Any, second: Any) -> None:
    sizes: list[Size] = [build(tree, {"n": n, "m": m}, SYMBOLIC) for tree in (first, second)]
    values = [[build(tree, feed, PLAIN) for feed in FEEDS] for tree in (first, second)]
    for size, expected in zip(sizes, values, strict=True):
        assert [evaluate_size(size, feed) for feed in FEEDS] == expected
        assert SizeReader()(SizeWriter()(size)) == size
        sign = sign_of(size)
        assert sign is None or all(value * sign >= 0 for value in expected)
    if provably_different(*sizes):
        assert all(p != q for p, q in zip(*values, strict=True))
    if sizes[0] == sizes[1]:
        assert values[0] == values[1]


@pytest.mark.parametrize("size, text", [
    (floor_divide(n * 4 + 7, 4), "n + 1"), (floor_divide(n * 5, 2), "(n*5)//(2)"),
    (floor_divide(floor_divide(n, 2) + 1, 2), "(n + 2)//(4)"), (floor_divide(n + 3, 2), "(n + 1)//(2) + 1"),
    (floor_divide(floor_divide(n + 1, 2) + 1, 2), str(floor_divide(n + 3, 4))),
    (floor_divide(n * m, n), "m"), (floor_divide(n, n), "1"), (modulo(n * 6, 3), "0"),
    (maximum_size(maximum_size(n - 1, 0) - 1, 0), "max(0, n - 2)"), (minimum_size(minimum_size(n, 5), 3), "min(3, n)"),
    (maximum_size(n - minimum_size(n, 3), 0), "-min(3, n) + n"),
    (minimum_size(maximum_size(n - 1, 0), n), "max(0, n - 1)"),
    (maximum_size(n, 0), "n"), (minimum_size(n, -1), "-1"), (minimum_size(n, n + m), "n"),
])
def test_simple_forms(size: Size, text: str) -> None:
    assert str(size) == text


def test_exact_division() -> None:
    assert divide_exactly(n * m * 6, m * 2) == n * 3
    assert divide_exactly(n * 3, 2) is None and divide_exactly(n + 1, n) is None
    assert divide_exactly(0, 0) is None and divide_exactly(7, 2) is None


def test_provably_different() -> None:
    assert provably_different(n, n + 1) and provably_different(n * 2, m * 2 + 1) and provably_different(n + 3, 2)
    assert not provably_different(n, m) and not provably_different(n, 4) and not provably_different(n * 2, n)
