"""sg.compile as users call it: structures of outputs, inputs that go unused, updates alone, what may be looked at."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import staticgraph as sg

X = np.arange(6, dtype="float32").reshape(2, 3)


def x_tensor() -> sg.Tensor:
    return sg.placeholder("x", ("n", 3))


# Outputs.

def test_one_tensor() -> None:
    x = x_tensor()
    result = sg.compile([x], x * 2)(X)
    assert type(result) is np.ndarray
    np.testing.assert_array_equal(result, X * 2)


def test_a_scalar_is_an_array() -> None:
    x = x_tensor()
    result = sg.compile([x], sg.sum(x))(X)
    assert type(result) is np.ndarray and result.shape == () and result.dtype == np.float32


def test_structures_come_back() -> None:
    x = x_tensor()
    parts = [x, x + 1, sg.sum(x)]
    for outputs in (parts, tuple(parts), dict(zip(("a", 2, None), parts)), [], (), {}, [x], (x,), [x, x]):
        result = sg.compile([x], outputs)(X)
        assert type(result) is type(outputs) and len(result) == len(outputs)
        if isinstance(outputs, dict):
            assert list(result) == list(outputs)


def test_repeated_and_direct_outputs_are_arrays_of_their_own() -> None:
    x, w = x_tensor(), sg.variable(np.ones(3, "float32"), "w")
    constant = sg.constant(np.arange(3))
    given = X.copy()
    results = sg.compile([x], [x, x, w, constant, x + 1, x + 1, sg.reshape(x, (-1,))])(given)
    for number, result in enumerate(results):
        result[...] = number
        assert not np.shares_memory(result, given)
    assert [int(result.flat[0]) for result in results] == list(range(7))
    np.testing.assert_array_equal(given, X)
    np.testing.assert_array_equal(w.value, np.ones(3))


# Inputs.

def test_inputs_that_nothing_uses() -> None:
    x, unused = x_tensor(), sg.placeholder("unused", ("k", None), "int8")
    compiled = sg.compile([unused, x], x * 2)
    np.testing.assert_array_equal(compiled(np.zeros((4, 1), "int8"), X), X * 2)
    with pytest.raises(sg.ShapeError, match="input 'unused': rank is 1, expected 2"):
        compiled(np.zeros(4, "int8"), X)


def test_a_size_that_only_an_unused_input_has() -> None:
    like = sg.placeholder("like", ("k",))
    compiled = sg.compile([like], sg.ones((like.shape[0], 2), "float32"))
    assert compiled(np.zeros(5, "float32")).shape == (5, 2)


def test_a_single_input_and_none() -> None:
    x = x_tensor()
    np.testing.assert_array_equal(sg.compile(x, x * 2)(X), X * 2)
    np.testing.assert_array_equal(sg.compile([], sg.constant(2.5) * 2)(), 5.0)


def test_by_name_and_by_position() -> None:
    x, y = x_tensor(), sg.placeholder("y", ())
    compiled = sg.compile([x, y], x * y)
    for result in (compiled(X, 2), compiled(x=X, y=2), compiled(X, y=2), compiled(y=2, x=X)):
        np.testing.assert_array_equal(result, X * 2)


@pytest.mark.parametrize("given", [
    X[::-1], X.T.copy().T, np.asfortranarray(X), X.tolist(), X.astype("int16"), np.broadcast_to(X[0], (4, 3)),
    X.astype(">f4"), np.zeros((0, 3), "float32"), tuple(map(tuple, X.tolist()))])
def test_any_array_or_list(given: Any) -> None:
    x = x_tensor()
    np.testing.assert_array_equal(sg.compile([x], x * 2)(given), np.asarray(given, "float32") * 2)


def test_read_only_arrays() -> None:
    x = x_tensor()
    given = X.copy()
    given.flags.writeable = False
    np.testing.assert_array_equal(sg.compile([x], [x, x + 1])(given)[1], X + 1)


# Updates.

def test_updates_alone() -> None:
    x, total = x_tensor(), sg.variable(np.zeros((), "float32"), "total")
    compiled = sg.compile([x], updates={total: total + sg.sum(x)})
    assert compiled(X) == ()
    compiled(X)
    assert total.value == 30


@pytest.mark.parametrize("form", [dict, list, tuple, lambda pairs: [list(pair) for pair in pairs]])
def test_forms_of_updates(form: Any) -> None:
    w, v = sg.variable(np.float32(1), "w"), sg.variable(np.float32(2), "v")
    sg.compile([], updates=form([(w, v), (v, w + v)]))()
    assert (float(w.value), float(v.value)) == (2, 3)


def test_numbers_and_arrays_as_updates() -> None:
    w, n = sg.variable(np.float32(1), "w"), sg.variable(np.zeros(2, "int8"), "n")
    sg.compile([], updates={w: 0.25, n: np.array([3, 4], "int8")})()
    assert float(w.value) == 0.25 and n.value.tolist() == [3, 4]


def test_a_variable_may_be_set_between_calls() -> None:
    w = sg.variable(np.float32(1), "w")
    compiled = sg.compile([], w * 2)
    assert compiled() == 2
    w.value = 5
    assert compiled() == 10


def test_programs_share_variables() -> None:
    w = sg.variable(np.float32(0), "w")
    up, down = sg.compile([], w, updates={w: w + 3}), sg.compile([], w, updates={w: w - 1})
    assert [float(each()) for each in (up, down, up, down)] == [0, 3, 2, 5]


# Options and what may be looked at.

def test_without_stabilising_it_computes_what_is_written() -> None:
    x = sg.placeholder("x", (2,))
    y = sg.log(sg.exp(x) / sg.sum(sg.exp(x)))
    given = np.array([0, 1000], "float32")
    np.testing.assert_array_equal(sg.compile([x], y)(given), [-1000, 0])
    assert not np.isfinite(sg.compile([x], y, options={"stabilise": False})(given)).all()


def test_looking_at_it() -> None:
    x = x_tensor()
    compiled = sg.compile([x], sg.nn.softmax(x))
    assert "def row_max_subtract_exp_sum_divide(args, start, stop):" in compiled.source()
    assert "test_api.py" in compiled.source()
    explained = compiled.explain()
    assert "row_max_subtract_exp_sum_divide" in explained and "simplify" in explained
    assert compiled.memory.outputs.formula == x.size * 4
    assert repr(compiled) == "<Executable(x) on cpu: 1 steps>"


PROGRAM = """
import numpy as np, staticgraph as sg
x = sg.placeholder("x", ("n", 3))
w = sg.variable(np.ones((3, 2), "float32"), "w")
y = sg.log(sg.nn.softmax(x @ w))
sg.compile([x], y, updates={w: w * 0.5})(np.ones((2, 3), "float32"))
"""
SHOWN = {1: "staticgraph: simplify: ", 2: "log-softmax", 3: "placeholder 'x'", 4: "kernel row_", 5: "def row_"}


@pytest.mark.parametrize("level", range(6))
def test_debug_levels(level: int) -> None:
    environment = {**os.environ, "STATICGRAPH_DEBUG": str(level)}
    done = subprocess.run([sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True, check=True,
                          cwd=Path(__file__).parent.parent)
    assert done.stdout == ""
    assert [number for number, text in SHOWN.items() if text in done.stderr] == list(range(1, level + 1))


def test_dump(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All levels as files; they say what the program is, and a second dump replaces the first."""
    folder = tmp_path / "deep" / "dump"
    monkeypatch.setenv("STATICGRAPH_DUMP", str(folder))
    x = x_tensor()
    for _ in range(2):
        compiled = sg.compile([x], sg.log(sg.nn.softmax(x)))
    texts = {path.name: path.read_text() for path in folder.iterdir()}
    key = compiled.program.kernels[0].key[:16]
    names = {re.sub(r"^\d\d_", "", name) for name in texts}
    assert names >= {"stabilise.txt", "decompose.txt", "simplify.txt", "settle.txt", "kernels.ir.txt", "program.txt",
                     f"k_{key}_row_max_subtract_exp_sum_log.py"} and len(names) == len(texts)
    assert "log_softmax(%0, axis=1)" in texts["00_stabilise.txt"]
    assert texts[f"k_{key}_row_max_subtract_exp_sum_log.py"] == compiled.program.kernels[0].text
    assert "step 0: row_max_subtract_exp_sum_log 0..n" in texts["program.txt"]


def test_threads_are_an_option() -> None:
    x = sg.placeholder("x", ("n",), "float64")
    one = sg.compile([x], sg.exp(x), options={"threads": 1})
    two = sg.compile([x], sg.exp(x), options={"threads": 2})
    data = np.linspace(-1, 1, 200_000)
    np.testing.assert_array_equal(one(data), two(data))
    for wrong in (-1, 1000):
        with pytest.raises(sg.ArgumentError, match="option 'threads' is a number"):
            sg.compile([x], x, options={"threads": wrong})
    with pytest.raises(sg.ArgumentError, match="option 'threads' is for the CPU"):
        sg.compile([x], x, device="cuda", options={"threads": 2})
