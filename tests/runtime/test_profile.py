"""Timing steps leaves no trace."""

import re

import numpy as np
import pytest

from staticgraph.compiler.program import Note
from staticgraph.errors import ArgumentError, OutOfRangeError
from staticgraph.runtime import profile
from staticgraph.runtime.executable import load
from staticgraph.types import product

from .programs import BATCH, Storage, add_one_program, counter_program, make, pick_and_update_program


@pytest.fixture(autouse=True)
def few_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(profile, "BUDGET", 0.0)


def test_each_step_with_its_rates() -> None:
    size = product((BATCH, 3))
    notes = (Note("x + 1", ("add",), ("model.py:4",), flops=size, bytes_moved=size * 8),)
    result = load(add_one_program(notes=notes)).profile(np.zeros((1000, 3), "float32"))
    (step,) = result.steps
    assert (step.kernel, step.title, step.lines) == ("add_one", "x + 1", ("model.py:4",))
    assert (step.bytes_moved, step.flops, result.rounds) == (24000, 3000, profile.MINIMUM_ROUNDS)
    assert result.seconds == step.seconds > 0
    shown = re.sub(r" +", " ", re.sub(r"\d+\.\d", "0.0", str(result)))
    assert shown == """\
0.0 us in 1 steps, medians of 5 rounds
 kernel us % GB/s GFLOP/s computes lines
 0 add_one 0.0 100 0.0 0.0 x + 1 model.py:4"""


def test_variables_are_put_back() -> None:
    storage = Storage(np.arange(4, dtype="float32"))
    executable = load(counter_program(), [storage])
    assert len(executable.profile().steps) == 2
    assert np.array_equal(storage.array, np.arange(4))
    assert np.array_equal(executable(), np.arange(4))


def test_errors_are_those_of_a_call() -> None:
    storage = Storage(np.zeros(4, "float32"))
    executable = load(pick_and_update_program(), [storage])
    with pytest.raises(ArgumentError):
        executable.profile()
    with pytest.raises(OutOfRangeError, match="index 7 is out of range"):
        executable.profile([1.0], [7])
    assert not storage.array.any()
    assert executable([1.0], [0]) == 1.0


def test_nothing_to_do() -> None:
    assert str(load(make(structure=("list", 0))).profile()) == "no steps"
