"""The Executable: a Program whose kernels are loaded, ready to be called again and again.

Comes in: a `Program`, and the storage of its variables. What all devices have in common is here: how arguments are
ordered and converted, which locks a call takes, what is said about a check that failed, and the texts. How a call runs
is in `cpu.executable` and `cuda.executable`; nothing that the caller can see is written before its last stage.

Calls take the locks of all variables, in the order of their numbers, then the executable's own (it has one arena). So
calls that share a variable take turns, and others run at the same time.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from os import PathLike
from typing import Any, NoReturn

import numpy as np

from staticgraph import locks
from staticgraph.compiler.program import Program, verify
from staticgraph.errors import ArgumentError, DeviceError, VerificationError
from staticgraph.printing import emit, printed

from .guards import Guards
from .memory import Memory
from .profile import CompileTime, Profile
from .report import ORIGINS, source
from .reports import Finding, found, reported
from .residence import VariableStorage

BINDINGS_KEPT = 16
"""Combinations of sizes whose tables an executable keeps."""


def load(program: Program, storages: Sequence[VariableStorage] = (), index: int = 0,
         results: str = "host", threads: int = 0) -> Executable:
    """Load the kernels of a program: from this process, from the cache, or by compiling them. On CUDA, `index` is the
    number of the GPU and `results` says where results are wanted ("host" | "device"); on the CPU, `threads` is how many
    a call may use (0: as many as the machine has)."""
    verify(program)
    if program.device == "cuda":
        from .cuda.executable import CudaExecutable

        return CudaExecutable(program, storages, index, results)
    if program.device != "cpu":
        raise DeviceError(f"device '{program.device}' does not exist; compile with device='cpu' or device='cuda'")
    from .cpu.executable import CpuExecutable

    return CpuExecutable(program, storages, threads)


class Executable(ABC):
    """A compiled graph: call it with arrays, by position or by name. `account` says where its program came from, and
    `definition` is the graph that it was compiled from: the runtime keeps that for others and knows nothing of it."""

    account = ""
    definition: Any = None
    display_hook: Callable[[Any], str] | None = None
    """What a notebook shows of this."""
    explain_finding: Callable[[Finding, Sequence[Any]], Exception | None] | None = None
    """What is known of a finding where the graph is at hand: it is given the inputs that the call had."""
    print_to: Any = None

    _kernels: Sequence[Any]
    """What the device's loader made of each kernel: at least a `report.Loaded`."""

    def __init__(self, program: Program, storages: Sequence[VariableStorage]) -> None:
        _check_storages(program, storages)
        self._program = program
        self._storages = tuple(storages)
        self._guards = Guards(program)
        self._expected = [np.dtype(spec.dtype) for spec in program.inputs]
        self._step_count = len(program.steps)
        in_order = sorted({storage.number: storage.lock for storage in storages}.items())
        self._locks = [lock for _, lock in in_order] + [locks.lock()]
        self._pack = _packer(program.structure) if not program.prints else self._print_and_pack
        self._calls = 0

    def __copy__(self) -> Executable:
        return self

    def __reduce__(self) -> NoReturn:
        raise ArgumentError("an executable cannot be pickled or copied: it is machine code and memory of this process\n"
                            "  sg.save_graph(\"step.json\", step) keeps the graph with the values of its variables, "
                            "sg.save the values alone")

    @property
    def program(self) -> Program:
        """What is run, as plain data."""
        return self._program

    @abstractmethod
    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        """Run it: results in the structure that was compiled."""

    @abstractmethod
    def profile(self, /, *args: Any, **kwargs: Any) -> Profile:
        """Call it some times with these inputs, noting where the time goes. Variables are left as they were."""

    @abstractmethod
    def explain(self, verbose: bool = False) -> str:
        """What the compiler did, in words and then in tables.

        Words: where the program came from; what was rewritten, by which rule, why, at which lines and how often; which
        nodes were fused into each kernel; which values go from one step to another through memory, and why the two are
        no one kernel; what is computed again to keep within the memory budget; kernels that were left to Numba. Tables:
        passes with their times in ms, kernels and where their machine code came from, steps, chains, buffers with their
        bytes, and memory. A section of more than 30 rows is cut short unless `verbose` is True.
        """

    @property
    @abstractmethod
    def memory(self) -> Memory:
        """Bytes held: as formulas of the symbolic sizes, and for the last call."""

    @property
    @abstractmethod
    def last_sizes(self) -> Mapping[str, int] | None:
        """The symbolic sizes of the last call; None before the first one."""

    @property
    def origins(self) -> list[tuple[str, str, float, str]]:
        """(kernel, where its machine code came from, milliseconds, remark) of each kernel, as `explain` tells them."""
        return [(kernel.name, ORIGINS[loaded.origin], loaded.milliseconds, loaded.reason)
                for kernel, loaded in zip(self._program.kernels, self._kernels)]

    def compile_times(self) -> tuple[CompileTime, ...]:
        """What the passes of the compiler took, and making each kernel ready. The passes of a program that was read
        from the cache are run for that."""
        program = self._program
        if not program.passes and self.definition is not None:     # it came from the cache: once more, to see them
            program = self.definition.compilation().program
        passes = [CompileTime("pass", each.name, each.seconds, "; ".join(each.remarks)) for each in program.passes]
        return (*passes, *(CompileTime("kernel", name, milliseconds / 1e3, "; ".join(filter(None, (origin, reason))))
                           for name, origin, milliseconds, reason in self.origins))

    def source(self) -> str:
        """The text of all kernels, each below a comment that says what it computes and for which lines of yours."""
        return source(self._program)

    def _print_and_pack(self, results: list[Any]) -> Any:
        """Prints what the program has results for beyond the caller's."""
        count = len(results) - len(self._program.prints)
        number, self._calls = self._calls, self._calls + 1
        for each, value in zip(self._program.prints, results[count:]):
            if number % each.every == 0:
                array = value if isinstance(value, np.ndarray) else value.numpy()
                emit(printed(each.label, each.location, array, each.edgeitems), self.print_to)
        return _packer(self._program.structure)(results[:count])

    def _raise_reported(self, status: Sequence[int], sizes: Mapping[str, int], inputs: Sequence[Any],
                        step: int | None = None) -> NoReturn:
        """Raise what the status block says, found after a step (where that is known), for a call with these inputs."""
        finding, error = found(self._program, status, sizes, step), reported(self._program, status, sizes, step)
        try:
            if finding is not None and self.explain_finding is not None:
                try:
                    raise self.explain_finding(finding, inputs) or error
                except type(error):
                    raise
                except Exception as why:     # such as too little memory; what was found is the error even so
                    error.add_note(f"its cause could not be looked for: {type(why).__name__}: {why}")
            raise error
        finally:
            del error     # it knows this frame, which would keep the executable alive

    def _repr_html_(self) -> str | None:
        return self.display_hook(self) if self.display_hook is not None else None

    def dump(self, folder: str | PathLike[str], /, *args: Any, overwrite: bool = False, **kwargs: Any) -> None:
        """Write the program into a new folder, to be read and to be run without this package: `main.py`, a script for
        each kernel with its inputs and results in a call with these inputs (made up where none are given), the state,
        and what the compiler did. Variables are left as they were. The folder's README.md says how to run it.

        A folder that exists is replaced only if it is a dump and `overwrite` is true. For programs on a GPU the
        kernels are written as text only."""
        from .dump.write import dump_executable

        dump_executable(self, folder, args, kwargs, overwrite)

    def record(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """A call step by step (a `dump.record.Recording`) that leaves variables as they were; None on devices that
        cannot be watched."""
        return None

    def __repr__(self) -> str:
        inputs = ", ".join(spec.name for spec in self._program.inputs)
        return f"<Executable({inputs}) on {self._program.device}: {self._step_count} steps>"


def _check_storages(program: Program, storages: Sequence[VariableStorage]) -> None:
    if len(storages) != len(program.variables):
        raise VerificationError(f"program has {len(program.variables)} variables, got {len(storages)} storages")
    for spec, storage in zip(program.variables, storages):
        array = storage.array
        if (array.dtype != np.dtype(spec.dtype) or array.shape != spec.shape or not array.flags.c_contiguous
                or not array.flags.aligned):
            raise VerificationError(f"variable '{spec.name}' is {spec.dtype}{list(spec.shape)}, "
                                    f"its storage {array.dtype}{list(array.shape)}")


def plan_copies(program: Program) -> tuple[list[tuple[int, str, int]], list[tuple[int, int]], list[tuple[int, int]]]:
    """Results that no kernel writes where they are wanted: (result, place, index) to copy before the run,
    (result, buffer) in the arena and (result, earlier result) to copy after it."""
    early, late, copies = [], [], []
    for position, spec in enumerate(program.outputs):
        buffer = program.buffers[spec.buffer]
        if buffer.place == "arena":
            late.append((position, spec.buffer))
        elif buffer.place != "output":
            early.append((position, buffer.place, buffer.index))
        elif buffer.index != position:
            copies.append((position, buffer.index))
    return early, late, copies


def _packer(structure: tuple[Any, ...]) -> Callable[[list[Any]], Any]:
    """Puts results into the structure that was compiled."""
    kind = structure[0]
    if kind == "tensor":
        return lambda results: results[0]
    if kind == "list":
        return lambda results: results
    if kind == "tuple":
        return lambda results: tuple(results)
    if kind == "dict":
        keys = tuple(structure[1])
        return lambda results: dict(zip(keys, results))
    raise VerificationError(f"unknown structure of outputs: {structure}")


def dtype_given(value: object, array: Any) -> str:
    """The dtype that the caller gave, for messages."""
    dtype = value.dtype if isinstance(value, np.ndarray | np.generic) else array.dtype
    return str(dtype.newbyteorder("="))
