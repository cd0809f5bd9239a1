"""Fusion: which kernels a graph becomes, by number and name, and that no order of kernels is ever impossible.

Every case is also run and held to the interpreter (`check`), so that a count is never right for a wrong program.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import staticgraph as sg
from staticgraph import api
from staticgraph.compiler.pipeline import Compilation
from staticgraph.tensor import Tensor
from tests.compiler.compare import check, ordinary
from tests.compiler.models import batch_of, training_step

SIZES: tuple[tuple[Any, Any], ...] = (("n", "m"), (7, 12), ("n", 12))
STABILISE = [True, False]


def kernels(step: sg.Executable, stage: str = "") -> list[str]:
    return [step.program.kernels[each.kernel].name for each in step.program.steps if each.stage == stage or not stage]


def fused(build: Callable[..., Mapping[str, Tensor]], *more: Tensor, sizes: Sequence[Any] = ("n", 12),
          stabilise: bool = True, dtype: str = "float32", feed: Mapping[Tensor, Any] | None = None) -> list[str]:
    """Kernels of the graph that `build` makes of a matrix x, after it has been run on a few sizes."""
    x = sg.placeholder("x", sizes, dtype)
    shapes = [tuple(each if isinstance(each, int) else 7 for each in sizes)]
    if sizes[0] == "n":
        shapes += [(1, shapes[0][1]), (40, shapes[0][1])]
    feeds = [{x: ordinary(dtype, shape), **{each: ordinary(each.dtype, [shape[0], *shape[1:]][:each.ndim])
                                              for each in more}} for shape in shapes]
    return kernels(check(build(x), *feeds, relative=True, stabilise=stabilise))


def test_a_chain_is_one_kernel() -> None:
    assert fused(lambda x: {"y": sg.tanh(sg.exp(x) * 2 + 1)}) == ["map_exp_multiply_add_tanh"]


def test_views_are_no_kernels() -> None:
    assert fused(lambda x: {"y": sg.flip(x.T)[:, None] * 2 + sg.broadcast_to(x[:1, :1], (12, 1, x.shape[0]))}) \
        == ["map_multiply_add"]


@pytest.mark.parametrize("stabilise", STABILISE)
@pytest.mark.parametrize("sizes", SIZES, ids=str)
@pytest.mark.parametrize("axis", [0, 1])
def test_softmax_and_its_like(sizes: tuple[Any, Any], axis: int, stabilise: bool) -> None:
    """The composite and three ways to write it by hand."""
    def by_hand(x: Tensor) -> Tensor:
        e = sg.exp(x - sg.max(x, axis, keepdims=True))
        return e / sg.sum(e, axis, keepdims=True)

    def careless(x: Tensor) -> Tensor:
        return sg.exp(x) / sg.sum(sg.exp(x), axis, keepdims=True)

    for build in (lambda x: sg.nn.softmax(x, axis), by_hand, careless, lambda x: sg.nn.log_softmax(x, axis),
                  lambda x: sg.log(by_hand(x)), lambda x: x - sg.log(sg.sum(sg.exp(x), axis, keepdims=True)),
                  lambda x: sg.logsumexp(x, axis)):
        assert len(fused(lambda x, build=build: {"y": build(x)}, sizes=sizes, stabilise=stabilise)) == 1


@pytest.mark.parametrize("stabilise", STABILISE)
@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_layer_norm(sizes: tuple[Any, Any], stabilise: bool) -> None:
    weight = sg.variable(np.linspace(0.5, 2, 12, dtype="float32"), "weight")
    bias = sg.variable(np.linspace(-1, 1, 12, dtype="float32"), "bias")
    affine = sizes[1] == 12

    def by_hand(x: Tensor) -> Tensor:
        centred = x - sg.mean(x, 1, keepdims=True)
        y = centred / sg.sqrt(sg.mean(centred * centred, 1, keepdims=True) + 1e-5)
        return y * weight + bias if affine else y

    def library(x: Tensor) -> Tensor:
        return sg.nn.layer_norm(x, weight, bias) if affine else sg.nn.layer_norm(x)

    def with_var(x: Tensor) -> Tensor:
        return (x - sg.mean(x, 1, keepdims=True)) / sg.std(x, 1, keepdims=True)

    for build in (by_hand, library, with_var):
        assert len(fused(lambda x, build=build: {"y": build(x)}, sizes=sizes, stabilise=stabilise)) == 1


@pytest.mark.parametrize("stabilise", STABILISE)
@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_cross_entropy_and_its_gradient(sizes: tuple[Any, Any], stabilise: bool) -> None:
    labels = sg.placeholder("labels", sizes[:1], "uint8")

    def library(x: Tensor) -> Tensor:
        return sg.nn.cross_entropy(x, labels)

    def by_hand(x: Tensor) -> Tensor:
        chosen = sg.one_hot(labels, x.shape[1]) == 1
        return -sg.sum(sg.where(chosen, sg.nn.log_softmax(x), 0), 1)

    def by_position(x: Tensor) -> Tensor:
        return -sg.take_along_axis(sg.nn.log_softmax(x), labels[:, None], 1)[:, 0]

    def by_position_careless(x: Tensor) -> Tensor:
        return -sg.log(sg.take_along_axis(sg.nn.softmax(x), labels[:, None], 1)[:, 0])

    for build in (library, by_hand, by_position, by_position_careless):
        def both(x: Tensor, build: Callable[[Tensor], Tensor] = build) -> dict[str, Tensor]:
            loss = build(x)
            return {"loss": loss, "gradient": sg.grad(sg.sum(loss), x)}

        assert len(fused(both, labels, sizes=sizes, stabilise=stabilise)) == 1


@pytest.mark.parametrize("approximate", ["none", "tanh"])
def test_gelu_and_its_gradient(approximate: str) -> None:
    def both(x: Tensor) -> dict[str, Tensor]:
        y = sg.nn.gelu(x, approximate)
        return {"y": y, "gradient": sg.grad(sg.sum(y), x)}

    assert len(fused(both)) == 1


@pytest.mark.parametrize("name", ["sum", "max", "prod", "mean", "var"])
def test_reductions(name: str) -> None:
    function = getattr(sg, name)
    x = sg.placeholder("x", ("a", "b", "c"))
    for axis in (0, 1, 2, (0, 1), (0, 2), (1, 2), (0, 1, 2)):
        step = check({"y": function(x, axis)}, {x: ordinary("float32", (4, 3, 5))}, relative=True)
        assert len(kernels(step)) == 1
        assert kernels(step)[0].startswith("column" if axis in (0, 1, (0, 1)) else "row")


def test_prologue_and_epilogue() -> None:
    assert fused(lambda x: {"y": sg.sqrt(sg.sum(sg.square(x), 1)) + 1}) == ["row_square_sum_sqrt_add"]
    # a quarter, since NumPy's own sum of a column of 40 is further off than the tolerance of sums near 1
    assert fused(lambda x: {"y": sg.tanh(sg.sum(x * 0.25, 0))}) == ["column_multiply_sum_tanh"]


def test_reductions_of_one_array_share_a_kernel() -> None:
    assert len(fused(lambda x: {"sum": sg.sum(x, 1), "max": sg.max(x, 1), "mean": sg.mean(x, 1)})) == 1
    assert len(fused(lambda x: {"first": sg.sum(x, 0), "second": sg.sum(x, 1)})) == 2


def test_a_reduction_between_is_a_boundary() -> None:
    assert len(fused(lambda x: {"y": sg.sum(sg.exp(x - sg.max(x, 1, keepdims=True)), 0)})) == 2


def test_what_is_wanted_is_stored_once() -> None:
    """Several outputs of one chain, an output twice, a reshaped output: one kernel, no copies of values."""
    assert fused(lambda x: {"a": sg.exp(x), "b": sg.exp(x) + 1, "c": sg.tanh(sg.exp(x) + 1)}) == ["map_exp_add_tanh"]
    assert fused(lambda x: {"a": sg.reshape(sg.exp(x), (-1,))}) == ["map_exp"]
    assert fused(lambda x: {"a": sg.reshape(sg.reshape(x, (-1, 3, 4)) @ np.ones((4, 2), "float32"), (-1, 2))}) \
        == ["matmul_float32"]
    assert fused(lambda x: {"a": sg.sum(x, 1, keepdims=True)}) == ["row_sum"]


def test_gathers_are_loads() -> None:
    """Indices are checked in a kernel of their own where they have fewer axes than what is gathered."""
    at = sg.placeholder("at", ("n",), "uint8")
    names = fused(lambda x: {"y": sg.exp(sg.take(x, at, 1)) * 2}, at)
    assert names == ["map_check_index", "map_gather_exp_multiply"]
    assert len(fused(lambda x: {"y": sg.exp(sg.take_along_axis(x, at[:, None], 1)) * 2}, at)) == 1
    assert fused(lambda x: {"y": sg.take_along_axis(sg.exp(x), at[:, None], 1)}, at)[0].startswith("row_")
    assert len(fused(lambda x: {"y": sg.exp(sg.take(x, np.array([2, 0]), 1)) * 2})) == 1


def test_dropout_like_masks_do_not_hinder() -> None:
    def both(x: Tensor) -> dict[str, Tensor]:
        y = sg.where(sg.abs(x) > 0.5, x * 2, 0)
        return {"y": y, "gradient": sg.grad(sg.sum(sg.square(y)), x)}

    assert len(fused(both)) == 1


def test_parameters_are_shared_between_equal_shapes() -> None:
    """Kernels of equal text are one kernel, whatever the sizes and the names."""
    x, y = sg.placeholder("x", ("n",)), sg.placeholder("y", (3, "m"))
    step = sg.compile([x, y], [sg.exp(x) + 1, sg.exp(y) + 1])
    assert len(step.program.steps) == 2 and len(step.program.kernels) == 1


OPTIMIZERS = {"sgd": lambda: sg.optim.SGD(0.1), "momentum": lambda: sg.optim.SGD(0.1, momentum=0.9),
              "nesterov": lambda: sg.optim.SGD(0.1, momentum=0.9, nesterov=True, weight_decay=1e-3),
              "adam": lambda: sg.optim.Adam(1e-2), "adamw": lambda: sg.optim.AdamW(1e-2)}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_all_updates_are_one_kernel(name: str) -> None:
    step = training_step(OPTIMIZERS[name]())
    assert len(kernels(step, "commit")) == 1
    assert kernels(step)[-1].startswith("update_")
    # 8 products. Forward, bias, activation and loss go along with them; backward, the masks do. What is left are
    # the sum of the loss and the bias gradients.
    assert kernels(step).count("matmul_float32") == 8
    chains = step.program.chains
    inside = {number for chain in chains for number in range(chain.first, chain.first + chain.count)}
    assert len(chains) == 2 and len(inside) == 10
    alone = [step.program.kernels[each.kernel].name for number, each in enumerate(step.program.steps)
             if number not in inside and each.stage == "compute"]
    assert len([each for each in alone if each != "matmul_float32"]) <= (5 if name.startswith("adam") else 4)
    losses = [float(step(*batch_of(32))) for _ in range(20)]
    assert losses[-1] < losses[0]


def test_one_compile_for_every_batch_size() -> None:
    step, fixed = training_step(sg.optim.SGD(0.1)), training_step(sg.optim.SGD(0.1), 32)
    assert len(kernels(step)) == len(kernels(fixed))
    assert [float(step(*batch_of(count))) for count in (1, 5, 64)]


# No order of kernels is impossible.

def assert_ordered(step: Compilation) -> None:
    """Every step reads what has been written before it, by place in memory."""
    program = step.program
    assert program is not None
    written = {number for number, each in enumerate(program.buffers) if each.place not in ("arena", "output")}
    for each in program.steps:
        assert set(each.reads) <= written, "a step reads what no earlier step has written"
        written |= set(each.writes)
    assert {each.buffer for each in program.outputs} <= written


FORMULAS: list[Callable[[Tensor, Tensor], Tensor]] = [
    lambda a, b: a + b, lambda a, b: sg.tanh(a) * b, lambda a, b: a - sg.sum(b, 1, keepdims=True),
    lambda a, b: sg.maximum(a, sg.sum(b, 0, keepdims=True)), lambda a, b: a / (1 + sg.sum(sg.square(b))),
    lambda a, b: sg.exp(a) + sg.max(b, 1, keepdims=True), lambda a, b: a @ (b.T @ a),
    lambda a, b: sg.cumulative_sum(a, 0) - b, lambda a, b: sg.where(a > b, a, b)]


def random_graph(numbers: list[int]) -> tuple[list[Tensor], list[Tensor]]:
    """Elementwise ops, reductions over every axis, broadcasts and products, densely connected."""
    x, y = sg.placeholder("x", ("n", 6)), sg.placeholder("y", (6, "n"))
    pool = [x, sg.transpose(y)]
    for first, second, what in zip(numbers[::3], numbers[1::3], numbers[2::3]):
        a, b = pool[-1 - first % min(len(pool), 5)], pool[-1 - second % min(len(pool), 7)]
        pool.append(FORMULAS[what % len(FORMULAS)](a, b))
    return [x, y], [pool[-1], *pool[2::5]]


@settings(max_examples=120, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
@given(st.lists(st.integers(0, 62), min_size=9, max_size=75))
def test_no_cycle_ever(numbers: list[int]) -> None:
    inputs, outputs = random_graph(numbers)
    assert_ordered(api.compile_only(inputs, outputs))
    loss = sg.sum(sg.sin(outputs[0]))
    assert_ordered(api.compile_only(inputs, [loss, *sg.grad(loss, inputs, unconnected="zero")]))
