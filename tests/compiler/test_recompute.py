"""A budget of memory: what is computed again keeps the peak within it, and changes no bit of any result."""

from __future__ import annotations

import mmap
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest

import staticgraph as sg
from staticgraph.compiler.memory_plan import LiveBuffer, pack, plan
from staticgraph.compiler.recompute import Costs, recompute
from staticgraph.compiler.schedule import BufferInfo
from staticgraph.compiler.step_order import least_memory

Array = np.ndarray[Any, Any]


class Chain:
    """A deep network with dropout, and its training step compiled with some options."""

    def __init__(self, depth: int = 6, width: int = 32, batch: int | str = 96) -> None:
        rng = np.random.default_rng(0)
        self.x = sg.placeholder("x", (batch, width))
        self.parameters = [sg.variable((rng.standard_normal((width, width)) / 6).astype("float32"), name=f"w{number}")
                           for number in range(depth)]
        self.generator = sg.random.generator(7)
        hidden = self.x
        for parameter in self.parameters:
            hidden = sg.nn.dropout(sg.tanh(hidden @ parameter), 0.2, self.generator)
        self.loss = sg.mean(hidden * hidden)
        gradients = sg.grad(self.loss, self.parameters)
        self.updates = {w: w - 0.5 * g for w, g in zip(self.parameters, gradients, strict=True)}
        self.start = [w.value for w in self.parameters]

    def compile(self, **options: Any) -> sg.Executable:
        return sg.compile([self.x], self.loss, updates=self.updates, options=options)

    def run(self, step: sg.Executable, rows: int) -> list[Array]:
        """Three steps from the start: losses and parameters."""
        for variable, value in zip(self.parameters, self.start, strict=True):
            variable.value = value
        self.generator.state = {"seed": 7, "counter": 0}
        data = np.random.default_rng(1).standard_normal((rows, 32)).astype("float32")
        return [*(step(data) for _ in range(3)), *(w.value for w in self.parameters)]


def peak(step: sg.Executable, rows: int | None = None) -> int:
    memory = step.memory
    known = [memory.arena.formula, memory.outputs.formula] if rows is None else [memory.arena.last, memory.outputs.last]
    return sum(int(str(each)) for each in known)


@pytest.fixture(scope="module")
def chain() -> Chain:
    return Chain()


def test_a_budget_is_kept_and_changes_no_bit(chain: Chain) -> None:
    plain = chain.compile()
    want = chain.run(plain, 96)
    for part in (0.85, 0.65):
        budget = int(part * peak(plain))
        step = chain.compile(memory_budget=budget)
        assert peak(step) <= budget < peak(plain)
        for got, expected in zip(chain.run(step, 96), want, strict=True):
            np.testing.assert_array_equal(got, expected)
        assert step.memory.arena.last == step.memory.arena.formula
        assert 0 <= step.memory.reserved - step.memory.arena.last < mmap.PAGESIZE    # as predicted
    assert "steps again, for" in step.explain() and f"budget {budget:,}" in step.explain()


def test_no_kernel_is_added(chain: Chain) -> None:
    from staticgraph.api import compile_only

    budget = int(0.65 * peak(chain.compile()))
    plain, small = (compile_only([chain.x], chain.loss, updates=chain.updates, options=options).program
                    for options in ({}, {"memory_budget": budget}))
    assert plain is not None and small is not None
    assert len(small.steps) > len(plain.steps)
    assert {kernel.text for kernel in small.kernels} == {kernel.text for kernel in plain.kernels}


def test_a_budget_that_is_large_enough_changes_nothing(chain: Chain) -> None:
    plain = chain.compile()
    step = chain.compile(memory_budget=peak(plain))
    assert peak(step) <= peak(plain)
    assert "steps again" not in step.explain()


def test_a_budget_that_cannot_be_met_names_the_smallest(chain: Chain) -> None:
    with pytest.raises(sg.ArgumentError, match="option 'memory_budget' of 1,000 bytes cannot be met\n") as caught:
        chain.compile(memory_budget=1000)
    smallest = int(str(caught.value).split()[-2].replace(",", ""))
    assert peak(chain.compile(memory_budget=smallest)) <= smallest


def test_symbolic_sizes_need_numbers_and_keep_working_for_others() -> None:
    chain = Chain(batch="batch")
    with pytest.raises(sg.ArgumentError, match=r'"sizes": \{\'batch\': 64\}'):
        chain.compile(memory_budget=10**6)
    plain = chain.compile()
    wanted = {rows: chain.run(plain, rows) for rows in (96, 33)}
    chain.run(plain, 96)
    budget = int(0.8 * peak(plain, 96))
    step = chain.compile(memory_budget=budget, sizes={"batch": 96})
    for rows, want in wanted.items():
        for got, expected in zip(chain.run(step, rows), want, strict=True):
            np.testing.assert_array_equal(got, expected)
        assert rows != 96 or peak(step, 96) <= budget


@pytest.mark.parametrize("options, words", [
    ({"memory_budget": -1}, "is a number of bytes"), ({"memory_budget": 1e6}, "is a int"),
    ({"sizes": {"batch": 0}}, "positive ints"), ({"sizes": {3: 4}}, "names of dimensions")])
def test_options_are_checked(chain: Chain, options: dict[str, Any], words: str) -> None:
    with pytest.raises(sg.ArgumentError, match=words):
        chain.compile(**options)


# The search on its own, over steps whose meaning is a hash of what they read.


@dataclass(frozen=True)
class Step:
    """A made-up step."""

    meaning: int
    operands: tuple[int, ...]
    results: tuple[int, ...]
    stage: str = "compute"
    reports: bool = False

    @property
    def reads(self) -> frozenset[int]:
        return frozenset((*self.operands, *self.results))

    @property
    def writes(self) -> frozenset[int]:
        return frozenset(self.results)

    def redirected(self, buffers: Mapping[int, int]) -> Step:
        return replace(self, operands=tuple(buffers.get(each, each) for each in self.operands),
                       results=tuple(buffers.get(each, each) for each in self.results))


def evaluate(steps: Sequence[Step], buffers: Sequence[BufferInfo]) -> dict[int, int]:
    """What lies in each buffer in the end; a step that reads what is not there yet fails."""
    values: dict[int, int] = {number: number for number, each in enumerate(buffers) if each.place != "arena"}
    for step in steps:
        found = tuple(values[each] for each in step.operands)
        for place, buffer in enumerate(step.results):
            values[buffer] = hash((step.meaning, place, found))
    return values


def random_steps(seed: int) -> tuple[list[Step], list[BufferInfo]]:
    """Steps of one or two results, some in place, some in two parts, some that report; the last ones are outputs."""
    rng = random.Random(seed)
    kind = np.dtype("float32")
    buffers = [BufferInfo("input", kind, (4,), "input"), BufferInfo("variable", kind, (4,), "variable")]
    steps: list[Step] = []
    for number in range(rng.randrange(6, 30)):
        known = list(range(len(buffers)))
        operands = tuple(rng.sample(known, min(len(known), rng.randrange(1, 4))))
        results = []
        for _ in range(1 + (rng.random() < 0.2)):
            buffers.append(BufferInfo("value", kind, (rng.choice((16, 64, 256)),), "arena"))
            results.append(len(buffers) - 1)
        steps.append(Step(number, operands, tuple(results), reports=rng.random() < 0.05))
        if rng.random() < 0.2:
            steps.append(Step(100 + number, (results[0], operands[0]), (results[0],)))
    for number in range(3):
        buffers.append(BufferInfo("output", kind, (4,), "output"))
        steps.append(Step(200 + number, (rng.randrange(2, len(buffers) - 1 - number),), (len(buffers) - 1,)))
    steps.append(Step(300, (1, rng.randrange(2, len(buffers) - 3)), (1,), "commit"))
    return steps, buffers


def arena_of(steps: Sequence[Step], buffers: Sequence[BufferInfo]) -> int:
    touched = [(buffer, place) for place, step in enumerate(steps) for buffer in step.reads]
    live = [LiveBuffer(number, each.nbytes, min(place for buffer, place in touched if buffer == number),
                       max(place for buffer, place in touched if buffer == number))
            for number, each in enumerate(buffers) if each.place == "arena" and any(b == number for b, _ in touched)]
    return int(str(plan(live)[1]))


@pytest.mark.parametrize("seed", range(60))
def test_random_steps_mean_the_same(seed: int) -> None:
    steps, buffers = random_steps(seed)
    want = evaluate(steps, buffers)
    outside = [number for number, each in enumerate(buffers) if each.place in ("output", "variable")]
    nbytes = [int(str(each.nbytes)) for each in buffers]
    before = arena_of(steps, buffers)
    costs = Costs(nbytes, [1] * len(steps), 0, lambda some: arena_of(some, buffers))
    result = recompute(steps, buffers, costs, 0)
    assert result.peak <= before and result.peak == arena_of([each.work for each in result.steps], buffers)
    got = evaluate([each.work for each in result.steps], buffers)
    assert [got[each] for each in outside] == [want[each] for each in outside]
    assert not any(each.work.reports for each in result.repeated)


def test_the_search_finds_something_to_do_again() -> None:
    assert sum(bool(recompute(steps, buffers, Costs(
        [int(str(each.nbytes)) for each in buffers], [1] * len(steps), 0, lambda some: arena_of(some, buffers)),  # noqa: B023
        0).repeated) for steps, buffers in map(random_steps, range(20))) > 5


@pytest.mark.parametrize("seed", range(40))
def test_another_order_means_the_same(seed: int) -> None:
    steps, buffers = random_steps(seed)
    order = least_memory(steps[:-1], lambda buffer: int(str(buffers[buffer].nbytes)))
    assert sorted(order) == list(range(len(steps) - 1))
    assert evaluate([*(steps[number] for number in order), steps[-1]], buffers) == evaluate(steps, buffers)


@pytest.mark.parametrize("seed", range(20))
def test_packed_buffers_do_not_overlap(seed: int) -> None:
    rng = random.Random(seed)
    live = [LiveBuffer(number, rng.choice((64, 100, 1000, 4096)), first, first + rng.randrange(8))
            for number, first in enumerate(rng.choices(range(20), k=25))]
    packed = pack(live)
    assert packed is not None
    offsets, total = packed
    places = [(int(str(offsets[each.index])), int(str(each.nbytes)), each) for each in live]
    assert all(start % 64 == 0 and start + size <= int(str(total)) for start, size, _ in places)
    for number, (start, size, one) in enumerate(places):
        for other_start, other_size, other in places[:number]:
            apart = start + size <= other_start or other_start + other_size <= start
            assert apart or one.last < other.first or other.last < one.first
