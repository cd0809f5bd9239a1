"""evaluate(): what may be fed, how sizes are bound and checked, and the form of results and errors."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import staticgraph as sg
from staticgraph.op import Op, registry


@pytest.fixture
def x() -> sg.Tensor:
    return sg.placeholder("x", ("n", 3))


def test_results_have_the_structure_that_was_asked_for(x: sg.Tensor) -> None:
    feed = {x: np.ones((2, 3), np.float32)}
    total = sg.sum(x)
    single = sg.evaluate(total, feed)
    assert isinstance(single, np.ndarray) and single.shape == () and single.dtype == np.float32
    assert isinstance(sg.evaluate([x, total], feed), list) and isinstance(sg.evaluate((x,), feed), tuple)
    named = sg.evaluate({"total": total, "twice": total * 2}, feed)
    assert list(named) == ["total", "twice"] and named["twice"] == 12
    assert sg.evaluate([], {}) == []


@pytest.mark.parametrize("bad", [3, None, "x", [1.0], {"a": None}])
def test_outputs_must_be_tensors(bad: Any) -> None:
    with pytest.raises(sg.ArgumentError, match="outputs must be a tensor or a list, tuple or dict of tensors"):
        sg.evaluate(bad)


def test_results_belong_to_the_caller(x: sg.Tensor) -> None:
    given = np.zeros((1, 3), np.float32)
    w, c = sg.variable([1.0]), sg.constant([2.0])
    first, again, state, fixed = sg.evaluate([x, x, w, c], {x: given})
    for each in (first, state, fixed):
        each += 5
    assert not given.any() and not again.any() and w.value == 1 and sg.evaluate(c) == 2


@pytest.mark.parametrize(("given", "dtype"), [
    ([[1, 2, 3]], "float32"), ([[1.5, 2, 3]], "float32"), ([[True, False, True]], "float32"), ([[1, 2, 3]], "int8"),
    (np.ones((1, 3), np.float16), "float32"), (np.ones((1, 3), np.int16), "float32"),
    (np.ones((1, 3), np.float32), "float64"), (np.ones((3, 1), np.float32).T, "float32"),
    (np.ones((1, 3), ">f4"), "float32"), (np.ones((1, 3), bool), "int64"), (np.ones((1, 3), np.uint8), "int16"),
    (np.zeros((0, 3), np.float32), "float32"),
])
def test_what_fits_may_be_fed(given: Any, dtype: str) -> None:
    x = sg.placeholder("x", ("n", 3), dtype)
    value = sg.evaluate(x, {x: given})
    assert value.dtype == dtype
    np.testing.assert_array_equal(value, np.asarray(given, dtype))


@pytest.mark.parametrize(("given", "dtype", "error", "text"), [
    (np.ones((1, 3)), "float32", sg.DTypeError, "got float64, which would lose information"),
    (np.ones((1, 3), np.int64), "int32", sg.DTypeError, "got int64"),
    ([[1.5, 2, 3]], "int32", sg.DTypeError, "got float64"),
    ([[300, 2, 3]], "uint8", sg.DTypeError, "does not fit into uint8"),
    ([[1, 2, 3]], "bool", sg.DTypeError, "got int64"),
    ([[1], [2, 3]], "float32", sg.DTypeError, "a ragged list is not an array"),
    ("text", "float32", sg.DTypeError, "got str"),
    (None, "float32", sg.DTypeError, "got NoneType"),
    (np.ones(3, np.float32), "float32", sg.ShapeError, r"got shape \(3,\)"),
    (np.ones((2, 4), np.float32), "float32", sg.ShapeError, "size of axis 1 differs.*needed 3, got 4"),
])
def test_what_does_not_fit_is_named(given: Any, dtype: str, error: type[Exception], text: str) -> None:
    x = sg.placeholder("x", ("n", 3), dtype)
    with pytest.raises(error, match=f"(?s){text}") as caught:
        sg.evaluate(x, {x: given})
    assert "'x'" in str(caught.value) and "test_interpreter.py" in str(caught.value)


def test_a_missing_placeholder_is_named(x: sg.Tensor) -> None:
    with pytest.raises(sg.ArgumentError, match=r"no value was fed for\n  float32\[n, 3\]   'x'    test_interpreter.py"):
        sg.evaluate(x * 2)
    with pytest.raises(sg.ArgumentError, match="the keys of feed must be tensors, got 'x'"):
        sg.evaluate(x, {"x": 1})  # type: ignore[dict-item]
    with pytest.raises(sg.ArgumentError, match="feed must be a mapping of tensors to arrays"):
        sg.evaluate(x, [1])  # type: ignore[arg-type]
    with pytest.raises(sg.ArgumentError, match="the size 'n' is not known; feed a placeholder that has it"):
        sg.evaluate(sg.zeros((x.shape[0],)))


def test_one_name_is_one_size(x: sg.Tensor) -> None:
    y = sg.placeholder("y", ("n",))
    with pytest.raises(sg.ShapeError, match=r"(?s)axis 0 differs.*'x'.*'y'.*needed n = 2, got 4"):
        sg.evaluate([x, y], {x: np.ones((2, 3), np.float32), y: np.ones(4, np.float32)})
    doubled = sg.placeholder("z", (x.shape[0] * 2,))
    feed = {doubled: np.ones(4, np.float32), x: np.ones((2, 3), np.float32)}  # a formula may come first
    assert sg.evaluate(sg.sum(doubled), feed) == 4
    with pytest.raises(sg.ShapeError, match=r"needed n\*2 = 4, got 5"):
        sg.evaluate(doubled, feed | {doubled: np.ones(5, np.float32)})


def test_sizes_that_only_the_call_decides_are_guarded(x: sg.Tensor) -> None:
    y = sg.placeholder("y", ("m", 3))
    total = x + y
    ones = np.ones((2, 3), np.float32)
    assert sg.evaluate(total, {x: ones, y: ones}).sum() == 12
    with pytest.raises(sg.ShapeError) as caught:
        sg.evaluate(sg.exp(total), {x: ones, y: ones[:1]})  # a symbolic 1 does not stretch
    text = str(caught.value)
    assert "add: sizes of the operands differ" in text and "needed n == m, got 2 and 1" in text
    assert text.count("test_interpreter.py") == 3


def test_a_fed_tensor_is_not_computed(x: sg.Tensor) -> None:
    w = sg.variable(np.ones(3, np.float32))
    h = sg.exp(x * w)
    given = np.full((2, 3), 2, np.float32)
    assert sg.evaluate(sg.sum(h), {h: given}) == 12
    assert sg.evaluate(sg.sum(w * 2), {w: np.zeros(3, np.float32)}) == 0 and w.value.sum() == 3
    spare = sg.placeholder("spare", ())
    assert sg.evaluate(sg.sum(w), {spare: 1.0}) == 3


def test_composites_without_a_meaning_of_their_own_are_expanded(x: sg.Tensor) -> None:
    inner = Op("inner", "composite", "", lambda context, a: a, expand=lambda a: a * 2)
    outer = Op("outer", "composite", "", lambda context, a: a, expand=lambda a: inner(inner(a)) + a)
    assert sg.evaluate(sg.sum(outer(x)), {x: np.ones((1, 3), np.float32)}) == 15


def test_what_was_inferred_is_verified(x: sg.Tensor) -> None:
    wrong = Op("wrong", "elementwise", "", registry["exp"].infer, ref=lambda a: a.astype(np.float64))
    with pytest.raises(sg.VerificationError, match="op 'wrong'"):
        sg.evaluate(wrong(x), {x: np.ones((1, 3), np.float32)})


def test_nothing_is_stabilised(x: sg.Tensor) -> None:
    p = sg.exp(x) / sg.sum(sg.exp(x), 1, keepdims=True)
    value = sg.evaluate(sg.log(p), {x: np.array([[0, 0, 1000]], np.float32)})
    assert np.isnan(value[0, 2]) and np.isneginf(value[0, 0])


def test_a_chain_of_ten_thousand_nodes(x: sg.Tensor) -> None:
    y = x
    for number in range(10_000):
        y = sg.sin(y) if number % 2 else y + 1.0
    assert np.isfinite(sg.evaluate(y, {x: np.ones((1, 3), np.float32)})).all()


def test_composites_of_inputs_that_construction_looks_through() -> None:
    """The gradient of a pool reshapes its cotangent, which is a reshape itself: the two become one of what is above."""
    x = sg.placeholder("x", ("n", 1, 4, 4))
    y = sg.reshape(sg.max_pool2d(x, 2), (x.shape[0], -1))
    value = np.arange(32.0, dtype="float32").reshape(2, 1, 4, 4)
    slope = sg.evaluate(sg.grad(sg.sum(y * y), x), {x: value})
    np.testing.assert_array_equal(slope[1, 0, 1::2, 1::2], 2 * value[1, 0, 1::2, 1::2])
    assert np.count_nonzero(slope) == 8
