"""Generators: fresh draws at every call, repeatable runs, gradients through samples, dropout; and that the draws look
like what they are called. Seeds are fixed, so nothing here fails by chance.
"""

from __future__ import annotations

import hashlib
import json
import math
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import staticgraph as sg

Array = np.ndarray[Any, Any]


# Counters.

def test_every_call_is_fresh_and_a_run_repeats() -> None:
    def run() -> list[Array]:
        g = sg.random.generator(5)
        sample = sg.compile([], [g.uniform((4,)), g.normal((4,))])
        return [np.stack(sample()) for _ in range(5)]

    first, second = run(), run()
    assert len({each.tobytes() for each in first}) == 5
    assert [each.tobytes() for each in first] == [each.tobytes() for each in second]


def test_evaluate_repeats_itself_and_advances_nothing() -> None:
    g = sg.random.generator(5)
    sample = g.uniform((4,))
    first = sg.evaluate(sample)
    assert sg.evaluate(sample).tolist() == first.tolist() and g.counter.value == 0
    step = sg.compile([], sample)
    assert step().tolist() == first.tolist() and g.counter.value == 1
    second = sg.evaluate(sample)
    assert second.tolist() != first.tolist() and step().tolist() == second.tolist() and g.counter.value == 2


def test_the_counter_is_state() -> None:
    g = sg.random.generator(9, name="noise")
    assert g.counter.name == "noise.counter" and g.counter.dtype == np.uint64 and g.counter.shape == ()
    step = sg.compile([], g.bits((3,)))
    first, second = step(), step()
    saved = json.loads(json.dumps(g.state))
    assert saved == {"seed": 9, "counter": 2}
    third = step()
    g.counter.value = 0
    assert step().tolist() == first.tolist() and step().tolist() == second.tolist()
    g.seed = 10
    assert g.state == {"seed": 10, "counter": 0} and step().tolist() != first.tolist()
    other = sg.random.generator(1)
    again = sg.compile([], other.bits((3,)))
    other.state = saved
    assert again().tolist() == third.tolist() and other.seed == 9
    assert repr(other) == "<Generator 'generator' seed=9 counter=3>"


@pytest.mark.parametrize("seed", [0.0, 1.5, -1, 2**64, "0", None, True, np.float32(1), [1]])
def test_a_seed_is_an_integer(seed: Any) -> None:
    with pytest.raises(sg.ArgumentError, match=r"generator: the seed is an int from 0 to 2\*\*64 - 1, got "):
        sg.random.generator(seed)
    g = sg.random.generator(3)
    with pytest.raises(sg.ArgumentError, match="the seed is an int"):
        g.seed = seed
    for state in (seed, {"seed": 3}, {"seed": seed, "counter": 0}):
        with pytest.raises(sg.ArgumentError, match="generator: "):
            g.state = state
    assert g.state == {"seed": 3, "counter": 0}


def test_large_seeds_differ() -> None:
    values = {sg.evaluate(sg.random.generator(seed).bits(())).item()
              for seed in (0, 1, 2**32, 2**32 + 1, 2**64 - 1, np.uint64(2**63), np.int32(7))}
    assert len(values) == 7


def test_executables_share_a_generator() -> None:
    g = sg.random.generator(0)
    one, other = g.uniform((2,)), g.uniform((2,))
    first, second, both = sg.compile([], one), sg.compile([], other), sg.compile([], [one, other])
    first(), second(), both()
    assert g.counter.value == 3
    idle = sg.compile([], g.counter * 1)
    assert idle() == 3 and idle() == 3, "reading the counter is no sample"


def test_generators_do_not_disturb_each_other() -> None:
    g, h = sg.random.generator(0), sg.random.generator(0)
    a, b, c = g.uniform((3,)), h.uniform((3,)), h.uniform((3,))
    step = sg.compile([], [a, b])
    for _ in range(3):
        values = step()
        assert values[0].tolist() == values[1].tolist()     # the same seed, stream and counter
    sg.compile([], c)()
    assert (g.counter.value, h.counter.value) == (3, 4)
    assert step()[0].tolist() != step()[1].tolist()


def test_an_update_of_the_counter_wins() -> None:
    g = sg.random.generator(0)
    sample = g.uniform((3,))
    held = sg.compile([], sample, updates={g.counter: g.counter})
    assert held().tolist() == held().tolist() and g.counter.value == 0
    leap = sg.compile([], sample, updates=[(g.counter, g.counter + 10)])
    first = held()
    assert leap().tolist() == first.tolist() and g.counter.value == 10
    assert leap().tolist() != first.tolist() and g.counter.value == 20


def test_samples_inside_updates_and_gradients_count() -> None:
    g = sg.random.generator(0)
    w = sg.variable(np.zeros(3), "w")
    noise = g.normal((3,), dtype="float64")
    drift = sg.compile([], [], updates={w: w + noise})
    total = np.zeros(3)
    for _ in range(4):
        total += sg.evaluate(noise)
        drift()
    assert g.counter.value == 4
    np.testing.assert_allclose(w.value, total, rtol=1e-12)
    slope = sg.compile([], sg.grad(sg.sum(w * g.uniform((3,), dtype="float64")), w))
    assert slope().tolist() != slope().tolist() and g.counter.value == 6


def test_a_failed_call_advances_nothing() -> None:
    g = sg.random.generator(0)
    index = sg.placeholder("index", ("n",), "int64")
    step = sg.compile([index], sg.take(g.uniform((3,)), index))
    with pytest.raises(sg.OutOfRangeError):
        step([7])
    assert g.counter.value == 0
    step([1])
    assert g.counter.value == 1


CODE = """
import hashlib, numpy as np, staticgraph as sg
g = sg.random.generator(2024)
x = sg.placeholder("x", ("n", 7))
samples = [g.uniform(x.shape), g.normal(x.shape, dtype="float64"), g.integers(100, 0, 10), g.bernoulli(x.shape, 0.2),
           g.permutation(x), sg.nn.dropout(x, 0.5, g)]
step = sg.compile([x], samples)
bits = [each.tobytes() for _ in range(3) for each in step(np.ones((300, 7), "float32"))]
print(hashlib.sha256(b"".join(bits)).hexdigest())
"""


def test_the_same_bits_in_another_process_and_for_any_number_of_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    found = set()
    for threads in ("1", "2", "3"):
        monkeypatch.setenv("STATICGRAPH_NUM_THREADS", threads)
        done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True,
                              cwd=Path(__file__).parent.parent)
        found.add(done.stdout)
    here: dict[str, Any] = {}
    exec(CODE.replace("print(", "found = ("), here)
    assert found == {here["found"] + "\n"}
    assert len(hashlib.sha256().hexdigest()) + 1 == len(next(iter(found)))


def test_numpys_random_state_is_not_touched() -> None:
    before = np.random.get_state(legacy=False)["state"]["key"].tolist()
    g = sg.random.generator(0)
    sg.compile([], [g.normal((3,)), g.permutation(4)])()
    sg.evaluate(g.uniform((3,)))
    assert np.random.get_state(legacy=False)["state"]["key"].tolist() == before


# Identity.

def test_samples_are_never_merged() -> None:
    g = sg.random.generator(0)
    a, b = g.uniform((100,)), g.uniform((100,))
    assert a is not b
    difference = a - b
    for y in (difference, sg.stabilise(difference)):
        assert (sg.evaluate(y) != 0).all()
    assert (sg.compile([], difference)() != 0).all()
    assert (sg.compile([], a - a)() == 0).all(), "one sample is the same wherever it is used"


def test_a_model_built_again_draws_other_numbers() -> None:
    g = sg.random.generator(0)
    layer = sg.nn.Dropout(0.5, g)
    x = sg.constant(np.ones(1000))
    one, other = sg.compile([], [layer(x), layer(x)])()
    assert 0.4 < (one == other).mean() < 0.6


# Statistics. Bounds are about four standard deviations wide.

def is_even(counts: Array) -> bool:
    """Pearson's test of equally likely classes."""
    expected = counts.sum() / len(counts)
    freedom = len(counts) - 1
    return bool(abs(((counts - expected)**2 / expected).sum() - freedom) < 4 * np.sqrt(2 * freedom))


def has_probability(hits: Array, p: float) -> bool:
    return bool(abs(hits.sum() - hits.size * p) < 4 * np.sqrt(hits.size * p * (1 - p)))


def normal_distance(values: Array) -> float:
    """Kolmogorov's distance from the normal distribution, times sqrt(n): above 1.95 once in 1,000 times."""
    ordered = np.sort(values)[::40]
    expected = np.array([0.5 * math.erfc(-value / math.sqrt(2)) for value in ordered])
    return float(abs(expected - np.arange(0, len(values), 40) / len(values)).max() * np.sqrt(len(values)))


def draws(build: Callable[[sg.random.Generator], sg.Tensor], seed: int = 1) -> Array:
    result: Array = sg.compile([], build(sg.random.generator(seed)))()
    return result


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("seed", [1, 2**40])
def test_uniform_is_uniform(dtype: str, seed: int) -> None:
    values = draws(lambda g: g.uniform((400_000,), dtype=dtype), seed)
    assert values.min() >= 0 and values.max() < 1
    assert abs(values.mean(dtype="float64") - 0.5) < 4 / np.sqrt(12 * 400_000)
    assert abs(values.var(dtype="float64") - 1 / 12) < 2e-3
    counts = np.histogram(values, 256, (0, 1))[0]
    assert is_even(counts)
    low_bits = np.bincount((values.astype("float64") * 2**24).astype("int64") % 256, minlength=256)
    assert is_even(low_bits)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_normal_is_normal(dtype: str) -> None:
    values = draws(lambda g: g.normal((400_000,), dtype=dtype)).astype("float64")
    assert normal_distance(values) < 1.95
    for moment, expected, spread in ((1, 0, 1), (2, 1, 2), (3, 0, 15), (4, 3, 96)):
        assert abs(np.mean(values**moment) - expected) < 4 * np.sqrt(spread / len(values))
    pairs = values.reshape(-1, 2)
    assert abs(np.corrcoef(pairs.T)[0, 1]) < 0.01 and abs(np.corrcoef(pairs.T**2)[0, 1]) < 0.01
    assert abs(values).max() > 4.2
    assert abs((abs(values) > 3).mean() / math.erfc(3 / math.sqrt(2)) - 1) < 0.15


@pytest.mark.parametrize("p", [0.5, 0.1, 0.001])
def test_bernoulli_has_its_probability(p: float) -> None:
    assert has_probability(draws(lambda g: g.bernoulli((1_000_000,), p)), p)


@pytest.mark.parametrize(("low", "high"), [(0, 10), (-3, 4), (0, 256), (5, 6)])
def test_integers_are_uniform(low: int, high: int) -> None:
    values = draws(lambda g: g.integers((300_000,), low, high))
    assert set(np.unique(values)) == set(range(low, high))
    if high - low > 1:
        assert is_even(np.bincount(values - low))


def test_permutations_are_uniform() -> None:
    g = sg.random.generator(3)
    shuffle = sg.compile([], sg.stack([g.permutation(4) for _ in range(120)]))
    rows = np.concatenate([shuffle() for _ in range(50)])
    assert (np.sort(rows, 1) == np.arange(4)).all()
    counts = np.unique(rows @ [64, 16, 4, 1], return_counts=True)[1]
    assert len(counts) == 24 and is_even(counts)


def test_streams_calls_and_seeds_are_independent() -> None:
    rows = []
    for seed in (0, 1, 2**32):
        g = sg.random.generator(seed)
        step = sg.compile([], [g.uniform((20_000,)) for _ in range(3)])
        rows += [each for _ in range(3) for each in step()]
    correlation = np.corrcoef(np.stack(rows).astype("float64"))
    assert abs(correlation - np.eye(27)).max() < 0.035
    bits = np.concatenate([np.concatenate([np.unpackbits((each * 2**24).astype("<u4").view("u1")) for each in rows])])
    share = bits.mean() * 32 / 24
    assert abs(share - 0.5) < 1e-3


# Parameters and gradients.

def test_loc_and_scale_are_tensors_with_gradients() -> None:
    g = sg.random.generator(1)
    mean, deviation = sg.placeholder("mean", (3,), "float64"), sg.placeholder("deviation", (2, 1), "float64")
    sample = g.normal((2, 3), mean, deviation)
    feed = {mean: np.array([1.0, -2.0, 30.0]), deviation: np.array([[0.5], [2.0]])}
    noise = (sg.evaluate(sample, feed) - feed[mean]) / feed[deviation]
    slopes = sg.evaluate(sg.grad(sg.sum(sample * sample), [mean, deviation]), feed)
    np.testing.assert_allclose(slopes[0], (2 * sg.evaluate(sample, feed)).sum(0))
    np.testing.assert_allclose(slopes[1], (2 * sg.evaluate(sample, feed) * noise).sum(1, keepdims=True))
    sg.verify_grad(sg.sum(sg.tanh(sample)), [mean, deviation], feed)
    low, high = sg.placeholder("low", ()), sg.placeholder("high", (4,))
    between = g.uniform((4,), low, high)
    assert between.dtype == np.float32
    sg.verify_grad(between * between, [low, high], {low: -1.0, high: np.arange(1.0, 5).astype("float32")})
    value = sg.evaluate(between, {low: -1.0, high: np.arange(1.0, 5).astype("float32")})
    assert (value >= -1).all() and (value <= np.arange(1, 5)).all()


def test_dtypes_follow_the_parameters() -> None:
    g = sg.random.generator(1)
    double = sg.placeholder("double", (3,), "float64")
    single, whole = sg.placeholder("single", (3,)), sg.placeholder("whole", (3,), "int64")
    assert g.normal(3).dtype == g.normal(3, single).dtype == g.uniform(3, 0, 5).dtype == np.float32
    assert g.normal(3, double).dtype == g.normal(3, single, double).dtype == g.normal(3, whole).dtype == np.float64
    assert g.normal(3, single, dtype="float64").dtype == np.float64
    assert g.uniform(3, np.float32(0), np.float64(1)).dtype == np.float32
    for sample in (g.normal(3, double), g.normal(3, single, 2.0), g.uniform(3, single, double), g.normal(3, whole)):
        feed = {double: np.ones(3), single: np.ones(3, "float32"), whole: np.ones(3, "int64")}
        assert sg.evaluate(sample, feed).dtype == sample.dtype


def test_words_carry_no_gradient() -> None:
    g = sg.random.generator(1)
    x = sg.placeholder("x", (3,))
    for sample in (g.uniform(3), g.normal(3), sg.astype(g.bernoulli(3), "float32")):
        with pytest.raises(sg.GradientError, match=r"does not depend|depends on none"):
            sg.grad(sg.sum(sample), x)
        assert sg.evaluate(sg.grad(sg.sum(sample * x), x), {x: [0, 0, 0]}).tolist() == sg.evaluate(sample).tolist()


def test_higher_derivatives_and_tangents() -> None:
    g = sg.random.generator(1)
    x = sg.placeholder("x", (3,), "float64")
    noise = g.normal((3,), dtype="float64")
    feed = {x: np.array([0.5, -1.0, 2.0])}
    y = sg.sum(noise * x**3)
    drawn = sg.evaluate(noise)
    np.testing.assert_allclose(sg.evaluate(sg.hessian(y, x), feed), np.diag(6 * feed[x] * drawn))
    np.testing.assert_allclose(sg.evaluate(sg.jvp(y, x, np.ones(3))[0], feed), (3 * feed[x]**2 * drawn).sum())


def test_symbolic_shapes() -> None:
    g = sg.random.generator(1)
    x = sg.placeholder("x", ("n", "m"))
    n, m = x.shape
    step = sg.compile([x], [g.uniform(x.shape), g.normal((m, n, 2)), g.bernoulli(n * m), g.uniform(n)])
    for shape in ((2, 3), (1, 1), (0, 4), (70, 31)):
        values = step(np.zeros(shape, "float32"))
        assert [each.shape for each in values] == [shape, (shape[1], shape[0], 2), (shape[0] * shape[1],), shape[:1]]
    with pytest.raises(sg.ArgumentError, match="no input has the dimension 'n'"):
        sg.compile([], g.uniform(n))


# Dropout.

def test_dropout_drops_and_scales() -> None:
    g = sg.random.generator(1)
    x = sg.placeholder("x", ("n",))
    values = np.random.default_rng(0).standard_normal(100_000).astype("float32")
    for rate in (0.1, 0.5, 0.9):
        y = sg.compile([x], sg.nn.dropout(x, rate, g))(values)
        kept = y != 0
        assert has_probability(kept, 1 - rate)
        np.testing.assert_allclose(y[kept], values[kept] / np.float32(1 - rate), rtol=1e-6)


def test_dropout_at_the_ends() -> None:
    g = sg.random.generator(1)
    x = sg.placeholder("x", ("n",))
    values = np.array([1.0, -2.0, np.inf, np.nan], "float32")
    assert sg.nn.dropout(x, 0, g) is x and sg.nn.dropout(x, 0.0, g) is x
    nothing = sg.nn.dropout(x, 1, g)
    results = sg.compile([x], [nothing, sg.grad(sg.sum(nothing), x)])(values)
    assert [each.tolist() for each in results] == [[0, 0, 0, 0]] * 2
    near = sg.nn.dropout(x, 1 - 1e-3, g)
    ones = sg.compile([x], near)(np.ones(1_000_000, "float32"))
    np.testing.assert_allclose(np.unique(ones), [0, 1000], rtol=1e-4)
    assert abs(ones.mean() - 1) < 0.2


def test_the_rate_does_not_change_the_samples_after_it() -> None:
    results = []
    for rate in (0.0, 0.5):
        g = sg.random.generator(8)
        sg.nn.dropout(sg.constant(np.ones(3)), rate, g)
        results.append(sg.evaluate(g.uniform((3,))).tolist())
    assert results[0] == results[1]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_gradient_of_dropout_sees_the_same_zeros(dtype: str) -> None:
    g = sg.random.generator(1)
    x = sg.placeholder("x", ("n", 5), dtype)
    y = sg.nn.dropout(sg.tanh(x), 0.4, g)
    values = np.random.default_rng(0).standard_normal((40, 5)).astype(dtype)
    sg.verify_grad(sg.sum(y * y), x, {x: values})
    step = sg.compile([x], [y, sg.grad(sg.sum(y), x)])
    masks = []
    for _ in range(3):
        value, slope = step(values)
        assert ((value == 0) == (slope == 0)).all()
        masks.append((value == 0).tobytes())
    assert len(set(masks)) == 3


def test_dropout_errors() -> None:
    g = sg.random.generator(1)
    x = sg.placeholder("x", (3,))
    for rate in (-0.1, 1.1, np.nan, "0.5", None, True, [0.5], x):
        with pytest.raises(sg.ArgumentError, match="dropout: rate is the share of elements to drop, a number from 0"):
            sg.nn.dropout(x, rate, g)
        with pytest.raises(sg.ArgumentError, match="dropout: rate is the share"):
            sg.nn.Dropout(rate, g)
    with pytest.raises(sg.DTypeError, match=r"dropout: needs floating-point numbers\n  a: int32\[3\]   'i'"):
        sg.nn.dropout(sg.placeholder("i", (3,), "int32"), 0.5, g)
    for wrong in (0, np.random.default_rng(0), None):
        with pytest.raises(sg.ArgumentError, match=r"dropout: needs a generator made by sg\.random\.generator"):
            sg.nn.dropout(x, 0.5, wrong)
        with pytest.raises(sg.ArgumentError, match=r"dropout: needs a generator made by sg\.random\.generator"):
            sg.nn.Dropout(0.5, wrong)


def test_the_layer_trains_and_evaluates() -> None:
    g = sg.random.generator(1)
    inner = sg.nn.Dropout(0.5, g, name="inner")
    model = sg.nn.Sequential(sg.nn.Linear(4, 8, generator=0), sg.nn.ReLU(), [inner][0], sg.nn.Linear(8, 2, generator=1))
    assert [each.name for each in model.parameters()] == ["linear.weight", "linear.bias"] * 2
    x = sg.placeholder("x", ("n", 4))
    noisy = model(x)
    assert model.training and model.eval() is model and not model.training and not inner.training
    still = model(x)
    assert model.train() is model and inner.training
    assert inner(x).scope == "inner"
    rows = np.random.default_rng(0).standard_normal((50, 4)).astype("float32")
    train, use = sg.compile([x], noisy), sg.compile([x], still)
    assert (use(rows) == use(rows)).all() and (train(rows) != train(rows)).any()
    assert g.counter.value == 2, "what does not sample does not count"


def test_dropout_regularises_a_training_run() -> None:
    """A step with dropout, its gradient and updates in one executable, twice from the same seeds: the same bits."""
    rng = np.random.default_rng(0)
    rows, labels = rng.standard_normal((64, 10)).astype("float32"), rng.integers(0, 3, 64)

    def run() -> tuple[list[float], bytes]:
        g = sg.random.generator(4)
        model = sg.nn.Sequential(sg.nn.Linear(10, 32, generator=0), sg.nn.ReLU(), sg.nn.Dropout(0.3, g),
                                 sg.nn.Linear(32, 3, generator=1))
        x, t = sg.placeholder("x", ("n", 10)), sg.placeholder("t", ("n",), "int64")
        loss = sg.mean(sg.nn.cross_entropy(model(x), t))
        parameters = model.parameters()
        step = sg.compile([x, t], loss, updates=sg.optim.Adam(1e-2).updates(loss, parameters))
        losses = [float(step(rows, labels)) for _ in range(60)]
        return losses, b"".join(each.value.tobytes() for each in parameters)

    first, second = run(), run()
    assert first == second
    assert np.mean(first[0][-10:]) < 0.6 * np.mean(first[0][:5])
