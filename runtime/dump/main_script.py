"""What the script of a program does: it loads the kernels beside it, and runs their steps over memory of its own.

The text of this module is copied into the script: it uses NumPy and Numba and nothing of this package. One thread runs
the steps in order; a chain is a run of steps that go together through some rows at a time.
"""

from __future__ import annotations

import importlib.util
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from staticgraph.printing import printed

from .kernel_script import SECONDS, STATUS_SLOTS, At, aligned, difference, rates


class Input(NamedTuple):
    """An array that a call is given; `size` are its sizes as text."""

    name: str
    dtype: str
    rank: int
    size: str


class Variable(NamedTuple):
    """State that is kept between calls."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    written: bool


class Buffer(NamedTuple):
    """An array of the program. place: "input", "output", "variable" or "constant", and then `where` is which one, or
    "arena", and then it is the distance in bytes from the arena's start."""

    place: str
    where: int
    dtype: str
    shape: tuple[int, ...]


class Step(NamedTuple):
    """A kernel called over some iterations. An argument is a number, an address, or the word "status"."""

    kernel: int
    extent: int
    arguments: tuple[int | str | At, ...]


class Chain(NamedTuple):
    """Steps `first` and so on, `length` of them, go through so many rows together, `block` at a time."""

    first: int
    length: int
    rows: int
    block: int


class Check(NamedTuple):
    """What a kernel may report. kind: "index" is one out of range, "nan" and "inf" are in an array of this shape,
    "assert" is an assertion about one."""

    kind: str
    message: str
    shape: tuple[int, ...]

    def error(self, value: int, size: int) -> Exception:
        """What is to be raised, given what the kernel has found."""
        if self.kind == "index":
            return IndexError(self.message.replace("{value}", str(value)).replace("{size}", str(size)))
        place = [int(each) for each in np.unravel_index(LARGEST - value, self.shape)]
        kind = AssertionError if self.kind == "assert" else FloatingPointError
        return kind(f"{self.message}\n  first at {place}")


WEAK = {"b": "b", "i": "biu", "u": "biu", "f": "biuf"}
"""Kinds of Python's numbers that an input of a kind may be given in lists."""

LARGEST = 2**63 - 1
"""Less the place of the first bad element: so kernels report the first one of all."""


class Print(NamedTuple):
    """A result that is printed: every how many calls, and how many items of each end."""

    label: str
    line: str
    every: int
    edgeitems: int


class Result(NamedTuple):
    """A result: the buffer that it is in, and its own shape, which is another one where it is a view."""

    buffer: int
    shape: tuple[int, ...]


class Plan(NamedTuple):
    """What a call does, for one combination of sizes. `shapes` are those of the inputs, None where nothing is known;
    `must_agree`: pairs of sizes, and what to say where they do not."""

    shapes: tuple[tuple[int | None, ...], ...]
    must_agree: tuple[tuple[int, int, str], ...]
    arena_bytes: int
    buffers: tuple[Buffer, ...]
    steps: tuple[Step, ...]
    chains: tuple[Chain, ...]
    outputs: tuple[Result, ...]
    checks: tuple[Check, ...]
    nbytes: int
    flops: int


def divide(a: int, b: int) -> int:
    return a // b if b else 0


def remainder(a: int, b: int) -> int:
    return a % b if b else 0


def solve(function: Callable[[int], int], value: int) -> int:
    """The number for which a linear function has a value."""
    base = function(0)
    slope = function(1) - base
    number, rest = divmod(value - base, slope) if slope else (0, 1)
    if rest or number < 0:
        raise ValueError(f"no size makes a dimension {value}")
    return number


def load_kernel(file: Path) -> Any:
    """The kernel of a script, in machine code."""
    spec = importlib.util.spec_from_file_location(f"{__name__}_kernel_{file.stem}", file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module     # dataclasses look their module up
    spec.loader.exec_module(module)
    return module.compile_kernel(module.KERNEL)


class Program:
    """A program with its state. `state` holds the variables, in the order of the script's table."""

    def __init__(self, folder: Path, kernels: Sequence[str], inputs: Sequence[Input], variables: Sequence[Variable],
                 prints: Sequence[Print], sizes_of: Callable[..., Any], plan: Callable[..., Plan],
                 pack: Callable[[list[Any]], Any]) -> None:
        self.folder, self.inputs, self.variables, self.prints = folder, inputs, variables, prints
        self.calls = 0
        self.sizes_of, self.plan, self.pack = sizes_of, plan, pack
        self.kernels = [load_kernel(folder / name) for name in kernels]
        self.constants = self.load("constants.npz")
        self.state = self.load("state.npz")
        self.plans: dict[Any, Plan] = {}
        self.arena = aligned((0,), np.uint8)

    def load(self, name: str) -> list[np.ndarray[Any, Any]]:
        """The arrays of a file, in order."""
        with np.load(self.folder / name, allow_pickle=False) as data:
            arrays = [data[f"array{number}"] for number in range(len(data.files))]
        placed = [aligned(array.shape, array.dtype) for array in arrays]
        for array, value in zip(placed, arrays):
            array[...] = value
        return placed

    def convert(self, args: Sequence[Any], named: dict[str, Any]) -> list[np.ndarray[Any, Any]]:
        """The inputs in order, as arrays of their dtypes."""
        names = [spec.name for spec in self.inputs]
        if len(args) > len(names):
            raise TypeError(f"got {len(args)} inputs, there are {len(names)}: {', '.join(names)}")
        given = dict(zip(names, args))
        for name, value in named.items():
            if name not in names or name in given:
                raise TypeError(f"input '{name}' is unknown or given twice; inputs are {', '.join(names)}")
            given[name] = value
        missing = [name for name in names if name not in given]
        if missing:
            raise TypeError(f"missing inputs: {', '.join(missing)}")
        arrays = []
        for spec in self.inputs:
            value, dtype = given[spec.name], np.dtype(spec.dtype)
            found = np.asarray(value)
            fits = (np.can_cast(found.dtype, dtype, "safe") if isinstance(value, np.ndarray | np.generic)
                    else not found.size or found.dtype.kind in WEAK[dtype.kind])
            if not fits:
                raise TypeError(f"input '{spec.name}' is {found.dtype}, which {dtype} cannot hold without loss")
            arrays.append(np.array(value, dtype, order="C"))
        return arrays

    def prepare(self, arrays: Sequence[np.ndarray[Any, Any]]) -> Plan:
        """The plan for the sizes of these inputs; ValueError where they do not fit."""
        shapes = tuple(array.shape for array in arrays)
        for spec, shape in zip(self.inputs, shapes):
            if len(shape) != spec.rank:
                raise ValueError(f"input '{spec.name}' has the shape {shape}, needed ({spec.size})")
        if shapes in self.plans:
            return self.plans[shapes]
        plan = self.plan(*self.sizes_of(shapes))
        for spec, shape, wanted in zip(self.inputs, shapes, plan.shapes):
            if any(size not in (None, given) for given, size in zip(shape, wanted)):
                raise ValueError(f"input '{spec.name}' has the shape {shape}, needed ({spec.size})")
        for left, right, text in plan.must_agree:
            if left != right:
                raise ValueError(text.replace("{left}", str(left)).replace("{right}", str(right)))
        self.plans[shapes] = plan
        return plan

    def run(self, args: Sequence[Any], named: dict[str, Any]) -> Any:
        """A call: results come back as they were compiled, and the state goes on."""
        results = self.results(self.convert(args, named))
        count = len(results) - len(self.prints)
        for each, value in zip(self.prints, results[count:]):
            if self.calls % each.every == 0:
                print(printed(each.label, each.line, value, each.edgeitems))
        self.calls += 1
        return self.pack(results[:count])

    def results(self, inputs: Sequence[np.ndarray[Any, Any]]) -> list[np.ndarray[Any, Any]]:
        """The results of a call, in order."""
        plan = self.prepare(inputs)
        if self.arena.size < plan.arena_bytes:
            self.arena = aligned((plan.arena_bytes,), np.uint8)
        arena = self.arena
        outputs = [np.empty(result.shape, plan.buffers[result.buffer].dtype) for result in plan.outputs]
        fixed = {"input": inputs, "output": outputs, "variable": self.state, "constant": self.constants}

        def array(index: int) -> np.ndarray[Any, Any]:
            buffer = plan.buffers[index]
            if buffer.place != "arena":
                return fixed[buffer.place][buffer.where]
            if 0 in buffer.shape:     # nothing may lie anywhere
                return np.empty(buffer.shape, buffer.dtype)
            return np.ndarray(buffer.shape, buffer.dtype, arena, buffer.where)

        for number, (index, shape) in enumerate(plan.outputs):     # results that are inputs, constants or old state
            if plan.buffers[index].place in ("input", "variable", "constant"):
                np.copyto(outputs[number], array(index).reshape(shape))
        self.run_steps(plan, arena, fixed)
        for number, (index, shape) in enumerate(plan.outputs):     # results left in the arena, and results given twice
            buffer = plan.buffers[index]
            if buffer.place == "arena" or (buffer.place == "output" and buffer.where != number):
                np.copyto(outputs[number], array(index).reshape(shape))
        return outputs

    def run_steps(self, plan: Plan, arena: np.ndarray[Any, Any], fixed: dict[str, Any]) -> None:
        """All steps, those that write variables last; an error where a kernel reports one."""
        status = np.zeros(STATUS_SLOTS, np.int64)

        def slot(argument: int | str | At) -> int:
            if isinstance(argument, At):
                buffer = plan.buffers[argument.buffer]
                if buffer.place == "arena":
                    return int(arena.ctypes.data) + buffer.where + argument.offset
                return int(fixed[buffer.place][buffer.where].ctypes.data) + argument.offset
            return int(status.ctypes.data) if isinstance(argument, str) else argument

        tables = [np.array([slot(each) for each in step.arguments], np.int64) for step in plan.steps]

        def call(number: int, start: int, stop: int) -> None:
            self.kernels[plan.steps[number].kernel].call(tables[number].ctypes.data, start, stop)
            if status[0]:
                raise plan.checks[status[0] - 1].error(int(status[1]), int(status[2]))

        chains = {chain.first: chain for chain in plan.chains}
        number = 0
        while number < len(plan.steps):
            chain = chains.get(number, Chain(number, 1, 1, 1))
            members = range(chain.first, chain.first + chain.length)
            shares = [plan.steps[each].extent // max(1, chain.rows) for each in members]
            for row in range(0, chain.rows, max(1, chain.block)):
                end = min(row + chain.block, chain.rows)
                for each, share in zip(members, shares):
                    call(each, row * share, end * share)
            number += chain.length

    def check(self) -> int:
        """Run it with the recorded inputs, compare results and new state with the recorded ones bit for bit, and time
        it; the state is left as it was. The exit status: 1 if anything is wrong."""
        inputs, before = self.load("inputs.npz"), [array.copy() for array in self.state]
        wanted, wanted_state = self.load("outputs.npz"), self.load("new_state.npz")
        results = self.results(inputs)
        if (len(wanted), len(wanted_state)) != (len(results), len(self.state)):
            print(f"  WRONG: outputs.npz and new_state.npz have {len(wanted)} and {len(wanted_state)} arrays, needed "
                  f"{len(results)} and {len(self.state)}")
            return 1
        rows = [(f"output {number}", one, other) for number, (one, other) in enumerate(zip(results, wanted))]
        rows += [(f"new value of variable {number} {spec.name!a}", one, other) for number, (spec, one, other)
                 in enumerate(zip(self.variables, self.state, wanted_state)) if spec.written]
        wrong = 0
        for title, one, other in rows:
            text = difference(one, other)
            wrong += bool(text)
            print(f"  {title}: {'WRONG: ' + text if text else 'the same bits'}")
        seconds = self.measure(inputs, before)
        plan = self.prepare(inputs)
        print(f"  {len(plan.steps)} steps in {rates(seconds, plan.nbytes, plan.flops)}, on one thread")
        return int(wrong > 0)

    def measure(self, inputs: Sequence[np.ndarray[Any, Any]], state: Sequence[np.ndarray[Any, Any]]) -> float:
        """The median time of a call that starts from this state."""
        times: list[float] = []
        end = time.perf_counter() + 5 * SECONDS
        while len(times) < 3 or (time.perf_counter() < end and len(times) < 200):
            self.restore(state)
            start = time.perf_counter()
            self.results(inputs)
            times.append(time.perf_counter() - start)
        self.restore(state)
        return float(np.median(times))

    def restore(self, state: Sequence[np.ndarray[Any, Any]]) -> None:
        """Give the variables these values."""
        for array, value in zip(self.state, state):
            array[...] = value


def main(load: Callable[[], Program]) -> None:
    """Run as a script."""
    start = time.perf_counter()
    program = load()
    print(f"{len(program.kernels)} kernels compiled in {time.perf_counter() - start:.2f} s")
    sys.exit(program.check())
