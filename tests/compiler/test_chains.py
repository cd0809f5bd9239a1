"""Chains: which steps go together through their rows, and that it changes no bit and no meaning."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest

import staticgraph as sg
from staticgraph.compiler.chains import RowSpace, Touch, chained
from staticgraph.compiler.memory_plan import LiveBuffer, Span, plan
from staticgraph.compiler.program import Chain, Program, verify
from staticgraph.errors import VerificationError
from staticgraph.runtime import chains
from staticgraph.runtime.cpu.executable import CpuExecutable
from staticgraph.types import Dim

Array = np.ndarray[Any, Any]


def values(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng([seed, *shape]).standard_normal(shape).astype("float32")


def chain_names(step: sg.Executable) -> list[list[str]]:
    program = step.program
    return [[program.kernels[each.kernel].name for each in program.steps[chain.first: chain.first + chain.count]]
            for chain in program.chains]


def unchained(step: sg.Executable) -> sg.Executable:
    """The same program, its steps one after the other; only what a chain's steps share of memory is the same."""
    assert isinstance(step, CpuExecutable)
    return CpuExecutable(replace(step.program, chains=()), step._storages)


# What is chained.

def test_a_product_takes_its_bias_activation_and_residual_along() -> None:
    x, r = sg.placeholder("x", ("n", 30)), sg.placeholder("r", ("n", 20))
    w, b = sg.variable(values(30, 20)), sg.variable(values(20))
    step = sg.compile([x, r], sg.nn.relu(x @ w + b) + r)
    (names,) = chain_names(step)
    assert names == ["matmul_float32", "map_add_relu"]
    assert step.memory.arena.formula == 0     # the product lies in the result
    assert "chains" in step.explain() and "0..1" in step.explain()
    a, c = values(700, 30), values(700, 20, seed=1)
    np.testing.assert_allclose(step(a, c), np.maximum(a @ w.value + b.value, 0) + c, rtol=1e-4, atol=1e-5)


def test_rows_before_and_after_products_and_several_products() -> None:
    """Layer norm, two products with an activation between them, softmax: one chain."""
    x = sg.placeholder("x", ("n", 12))
    w1, w2 = sg.variable(values(12, 40)), sg.variable(values(40, 7))
    y = sg.nn.softmax(sg.nn.gelu(sg.nn.layer_norm(x, sg.constant(values(12)), sg.constant(values(12))) @ w1) @ w2)
    step = sg.compile([x], y)
    (names,) = chain_names(step)
    assert [each.split("_")[0] for each in names] == ["row", "matmul", "map", "matmul", "row"]


def test_attention_is_a_chain_over_the_rows_of_all_heads() -> None:
    q, k, v = (sg.placeholder(name, ("h", "t", 8)) for name in "qkv")
    step = sg.compile([q, k, v], sg.nn.softmax(q @ k.mT) @ v)
    (names,) = chain_names(step)
    assert names[0] == names[2] == "matmul_float32" and names[1].startswith("row_max")


def test_in_backward_the_mask_goes_along_with_the_product() -> None:
    x = sg.placeholder("x", ("n", 12))
    w1, b1, w2 = sg.variable(values(12, 40)), sg.variable(values(40)), sg.variable(values(40, 7))
    loss = sg.sum(sg.square(sg.nn.relu(x @ w1 + b1) @ w2))
    step = sg.compile([x], sg.grad(loss, [w1, b1, w2]))
    (names,) = chain_names(step)     # forward and backward: all of it goes along the rows
    assert names[-2:] == ["matmul_float32", "map_where"] and len(names) == 6


def test_what_needs_other_rows_stays_outside() -> None:
    x, w = sg.placeholder("x", ("n", 12)), sg.variable(values(12, 12))
    product = x @ w
    for y in (sg.sum(product, axis=0), product[::-1] * 2.0, product.T + 1.0, sg.cumulative_sum(product, axis=0),
              product.T @ product, sg.take(product, sg.constant(np.array([3, 1])))):
        assert chain_names(sg.compile([x], y)) == []


def test_without_a_row_there_is_no_chain() -> None:
    x, w, b = sg.placeholder("x", (0, 5)), sg.variable(values(5, 4)), sg.variable(values(4))
    loss = sg.sum(sg.square(sg.nn.softmax(sg.nn.relu(x @ w + b))))
    step = sg.compile([x], [loss, *sg.grad(loss, [x, w])])
    assert not step.program.chains
    for value, shape in zip(step(values(0, 5)), ((), (0, 5), (5, 4)), strict=True):
        np.testing.assert_array_equal(value, np.zeros(shape, "float32"))


def test_no_chain_has_more_than_some_products() -> None:
    x, w = sg.placeholder("x", ("n", 12)), sg.variable(values(12, 12))
    y = x
    for _ in range(7):
        y = sg.tanh(y @ w)
    assert [len(names) for names in chain_names(sg.compile([x], y))] == [6, 6, 2]


# The same bits.

@pytest.mark.parametrize("rows", [1, 700])
def test_blocks_change_no_bit(rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A hidden layer with its gradients and attention, in blocks of a few rows, of many, and step by step."""
    x, t = sg.placeholder("x", ("n", 12)), sg.placeholder("t", ("n",), "int64")
    w1, b1, w2 = sg.variable(values(12, 40)), sg.variable(values(40)), sg.variable(values(40, 7))
    hidden = sg.nn.relu(x @ w1 + b1)
    loss = sg.mean(sg.nn.cross_entropy(hidden @ w2, t))
    outputs = [hidden, loss, *sg.grad(loss, [w1, b1, w2, x])]
    step = sg.compile([x, t], outputs)
    assert len(step.program.chains) == 2
    feed = values(rows, 12), np.random.default_rng(0).integers(0, 7, rows)
    plain = unchained(step)(*feed)
    wanted = sg.evaluate(sg.stabilise(outputs), {x: feed[0], t: feed[1]})
    for fewest, nbytes in ((5, 1), (64, 1), (256, 2**30)):
        monkeypatch.setattr(chains, "FEWEST_ROWS", fewest)
        monkeypatch.setattr(chains, "BLOCK_BYTES", nbytes)
        monkeypatch.setattr(chains, "ROWS_FOR_WORK", 0)
        for got, same, near in zip(CpuExecutable(step.program, step._storages)(*feed), plain, wanted):
            np.testing.assert_array_equal(got, same)
            np.testing.assert_allclose(got, near, rtol=1e-4, atol=1e-5)


def test_blocks_fit_a_cache_but_do_not_read_large_matrices_again() -> None:
    width = 4 * 64
    assert chains.block_of(10**6, 10**6 * width, 10**6 * 2 * 64 * 64) == chains.BLOCK_BYTES // width
    assert chains.block_of(10**6, 10**6 * 16 * width, 10**6 * 2 * 64 * 1024) == chains.FEWEST_ROWS
    assert chains.block_of(4096, 4096 * 4096, 2 * 4096 * 1024 * 1024) == 2048
    assert chains.block_of(0, 0, 0) >= 1


def test_an_index_out_of_range_is_reported_from_a_chain() -> None:
    x, t = sg.placeholder("x", ("n", 12)), sg.placeholder("t", ("n",), "int64")
    w = sg.variable(values(12, 7))
    step = sg.compile([x, t], sg.nn.cross_entropy(x @ w, t))
    assert len(step.program.chains) == 1
    labels = np.zeros(600, np.int64)
    labels[5] = 9
    with pytest.raises(sg.StaticGraphError, match="9"):
        step(values(600, 12), labels)
    labels[5] = 6
    assert np.isfinite(step(values(600, 12), labels)).all()


def test_a_program_with_chains_comes_back_from_the_cache(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STATICGRAPH_CACHE_DIR", str(tmp_path))
    x, w = sg.placeholder("x", ("n", 12)), sg.variable(values(12, 9))
    steps = [sg.compile([x], sg.tanh(x @ w)) for _ in range(2)]
    assert steps[0].program.chains == steps[1].program.chains != ()


# The pieces.

@dataclass(frozen=True)
class Step:
    reads: frozenset[int]
    writes: frozenset[int]
    rows: RowSpace | None = None
    is_product: bool = False
    reports: bool = False


def product_step(left: int, right: int, result: int, rows: int = 10) -> Step:
    touches = (Touch(left, (4,), 4 * rows), Touch(right, None, 12), Touch(result, (3,), 3 * rows))
    return Step(frozenset((left, right, result)), frozenset((result,)), RowSpace((rows,), touches), True)


def map_step(source: int, target: int, size: int = 30) -> Step:
    touches = (Touch(source, (1,), size), Touch(target, (1,), size))
    return Step(frozenset((source, target)), frozenset((target,)), RowSpace((size,), touches))


def other_step(reads: tuple[int, ...], target: int) -> Step:
    return Step(frozenset((*reads, target)), frozenset((target,)))


def test_steps_in_between_go_before_or_after() -> None:
    works = [product_step(0, 1, 2), other_step((0,), 5), other_step((2,), 6), map_step(2, 3)]
    assert [run.steps for run in chained(works)] == [(1,), (0, 3), (2,)]
    # one that needs the chain and is needed by it cannot be moved
    works[3] = Step(frozenset((2, 3, 6)), frozenset((3,)), works[3].rows)
    assert [run.steps for run in chained(works)] == [(0,), (1,), (2,), (3,)]


def test_a_step_that_reports_ends_its_chain() -> None:
    works = [product_step(0, 1, 2), replace(map_step(2, 3), reports=True), map_step(3, 4)]
    assert [run.steps for run in chained(works)] == [(0, 1), (2,)]


@pytest.mark.parametrize("space, expected", [
    (RowSpace((10,), (Touch(0, (3,), 30),)), True),
    (RowSpace((30,), (Touch(0, (1,), 30),)), True),
    (RowSpace((2, 5), (Touch(0, (15, 3), 30),)), True),
    (RowSpace((10, 3), (Touch(0, (3, 1), 30),)), True),
    (RowSpace((10,), (Touch(0, (3,), 31),)), False),     # not all of the buffer
    (RowSpace((5, 2), (Touch(0, (3, 15), 30),)), False),     # rows in another order
    (RowSpace((10,), (Touch(0, (0,), 3),)), False),     # every row reads the same
    (RowSpace((10,), (Touch(0, None, 30),)), False),
    (RowSpace((7,), (Touch(0, (1,), 7),)), False),
])
def test_rows_of_a_buffer(space: RowSpace, expected: bool) -> None:
    assert space.is_local(10, [0]) is expected


def test_memory_in_a_chain() -> None:
    """What the chain goes through row by row can be overwritten by as much; other buffers live until its end."""
    n = Dim.symbol("n")
    buffers = [LiveBuffer(0, n * 64, 0, 1), LiveBuffer(1, n * 64, 1, 2), LiveBuffer(2, n * 64, 2, 3),
               LiveBuffer(3, n * 64, 4, 5)]
    assert plan(buffers, [Span(0, 3, frozenset(range(4)))])[1] == n * 128
    assert plan(buffers, [Span(0, 3, frozenset((0, 1)))])[1] == n * 192
    assert plan([*buffers[:2], LiveBuffer(2, n * 128, 2, 3)], [Span(0, 3, frozenset(range(3)))])[1] == n * 256


def test_the_verifier_sees_wrong_chains() -> None:
    x, w = sg.placeholder("x", ("n", 12)), sg.variable(values(12, 9))
    program = sg.compile([x], sg.tanh(x @ w)).program
    (chain,) = program.chains
    for wrong in (Chain(1, 2, chain.rows), Chain(0, 1, chain.rows), Chain(0, 2, chain.rows * 2)):
        with pytest.raises(VerificationError, match="chain"):
            verify(_with(program, wrong))


def _with(program: Program, *chains: Chain) -> Program:
    return replace(program, chains=chains)
