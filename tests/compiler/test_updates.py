"""Updates: all read the old state, outputs see the old state, all are written together - in place where that is safe.

Each case runs the compiled program a few times beside NumPy; the number of commit kernels says what was in place.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest

import staticgraph as sg
from staticgraph.tensor import Tensor
from tests.compiler.compare import agree

Array = np.ndarray[Any, Any]
State = dict[str, Array]


def start(*names: str, shape: tuple[int, ...] = (3, 3)) -> State:
    return {name: np.random.default_rng(number).standard_normal(shape).astype("float32")
            for number, name in enumerate(names)}


def run(state: State, build: Callable[..., Mapping[str, Tensor]], outputs: Callable[..., Any] | None = None,
        x: Array | None = None, calls: int = 3) -> sg.Executable:
    """Variables after each call, and outputs, against the interpreter on the values before it."""
    variables = {name: sg.variable(value, name) for name, value in state.items()}
    given = [] if x is None else [sg.placeholder("x", x.shape, x.dtype)]
    updates = {variables[name]: value for name, value in build(*variables.values(), *given).items()}
    results = outputs(*variables.values(), *given) if outputs else []
    step = sg.compile(given, results, updates=updates)
    feed = {placeholder: x for placeholder in given}
    for _ in range(calls):
        expected = sg.evaluate({**{each.name: sg.stabilise(value) for each, value in updates.items()}}, feed)
        wanted = sg.evaluate(results, feed) if outputs else []
        untouched = {each.name: each.value for each in variables.values() if each.name not in expected}
        got = step(*feed.values())
        for actual, value in zip(got, wanted, strict=True):
            agree(actual, value, "output", relative=True)
        for name, value in {**expected, **untouched}.items():
            agree(variables[str(name)].value, np.asarray(value), str(name), relative=True)
    return step


def commits(step: sg.Executable) -> int:
    return sum(each.stage == "commit" for each in step.program.steps)


def arena_writes(step: sg.Executable) -> int:
    """Steps that compute something before the commit."""
    return sum(each.stage == "compute" for each in step.program.steps)


def test_swap() -> None:
    step = run(start("a", "b"), lambda a, b: {"a": b, "b": a})
    assert commits(step) == 1


def test_three_in_a_ring() -> None:
    run(start("a", "b", "c"), lambda a, b, c: {"a": b, "b": c, "c": a})


def test_swap_with_arithmetic() -> None:
    run(start("a", "b"), lambda a, b: {"a": b * 2, "b": a + 1})


def test_each_reads_the_other() -> None:
    run(start("a", "b"), lambda a, b: {"a": a + b, "b": a - b})


def test_add_a_variable_that_is_updated_too() -> None:
    run(start("a", "b"), lambda a, b: {"a": a + b, "b": b * 0.5})


def test_accumulate_in_place() -> None:
    step = run(start("a"), lambda a, x: {"a": a + x}, x=np.ones((3, 3), "float32"))
    assert (commits(step), arena_writes(step)) == (1, 0)


def test_own_transpose() -> None:
    step = run(start("a"), lambda a: {"a": a + a.T})
    assert arena_writes(step) == 1


def test_anothers_transpose() -> None:
    run(start("a", "b"), lambda a, b: {"a": a + b.T, "b": b * 2})


def test_own_elements_moved() -> None:
    for move in (sg.flip, lambda a: sg.roll(a, 1, 0), lambda a: a[::-1], lambda a: a[:, ::-1] * 1.5,
                 lambda a: sg.reshape(sg.reshape(a, (9,))[::-1], (3, 3)), lambda a: a.T):
        run(start("a"), lambda a, move=move: {"a": move(a)})


def test_own_row_and_element() -> None:
    run(start("a"), lambda a: {"a": a * a[0]})
    run(start("a"), lambda a: {"a": a * a[:, :1]})
    run(start("a"), lambda a: {"a": a - a[1, 1]})


def test_own_reduction() -> None:
    run(start("a"), lambda a: {"a": a / sg.sum(a * a)})
    run(start("a"), lambda a: {"a": a - sg.mean(a, 1, keepdims=True)})
    run(start("a"), lambda a: {"a": sg.nn.softmax(a, 0)})
    run(start("a"), lambda a: {"a": sg.cumulative_sum(a, 0)})


def test_own_elements_gathered() -> None:
    run(start("a"), lambda a: {"a": sg.take(a, np.array([2, 0, 1]), 0)})
    run(start("a"), lambda a: {"a": sg.scatter_add(a, np.array([0, 0, 2]), a, 0)})
    run(start("a"), lambda a: {"a": sg.sort(a, 1)})
    run(start("a"), lambda a: {"a": a @ a})


def test_equal_to_an_input() -> None:
    run(start("a"), lambda a, x: {"a": x}, x=np.arange(9, dtype="float32").reshape(3, 3))
    run(start("a"), lambda a, x: {"a": x.T}, x=np.arange(9, dtype="float32").reshape(3, 3))


def test_equal_to_a_constant() -> None:
    run(start("a"), lambda a: {"a": sg.constant(np.arange(9, dtype="float32").reshape(3, 3))})
    run(start("a"), lambda a: {"a": sg.zeros((3, 3), "float32")})
    run(start("a", shape=()), lambda a: {"a": sg.constant(np.float32(2.5))})
    run(start("a", shape=(1,)), lambda a: {"a": sg.constant(np.array([2.5], "float32"))})


def test_equal_to_itself() -> None:
    run(start("a"), lambda a: {"a": a})
    run(start("a"), lambda a: {"a": a * 1})


def test_two_variables_of_one_value() -> None:
    run(start("a", "b"), lambda a, b: {"a": a + b, "b": a + b})
    run(start("a", "b", "c"), lambda a, b, c: {"a": c, "b": c, "c": a})
    run(start("a", "b"), lambda a, b, x: {"a": x, "b": x}, x=np.ones((3, 3), "float32"))


def test_a_view_of_another_variable() -> None:
    run(start("a", "b"), lambda a, b: {"a": b.T, "b": a.T})
    run(start("a", "b"), lambda a, b: {"a": sg.broadcast_to(b[0], (3, 3)), "b": b + 1})


def test_the_update_is_an_output_too() -> None:
    run(start("a"), lambda a, x: {"a": a + x}, lambda a, x: [a + x, a, a * 2], x=np.ones((3, 3), "float32"))


def test_part_of_an_update_is_an_output() -> None:
    run(start("a"), lambda a, x: {"a": a - 0.1 * sg.tanh(a * x)}, lambda a, x: [sg.tanh(a * x)],
        x=np.ones((3, 3), "float32"))


def test_an_output_reads_what_is_updated() -> None:
    run(start("a", "b"), lambda a, b: {"a": a * 0.5, "b": a + b}, lambda a, b: [sg.sum(a), a @ b, a.T, sg.sum(b, 0)])


def test_momentum() -> None:
    x = np.linspace(-1, 1, 9, dtype="float32").reshape(3, 3)
    step = run(start("w", "v"), lambda w, v, x: {"v": 0.9 * v + x, "w": w - 0.1 * (0.9 * v + x)}, x=x)
    assert (commits(step), arena_writes(step)) == (1, 0)


def test_a_chain_of_updates() -> None:
    run(start("a", "b", "c"), lambda a, b, c: {"a": a + b, "b": b + c, "c": c + a})


def test_only_one_reads_across_shapes() -> None:
    variables = start("a") | start("row", shape=(3,))
    run(variables, lambda a, row: {"a": a + row, "row": row * 2})
    run(variables, lambda a, row: {"a": a * 2, "row": row + a[0]})
    run(variables, lambda a, row: {"a": a * 2, "row": row + sg.sum(a, 0)})


def test_scalar_and_integer_variables() -> None:
    step = sg.variable(np.int64(0), "step")
    rate = sg.variable(np.float32(1.0), "rate")
    flags = sg.variable(np.array([True, False]), "flags")
    run_it = sg.compile([], step, updates={step: step + 1, rate: rate * 0.5, flags: sg.logical_not(flags)})
    assert [int(run_it()) for _ in range(3)] == [0, 1, 2]
    assert (int(step.value), float(rate.value), flags.value.tolist()) == (3, 0.125, [False, True])


def test_empty_variables() -> None:
    empty = sg.variable(np.zeros((0, 3), "float32"), "empty")
    sg.compile([], [], updates={empty: empty + 1})()
    assert empty.value.shape == (0, 3)


def test_a_failed_call_changes_nothing() -> None:
    """The index is checked in a kernel, after others have run: no variable has changed."""
    x = sg.placeholder("x", ("n",), "int64")
    table, count = sg.variable(np.arange(4.0), "table"), sg.variable(np.int64(0), "count")
    picked = sg.take(table, x, 0)
    step = sg.compile([x], picked, updates={table: table + sg.sum(picked), count: count + 1})
    np.testing.assert_array_equal(step([1, 3]), [1, 3])
    before = table.value
    with pytest.raises(sg.OutOfRangeError):
        step([0, 4])
    np.testing.assert_array_equal(table.value, before)
    assert int(count.value) == 1
    np.testing.assert_array_equal(step([0]), [4.0])


FORMULAS: list[Callable[[Tensor, Tensor], Tensor]] = [
    lambda a, b: a + b, lambda a, b: sg.tanh(a), lambda a, b: a.T * 0.5, lambda a, b: sg.flip(b),
    lambda a, b: a - sg.mean(b, 0), lambda a, b: sg.maximum(a, b.T)]


@pytest.mark.parametrize("seed", range(12))
def test_random_updates(seed: int) -> None:
    """Up to five variables, each updated by a random formula of all."""
    rng = np.random.default_rng(seed)
    names = "abcde"[: rng.integers(2, 6)]

    def value(variables: list[Tensor]) -> Tensor:
        result = variables[rng.integers(len(variables))]
        for _ in range(rng.integers(0, 3)):
            other = variables[rng.integers(len(variables))]
            result = FORMULAS[rng.integers(6)](result, other)
        return result

    def build(*variables: Tensor) -> dict[str, Tensor]:
        return {name: value(list(variables)) for name in names if rng.random() < 0.8}

    run(start(*names), build, lambda *variables: [value(list(variables)), variables[0]], calls=2)
