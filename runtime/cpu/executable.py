"""Running a program on the CPU. The usual call, with arrays like those of the call before, is one native call that
looks at them, fills the table and runs it (`calling`). Any other call goes through these stages:

    order and convert the arguments -> take the locks -> bind (sizes, guards, tables; cached by the inputs' shapes)
    -> allocate the results -> one native call over all steps, those that write variables at its end (large steps are
    shared with the workers of `threads`)

The native call releases the interpreter lock.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import Any, NoReturn

import numpy as np

from staticgraph.compiler.program import STATUS_SLOTS, Program

from ..calling import Call, make_call
from ..convert import Array, as_input
from ..driver import load_driver
from ..executable import BINDINGS_KEPT, Executable, dtype_given, plan_copies
from ..memory import SLOT_BYTES, Arena, Binding, Layout, Memory, address_of, measure
from ..profile import Profile
from ..report import explain
from ..residence import VariableStorage, come_home, resident
from ..threads import pool, pool_of, thread_count
from .loader import load_kernel


class CpuExecutable(Executable):
    """A program with its machine code."""

    def __init__(self, program: Program, storages: Sequence[VariableStorage] = (), threads: int = 0) -> None:
        super().__init__(program, storages)
        self._threads = threads or thread_count()
        self._kernels = [load_kernel(kernel) for kernel in program.kernels]
        self._constants = [np.array(each, order="C", copy=None) for each in program.constants]
        self._layout = Layout(program, [kernel.address for kernel in self._kernels],
                              [storage.array for storage in storages], self._constants, self._threads)
        self._launch_count = len(self._layout.launched)
        self._drive = load_driver()
        self._arena = Arena()
        self._bindings: dict[tuple[tuple[int, ...], ...], Binding] = {}
        self._last: tuple[tuple[int, ...], ...] | None = None
        self._recent: Any = None     # the binding of the last call, where the native way can take the next one
        self._early, self._late, self._copies = plan_copies(program)
        self._written = [spec.written for spec in program.variables]
        self._native = not any(place == "input" for _, place, _ in self._early)

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        recent = self._recent
        if recent is None or kwargs:
            return self._call(args, kwargs)
        done: Any = None
        results: list[Array] = []
        locks, held = self._locks, 0
        try:
            for lock in locks:
                lock.acquire()
                held += 1
            if recent is self._recent and not resident:
                results = recent.results.take()
                if self._early:
                    self._copy_before(results, ())
                done = recent.call(*args, *results)
                if done is True:
                    if self._late or self._copies:
                        self._copy_after(results, recent)
                elif done is not None:
                    self._raise_failed(recent, self._layout.launched[done], args)
        finally:
            while held:
                held -= 1
                locks[held].release()
        if done is True:
            return self._pack(results)
        del results     # so that the ordinary way may take them
        return self._call(args, kwargs)

    def _call(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Any call, with conversions, messages and new shapes."""
        arrays, args = self._convert(args, kwargs)
        locks = self._locks
        held = 0
        try:
            for lock in locks:
                lock.acquire()
                held += 1
            if resident:
                come_home(self._storages, self._written)
            binding, results = self._prepare(arrays, args)
            if binding.parallel:
                failed = self._drive_together(binding.launches, self._launch_count, binding.status)
            else:
                failed = self._drive(binding.launches, self._launch_count, binding.status, 0)
            if failed >= 0:
                self._raise_failed(binding, self._layout.launched[failed], arrays)
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
            dtypes = [dtype_given(value, array) for value, array in zip(given, arrays)]
            binding = self._layout.bind(self._guards.sizes(arrays, dtypes))
        # should memory run out below, no later call may trust the arena's old address
        self._last = self._recent = None
        binding.settle(self._arena)
        self._bindings.pop(shapes, None)
        self._bindings[shapes] = binding
        if len(self._bindings) > BINDINGS_KEPT:
            del self._bindings[next(iter(self._bindings))]
        self._last = shapes
        if self._native and not binding.parallel:
            self._recent = self._with_call(binding, shapes)
        return binding

    def _with_call(self, binding: Binding, shapes: tuple[tuple[int, ...], ...]) -> Binding | None:
        """The binding with its native call; None where there can be none."""
        if binding.call is None:
            binding.call = self._make_call(binding, shapes, binding.launches)
        return binding if binding.call is not None else None

    def _make_call(self, binding: Binding, shapes: tuple[tuple[int, ...], ...], launches: int) -> Call | None:
        """The native call of a binding that runs these launches."""
        base = address_of(binding.row)
        arrays = (*binding.input_patches, *binding.output_patches)
        patches = [(number, base + SLOT_BYTES * slot, offset)
                   for number, each in enumerate(arrays) for slot, offset in each]
        return make_call(list(zip(self._expected, shapes)), patches, len(arrays),
                         (launches, self._launch_count, binding.status), not binding.brief)

    def _drive_alone(self, steps: int, count: int, status: int) -> int:
        """Run steps without workers."""
        return self._drive(steps, count, status, 0)

    def _drive_together(self, steps: int, count: int, status: int) -> int:
        """Run steps with the workers of the process, or alone where they are busy with another call."""
        workers = pool() if self._threads == thread_count() else pool_of(self._threads)
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

    def _raise_failed(self, binding: Binding, step: int, inputs: Sequence[Any]) -> NoReturn:
        status = [int(binding.row[slot]) for slot in range(STATUS_SLOTS)]
        binding.row[:STATUS_SLOTS] = 0
        self._raise_reported(status, binding.sizes, inputs, step)

    def profile(self, /, *args: Any, **kwargs: Any) -> Profile:
        """Call it some times with these inputs, noting where the time goes. Variables are left as they were."""
        from .profiled import profile_calls

        return profile_calls(self, args, kwargs)

    def record(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """A call step by step, see `dump.record`."""
        from ..dump.record import Recorder

        arrays, args = self._convert(args, kwargs)
        sizes = self._guards.sizes(arrays, [dtype_given(value, array) for value, array in zip(args, arrays)])
        with ExitStack() as stack:
            for lock in self._locks:
                stack.enter_context(lock)
            if resident:
                come_home(self._storages, [False] * len(self._storages))
            recorder = Recorder(self._program, [kernel.address for kernel in self._kernels], arrays,
                                [storage.array for storage in self._storages], self._constants, sizes)
            return recorder.run(lambda status, step: self._raise_reported(status, sizes, arrays, step))

    def explain(self, verbose: bool = False) -> str:
        return explain(self._program, self._kernels, self.memory, f"threads: {self._threads}", self.account, verbose)

    @property
    def memory(self) -> Memory:
        """Bytes held: as formulas of the symbolic sizes, and for the last call."""
        return measure(self._program, self.last_sizes, self._arena.nbytes, arena=self._layout.arena_bytes)

    @property
    def last_sizes(self) -> Mapping[str, int] | None:
        """The symbolic sizes of the last call; None before the first one."""
        binding = self._bindings.get(self._last) if self._last is not None else None
        return binding.sizes if binding is not None else None
