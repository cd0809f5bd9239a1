"""Large results: memory that the caller has dropped serves again, memory that it holds never does."""

from __future__ import annotations

import threading
import weakref
from typing import Any

import numpy as np
import pytest

import staticgraph as sg
from staticgraph.runtime.results import COUNTED, LARGE, Results

N = LARGE // 4 + 5
Array = np.ndarray[Any, Any]

pytestmark = pytest.mark.skipif(not COUNTED, reason="this Python does not count references")


def doubling() -> Any:
    x = sg.placeholder("x", ("n",))
    return sg.compile([x], x * 2.0)


def address(array: Array) -> int:
    return int(array.ctypes.data)


def test_dropped_memory_serves_again() -> None:
    double = doubling()
    first = address(double(np.ones(N, "float32")))
    result = double(np.full(N, 3, "float32"))
    assert address(result) == first and (result == 6).all()


def test_inputs_that_are_converted_cost_no_second_result() -> None:
    double = doubling()
    given = np.ones(2 * N, "float32")[::2]
    places = set()
    for _ in range(4):
        result = double(given)
        places.add(address(result))
        del result
    assert len(places) == 1


@pytest.mark.parametrize("keep", [lambda array: array, lambda array: array[3:7], memoryview, lambda array: array.T,
                                  lambda array: {"a": [array]}])
def test_held_memory_is_left_alone(keep: Any) -> None:
    double = doubling()
    first = double(np.ones(N, "float32"))
    held = keep(first)
    place = address(first)
    del first
    second = double(np.full(N, 5, "float32"))
    assert address(second) != place
    values = held["a"][0] if isinstance(held, dict) else np.asarray(held)
    assert (values == 2).all() and (second == 10).all()


def test_arrays_that_the_caller_knows_weakly_go_when_it_drops_them() -> None:
    double, gone = doubling(), []
    known = double(np.ones(N, "float32"))
    weakly = weakref.ref(known, gone.append)
    del known
    double(np.full(N, 5, "float32"))
    assert weakly() is None and gone == [weakly]


def test_arrays_that_the_caller_changed_are_not_used_again() -> None:
    double = doubling()
    for spoil in (lambda array: array.setflags(write=False), lambda array: array.resize((1, N), refcheck=False)):
        spoil(double(np.ones(N, "float32")))
        result = double(np.ones(N, "float32"))
        assert result.shape == (N,) and result.flags.writeable and (result == 2).all()


def test_small_results_are_always_new() -> None:
    results = Results(((4,),), [np.dtype("float32")])
    assert results.take()[0] is not results.take()[0]


def test_results_fed_back_in() -> None:
    double = doubling()
    value = double(np.ones(N, "float32"))
    for _ in range(3):
        value = double(value)
    assert (value == 16).all()


def test_threads_get_arrays_of_their_own() -> None:
    double = doubling()
    wrong: list[int] = []

    def work(number: int) -> None:
        given = np.full(N, number, "float32")
        for _ in range(50):
            if not (double(given) == 2 * number).all():
                wrong.append(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
