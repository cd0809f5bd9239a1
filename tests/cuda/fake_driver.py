"""A CUDA driver library as a Python object, so that the runtime is tested without a GPU.

It has the functions of `driver.SIGNATURES`, takes what ctypes would take for them (arguments are put through the same
conversions), records every call, and behaves as the driver documents where the runtime depends on it:

* Work in a stream is put off until somebody waits for the stream, for an event in it, for the whole context, or copies
  from or to memory that is not pinned. So a read of pinned memory before the wait finds old values, and so on.
* While a stream captures, work in it becomes nodes and does not run; whoever captures may not allocate or free. The
  values of kernel parameters are those at the time of the capture.
* Without a current context most functions fail.

A launch runs the PTX of its module in the interpreter of `tests.ptx`, or a NumPy function where the module is made of
the name of one (see `kernels`). Any function can be made to fail (`fail`), also for good (`lose`).
"""

from __future__ import annotations

import ctypes
import inspect
import itertools
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from staticgraph.runtime.cuda.driver import SIGNATURES
from tests.ptx import DeviceMemory, PtxModule

SUCCESS, INVALID_VALUE, OUT_OF_MEMORY, NO_DEVICE = 0, 1, 2, 100
INVALID_IMAGE, INVALID_CONTEXT, INVALID_HANDLE, NOT_FOUND = 200, 201, 400, 500
ILLEGAL_ADDRESS, CAPTURE_UNSUPPORTED = 700, 900

NAMES = {1: ("CUDA_ERROR_INVALID_VALUE", "invalid argument"), 2: ("CUDA_ERROR_OUT_OF_MEMORY", "out of memory"),
         100: ("CUDA_ERROR_NO_DEVICE", "no CUDA-capable device is detected"),
         200: ("CUDA_ERROR_INVALID_IMAGE", "device kernel image is invalid"),
         201: ("CUDA_ERROR_INVALID_CONTEXT", "invalid device context"),
         214: ("CUDA_ERROR_ECC_UNCORRECTABLE", "uncorrectable ECC error encountered"),
         222: ("CUDA_ERROR_UNSUPPORTED_PTX_VERSION", "the provided PTX was compiled with an unsupported toolchain."),
         700: ("CUDA_ERROR_ILLEGAL_ADDRESS", "an illegal memory access was encountered"),
         900: ("CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED", "operation not permitted when stream is capturing"),
         999: ("CUDA_ERROR_UNKNOWN", "unknown error")}

FREE_OF_CONTEXT = ("cuInit", "cuDriver", "cuGetError", "cuDevice", "cuCtxPush", "cuCtxPop")

UNSAFE = ("cuMemAlloc_v2", "cuMemFree_v2", "cuMemHostAlloc", "cuMemFreeHost", "cuModuleLoadData", "cuModuleUnload",
          "cuCtxSynchronize", "cuEventSynchronize")
"""What a thread may not do while it captures."""

Work = Callable[[], None]


class Memory(DeviceMemory):
    """Device memory whose bytes may be copied whether they were written or not."""

    def peek(self, address: int, nbytes: int) -> np.ndarray[Any, Any]:
        offset = self._span(address, nbytes, "copy")
        return self.data[offset: offset + nbytes].copy()

    def copy(self, target: int, origin: int, nbytes: int) -> None:
        a, b = self._span(origin, nbytes, "copy"), self._span(target, nbytes, "copy")
        self.data[b: b + nbytes] = self.data[a: a + nbytes].copy()
        self.state[b: b + nbytes] = self.state[a: a + nbytes].copy()


@dataclass
class Gpu:
    """A device: what it holds. `primary` is the handle of its context."""

    ordinal: int
    name: str = "Fake GPU"
    capability: tuple[int, int] = (9, 0)
    multiprocessors: int = 132
    total: int = 1 << 30
    primary: int = 0
    retained: int = 0
    memory: Memory = field(default_factory=Memory)

    def free(self) -> int:
        return self.total - sum(self.memory.allocations.values())


@dataclass
class Node:
    """A node of a graph: what it is, with what arguments, and what it does."""

    kind: str
    arguments: tuple[Any, ...]
    run: Work


@dataclass
class Graph:
    nodes: list[Node] = field(default_factory=list)
    handles: list[int] = field(default_factory=list)


@dataclass
class Stream:
    gpu: Gpu | None
    queue: list[Work] = field(default_factory=list)
    capture: Graph | None = None
    capturer: int = 0
    done: int = 0

    def drain(self) -> None:
        while self.queue:
            self.queue.pop(0)()


@dataclass
class Function:
    """A kernel: `count` parameters of 64 bits each."""

    name: str
    count: int
    run: Callable[[Memory, int, int, list[int]], None]


class FakeDriver:
    """See above. `kernels` are NumPy functions (memory, blocks, threads, *parameters) by the name of the kernel;
    `calls` is the record."""

    takes_ptx = True

    def __init__(self, gpus: int = 1, version: int = 13000) -> None:
        self.gpus = [Gpu(number, primary=0x100 + number) for number in range(gpus)]
        self.version = version
        self.kernels: dict[str, Callable[..., None]] = {}
        self.launched: list[tuple[str, int, int, tuple[int, ...]]] = []
        self.owners: dict[int, int] = {}
        """Address of foreign memory -> ordinal of its device, for cuPointerGetAttribute."""
        self.foreign: list[tuple[int, int]] = []
        """(device, address) of memory that tests have allocated."""
        self.calls: list[tuple[str, tuple[Any, ...]]] = []
        self._failures: dict[str, list[int]] = {}
        self._sticky = 0
        self._numbers = itertools.count(0x1000, 8)
        self._contexts = threading.local()
        self._lock = threading.RLock()
        self.streams: dict[int, Stream] = {1: Stream(None), 2: Stream(None)}
        self.events: dict[int, tuple[Stream, int] | None] = {}
        self.modules: dict[int, Any] = {}
        self.functions: dict[int, Function] = {}
        self.graphs: dict[int, Graph] = {}
        self.executables: dict[int, Graph] = {}
        self.pinned: dict[int, Any] = {}
        self.nodes: dict[int, Node] = {}
        self._texts: list[Any] = []

    # What tests look at and bring about.

    def names(self) -> list[str]:
        """The functions called, in order, contexts left out."""
        return [name for name, _ in self.calls if not name.startswith("cuCtxP")]

    def count(self, name: str) -> int:
        return sum(each == name for each, _ in self.calls)

    def fail(self, name: str, code: int, after: int = 0) -> None:
        """Let a call of the function fail, after so many that do not."""
        self._failures[name] = [after, code]

    def lose(self, code: int = ILLEGAL_ADDRESS) -> None:
        """From now on everything fails with this code."""
        self._sticky = code

    def free_foreign(self) -> None:
        """Free what tests have allocated."""
        while self.foreign:
            index, address = self.foreign.pop()
            self.gpus[index].memory.free(address)

    def held(self) -> dict[str, int]:
        """What was made and not given back, by kind."""
        counts = {"bytes": sum(sum(gpu.memory.allocations.values()) for gpu in self.gpus),
                  "streams": len(self.streams) - 2, "events": len(self.events), "modules": len(self.modules),
                  "graphs": len(self.graphs), "executables": len(self.executables), "pinned": len(self.pinned)}
        return {kind: count for kind, count in counts.items() if count}

    # How functions are called.

    def __getattr__(self, name: str) -> Callable[..., int]:
        if name not in SIGNATURES:
            raise AttributeError(f"the driver has no function {name}")
        function = getattr(type(self), "_" + name)

        def call(*arguments: Any) -> int:
            with self._lock:
                return self._call(name, function, arguments)

        return call

    def _call(self, name: str, function: Callable[..., int | None], arguments: tuple[Any, ...]) -> int:
        assert len(arguments) == len(SIGNATURES[name]), f"{name} takes {len(SIGNATURES[name])} arguments"
        for kind, argument in zip(SIGNATURES[name], arguments):
            kind.from_param(argument)     # what ctypes does; raises what ctypes raises
        self.calls.append((name, arguments))
        if self._sticky and not name.startswith(("cuGetError", "cuDriver")):
            return self._sticky
        failure = self._failures.get(name)
        if failure is not None:
            if failure[0] == 0:
                del self._failures[name]
                if name == "cuStreamEndCapture":
                    self.streams[arguments[0]].capture = None     # a capture is over even where it was in vain
                return failure[1]
            failure[0] -= 1
        if not name.startswith(FREE_OF_CONTEXT) and not self._stack():
            return INVALID_CONTEXT
        if name in UNSAFE and any(each.capture is not None and each.capturer == threading.get_ident()
                                  for each in self.streams.values()):
            return CAPTURE_UNSUPPORTED
        return function(self, *arguments) or SUCCESS

    def _stack(self) -> list[int]:
        if not hasattr(self._contexts, "stack"):
            self._contexts.stack = []
        stack: list[int] = self._contexts.stack
        return stack

    @property
    def _gpu(self) -> Gpu:
        return next(gpu for gpu in self.gpus if gpu.primary == self._stack()[-1])

    def _new(self, table: dict[int, Any], value: Any, out: Any = None) -> int:
        number = next(self._numbers)
        table[number] = value
        if out is not None:
            out._obj.value = number
        return number

    def _enqueue(self, stream: int, kind: str, arguments: tuple[Any, ...], work: Work) -> int:
        if stream not in self.streams:
            return INVALID_HANDLE
        target = self.streams[stream]
        if target.capture is not None:
            node = Node(kind, arguments, work)
            target.capture.nodes.append(node)
            target.capture.handles.append(self._new(self.nodes, node))
        else:
            target.queue.append(work)
        return SUCCESS

    # The driver as a whole, and its devices.

    def _cuInit(self, flags: int) -> int:
        return SUCCESS if self.gpus else NO_DEVICE

    def _cuDriverGetVersion(self, out: Any) -> None:
        out._obj.value = self.version

    def _text(self, code: int, out: Any, column: int) -> int:
        if code not in NAMES:
            return INVALID_VALUE
        out._obj.value = NAMES[code][column].encode()
        return SUCCESS

    def _cuGetErrorName(self, code: int, out: Any) -> int:
        return self._text(code, out, 0)

    def _cuGetErrorString(self, code: int, out: Any) -> int:
        return self._text(code, out, 1)

    def _cuDeviceGetCount(self, out: Any) -> None:
        out._obj.value = len(self.gpus)

    def _cuDeviceGet(self, out: Any, ordinal: int) -> None:
        out._obj.value = ordinal

    def _cuDeviceGetName(self, text: Any, length: int, device: int) -> None:
        text.value = self.gpus[device].name.encode()[:length - 1]

    def _cuDeviceGetAttribute(self, out: Any, attribute: int, device: int) -> int:
        gpu = self.gpus[device]
        values = {75: gpu.capability[0], 76: gpu.capability[1], 16: gpu.multiprocessors}
        if attribute not in values:
            return INVALID_VALUE
        out._obj.value = values[attribute]
        return SUCCESS

    def _cuDeviceTotalMem_v2(self, out: Any, device: int) -> None:
        out._obj.value = self.gpus[device].total

    def _cuDevicePrimaryCtxRetain(self, out: Any, device: int) -> None:
        self.gpus[device].retained += 1
        out._obj.value = self.gpus[device].primary

    def _cuCtxPushCurrent_v2(self, context: int) -> int:
        if context not in [gpu.primary for gpu in self.gpus if gpu.retained]:
            return INVALID_CONTEXT
        self._stack().append(context)
        return SUCCESS

    def _cuCtxPopCurrent_v2(self, out: Any) -> int:
        if not self._stack():
            return INVALID_CONTEXT
        out._obj.value = self._stack().pop()
        return SUCCESS

    def _cuCtxSynchronize(self) -> None:
        for stream in list(self.streams.values()):
            stream.drain()

    # Memory.

    def _cuMemGetInfo_v2(self, free: Any, total: Any) -> None:
        free._obj.value, total._obj.value = self._gpu.free(), self._gpu.total

    def _cuMemAlloc_v2(self, out: Any, nbytes: int) -> int:
        if nbytes <= 0:
            return INVALID_VALUE
        if nbytes > self._gpu.free():
            return OUT_OF_MEMORY
        out._obj.value = self._gpu.memory.allocate(nbytes)
        return SUCCESS

    def _cuMemFree_v2(self, address: int) -> None:
        self._cuCtxSynchronize()
        self._gpu.memory.free(address)

    def _cuMemHostAlloc(self, out: Any, nbytes: int, flags: int) -> int:
        if nbytes <= 0:
            return INVALID_VALUE
        block = ctypes.create_string_buffer(nbytes + 4096)
        address = -(-ctypes.addressof(block) // 4096) * 4096
        self.pinned[address] = (block, nbytes)
        out._obj.value = address
        return SUCCESS

    def _cuMemFreeHost(self, address: int) -> None:
        self._cuCtxSynchronize()
        del self.pinned[address]

    def _is_pinned(self, address: int, nbytes: int) -> bool:
        return any(start <= address and address + nbytes <= start + size for start, (_, size) in self.pinned.items())

    def _cuMemcpyHtoDAsync_v2(self, target: int, origin: int, nbytes: int, stream: int) -> int:
        memory = self._gpu.memory
        if self._is_pinned(origin, nbytes):
            def work() -> None:
                memory.write(target, np.frombuffer(ctypes.string_at(origin, nbytes), np.uint8))
        else:
            content = np.frombuffer(ctypes.string_at(origin, nbytes), np.uint8)     # read before the call returns

            def work() -> None:
                memory.write(target, content)
        return self._enqueue(stream, "HtoD", (target, origin, nbytes), work)

    def _cuMemcpyDtoHAsync_v2(self, target: int, origin: int, nbytes: int, stream: int) -> int:
        memory, pinned = self._gpu.memory, self._is_pinned(target, nbytes)
        if self.streams[stream].capture is not None:
            assert pinned, "a captured copy to memory that is not pinned"

        def work() -> None:
            ctypes.memmove(target, memory.peek(origin, nbytes).tobytes(), nbytes)

        code = self._enqueue(stream, "DtoH", (target, origin, nbytes), work)
        if not pinned:
            self.streams[stream].drain()     # done before the call returns
        return code

    def _cuMemcpyDtoDAsync_v2(self, target: int, origin: int, nbytes: int, stream: int) -> int:
        memory = self._gpu.memory
        return self._enqueue(stream, "DtoD", (target, origin, nbytes), lambda: memory.copy(target, origin, nbytes))

    def _cuMemsetD8Async(self, target: int, value: int, nbytes: int, stream: int) -> int:
        memory = self._gpu.memory
        return self._enqueue(stream, "memset", (target, value, nbytes),
                             lambda: memory.write(target, np.full(nbytes, value, np.uint8)))

    def _cuPointerGetAttribute(self, out: int, attribute: int, address: int) -> int:
        assert attribute == 9
        ordinal = self.owners.get(address)
        if ordinal is None:
            ordinal = next((gpu.ordinal for gpu in self.gpus for start, size in gpu.memory.allocations.items()
                            if start <= address < start + size), None)
        if ordinal is None:
            return INVALID_VALUE
        ctypes.c_int.from_address(out).value = ordinal
        return SUCCESS

    # Streams and events.

    def _cuStreamCreate(self, out: Any, flags: int) -> None:
        self._new(self.streams, Stream(self._gpu), out)

    def _cuStreamDestroy_v2(self, stream: int) -> None:
        self.streams.pop(stream).drain()

    def _cuStreamSynchronize(self, stream: int) -> int:
        if self.streams[stream].capture is not None:
            return CAPTURE_UNSUPPORTED
        self.streams[stream].drain()
        return SUCCESS

    def _cuStreamWaitEvent(self, stream: int, event: int, flags: int) -> int:
        known = self.events[event]

        def work() -> None:
            if known is not None:
                known[0].drain()

        return self._enqueue(stream, "wait", (event,), work)

    def _cuEventCreate(self, out: Any, flags: int) -> None:
        self._new(self.events, None, out)

    def _cuEventDestroy_v2(self, event: int) -> None:
        del self.events[event]

    def _cuEventRecord(self, event: int, stream: int) -> None:
        self.events[event] = (self.streams[stream], len(self.calls))

    def _cuEventSynchronize(self, event: int) -> int:
        known = self.events[event]
        if known is None:
            return INVALID_HANDLE
        known[0].drain()
        return SUCCESS

    def _cuEventElapsedTime(self, out: Any, start: int, end: int) -> int:
        a, b = self.events[start], self.events[end]
        if a is None or b is None:
            return INVALID_HANDLE
        out._obj.value = (b[1] - a[1]) / 1000     # a microsecond a call
        return SUCCESS

    # Modules and launches.

    def _cuModuleLoadData(self, out: Any, image: bytes) -> int:
        text = image.rstrip(b"\0").decode()
        if text.startswith("numpy ") and text[6:] in self.kernels:
            self._new(self.modules, text[6:], out)
        elif ".version" in text:
            self._new(self.modules, PtxModule(text), out)
        else:
            return INVALID_IMAGE
        return SUCCESS

    def _cuModuleUnload(self, module: int) -> None:
        del self.modules[module]

    def _cuModuleGetFunction(self, out: Any, module: int, name: bytes) -> int:
        loaded, symbol = self.modules[module], name.decode()
        if isinstance(loaded, PtxModule):
            if symbol not in loaded.entries:
                return NOT_FOUND

            def run(memory: Memory, blocks: int, threads: int, values: list[int]) -> None:
                loaded.run(symbol, blocks, threads, values, memory)

            self._new(self.functions, Function(symbol, len(loaded.entries[symbol]), run), out)
            return SUCCESS
        if symbol != loaded:
            return NOT_FOUND
        kernel = self.kernels[symbol]
        count = len(inspect.signature(kernel).parameters) - 3

        def run_numpy(memory: Memory, blocks: int, threads: int, values: list[int]) -> None:
            kernel(memory, blocks, threads, *values)

        self._new(self.functions, Function(symbol, count, run_numpy), out)
        return SUCCESS

    def _launching(self, function: int, blocks: int, threads: int, parameters: int) -> tuple[tuple[Any, ...], Work]:
        """What is launched, with the parameters as they are now."""
        kernel, memory = self.functions[function], self._gpu.memory
        places = (ctypes.c_void_p * kernel.count).from_address(parameters)
        values = [ctypes.c_int64.from_address(place or 0).value for place in places]

        def work() -> None:
            self.launched.append((kernel.name, blocks, threads, tuple(values)))
            kernel.run(memory, blocks, threads, values)

        return (kernel.name, blocks, threads, tuple(values)), work

    def _cuLaunchKernel(self, function: int, blocks: int, grid_y: int, grid_z: int, threads: int, block_y: int,
                        block_z: int, shared: int, stream: int, parameters: int, extra: None) -> int:
        if (grid_y, grid_z, block_y, block_z) != (1, 1, 1, 1) or not 0 < blocks < 2**31 or not 0 < threads <= 1024:
            return INVALID_VALUE
        arguments, work = self._launching(function, blocks, threads, parameters)
        return self._enqueue(stream, "kernel", arguments, work)

    # Capture and graphs.

    def _cuStreamBeginCapture_v2(self, stream: int, mode: int) -> int:
        assert mode == 1
        self.streams[stream].capture = Graph()
        self.streams[stream].capturer = threading.get_ident()
        return SUCCESS

    def _cuStreamEndCapture(self, stream: int, out: Any) -> int:
        graph, self.streams[stream].capture = self.streams[stream].capture, None
        if graph is None:
            return INVALID_HANDLE
        self._new(self.graphs, graph, out)
        return SUCCESS

    def _cuStreamGetCaptureInfo_v2(self, stream: int, status: Any, number: Any, graph: Any, nodes: Any,
                                   count: Any) -> int:
        capture = self.streams[stream].capture
        if capture is None:
            return INVALID_HANDLE
        latest = (ctypes.c_void_p * 1)(capture.handles[-1])
        self._texts.append(latest)     # the driver keeps such arrays until the next call
        nodes._obj.contents = ctypes.c_void_p.from_buffer(latest)
        status._obj.value, count._obj.value = 1, 1
        return SUCCESS

    def _cuGraphInstantiateWithFlags(self, out: Any, graph: int, flags: int) -> None:
        made = self.graphs[graph]
        self._new(self.executables, Graph(list(made.nodes), list(made.handles)), out)

    def _cuGraphExecKernelNodeSetParams(self, executable: int, node: int, parameters: int) -> int:
        from staticgraph.runtime.cuda.launch import NodeParameters

        graph, given = self.executables[executable], NodeParameters.from_address(parameters)
        position = graph.handles.index(node)
        if graph.nodes[position].kind != "kernel":
            return INVALID_VALUE
        arguments, work = self._launching(given.function, given.grid_x, given.block_x, given.parameters)
        graph.nodes[position] = Node("kernel", arguments, work)
        return SUCCESS

    def _cuGraphLaunch(self, executable: int, stream: int) -> int:
        nodes = list(self.executables[executable].nodes)

        def work() -> None:
            for node in nodes:
                node.run()

        return self._enqueue(stream, "graph", (executable,), work)

    def _cuGraphExecDestroy(self, executable: int) -> None:
        del self.executables[executable]

    def _cuGraphDestroy(self, graph: int) -> None:
        for handle in self.graphs.pop(graph).handles:
            del self.nodes[handle]
