"""The Executable: a Program whose kernels are loaded, ready to be called again and again.

Comes in: a `Program`, and the storage of its variables. A call goes through these stages, and nothing that the caller
can see is written before the last:

    order and convert the arguments -> take the locks -> bind (sizes, guards, tables; cached by the inputs' shapes)
    -> allocate the results -> one native call over all steps, those that write variables at its end (large steps are
    shared with the workers of `threads`)

Calls take the locks of all variables, in the order of their numbers, then the executable's own (it has one arena). So
calls that share a variable take turns, and others run at the same time: the native call releases the interpreter lock.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any, NoReturn, Protocol

import numpy as np

from staticgraph.compiler.program import STATUS_SLOTS, Program, verify
from staticgraph.errors import DeviceError, OutOfRangeError, VerificationError

from .convert import Array, as_input
from .driver import RAISED, load_driver
from .guards import Guards, fill
from .memory import Arena, Binding, Layout, Memory, address_of, measure
from .profile import Profile, measure_steps
from .report import explain, source
from .threads import pool, thread_count

BINDINGS_KEPT = 16


class VariableStorage(Protocol):
    """What the language hands over for each variable. The array is contiguous and never replaced, only written in
    place, and only while the lock is held; `number` orders the locks of different variables."""

    @property
    def array(self) -> Array: ...

    @property
    def lock(self) -> Any: ...

    @property
    def number(self) -> int: ...


def load(program: Program, storages: Sequence[VariableStorage] = ()) -> Executable:
    """Load the kernels of a program: from this process, from the cache, or by compiling them."""
    if program.device == "cuda":
        raise DeviceError("device 'cuda' cannot be used: the CUDA backend is not part of this version; "
                          "compile with device='cpu'")
    if program.device != "cpu":
        raise DeviceError(f"device '{program.device}' does not exist; compile with device='cpu'")
    verify(program)
    return Executable(program, storages)


class Executable:
    """A compiled graph: call it with arrays, by position or by name."""

    def __init__(self, program: Program, storages: Sequence[VariableStorage] = ()) -> None:
        from .cpu.loader import load_kernel

        _check_storages(program, storages)
        self._program = program
        self._storages = tuple(storages)
        self._guards = Guards(program)
        self._expected = [np.dtype(spec.dtype) for spec in program.inputs]
        self._kernels = [load_kernel(kernel) for kernel in program.kernels]
        self._constants = [np.array(each, order="C", copy=None) for each in program.constants]
        self._layout = Layout(program, [kernel.address for kernel in self._kernels],
                              [storage.array for storage in storages], self._constants, thread_count())
        self._step_count = len(program.steps)
        self._drive = load_driver()
        self._arena = Arena()
        self._bindings: dict[tuple[tuple[int, ...], ...], Binding] = {}
        self._last: tuple[tuple[int, ...], ...] | None = None
        in_order = sorted({storage.number: storage.lock for storage in storages}.items())
        self._locks = [lock for _, lock in in_order] + [threading.Lock()]
        self._early, self._late, self._copies = _plan_copies(program)
        self._pack = _packer(program.structure)

    @property
    def program(self) -> Program:
        """What is run, as plain data."""
        return self._program

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        arrays, args = self._convert(args, kwargs)
        locks = self._locks
        held = 0
        try:
            for lock in locks:
                lock.acquire()
                held += 1
            binding, results = self._prepare(arrays, args)
            if binding.parallel:
                failed = self._drive_together(binding.steps, self._step_count, binding.status)
            else:
                failed = self._drive(binding.steps, self._step_count, binding.status, 0)
            if failed >= 0:
                self._raise_reported(binding, failed)
            if self._late or self._copies:
                self._copy_after(results, binding)
        finally:
            while held:
                held -= 1
                locks[held].release()
        return self._pack(results)

    def _convert(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[list[Array], tuple[Any, ...]]:
        """The arguments in order, as the arrays that kernels read and as they were given."""
        if kwargs or len(args) != len(self._expected):
            args = tuple(self._guards.order(args, kwargs))
        return [
            value if type(value) is np.ndarray and value.dtype is dtype and value.flags.carray
            else as_input(value, spec)
            for value, dtype, spec in zip(args, self._expected, self._program.inputs)], args

    def _prepare(self, arrays: list[Array], given: Sequence[object]) -> tuple[Binding, list[Array]]:
        """The binding with all addresses filled in, and the results; what is known before the run is in them."""
        shapes = tuple([array.shape for array in arrays])
        binding = self._bindings[shapes] if shapes == self._last else self._activate(shapes, arrays, given)
        results = binding.results.take()
        slots = binding.slots
        for array, patches in zip(arrays, binding.input_patches):
            address = address_of(array)
            for slot, offset in patches:
                slots[slot] = address + offset
        for result, patches in zip(results, binding.output_patches):
            address = address_of(result)
            for slot, offset in patches:
                slots[slot] = address + offset
        if self._early:
            self._copy_before(results, arrays)
        return binding, results

    def _activate(self, shapes: tuple[tuple[int, ...], ...], arrays: Sequence[Array],
                  given: Sequence[object]) -> Binding:
        """The binding of these shapes, made if need be, its arena slots up to date; it becomes the latest used."""
        binding = self._bindings.get(shapes)
        if binding is None:
            dtypes = [_dtype_given(value, array) for value, array in zip(given, arrays)]
            binding = self._layout.bind(self._guards.sizes(arrays, dtypes))
        self._last = None     # should memory run out below, no later call may trust the arena's old address
        binding.settle(self._arena)
        self._bindings.pop(shapes, None)
        self._bindings[shapes] = binding
        if len(self._bindings) > BINDINGS_KEPT:
            del self._bindings[next(iter(self._bindings))]
        self._last = shapes
        return binding

    def _drive_together(self, steps: int, count: int, status: int) -> int:
        """Run steps with the workers of the process, or alone where they are busy with another call."""
        workers = pool()
        if workers is None or not workers.busy.acquire(blocking=False):
            return self._drive(steps, count, status, 0)
        try:
            workers.wake()
            return self._drive(steps, count, status, workers.control)
        finally:
            workers.busy.release()

    def _copy_before(self, results: Sequence[Array], arrays: Sequence[Array]) -> None:
        """Results that are inputs, constants or the old state of variables."""
        for position, place, index in self._early:
            origin = (arrays[index] if place == "input" else self._constants[index] if place == "constant"
                      else self._storages[index].array)
            np.copyto(results[position], origin.reshape(results[position].shape))

    def _copy_after(self, results: Sequence[Array], binding: Binding) -> None:
        """Results left in the arena, and results that are the same buffer as an earlier one."""
        for position, buffer in self._late:
            result = results[position]
            np.copyto(result, self._arena.view(binding.buffer_offsets[buffer], result.shape, result.dtype))
        for position, earlier in self._copies:
            np.copyto(results[position], results[earlier].reshape(results[position].shape))

    def _raise_reported(self, binding: Binding, step: int) -> NoReturn:
        check, value, size = (int(binding.row[slot]) for slot in range(3))
        binding.row[:STATUS_SLOTS] = 0
        name = self._program.kernels[self._program.steps[step].kernel].name
        if check == RAISED:
            raise VerificationError(f"step {step}: kernel '{name}' raised a Python exception")
        if not 0 < check <= len(self._program.checks):
            raise VerificationError(f"step {step}: kernel '{name}' reported check {check - 1}, which does not exist")
        raise OutOfRangeError(fill(self._program.checks[check - 1].message, {"value": value, "size": size}))

    def profile(self, /, *args: Any, **kwargs: Any) -> Profile:
        """Call it some times with these inputs, timing each step. Variables are left as they were."""
        arrays, args = self._convert(args, kwargs)
        with ExitStack() as stack:
            for lock in self._locks:
                stack.enter_context(lock)
            for spec, storage in zip(self._program.variables, self._storages):
                if spec.written:
                    stack.callback(np.copyto, storage.array, storage.array.copy())
            binding, results = self._prepare(arrays, args)

            def check(step: int) -> None:
                if binding.row[0]:
                    self._raise_reported(binding, step)

            profile = measure_steps(self._program, binding, self._drive_together, check)
            del results     # alive until here: kernels write to them
            return profile

    def source(self) -> str:
        """The text of all kernels, each below a comment that says what it computes and for which lines of yours."""
        return source(self._program)

    def explain(self) -> str:
        """What was compiled, and how: passes, kernels, steps, buffers and memory."""
        return explain(self._program, self._kernels, self.memory)

    @property
    def memory(self) -> Memory:
        """Bytes held: as formulas of the symbolic sizes, and for the last call."""
        binding = self._bindings.get(self._last) if self._last is not None else None
        return measure(self._program, binding.sizes if binding is not None else None, self._arena.nbytes)

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


def _plan_copies(program: Program) -> tuple[list[tuple[int, str, int]], list[tuple[int, int]], list[tuple[int, int]]]:
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


def _packer(structure: tuple[Any, ...]) -> Callable[[list[Array]], Any]:
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


def _dtype_given(value: object, array: Array) -> str:
    dtype = value.dtype if isinstance(value, np.ndarray | np.generic) else array.dtype
    return str(dtype.newbyteorder("="))
