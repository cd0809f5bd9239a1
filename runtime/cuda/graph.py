"""CUDA graphs: a whole call recorded once, then replayed by one launch.

A graph holds the addresses that its launches had when it was captured. Arrays of the caller on the device, and results
that stay there, have other addresses at other calls. Kernels that are told such an address are *moved*: their nodes in
the instantiated graph get the new parameters, about a microsecond each, before the graph is launched again.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence

from .device import Device, Stream
from .launch import KernelLauncher

THREAD_LOCAL = 1
"""The mode of capture in which other threads may go on as usual."""

Action = Callable[[int], None]
"""Puts something into a stream."""


class Graph:
    """An instantiated graph of actions, in order. `moving` are those whose parameters may change."""

    def __init__(self, device: Device, stream: Stream, actions: Sequence[Action],
                 moving: Sequence[KernelLauncher]) -> None:
        self._device = device
        self._stream = stream
        self._nodes: list[tuple[int, KernelLauncher]] = []
        self._moving = {id(each): each for each in moving}
        graph = self._capture(actions)
        device.own(self, "cuGraphDestroy", graph)     # nodes belong to it
        self._executable = device.handle("cuGraphInstantiateWithFlags", graph, 0)
        device.own(self, "cuGraphExecDestroy", self._executable)
        self._launch: Callable[[int, int], int] = device.driver.library.cuGraphLaunch

    def _capture(self, actions: Sequence[Action]) -> int:
        device, stream = self._device, self._stream.handle
        graph = ctypes.c_void_p()
        device.capturing(True)
        try:
            device.call("cuStreamBeginCapture_v2", stream, THREAD_LOCAL)
            try:
                for action in actions:
                    action(stream)
                    launcher = self._moving.get(id(getattr(action, "__self__", None)))
                    if launcher is not None:
                        self._nodes.append((self._latest_node(), launcher))
            except BaseException:
                device.driver.library.cuStreamEndCapture(stream, ctypes.byref(graph))
                raise
            device.call("cuStreamEndCapture", stream, ctypes.byref(graph))
        except BaseException:
            if graph.value:
                device.driver.library.cuGraphDestroy(graph.value)
            raise
        finally:
            device.capturing(False)
        return graph.value or 0

    def _latest_node(self) -> int:
        """The node that was captured last: the one that whatever comes next would depend on."""
        status, number, graph = ctypes.c_int(), ctypes.c_uint64(), ctypes.c_void_p()
        nodes, count = ctypes.POINTER(ctypes.c_void_p)(), ctypes.c_size_t()
        self._device.call("cuStreamGetCaptureInfo_v2", self._stream.handle, ctypes.byref(status), ctypes.byref(number),
                          ctypes.byref(graph), ctypes.byref(nodes), ctypes.byref(count))
        return nodes[0] or 0

    def move(self) -> None:
        """Give the moving launches the parameters that they have now. After a failure the graph is of no use."""
        for node, launcher in self._nodes:
            parameters = launcher.node_parameters()
            self._device.call("cuGraphExecKernelNodeSetParams", self._executable, node, ctypes.addressof(parameters))

    def launch(self) -> None:
        """Put all of it into the stream."""
        code = self._launch(self._executable, self._stream.handle)
        if code:
            self._device.fail("cuGraphLaunch", code)
