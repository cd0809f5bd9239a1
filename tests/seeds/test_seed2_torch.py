"""Row 2.11: values, gradients and gradients of gradients of the ops against torch.autograd's (stored), both compiled
and by the NumPy meaning."""

import json
from typing import Any

import numpy as np
import pytest

import staticgraph as sg
from staticgraph.tensor import substitute
from tests.seeds.make_torch_gradients import FILE, FORMULAS, INDEX, LABELS, OPERANDS, cotangent, named

TABLE = json.loads(FILE.read_text())


def build(formula: str) -> tuple[dict[sg.Tensor, np.ndarray], list[sg.Tensor]]:
    """The feed, and what torch's row holds: the value, the first and the second gradients."""
    feed = {sg.placeholder(name, np.shape(OPERANDS[name]), "float64"): np.array(OPERANDS[name])
            for name in named(formula)}
    wrt = list(feed)
    fixed = {"INDEX": np.array(INDEX), "LABELS": np.array(LABELS)}
    value = eval(formula, {"m": sg, **fixed, **{each.name: each for each in wrt}})
    assert all(isinstance(size, int) for size in value.shape)
    first = sg.grad(value, wrt, cotangent=np.reshape(cotangent(value.size), value.shape))
    total = sum(sg.sum(sg.square(slope)) for slope in first)
    return feed, [value, *first, *sg.grad(total, wrt, unconnected="zero")]


def expected(formula: str) -> list[Any]:
    row = TABLE[formula]
    return [row["value"], *row["first"], *row["second"]]


def check(formula: str, values: list[np.ndarray]) -> None:
    for ours, theirs in zip(values, expected(formula), strict=True):
        scale = float(np.abs(theirs).max())
        np.testing.assert_allclose(ours, theirs, rtol=1e-11, atol=1e-13 * max(scale, 1.0), err_msg=formula)


@pytest.mark.parametrize("formula", FORMULAS)
def test_2_11_evaluated(formula: str) -> None:
    feed, outputs = build(formula)
    check(formula, sg.evaluate(outputs, feed))


@pytest.mark.parametrize("part", range(0, len(FORMULAS), 8))
def test_2_11_compiled(part: int) -> None:
    """Some formulas at a time, in one program: their kernels differ, and so may what is fused with what."""
    formulas = FORMULAS[part:part + 8]
    built = [build(formula) for formula in formulas]
    names = {each.name for feed, _ in built for each in feed}
    shared = {name: sg.placeholder(name, np.shape(OPERANDS[name]), "float64") for name in sorted(names)}
    outputs = [substitute(outputs, {each: shared[each.name] for each in feed}) for feed, outputs in built]
    flat = [node for group in outputs for node in group]
    values = iter(sg.compile(list(shared.values()), flat)(*[OPERANDS[name] for name in shared]))
    for formula, group in zip(formulas, outputs, strict=True):
        check(formula, [next(values) for _ in group])


def test_2_11_table_is_complete() -> None:
    assert [key for key in TABLE if key != "torch"] == FORMULAS
