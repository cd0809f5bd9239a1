"""Large graphs: 10,000 ops build, differentiate, compile, run and print, deep or wide. Nothing recurses.

How long it takes is for benchmarks to say; here it only has to work, in few kernels.
"""

from __future__ import annotations

import numpy as np
import pytest

import staticgraph as sg
from staticgraph import api
from staticgraph.tensor import Tensor, toposort


def chain(x: Tensor, ops: int) -> Tensor:
    """A chain of additions, products and a few functions, that stays within a moderate range."""
    y = x
    for number in range(ops // 4):
        y = sg.tanh(y) if number % 50 == 0 else sg.maximum(y, -4.0)
        y = 0.5 * y + (0.25, 1.0, -0.5)[number % 3]
        y = y + x
    return y


@pytest.mark.slow
def test_ten_thousand_ops_deep() -> None:
    x = sg.placeholder("x", ("n",), "float64")
    y = chain(x, 10_000)
    assert len(toposort([y])) >= 10_000
    gradient = sg.grad(sg.sum(y), x)
    compiled = sg.compile([x], [y, gradient])
    given = np.linspace(-1, 1, 7)
    value, slope = compiled(given)
    np.testing.assert_allclose(value, sg.evaluate(y, {x: given}), rtol=1e-12)
    np.testing.assert_allclose(slope, sg.evaluate(gradient, {x: given}), rtol=1e-12)
    # At least 60 members a kernel on the average, and as many arena slots as live at once.
    assert len(compiled.program.steps) < len(toposort([y, gradient])) / 60
    assert len(str(gradient).splitlines()) > 10_000


@pytest.mark.slow
def test_ten_thousand_ops_wide() -> None:
    """A sum of 2,500 products of their own, and 200 outputs."""
    x = sg.placeholder("x", ("n",), "float64")
    terms = [sg.multiply(x, 1.0 + number) for number in range(2500)]
    total = terms[0]
    for term in terms[1:]:
        total = total + term
    compiled = sg.compile([x], [total, *terms[:200]])
    results = compiled(np.ones(3))
    np.testing.assert_allclose(results[0], np.full(3, sum(range(1, 2501))))
    assert [float(each[0]) for each in results[1:]] == list(range(1, 201))


def test_many_parameters() -> None:
    """300 variables, all updated: still one commit kernel of few forms."""
    x = sg.placeholder("x", (4,))
    variables = [sg.variable(np.full(4, number, "float32")) for number in range(300)]
    loss = sg.sum(sg.square(sum((variable * x for variable in variables), start=sg.constant(np.zeros(4, "float32")))))
    updates = sg.optim.SGD(1e-6, momentum=0.9).updates(loss, variables)
    program = api.compile_only([x], loss, updates=updates).program
    assert program is not None
    assert sum(step.stage == "commit" for step in program.steps) == 1


def test_deep_structures_of_views() -> None:
    """500 views one above the other are still no kernel."""
    x = sg.placeholder("x", ("n", 6))
    y = x
    for number in range(250):
        y = sg.flip(sg.transpose(y), 0) if number % 2 else sg.reshape(sg.transpose(y), (6, x.shape[0]))
    compiled = sg.compile([x], y + 1)
    given = np.arange(12, dtype="float32").reshape(2, 6)
    np.testing.assert_array_equal(compiled(given), sg.evaluate(y + 1, {x: given}))
