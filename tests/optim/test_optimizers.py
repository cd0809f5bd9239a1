"""Optimizers against torch's steps (stored), their states, learning rates, refusals and kernels."""

from typing import Any

import numpy as np
import pytest

import staticgraph as sg

START = np.array([1.0, -2.0, 0.5, 3.0])
WEIGHTS = np.array([0.5, 1.0, 2.0, -0.3])

# Parameters after five steps of torch 2.14 in float64 on sum(WEIGHTS * cos(p) + p**2 / 4) from START.
STORED = {
    "SGD(0.1)": [0.9621114133773749, -1.9621460246589608, 0.9434159278668671, 2.2625315602732243],
    "SGD(0.1, weight_decay=0.01)": [0.9574114772650499, -1.9538681399354039, 0.9395184763109875, 2.249773702855382],
    "SGD(0.1, momentum=0.9)": [0.9011495510076688, -1.9041541763704133, 1.666771135563259, 1.0931630165240525],
    "SGD(0.1, momentum=0.9, weight_decay=0.01)":
        [0.8889164124599116, -1.8831801497570118, 1.6566437258873148, 1.0614617632651158],
    "SGD(0.1, momentum=0.9, nesterov=True)":
        [0.8779806833937228, -1.8948439266656607, 2.127365191048611, 0.7008998672774225],
    "SGD(0.1, momentum=0.9, nesterov=True, weight_decay=0.01)":
        [0.8630674958533667, -1.8718681793065188, 2.11275446280406, 0.6682241456565001],
    "Adam(0.1)": [0.5328540841945402, -1.8692276640931702, 1.0021175231163837, 2.5006601903382126],
    "Adam(0.1, beta1=0.8, beta2=0.95, eps=1e-3)":
        [0.5478380996622901, -1.8896029828233962, 1.0047097078268008, 2.5013723039631657],
    "Adam(0.1, beta1=0.0)": [0.6353637803884564, -1.8960760288691982, 1.0593345757302226, 2.507155782615326],
    "Adam(0.1, weight_decay=0.05)":
        [0.5202669908004105, -1.6493244887124971, 1.0021239053302606, 2.5007494910259735],
    "AdamW(0.1)": [0.5293010972766996, -1.8671640724646736, 0.9986259817451266, 2.4867111332737863],
    "AdamW(0.1, weight_decay=0.2)":
        [0.46520181059743265, -1.8042020170368809, 0.9345035382436542, 2.232499057322776],
}
ADAM_AFTER_200 = [-0.05260793088945754, -1.89549577931979, 2.4745568424894593, 4.291438335923059e-05]


def make(formula: str) -> Any:
    return eval(formula, {"SGD": sg.optim.SGD, "Adam": sg.optim.Adam, "AdamW": sg.optim.AdamW})


def problem(dtype: str = "float64") -> tuple[sg.Tensor, sg.Tensor]:
    """(loss, parameter) of the stored runs."""
    p = sg.variable(START.astype(dtype), name="p")
    return sg.sum(WEIGHTS.astype(dtype) * sg.cos(p) + p * p / 4), p


def descend(optimizer: Any, steps: int, dtype: str = "float64") -> np.ndarray:
    loss, p = problem(dtype)
    step = sg.compile([], loss, updates=optimizer.updates(loss, [p]))
    for _ in range(steps):
        step()
    return p.value


def evaluated(optimizer: Any, steps: int) -> np.ndarray:
    """The same by the NumPy meaning of the updates, written back by hand."""
    loss, p = problem()
    updates = optimizer.updates(loss, [p])
    for _ in range(steps):
        for variable, value in zip(updates, sg.evaluate(list(updates.values()), {}), strict=True):
            variable.value = value
    return p.value


@pytest.mark.parametrize("formula", STORED)
def test_five_steps_are_torchs(formula: str) -> None:
    np.testing.assert_allclose(descend(make(formula), 5), STORED[formula], rtol=1e-11)
    np.testing.assert_allclose(evaluated(make(formula), 5), STORED[formula], rtol=1e-11)


def test_two_hundred_steps_of_adam() -> None:
    np.testing.assert_allclose(descend(sg.optim.Adam(0.1), 200), ADAM_AFTER_200, rtol=1e-8, atol=1e-11)


@pytest.mark.parametrize("formula", STORED)
def test_float32_stays_float32(formula: str) -> None:
    loss, p = problem("float32")
    optimizer = make(formula)
    updates = optimizer.updates(loss, [p])
    assert {each.dtype.name for each in updates.values()} <= {"float32", "int64"}
    assert updates[p].dtype == np.float32
    np.testing.assert_allclose(descend(make(formula), 5, "float32"), STORED[formula], rtol=2e-5)


def test_bias_correction_keeps_its_digits_in_float32() -> None:
    """1 - 0.999 in float32 is off by 1e-5; Adam's first step is lr * sign(g) to all digits."""
    p = sg.variable(np.zeros(1, np.float32), name="p")
    loss = sg.sum(p * np.float32(3))
    sg.compile([], loss, updates=sg.optim.Adam(1.0, eps=0.0).updates(loss, [p]))()
    np.testing.assert_allclose(p.value, [-1.0], rtol=3e-7)


def test_learning_rate_as_a_variable() -> None:
    lr = sg.variable(0.5, name="lr")
    w = sg.variable(np.array([4.0, -2.0], np.float32), name="w")
    loss = sg.sum(w * w) / 2
    step = sg.compile([], loss, updates=sg.optim.SGD(lr).updates(loss, [w]))
    step()
    assert w.value.tolist() == [2.0, -1.0]
    lr.value = 0.0
    step()
    assert w.value.tolist() == [2.0, -1.0] and w.value.dtype == np.float32


def test_learning_rate_as_a_formula_of_the_step() -> None:
    """A schedule is graph: here 1 / (1 + count)."""
    count = sg.variable(np.int64(0), name="count")
    w = sg.variable(np.zeros(2), name="w")
    loss = sg.sum(w)
    step = sg.compile([], loss, updates={**sg.optim.SGD(1 / (1 + count)).updates(loss, [w]), count: count + 1})
    for _ in range(3):
        step()
    np.testing.assert_allclose(w.value, -(1 + 1 / 2 + 1 / 3), rtol=1e-15)


@pytest.mark.parametrize("lr", [np.float64(0.25), np.float32(0.25), 0.25])
def test_numpy_numbers_as_learning_rate_do_not_widen(lr: Any) -> None:
    w = sg.variable(np.ones(2, np.float32), name="w")
    updates = sg.optim.SGD(lr).updates(sg.sum(w), [w])
    assert updates[w].dtype == np.float32


def test_gradients_that_the_caller_made() -> None:
    w = sg.variable(np.array([3.0, 4.0]), name="w")
    b = sg.variable(np.array([12.0]), name="b")
    loss = (sg.sum(w * w) + sg.sum(b * b)) / 2
    clipped = sg.optim.clip_by_global_norm(sg.grad(loss, [w, b]), 6.5)
    step = sg.compile([], clipped, updates=sg.optim.SGD(1.0).updates(None, [w, b], gradients=clipped))
    # torch: the same but for its 1e-6 in the denominator
    np.testing.assert_allclose(np.concatenate(step()), [1.5, 2.0, 6.0], rtol=1e-15)
    np.testing.assert_allclose(w.value, [1.5, 2.0], rtol=1e-15)


@pytest.mark.parametrize("gradient", [[0.0, 0.0], [0.3, -0.4]])
def test_clipping_leaves_short_gradients_alone(gradient: list[float]) -> None:
    g = sg.placeholder("g", (2,), "float64")
    clipped, = sg.optim.clip_by_global_norm([g], 1.0)
    assert sg.compile([g], clipped)(gradient).tolist() == sg.evaluate(clipped, {g: gradient}).tolist() == gradient


def test_one_kernel_commits_all_parameters() -> None:
    """Parameters of different shapes, their moments and the count are written by one merged kernel at the end."""
    model = sg.nn.Sequential(sg.nn.Linear(5, 7, generator=0), sg.nn.ReLU(), sg.nn.Linear(7, 3, generator=1))
    x = sg.placeholder("x", ("batch", 5))
    loss = sg.mean(sg.square(model(x)))
    optimizer = sg.optim.Adam()
    step = sg.compile([x], loss, updates=optimizer.updates(loss, model.parameters()))
    program = step.program
    committing = [number for number, each in enumerate(program.steps)
                  if any(program.buffers[buffer].place == "variable" for buffer in each.writes)]
    assert committing == [len(program.steps) - 1]


def test_state_is_kept_by_parameter() -> None:
    """Asked twice, an optimizer builds on the same state; another optimizer has its own."""
    loss, p = problem()
    optimizer = sg.optim.Adam(0.1)
    once, again = optimizer.updates(loss, [p]), optimizer.updates(loss, [p])
    assert [id(each) for each in once] == [id(each) for each in again]
    assert [each.name for each in optimizer.state()] == ["adam.count", "p.mean", "p.spread"]
    assert [each.dtype.name for each in optimizer.state()] == ["int64", "float64", "float64"]
    others = sg.optim.Adam(0.1)
    others.updates(loss, [p])
    assert not {id(each) for each in others.state()} & {id(each) for each in optimizer.state()}


def test_adam_counts_steps() -> None:
    loss, p = problem()
    optimizer = sg.optim.Adam(0.1)
    step = sg.compile([], loss, updates=optimizer.updates(loss, [p]))
    for _ in range(3):
        step()
    assert optimizer.count.value == 3 and optimizer.count.value.dtype == np.int64


def test_float32_and_float64_parameters_together() -> None:
    a, b = sg.variable(np.ones(3, np.float32), name="a"), sg.variable(np.ones(3), name="b")
    loss = sg.sum(a * a) + sg.sum(b * b)
    step = sg.compile([], loss, updates=sg.optim.Adam(0.1).updates(loss, [a, b]))
    step()
    assert (a.value.dtype, b.value.dtype) == (np.float32, np.float64)
    np.testing.assert_allclose(a.value, 0.9, rtol=1e-6)
    np.testing.assert_allclose(b.value, 0.9, rtol=1e-8)


W = sg.variable(np.ones(2), name="w")
LOSS = sg.sum(W * W)


@pytest.mark.parametrize(("error", "build", "words"), [
    (sg.ArgumentError, lambda: sg.optim.SGD(-0.1), "lr must be at least 0"),
    (sg.ArgumentError, lambda: sg.optim.SGD("fast"), "lr is a number, got 'fast'"),
    (sg.ArgumentError, lambda: sg.optim.SGD(float("nan")), "lr must be at least 0"),
    (sg.ArgumentError, lambda: sg.optim.SGD(0.1, nesterov=True), "needs a momentum"),
    (sg.ArgumentError, lambda: sg.optim.Adam(beta1=1.0), "beta1 must be at least 0 and below 1"),
    (sg.ArgumentError, lambda: sg.optim.AdamW(eps=-1.0), "AdamW: eps"),
    (sg.ShapeError, lambda: sg.optim.SGD(W), "learning rate is one number"),
    (sg.ArgumentError, lambda: sg.optim.SGD(0.1).updates(LOSS, [LOSS]), "parameters are variables"),
    (sg.ArgumentError, lambda: sg.optim.SGD(0.1).updates(LOSS, [3.0]), "parameters are variables"),
    (sg.ArgumentError, lambda: sg.optim.SGD(0.1).updates(LOSS, [W, W]), "listed twice"),
    (sg.ArgumentError, lambda: sg.optim.SGD(0.1).updates(None, [W]), "either a loss or gradients"),
    (sg.ArgumentError, lambda: sg.optim.SGD(0.1).updates(LOSS, [W], [W]), "either a loss or gradients"),
    (sg.ArgumentError, lambda: sg.optim.SGD(0.1).updates(None, [W], []), "1 parameters, 0 gradients"),
    (sg.GradientError, lambda: sg.optim.SGD(0.1).updates(W * W, [W]), "not a scalar"),
    (sg.ArgumentError, lambda: sg.optim.clip_by_global_norm([W], -1.0), "limit must be at least 0"),
])
def test_refusals(error: type[Exception], build: Any, words: str) -> None:
    with pytest.raises(error, match=words.replace("(", r"\(")):
        build()
