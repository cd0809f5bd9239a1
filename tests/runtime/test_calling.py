"""The native way into an executable: the usual call takes it, every other call is served as before."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import staticgraph as sg
from staticgraph.runtime import calling
from staticgraph.runtime.cpu.executable import CpuExecutable

NATIVE = sys.implementation.name == "cpython" and getattr(sys, "_is_gil_enabled", lambda: True)()


def affine() -> Any:
    x, y = sg.placeholder("x", ("n", 3)), sg.placeholder("y", (3,), "float64")
    return sg.compile([x, y], [x * 2 + 1, sg.exp(y)])


@pytest.fixture
def ordinary(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Counts the calls that do not go the native way."""
    calls: list[int] = []
    usual: Callable[..., Any] = CpuExecutable._call

    def counted(self: CpuExecutable, args: Any, kwargs: Any) -> Any:
        calls.append(len(args))
        return usual(self, args, kwargs)

    monkeypatch.setattr(CpuExecutable, "_call", counted)
    return calls


def test_it_works_wherever_there_is_an_interpreter_lock() -> None:
    assert calling.works() == NATIVE


@pytest.mark.skipif(not NATIVE, reason="needs CPython with its lock")
def test_the_usual_call_is_native(ordinary: list[int]) -> None:
    function = affine()
    x, y = np.arange(6, dtype="float32").reshape(2, 3), np.zeros(3)
    for number in range(5):
        x += 1
        first, second = function(x, y)
        assert first.tolist() == (x * 2 + 1).tolist() and second.tolist() == [1, 1, 1]
        assert len(ordinary) == 1, number
    x.flags.writeable = False
    function(x, y)
    assert len(ordinary) == 1
    function(np.ones((5, 3), "float32"), y)     # another size
    function(np.ones((5, 3), "float32"), y)
    assert len(ordinary) == 2
    function(x=x, y=y)
    assert len(ordinary) == 3


@pytest.mark.parametrize("given", [
    [[0, 1, 2], [3, 4, 5]], np.arange(6, dtype=">f4").reshape(2, 3), np.arange(6, dtype="float32").reshape(3, 2).T,
    np.arange(12, dtype="float32").reshape(2, 6)[:, ::2], np.arange(6, dtype="float16").reshape(2, 3),
    np.arange(6, dtype="float32").reshape(2, 3).view(np.memmap), np.zeros((0, 3), "float32"),
    np.frombuffer(b"x" + bytes(24), np.uint8)[1:].view("float32").reshape(2, 3),
])
def test_what_is_not_usual_is_served_as_before(given: Any, ordinary: list[int]) -> None:
    function = affine()
    usual, y = np.ones((2, 3), "float32"), np.zeros(3)
    for _ in range(2):
        function(usual, y)
    first, _ = function(given, y)
    np.testing.assert_array_equal(first, (np.asarray(given, "float32") * np.float32(2) + 1).astype("float32"))
    assert function(usual, y)[0].tolist() == [[3.0] * 3] * 2


def test_mistakes_are_told_as_before() -> None:
    function = affine()
    usual, y = np.ones((2, 3), "float32"), np.zeros(3)
    function(usual, y)
    for wrong, error in ((np.ones((2, 3)), sg.DTypeError), (np.ones((2, 4), "float32"), sg.ShapeError),
                         (np.ones(3, "float32"), sg.ShapeError), (None, sg.DTypeError)):
        with pytest.raises(error):
            function(wrong, y)
        assert function(usual, y)[0].tolist() == [[3.0] * 3] * 2
    with pytest.raises(sg.ArgumentError):
        function(usual)
    with pytest.raises(sg.ArgumentError):
        function(usual, y, y)


def test_a_failed_check_leaves_everything_as_it_was() -> None:
    count, index = sg.variable(np.int64(0), name="count"), sg.placeholder("index", (), "int64")
    table = sg.constant(np.arange(4.0))
    function = sg.compile([index], sg.take(table, index, axis=0), updates={count: count + 1})
    assert [function(np.array(each)).tolist() for each in (0, 3, 1)] == [0.0, 3.0, 1.0]
    for _ in range(3):
        with pytest.raises(sg.OutOfRangeError, match="9"):
            function(np.array(9))
    assert function(np.array(2)).tolist() == 2.0 and count.value == 4


def test_results_that_are_state_or_inputs() -> None:
    v, x = sg.variable(np.zeros(2), name="v"), sg.placeholder("x", (2,), "float64")
    old = sg.compile([x], [v, v + x], updates={v: v + x})
    same = sg.compile([x], [x, x * 2, x])
    for number in range(4):
        before, after = old(np.ones(2))
        assert before.tolist() == [number] * 2 and after.tolist() == [number + 1] * 2
        given = np.full(2, number)
        results = same(given)
        assert [each.tolist() for each in results] == [[number] * 2, [2 * number] * 2, [number] * 2]
        assert results[0] is not given and results[0] is not results[2]


def test_nothing_is_leaked() -> None:
    function = affine()
    x, y = np.ones((2, 3), "float32"), np.zeros(3)
    function(x, y)
    before = [sys.getrefcount(each) for each in (x, y, True, None)]
    for _ in range(500):
        function(x, y)
    after = [sys.getrefcount(each) for each in (x, y, True, None)]
    assert all(abs(one - other) < 100 for one, other in zip(before, after))


def test_threads_that_call_at_once() -> None:
    """Many callers of one executable with several sizes, and one with state: no call sees another's arrays."""
    function = affine()
    total = sg.variable(np.int64(0), name="total")
    count = sg.compile([], total + 1, updates={total: total + 1})
    failures: list[Any] = []

    def work(seed: int) -> None:
        for turn in range(300):
            x = np.full((1 + (turn // 50 + seed) % 3, 3), seed * 1000 + turn, "float32")
            first, second = function(x, np.zeros(3))
            if first.shape != x.shape or (first != x * 2 + 1).any() or (second != 1).any():
                failures.append((seed, turn))
            count()

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert not failures and total.value == 1200


def test_without_it_calls_are_the_same(monkeypatch: pytest.MonkeyPatch, ordinary: list[int]) -> None:
    monkeypatch.setattr(calling, "works", lambda: False)
    function = affine()
    x, y = np.ones((2, 3), "float32"), np.zeros(3)
    for _ in range(3):
        assert function(x, y)[0].tolist() == [[3.0] * 3] * 2
    assert len(ordinary) == 3
