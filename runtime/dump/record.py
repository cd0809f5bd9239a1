"""A call step by step, with what each step found and left in memory: what scripts are checked against.

Comes in: a program, the machine code of its kernels, inputs, variables and sizes. Goes out: a `Recording`. The steps
run one by one, each over all of its iterations: results are the same bits however a call is cut.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from staticgraph.compiler.program import ALIGNMENT, STATUS_SLOTS, UNUSED, Argument, Program, Step
from staticgraph.types import evaluate_size

from ..convert import Array
from ..memory import address_of, find_workspaces

Kernel = Callable[..., Any]

MOST_BYTES = 2**28
"""What the arrays of single steps may have together; the first step of each kernel is kept whatever it has."""


@dataclass(frozen=True)
class StepBuffer:
    """A buffer of a step. use: "read", "write", "update" or "scratch"; `before` is what the step has to find in it, and
    `after` what it leaves, each None where that does not matter."""

    buffer: int
    shape: tuple[int, ...]
    use: str
    before: Array | None
    after: Array | None


@dataclass(frozen=True)
class StepRecord:
    """A step with its sizes filled in. An argument is a number, (place in `buffers`, bytes) or "status"."""

    number: int
    extent: int
    arguments: tuple[Any, ...]
    buffers: tuple[StepBuffer, ...]


@dataclass(frozen=True)
class Recording:
    """A call: what went in, what came out, and those steps that were kept. `skipped` are steps like another of the same
    kernel, or beyond what may be kept."""

    sizes: Mapping[str, int]
    inputs: Sequence[Array]
    state: Sequence[Array]
    outputs: Sequence[Array]
    new_state: Sequence[Array]
    steps: Sequence[StepRecord]
    skipped: Mapping[int, str]


class Recorder:
    """The memory of one call."""

    def __init__(self, program: Program, kernels: Sequence[int], inputs: Sequence[Array], state: Sequence[Array],
                 constants: Sequence[Array], sizes: Mapping[str, int]) -> None:
        self.program, self.sizes, self.inputs = program, sizes, inputs
        kind: Any = ctypes.CFUNCTYPE(ctypes.c_int, *[ctypes.c_int64] * 3)
        self.kernels: list[Kernel] = [kind(address) for address in kernels]
        self.old = [array.copy() for array in state]
        self.scratch = find_workspaces(program)
        self.status = np.zeros(STATUS_SLOTS, np.int64)
        self.arena = np.zeros(self.size(program.arena_bytes) + ALIGNMENT, np.uint8)
        self.base = -address_of(self.arena) % ALIGNMENT
        self.outputs = [np.empty(self.shape(spec.shape), spec.dtype) for spec in program.outputs]
        self.state = [array.copy() for array in state]
        self.fixed = {"input": inputs, "output": self.outputs, "variable": self.state, "constant": constants}
        self.kept: dict[tuple[Any, ...], int] = {}
        self.skipped: dict[int, str] = {}
        self.nbytes = 0

    def size(self, size: Any) -> int:
        return evaluate_size(size, self.sizes)

    def shape(self, shape: Sequence[Any]) -> tuple[int, ...]:
        return tuple(self.size(each) for each in shape)

    def array(self, index: int) -> Array:
        """A buffer's memory, in its shape."""
        buffer = self.program.buffers[index]
        if buffer.place == "arena":
            shape = self.shape(buffer.shape)
            if 0 in shape:
                return np.empty(shape, buffer.dtype)
            return np.ndarray(shape, buffer.dtype, self.arena, self.base + self.size(buffer.offset))
        return self.fixed[buffer.place][buffer.index].reshape(self.shape(buffer.shape))

    def run(self, report: Callable[[list[int], int], Any]) -> Recording:
        """All steps. `report` raises what a kernel says is wrong: (status block, step)."""
        program = self.program
        self.copy_results(("input", "variable", "constant"))
        steps = []
        for number, step in enumerate(program.steps):
            touched = dict.fromkeys((*step.writes, *step.reads)) if self.keeps(number, step) else ()
            before = {index: self.array(index).copy() for index in touched}
            self.call(step)
            if self.status[0]:
                report(self.status.tolist(), number)
            if before:
                steps.append(self.step_record(number, step, before))
        self.copy_results(("arena", "output"))
        return Recording(self.sizes, self.inputs, self.old, self.outputs, self.state, steps, self.skipped)

    def copy_results(self, places: Sequence[str]) -> None:
        """Results that no step writes where they are wanted."""
        for position, spec in enumerate(self.program.outputs):
            buffer = self.program.buffers[spec.buffer]
            if buffer.place in places and not (buffer.place == "output" and buffer.index == position):
                np.copyto(self.outputs[position], self.array(spec.buffer).reshape(self.outputs[position].shape))

    def call(self, step: Step) -> None:
        table = np.array([self.slot(argument) for argument in step.arguments], np.int64)
        self.kernels[step.kernel](address_of(table), 0, self.size(step.extent))

    def slot(self, argument: Argument) -> int:
        if argument.kind == "status":
            return address_of(self.status)
        if argument.kind == "size":
            return self.size(argument.value)
        index = self.size(argument.value)
        buffer = self.program.buffers[index]
        start = (address_of(self.arena) + self.base + self.size(buffer.offset) if buffer.place == "arena"
                 else address_of(self.fixed[buffer.place][buffer.index]))
        return start + self.size(argument.offset)

    def keeps(self, number: int, step: Step) -> bool:
        """Is this step to be kept, or is there one like it, or no room?"""
        sizes = tuple(self.size(each.value) if each.kind == "size" else each.kind for each in step.arguments)
        like = step.kernel, self.size(step.extent), sizes
        if like in self.kept:
            self.skipped[number] = f"has the same sizes as step {self.kept[like]}"
            return False
        nbytes = sum(self.array(index).nbytes for index in {*step.writes, *step.reads})
        if self.nbytes + nbytes > MOST_BYTES and any(kernel == step.kernel for kernel, *_ in self.kept):
            self.skipped[number] = "is left out, because its arrays are large"
            return False
        self.kept[like] = number
        self.nbytes += nbytes
        return True

    def step_record(self, number: int, step: Step, before: Mapping[int, Array]) -> StepRecord:
        """The step with its memory. It is run once more, on other bits, to see what it leaves as it was."""
        order = list(before)
        after = {index: self.array(index).copy() for index in step.writes}
        partial = self.found_in(step, before, after)
        buffers = []
        for index in order:
            written, read = index in step.writes, index in step.reads
            scratch = written and not read and (index in self.scratch or self.program.buffers[index].name == UNUSED)
            read = read or index in partial     # in place
            use = "scratch" if scratch else "update" if written and read else "write" if written else "read"
            buffers.append(StepBuffer(index, self.shape(self.program.buffers[index].shape), use,
                                      before[index] if read and not scratch else None,
                                      after[index] if written and not scratch else None))
        arguments = tuple((order.index(self.size(each.value)), self.size(each.offset)) if each.kind == "buffer" else
                          self.size(each.value) if each.kind == "size" else "status" for each in step.arguments)
        return StepRecord(number, self.size(step.extent), arguments, tuple(buffers))

    def found_in(self, step: Step, before: Mapping[int, Array], after: Mapping[int, Array]) -> set[int]:
        """Buffers that the step is not said to read, but in which it finds something that it keeps."""
        blind = [index for index in step.writes if index not in step.reads]
        for index in step.writes:
            spot = self.array(index)
            np.copyto(spot, before[index])
            if index in blind:
                np.invert(_bits(spot), out=_bits(spot))
        self.call(step)
        found = {index for index in blind if not np.array_equal(_bits(self.array(index)), _bits(after[index]))}
        for index, array in after.items():
            np.copyto(self.array(index), array)
        return found


def _bits(array: Array) -> Array:
    return array.reshape(-1).view(np.uint8)
