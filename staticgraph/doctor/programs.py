"""Small programs of every form that kernels have: what determinism is judged by, and what compute-sanitizer looks at.

    python -m staticgraph.doctor.programs [runs]        each once or more, on the GPU

Each result is held to the interpreter's, and has the same bits in every run: of one graph replayed, of a second
executable, and of launches without a graph.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

import staticgraph as sg

Array = np.ndarray[Any, Any]
Updates = dict[sg.Tensor, sg.Tensor]


@dataclass
class Built:
    """A graph with its arrays. `tolerance` is relative to the largest result; 0 for equal to the bit."""

    inputs: list[sg.Tensor]
    outputs: list[sg.Tensor]
    arrays: list[Array]
    updates: Updates
    tolerance: float = 1e-5


@dataclass(frozen=True)
class Sizes:
    """How large: `long` elements of a vector, rows of `wide`, products of `side`."""

    long: int = 200_003
    rows: int = 37
    wide: int = 4096
    side: int = 130


SMALL = Sizes(1003, 3, 300, 20)
"""Sizes for the simulated driver."""


def _normal(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng([seed, *shape]).standard_normal(shape).astype("float32")


def _given(*arrays: Array) -> list[sg.Tensor]:
    return [sg.placeholder(f"x{number}", each.shape, str(each.dtype)) for number, each in enumerate(arrays)]


def elements(sizes: Sizes) -> Built:
    arrays = [_normal(sizes.long, seed=number) for number in range(3)]
    a, b, c = inputs = _given(*arrays)
    return Built(inputs, [sg.exp(-sg.abs(a)) * sg.tanh(a * b + c), a[1:] - a[:-1]], arrays, {})


def transposed(sizes: Sizes) -> Built:
    arrays = [_normal(sizes.rows + 30, sizes.side, seed=1)]
    (a,) = inputs = _given(*arrays)
    return Built(inputs, [sg.exp(a.T) + 1], arrays, {})


def rows(sizes: Sizes) -> Built:
    arrays = [_normal(sizes.rows, sizes.wide), _normal(5 * sizes.rows, 12, seed=1)]
    long, short = inputs = _given(*arrays)
    return Built(inputs, [sg.nn.softmax(long), sg.argmax(long, axis=1), sg.nn.log_softmax(short)], arrays, {})


def layer_norm(sizes: Sizes) -> Built:
    arrays = [_normal(sizes.rows, sizes.wide), _normal(sizes.wide, seed=1), _normal(sizes.wide, seed=2),
              _normal(sizes.rows, sizes.wide, seed=3)]
    x, weight, bias, ct = inputs = _given(*arrays)
    y = sg.nn.layer_norm(x, weight, bias)
    return Built(inputs, [y, *sg.vjp([y], [x, weight, bias], [ct])], arrays, {}, 1e-4)


def sums(sizes: Sizes) -> Built:
    arrays = [_normal(sizes.long), _normal(sizes.wide, 9, seed=1)]
    flat, tall = inputs = _given(*arrays)
    return Built(inputs, [sg.sum(flat), sg.max(flat), sg.argmax(flat), sg.sum(tall, axis=0), sg.var(flat)], arrays, {},
                 1e-4)


def gathers(sizes: Sizes) -> Built:
    table, where = _normal(19, 64), np.random.default_rng(5).integers(0, 19, sizes.wide)
    arrays = [table, where, _normal(sizes.wide, 64, seed=2)]
    a, i, source = inputs = _given(*arrays)
    return Built(inputs, [sg.take(a, i, axis=0), sg.scatter_add(a, i, source, axis=0)], arrays, {}, 1e-4)


def ordered(sizes: Sizes) -> Built:
    arrays = [_normal(sizes.rows, sizes.side)]
    (a,) = inputs = _given(*arrays)
    return Built(inputs, [sg.sort(a, axis=1), sg.argsort(a, axis=1), sg.cumulative_sum(a, 1)], arrays, {})


def products(sizes: Sizes) -> Built:
    arrays = [_normal(sizes.side, sizes.side + 3), _normal(sizes.side + 3, sizes.side - 7, seed=1),
              _normal(sizes.side - 7, seed=2)]
    a, b, bias = inputs = _given(*arrays)
    return Built(inputs, [sg.nn.relu(a @ b + bias), a.T @ a], arrays, {}, 1e-4)


def convolutions(sizes: Sizes) -> Built:
    """With groups and a stride, and pooling with windows that overlap; all gradients."""
    arrays = [_normal(3, 4, sizes.side, 13), _normal(6, 2, 3, 2, seed=1)]
    x, w = inputs = _given(*arrays)
    y = sg.max_pool2d(sg.conv2d(x, w, stride=(2, 1), padding=1, groups=2), 3, stride=2, padding=1)
    mean = sg.avg_pool2d(y, (2, 1), stride=1)
    return Built(inputs, [mean, *sg.grad(sg.sum(mean * mean), [x, w])], arrays, {}, 1e-4)


def randomness(sizes: Sizes) -> Built:
    arrays = [_normal(sizes.long)]
    (x,) = inputs = _given(*arrays)
    generator = sg.random.generator(7)
    return Built(inputs, [sg.nn.dropout(x, 0.25, generator), generator.normal((sizes.long,))], arrays, {})


def training(sizes: Sizes) -> Built:
    """A step of a small network: forward, backward, SGD with momentum."""
    arrays = [_normal(16, sizes.side), np.random.default_rng(3).integers(0, 10, 16)]
    x, labels = inputs = _given(*arrays)
    weights = [sg.variable(0.1 * _normal(sizes.side, 24), "w1"), sg.variable(np.zeros(24, "float32"), "b1"),
               sg.variable(0.1 * _normal(24, 10, seed=1), "w2"), sg.variable(np.zeros(10, "float32"), "b2")]
    moments = [sg.variable(np.zeros(each.shape, "float32"), f"m_{each.name}") for each in weights]
    hidden = sg.nn.relu(x @ weights[0] + weights[1])
    loss = sg.mean(sg.nn.cross_entropy(hidden @ weights[2] + weights[3], labels))
    updates: Updates = {}
    for weight, moment, slope in zip(weights, moments, sg.grad(loss, weights)):
        updates[moment] = 0.9 * moment + slope
        updates[weight] = weight - 0.05 * updates[moment]
    return Built(inputs, [loss], arrays, updates, 1e-4)


PROGRAMS: dict[str, Callable[[Sizes], Built]] = {each.__name__: each for each in (
    elements, transposed, rows, layer_norm, sums, gathers, ordered, products, convolutions, randomness,
    training)}


class Different(AssertionError):
    """A result that is not what it should be."""


def run(name: str, sizes: Sizes, runs: int = 10) -> None:
    """Run a program some times, also without graphs and in a second executable; Different where that shows."""
    built = PROGRAMS[name](sizes)
    states = {variable: variable.value for variable in _variables(built)}
    expected = _oracle(built)

    def once(executable: Any) -> list[Array]:
        for variable, value in states.items():
            variable.value = value
        results = [np.asarray(each) for each in executable(*built.arrays)]
        return [*results, *(variable.value for variable in states)]

    first = _compile(built)
    reference = once(first)
    for number, (got, wanted) in enumerate(zip(reference, expected)):
        _near(got, wanted, built.tolerance, f"{name}: result {number}")
    for number in range(1, runs):
        _same(once(first), reference, f"{name}: run {number} of the same executable")
    _same(once(_compile(built)), reference, f"{name}: a second executable")
    with _without_graphs():
        _same(once(_compile(built)), reference, f"{name}: launches without a graph")


def _compile(built: Built) -> Any:
    return sg.compile(built.inputs, built.outputs, updates=built.updates, device="cuda")


def _variables(built: Built) -> list[sg.Tensor]:
    """What a run changes: the targets of updates, and the counters of generators."""
    counters = sg.ops.random.counters(sg.tensor.toposort([*built.outputs, *built.updates.values()]))
    return [*built.updates, *counters]


def _oracle(built: Built) -> list[Array]:
    values = list(built.outputs) + list(built.updates.values())
    found = sg.evaluate(list(sg.stabilise(values)), dict(zip(built.inputs, built.arrays)))
    return [np.asarray(each) for each in found]


def _near(got: Array, wanted: Array, tolerance: float, what: str) -> None:
    if got.shape != wanted.shape or got.dtype != wanted.dtype:
        raise Different(f"{what}: {got.dtype}{list(got.shape)}, not {wanted.dtype}{list(wanted.shape)}")
    if wanted.dtype.kind != "f":
        right = bool(np.array_equal(got, wanted))
    else:
        scale = max(1.0, float(np.max(np.abs(wanted), initial=0.0)))
        right = bool(np.all(np.abs(got - wanted) <= tolerance * scale))     # false for nan
    if not right:
        raise Different(f"{what}: not what the interpreter computes")


def _same(got: Sequence[Array], reference: Sequence[Array], what: str) -> None:
    for number, (one, other) in enumerate(zip(got, reference, strict=True)):
        if one.tobytes() != other.tobytes():
            raise Different(f"{what}: result {number} has other bits")


@contextmanager
def _without_graphs() -> Iterator[None]:
    before = os.environ.get("STATICGRAPH_CUDA_BLOCKING")
    os.environ["STATICGRAPH_CUDA_BLOCKING"] = "1"
    try:
        yield
    finally:
        del os.environ["STATICGRAPH_CUDA_BLOCKING"]
        if before is not None:
            os.environ["STATICGRAPH_CUDA_BLOCKING"] = before


def main(argv: Sequence[str] | None = None) -> int:
    """Run all programs, a line each; 1 where one was wrong. ``[RUNS] [small] [NAME ...]``"""
    arguments = list(sys.argv[1:] if argv is None else argv)
    runs = int(arguments.pop(0)) if arguments and arguments[0].isdecimal() else 10
    sizes = SMALL if arguments[:1] == ["small"] else Sizes()
    failed = 0
    for name in arguments[sizes is SMALL:] or PROGRAMS:
        try:
            run(name, sizes, runs)
        except Exception as error:
            failed += 1
            print(f"FAILED {name}: {type(error).__name__}: {' '.join(str(error).split())}", flush=True)
        else:
            print(f"ok {name}", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
