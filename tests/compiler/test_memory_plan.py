"""The memory plan: no two live buffers overlap, freed memory is taken again, offsets are aligned, for every size.

Checked by brute force: each pair of buffers, with the offsets evaluated for several values of the symbolic sizes.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import staticgraph as sg
from staticgraph import api
from staticgraph.compiler.memory_plan import LiveBuffer, aligned, plan
from staticgraph.compiler.program import ALIGNMENT, Program
from staticgraph.tensor import Tensor
from staticgraph.types import Dim, Size, evaluate_size
from tests.compiler.compare import check, ordinary
from tests.compiler.models import batch_of, perceptron, training_step

N, M = Dim.symbol("n"), Dim.symbol("m")
VALUES = [dict(n=n, m=m) for n, m in ((0, 0), (1, 1), (1, 17), (16, 3), (1000, 64), (64, 1000))]


def assert_disjoint(buffers: Sequence[LiveBuffer], offsets: Mapping[int, Size], total: Size,
                    values: Sequence[Mapping[str, int]]) -> None:
    """No two buffers that live at the same time share a byte; all lie inside, aligned."""
    for sizes in values:
        place = {each.index: (evaluate_size(offsets[each.index], sizes), evaluate_size(each.nbytes, sizes))
                 for each in buffers}
        end = evaluate_size(total, sizes)
        for start, nbytes in place.values():
            assert start % ALIGNMENT == 0 and start >= 0 and start + nbytes <= end
        for a, b in itertools.combinations(buffers, 2):
            if a.first <= b.last and b.first <= a.last:
                (p, p_bytes), (q, q_bytes) = place[a.index], place[b.index]
                assert p + p_bytes <= q or q + q_bytes <= p or not p_bytes or not q_bytes, (a, b, sizes)


FORMULAS = [N * 4, N * M * 4, M * 8, N * 4 + 64, (N + 1) * M, N * N, N * 256, M * 256 + N * 4]
size = st.one_of(st.integers(0, 300), st.sampled_from([0, 64, 4096]), st.sampled_from(FORMULAS))
lives = st.lists(st.tuples(size, st.integers(0, 12), st.integers(0, 8)), max_size=24)


@settings(max_examples=200, deadline=None, derandomize=True, database=None)
@given(lives)
def test_random_plans(drawn: list[tuple[Size, int, int]]) -> None:
    buffers = [LiveBuffer(3 * number, nbytes, first, first + length)
               for number, (nbytes, first, length) in enumerate(drawn)]
    offsets, total = plan(buffers)
    assert offsets.keys() == {each.index for each in buffers}
    assert_disjoint(buffers, offsets, total, VALUES)


@settings(max_examples=60, deadline=None, derandomize=True, database=None)
@given(lives)
def test_never_more_than_all_apart(drawn: list[tuple[Size, int, int]]) -> None:
    buffers = [LiveBuffer(number, nbytes, first, first + length)
               for number, (nbytes, first, length) in enumerate(drawn)]
    _, total = plan(buffers)
    for sizes in VALUES:
        assert evaluate_size(total, sizes) <= sum(evaluate_size(aligned(each.nbytes), sizes) for each in buffers)


def test_alignment_of_sizes() -> None:
    assert [aligned(each) for each in (0, 1, 64, 65)] == [0, 64, 64, 128]
    for n in (0, 1, 15, 16, 17):
        assert evaluate_size(aligned(N * 4), {"n": n}) == -(-n * 4 // 64) * 64


def test_a_chain_needs_two_places() -> None:
    buffers = [LiveBuffer(number, N * 64, number, number + 1) for number in range(50)]
    offsets, total = plan(buffers)
    assert total == N * 128 and set(offsets.values()) == {0, N * 64}


def test_the_tightest_place_is_taken() -> None:
    buffers = [LiveBuffer(0, 1024, 0, 1), LiveBuffer(1, 128, 0, 1), LiveBuffer(2, 128, 2, 3), LiveBuffer(3, 1000, 3, 3)]
    offsets, total = plan(buffers)
    assert offsets[2] == offsets[1] and offsets[3] == offsets[0] and total == 1152


def test_only_what_surely_fits_is_shared() -> None:
    """Of n and m neither is known to be larger; n*4 fits where n*8 was."""
    buffers = [LiveBuffer(0, N * 512, 0, 0), LiveBuffer(1, M * 512, 1, 1), LiveBuffer(2, N * 256, 2, 2)]
    offsets, total = plan(buffers)
    assert total == N * 512 + M * 512 and offsets[2] == offsets[0]


def test_nothing_is_planned_for_nothing() -> None:
    assert plan([]) == ({}, 0)


# Real programs.

def compiled(inputs: list[Tensor], outputs: list[Tensor]) -> Program:
    program = api.compile_only(inputs, outputs).program
    assert program is not None
    return program


def live_buffers(program: Program) -> list[LiveBuffer]:
    """Arena buffers with the steps that touch them, found from the program alone."""
    touched: dict[int, list[int]] = {}
    for number, step in enumerate(program.steps):
        for index in {*step.reads, *step.writes}:
            touched.setdefault(index, []).append(number)
    wanted = {each.buffer for each in program.outputs}
    return [LiveBuffer(index, program.buffers[index].nbytes, steps[0],
                       len(program.steps) if index in wanted else steps[-1])
            for index, steps in touched.items() if program.buffers[index].place == "arena"]


def assert_planned(program: Program, names: Sequence[str]) -> None:
    buffers = live_buffers(program)
    offsets = {each.index: program.buffers[each.index].offset for each in buffers}
    values = [dict(zip(names, sizes)) for sizes in itertools.product((0, 1, 3, 64, 257), repeat=len(names))]
    assert_disjoint(buffers, offsets, program.arena_bytes, values)


@pytest.mark.parametrize("optimizer", [sg.optim.SGD(0.1), sg.optim.SGD(0.1, momentum=0.9), sg.optim.Adam()],
                         ids=["sgd", "momentum", "adam"])
def test_training_steps(optimizer: sg.optim.Optimizer) -> None:
    assert_planned(training_step(optimizer).program, ["batch"])


def test_a_deep_network_and_attention() -> None:
    inputs, loss, parameters = perceptron(sizes=(8, 16, 24, 32, 24, 16, 8))
    gradients = sg.grad(loss, parameters)
    assert_planned(compiled(inputs, [loss, *gradients]), ["batch"])
    q, k, v = (sg.placeholder(name, ("b", "t", 16)) for name in "qkv")
    y = sg.nn.softmax(q @ k.mT * 0.25) @ v
    assert_planned(compiled([q, k, v], [y, *sg.grad(sg.sum(sg.square(y)), [q, k, v])]), ["b", "t"])


def test_bytes_of_the_training_step() -> None:
    """What a 64-128-64-10 network needs for a step: formula and bytes, so that a change is noticed."""
    program = training_step(sg.optim.SGD(0.1)).program
    used = [evaluate_size(program.arena_bytes, {"batch": batch}) for batch in (1, 64, 1024)]
    apart = [sum(evaluate_size(aligned(each.nbytes), {"batch": batch}) for each in live_buffers(program))
             for batch in (1, 64, 1024)]
    assert used == [70848, 184896, 1924416]
    assert used == apart    # products lie where their results go, and all else is alive together


def test_memory_is_taken_again() -> None:
    x = sg.placeholder("x", ("n", 64))
    w = sg.variable(np.eye(64, dtype="float32"), "w")
    y = x
    for _ in range(20):
        y = sg.tanh(y @ w)
    step = sg.compile([x], y)
    assert evaluate_size(step.program.arena_bytes, {"n": 64}) <= 2 * 64 * 64 * 4
    step(ordinary("float32", (64, 64)))
    assert step.memory.arena.last == evaluate_size(step.program.arena_bytes, {"n": 64})


def test_the_arena_keeps_values_apart() -> None:
    """Long lives across many kernels, at sizes that make formulas cross each other."""
    x, y = sg.placeholder("x", ("n", "m")), sg.placeholder("y", ("m", "n"))
    a, b = sg.cumulative_sum(x, 0), sg.cumulative_sum(y, 1)
    c = sg.cumulative_sum(sg.concat([a, b.T], 0), 1)
    d = sg.cumulative_sum(a @ b, 0)
    outputs = {"y": sg.sum(c) + sg.sum(d) + sg.sum(sg.sort(a, 1) * a) + sg.sum(b)}
    check(outputs, *({x: ordinary("float32", (n, m)), y: ordinary("float32", (m, n))}
                     for n, m in ((3, 5), (5, 3), (1, 40), (40, 1), (17, 64))), relative=True)


def test_outputs_of_calls_do_not_share_memory() -> None:
    step = training_step(sg.optim.SGD(0.0))
    first, second = step(*batch_of(4)), step(*batch_of(4))
    assert first == second and not np.shares_memory(first, second)
