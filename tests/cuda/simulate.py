"""CUDA programs run step by step in the PTX interpreter, without the runtime: what the kernels compute, and how.

`compile_simulated` takes the place of `sg.compile`. Every buffer is an allocation of its own, so an access that leaves
an array is found even where the arena's next buffer would lie. A step that reports a failed check ends the call as the
runtime would: the steps that write variables still run, and have to leave them alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from staticgraph import api
from staticgraph.compiler.pipeline import Compilation
from staticgraph.compiler.program import Kernel, Program, Step
from staticgraph.runtime.convert import as_input
from staticgraph.runtime.guards import Guards
from staticgraph.runtime.reports import reported
from staticgraph.types import evaluate_size
from tests.cuda.resources import translated
from tests.ptx import Counters, DeviceMemory, PtxModule

Array = np.ndarray[Any, Any]
modules: dict[str, PtxModule] = {}


@dataclass
class Run:
    """One launch of the last call."""

    kernel: Kernel
    extent: int
    counters: Counters


def compile_program(inputs: Any, outputs: Any = (), updates: Any = None, options: Any = None) -> Compilation:
    return api.compile_only(inputs, outputs, updates=updates, device="cuda", options=options)


def compile_simulated(inputs: Any, outputs: Any = (), *, updates: Any = None, device: str = "cuda",
                      options: Mapping[str, Any] | None = None) -> Simulated:
    """`sg.compile` for a GPU that is not there."""
    compilation = compile_program(inputs, outputs, updates, options)
    assert compilation.program is not None
    return Simulated(compilation.program, [node._state for node in compilation.variables])


def module_of(kernel: Kernel) -> PtxModule:
    """The kernel's PTX, decoded once; its machine code keeps to `resources`."""
    if kernel.key not in modules:
        modules[kernel.key] = PtxModule(translated(kernel).ptx)
    return modules[kernel.key]


class Simulated:
    """A program and the storage of its variables."""

    def __init__(self, program: Program, storages: Sequence[Any] = ()) -> None:
        self.program = program
        self.storages = storages
        self.guards = Guards(program)
        self.runs: list[Run] = []
        self.seed: int | None = None

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        given = self.guards.order(args, kwargs)
        arrays = [as_input(value, spec) for value, spec in zip(given, self.program.inputs, strict=True)]
        dtypes = [str(array.dtype) for array in arrays]
        sizes = self.guards.sizes(arrays, dtypes)
        memory, addresses = self._place(arrays, sizes)
        status = memory.allocate(32)
        memory.write(status, np.zeros(4, np.int64))
        self.runs = []
        failed = False
        for step in self.program.steps:
            if not failed or step.stage == "commit":
                self._launch(step, addresses, status, memory, sizes)
            failed = bool(memory.read(status, np.int64, (4,))[0])
        self._read_variables(memory, addresses)
        if failed:
            raise reported(self.program, [int(each) for each in memory.read(status, np.int64, (4,))], sizes)
        return self._pack([self._result(number, memory, addresses, sizes)
                           for number in range(len(self.program.outputs) - len(self.program.prints))])

    def _place(self, arrays: Sequence[Array], sizes: Mapping[str, int]) -> tuple[DeviceMemory, list[int]]:
        memory = DeviceMemory()
        addresses = []
        for buffer in self.program.buffers:
            shape = tuple(evaluate_size(size, sizes) for size in buffer.shape)
            address = memory.allocate(max(1, int(np.prod(shape)) * np.dtype(buffer.dtype).itemsize))
            source = {"input": arrays, "constant": self.program.constants,
                      "variable": [storage.array for storage in self.storages]}.get(buffer.place)
            if source is not None and source[buffer.index].size:
                memory.write(address, np.ascontiguousarray(source[buffer.index]))
            addresses.append(address)
        return memory, addresses

    def _launch(self, step: Step, addresses: Sequence[int], status: int, memory: DeviceMemory,
                sizes: Mapping[str, int]) -> None:
        extent = evaluate_size(step.extent, sizes)
        kernel = self.program.kernels[step.kernel]
        assert kernel.launch is not None
        if extent <= 0:
            return
        arguments = []
        for argument in step.arguments:
            if argument.kind == "buffer":
                arguments.append(addresses[int(str(argument.value))] + evaluate_size(argument.offset, sizes))
            else:
                arguments.append(status if argument.kind == "status" else evaluate_size(argument.value, sizes))
        counters = module_of(kernel).run(kernel.name, kernel.launch.blocks(extent), kernel.launch.threads,
                                         [*arguments, extent], memory, seed=self.seed)
        self.runs.append(Run(kernel, extent, counters))

    def _read_variables(self, memory: DeviceMemory, addresses: Sequence[int]) -> None:
        for address, buffer in zip(addresses, self.program.buffers, strict=True):
            if buffer.place == "variable" and self.program.variables[buffer.index].written:
                array = self.storages[buffer.index].array
                if array.size:
                    array[...] = memory.read(address, array.dtype, array.shape)

    def _result(self, number: int, memory: DeviceMemory, addresses: Sequence[int], sizes: Mapping[str, int]) -> Array:
        spec = self.program.outputs[number]
        shape = tuple(evaluate_size(size, sizes) for size in spec.shape)
        if 0 in shape:
            return np.zeros(shape, spec.dtype)
        return memory.read(addresses[spec.buffer], np.dtype(spec.dtype), shape)

    def _pack(self, results: list[Array]) -> Any:
        kind, *rest = self.program.structure
        if kind == "tensor":
            return results[0]
        return dict(zip(rest[0], results, strict=True)) if kind == "dict" else \
            tuple(results) if kind == "tuple" else results
