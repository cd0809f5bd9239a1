"""Running a program on a GPU. A call goes through these stages:

    order and convert the arguments -> take the locks -> bind (sizes, guards, places; cached by shapes) -> bring
    variables up to date -> copy inputs into pinned memory -> launch the graph, which copies them to the device, runs
    all kernels and copies results and the status block back -> wait -> look at the status -> hand out the results

What the graph does is recorded once for each binding and then replayed (see `graph`). Arrays of more than
`layout.STAGED_LIMIT` bytes are copied outside of it, from and to the caller's memory. Kernels that write variables run
last and do nothing where the status says that a check failed, so a failed call changes no variable. Either all of a
graph is put into the stream or nothing, so neither does a call that the driver refuses.

With STATICGRAPH_CUDA_BLOCKING=1 in the environment there are no graphs and each kernel is waited for, so that the error
of a lost device names the kernel and the user's lines.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from typing import Any, NoReturn

import numpy as np

from staticgraph.compiler.program import Program, describe_step
from staticgraph.errors import DeviceError
from staticgraph.types import evaluate_size

from ..convert import Array, as_input
from ..executable import BINDINGS_KEPT, Executable, dtype_given, plan_copies
from ..memory import Memory, address_of, measure
from ..profile import Profile
from ..report import explain, section
from ..residence import VariableStorage
from .device import Event, Stream, find_device
from .exchange import DeviceArray, DeviceView, view_of
from .graph import Action, Graph
from .launch import LIBRARIES, KernelLauncher, Launcher, load_module
from .layout import STATUS_BYTES, Binding, Layout
from .loader import load_kernel
from .matmul import make_matmul
from .memory import Arena, Block, Staging, Workspace, rounded
from .prepared import GRAPHS_KEPT, Prepared
from .profile import Phases, make_profile, measure_calls
from .variables import Variables

LIBRARIES["matmul"] = make_matmul

Key = tuple[tuple[tuple[int, ...], str], ...]
"""The shape of each input, and how it comes: "host" | "device" | "copied"."""


class CudaExecutable(Executable):
    """A program on one GPU."""

    def __init__(self, program: Program, storages: Sequence[VariableStorage] = (), index: int = 0,
                 results: str = "host") -> None:
        super().__init__(program, storages)
        self._device = find_device(index)
        self._results_here = results == "host"
        self._kernels = [load_kernel(kernel, self._device.compute_capability) for kernel in program.kernels]
        self._layout = Layout(program)
        self._bindings: dict[Key, Prepared] = {}
        self._last: Key | None = None
        self._early, self._late, self._copies = plan_copies(program)
        self._variables = Variables(self._device, program.variables, storages)
        self._writes = any(spec.written for spec in program.variables)
        self._checked = bool(program.checks)
        self._blocking = os.environ.get("STATICGRAPH_CUDA_BLOCKING", "0") == "1"
        with self._device as device:
            self._modules = [load_module(device, kernel.name, loaded.code)
                             for kernel, loaded in zip(program.kernels, self._kernels)]
            self._stream = Stream(device)
            self._event = Event(device)
            self._arena = Arena(device)
            self._staging = Staging(device)
            self._workspace = Workspace(device)
            self._constants = self._upload_constants()

    def _upload_constants(self) -> list[int]:
        """The addresses of the constants, one after the other in one block."""
        arrays = [np.array(each, order="C", copy=None) for each in self._program.constants]
        self._constant_block: Block | None = None
        if not arrays:
            return []
        block = Block(self._device, sum(rounded(each.nbytes) for each in arrays), "the constants of a program")
        places, address = [], block.address
        for array in arrays:
            if array.nbytes:
                self._device.call("cuMemcpyHtoDAsync_v2", address, address_of(array), array.nbytes, self._stream.handle)
            places.append(address)
            address += rounded(array.nbytes)
        self._stream.synchronize()
        self._constant_block = block
        return places

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        if kwargs or len(args) != len(self._expected):
            args = tuple(self._guards.order(args, kwargs))
        locks = self._locks
        held = 0
        try:
            for lock in locks:
                lock.acquire()
                held += 1
            with self._device:
                arrays = self._accept(args)
                prepared = self._prepare(arrays, args)
                self._variables.settle()
                results = self._run(prepared, arrays)
        finally:
            while held:
                held -= 1
                locks[held].release()
        return self._pack(results)

    def _accept(self, args: Sequence[Any]) -> list[Array | DeviceView]:
        """The arguments as arrays of the host, or as memory of the device where they are there already."""
        return [value if type(value) is np.ndarray and value.dtype is dtype and value.flags.carray
                else self._accept_other(value, number)
                for number, (value, dtype) in enumerate(zip(args, self._expected))]

    def _accept_other(self, value: Any, number: int) -> Array | DeviceView:
        spec = self._program.inputs[number]
        if not isinstance(value, np.ndarray | np.generic | list | tuple | range | bool | int | float):
            view = view_of(value, spec, self._expected[number], self._device)
            if view is not None:
                return view
        return as_input(value, spec)

    def _prepare(self, arrays: Sequence[Array | DeviceView], given: Sequence[object]) -> Prepared:
        """The binding of these inputs, made if need be, pointing to where things are; it becomes the latest used."""
        key = tuple([(array.shape, array.way if type(array) is DeviceView else "host") for array in arrays])
        if key == self._last:
            return self._bindings[key]
        prepared = self._bindings.get(key)
        if prepared is None:
            dtypes = [dtype_given(value, array) for value, array in zip(given, arrays)]
            sizes = self._guards.sizes(arrays, dtypes)     # type: ignore[arg-type]
            prepared = self._bind(self._layout.bind(sizes, key, self._results_here))
        self._last = None     # should memory run out below, no later call may trust the arena's old address
        self._settle(prepared)
        self._bindings.pop(key, None)
        self._bindings[key] = prepared
        if len(self._bindings) > BINDINGS_KEPT:
            del self._bindings[next(iter(self._bindings))]
        self._last = key
        return prepared

    def _bind(self, binding: Binding) -> Prepared:
        """What does not depend on where the arena is."""
        for index, address in enumerate(self._constants):
            binding.point(("constant", index), address)
        for index, copy in enumerate(self._variables.copies()):
            binding.point(("variable", index), copy.address)
        launchers: list[Launcher] = []
        for launching in binding.launches:
            step = self._program.steps[launching.step]
            kernel = self._program.kernels[step.kernel]
            own = KernelLauncher(self._device, self._modules[step.kernel], launching)
            make = LIBRARIES.get(kernel.library.partition(":")[0])
            launchers.append(make(own, kernel, self._workspace) if make is not None else own)
        aliases = bool(self._early or self._late or self._copies)
        return Prepared(self._device, self._program, binding, launchers, aliases, self._results_here)

    def _settle(self, prepared: Prepared) -> None:
        """Make room in the arena and in pinned memory, and point into them."""
        binding = prepared.binding
        self._arena.reserve(binding.arena_bytes, lambda: self._describe_arena(binding))
        self._staging.reserve(binding.staged_bytes)
        prepared.settle(self._arena, self._staging)
        self._device.call("cuMemsetD8Async", self._arena.address + binding.status, 0, STATUS_BYTES,
                          self._stream.handle)

    def _describe_arena(self, binding: Binding) -> str:
        memory = measure(self._program, binding.sizes, 0)
        return (f"the intermediate results, inputs and results of this program (at their peak: arena {memory.arena}, "
                f"inputs {memory.inputs}, results {memory.outputs})")

    def _run(self, prepared: Prepared, arrays: Sequence[Array | DeviceView]) -> list[Any]:
        """All that happens between two looks at the clock: inputs in, graph, results out."""
        binding = prepared.binding
        results: list[Any] = prepared.results.take() if self._results_here else [
            DeviceArray(self._device, shape, dtype) for shape, dtype in prepared.kinds]
        addresses = self._addresses(prepared, arrays, results) if prepared.moving else ()
        try:
            self._bring(prepared, arrays)
            if self._blocking:
                self._run_step_by_step(prepared, addresses)
            else:
                self._graph(prepared, addresses).launch()
            if self._writes:
                self._variables.wrote()     # whatever becomes of the call, the device has what is right from here on
            for result, place in zip(results, binding.outputs):
                if place is not None and not place.staged:
                    self._device.must("cuMemcpyDtoHAsync_v2", address_of(result), self._arena.address + place.offset,
                                      place.nbytes, self._stream.handle)
            self._stream.synchronize()
        except BaseException:
            self._stream.settle()     # nothing may go on in memory that others will use
            raise
        if self._checked and prepared.status[0]:
            self._raise_check(prepared, arrays)
        for result, staged in zip(results, prepared.outputs):
            if staged is not None:
                np.copyto(result, staged)
        return results

    def _bring(self, prepared: Prepared, arrays: Sequence[Array | DeviceView]) -> None:
        """Inputs into pinned memory, large ones straight to the device; wait for what others still write."""
        for array, staged, place in zip(arrays, prepared.inputs, prepared.binding.inputs):
            if staged is not None:
                np.copyto(staged, array)     # type: ignore[arg-type]
                continue
            if type(array) is DeviceView and array.stream is not None:
                self._event.record(array.stream)
                self._device.call("cuStreamWaitEvent", self._stream.handle, self._event.handle, 0)
            if place is not None and place.nbytes:
                address = self._arena.address + place.offset
                if type(array) is DeviceView:
                    self._device.call("cuMemcpyDtoDAsync_v2", address, array.address, place.nbytes, self._stream.handle)
                else:
                    self._device.call("cuMemcpyHtoDAsync_v2", address, address_of(array),     # type: ignore[arg-type]
                                      place.nbytes, self._stream.handle)

    def _addresses(self, prepared: Prepared, arrays: Sequence[Any], results: Sequence[Any]) -> tuple[int, ...]:
        """The addresses that change from call to call, in the order of `Prepared.moving`."""
        return tuple([(arrays if place == "input" else results)[index].address for place, index in prepared.moving])

    def _graph(self, prepared: Prepared, addresses: tuple[int, ...]) -> Graph:
        """The graph of a binding for these addresses: the one that is there, moved if need be, or a new one."""
        key = addresses if prepared.rigid else ()
        graph = prepared.graphs.get(key)
        if graph is not None and prepared.addresses == addresses:
            return graph
        if prepared.addresses != addresses:
            prepared.point(addresses)
            if graph is not None and not prepared.rigid:
                del prepared.graphs[key]     # back again once all of it is as it should be
                graph.move()
        if graph is None:
            if len(prepared.graphs) >= GRAPHS_KEPT:
                del prepared.graphs[next(iter(prepared.graphs))]
            self._prepare_launches(prepared)
            graph = Graph(self._device, self._stream, list(self._actions(prepared)), prepared.movers)
        prepared.graphs.pop(key, None)
        prepared.graphs[key] = graph
        return graph

    def _prepare_launches(self, prepared: Prepared) -> None:
        for launching, launcher in zip(prepared.binding.launches, prepared.launchers):
            try:
                launcher.prepare(self._stream.handle)
            except DeviceError as error:
                error.add_note(f"while preparing {describe_step(self._program, launching.step)}")
                raise

    def _run_step_by_step(self, prepared: Prepared, addresses: tuple[int, ...]) -> None:
        """Without a graph, waiting after each kernel, so that an error names the one that it comes from."""
        prepared.point(addresses)
        self._prepare_launches(prepared)
        numbers = {id(launcher): each.step for launcher, each in zip(prepared.launchers, prepared.binding.launches)}
        for action in self._actions(prepared):
            number = numbers.get(id(getattr(action, "__self__", None)))
            try:
                action(self._stream.handle)
                self._stream.synchronize()
            except DeviceError as error:
                if number is None:
                    raise
                raise DeviceError(f"{describe_step(self._program, number)}: {error}") from error

    def _actions(self, prepared: Prepared) -> Iterator[Action]:
        """A whole call, as what is put into the stream one after the other."""
        binding = prepared.binding
        yield from prepared.before
        for position, place, index in self._early:
            yield from self._copy(binding, position, self._address(binding, place, index))
        for launcher in prepared.launchers:
            yield launcher.launch
        for position, number in self._late:
            offset = evaluate_size(self._program.buffers[number].offset, binding.sizes)
            yield from self._copy(binding, position, self._arena.address + binding.arena_start + offset)
        for position, earlier in self._copies:
            yield from self._copy(binding, position, self._address(binding, "output", earlier))
        yield from prepared.after

    def _address(self, binding: Binding, place: str, index: int) -> int:
        if place == "constant":
            return self._constants[index]
        if place == "variable":
            return self._variables.copies()[index].address
        return binding.where[place, index]

    def _copy(self, binding: Binding, position: int, origin: int) -> Iterator[Action]:
        """A result that no kernel writes where it is wanted."""
        spec = self._program.outputs[position]
        nbytes = int(np.prod(binding.shapes[position], dtype=np.int64)) * np.dtype(spec.dtype).itemsize
        target = binding.where["output", position]
        call = self._device.call
        if nbytes:
            yield lambda stream: call("cuMemcpyDtoDAsync_v2", target, origin, nbytes, stream)

    def _raise_check(self, prepared: Prepared, inputs: Sequence[Any]) -> NoReturn:
        status = [int(each) for each in prepared.status]
        prepared.status[:] = 0
        self._raise_reported(status, prepared.binding.sizes, [self._on_host(each) for each in inputs])

    def _on_host(self, value: Array | DeviceView) -> Array:
        """An input as an array that Python can look at."""
        if type(value) is not DeviceView:
            return value     # type: ignore[return-value]
        array = np.empty(value.shape, value.dtype)
        if array.nbytes:
            self._device.call("cuMemcpyDtoHAsync_v2", address_of(array), value.address, array.nbytes,
                              self._stream.handle)
            self._stream.synchronize()
        return array

    def profile(self, /, *args: Any, **kwargs: Any) -> Profile:
        """Call it some times with these inputs, noting where the time goes. Variables are left as they were."""
        args = tuple(self._guards.order(args, kwargs))
        clock = time.perf_counter

        def call() -> tuple[Phases, Binding, Sequence[Launcher], Any]:
            start = clock()
            arrays = self._accept(args)
            accepted = clock()
            prepared = self._prepare(arrays, args)
            self._variables.settle()
            bound = clock()
            results = self._run(prepared, arrays)
            ran = clock()
            self._pack(results)
            return Phases(start, accepted, bound, ran, clock()), prepared.binding, prepared.launchers, (arrays, results)

        with ExitStack() as stack:
            for lock in self._locks:
                stack.enter_context(lock)
            stack.enter_context(self._device)
            self._prepare(self._accept(args), args)
            self._variables.settle()
            stack.callback(self._stream.settle)
            for restore in self._save_variables():
                stack.callback(restore)
            call()
            phases, binding, times = measure_calls(call, self._device, self._stream)
            return make_profile(self._program, binding.sizes, phases, times, self.compile_times(), self.account,
                                self.display_hook)

    def _save_variables(self) -> Iterator[Callable[[], None]]:
        """What puts each variable that is written back to what it was."""
        call, stream = self._device.call, self._stream.handle
        for spec, copy in zip(self._program.variables, self._variables.copies()):
            if spec.written:
                saved = Block(self._device, copy.nbytes, "a saved variable")
                call("cuMemcpyDtoDAsync_v2", saved.address, copy.address, copy.nbytes, stream)

                def restore(saved: Block = saved, address: int = copy.address) -> None:
                    call("cuMemcpyDtoDAsync_v2", address, saved.address, saved.nbytes, stream)
                    self._stream.synchronize()

                yield restore

    def explain(self, verbose: bool = False) -> str:
        device = self._device
        capability = "{}.{}".format(*device.compute_capability)
        return explain(self._program, self._kernels, self.memory,
                       f"device: cuda:{device.index}, {device.name}, compute capability {capability}"
                       f"{self._explain_libraries()}", self.account, verbose)

    def _explain_libraries(self) -> str:
        """What took the place of kernels in the last call."""
        prepared = self._bindings.get(self._last) if self._last is not None else None
        if prepared is None:
            return ""
        table = section("library routines, in the last call", ("step", "kernel", "runs"), (
            (str(launching.step), self._program.kernels[self._program.steps[launching.step].kernel].name,
             launcher.remark)
            for launching, launcher in zip(prepared.binding.launches, prepared.launchers) if launcher.remark))
        return f"\n\n{table}" if table else ""

    @property
    def memory(self) -> Memory:
        """Bytes held on the device: as formulas of the symbolic sizes, and for the last call."""
        return measure(self._program, self.last_sizes, self._arena.nbytes + self._workspace.nbytes,
                       self._staging.nbytes)

    @property
    def last_sizes(self) -> Mapping[str, int] | None:
        """The symbolic sizes of the last call; None before the first one."""
        prepared = self._bindings.get(self._last) if self._last is not None else None
        return prepared.binding.sizes if prepared is not None else None
