"""A binding with all that its calls use again: places in pinned memory, copies to and from the device, its graphs.

Addresses *move* where arrays are the caller's own on the device, and where results stay there: they differ from call to
call. Launches of kernels can follow them (see `graph`). A binding is *rigid* where something else is told such an
address, a copy within the device or a library's launch; it then has a graph for each set of addresses.
"""

from __future__ import annotations

import numpy as np

from staticgraph.compiler.program import STATUS_SLOTS, Program

from ..convert import Array
from ..results import Results
from .device import Device
from .graph import Action, Graph
from .launch import KernelLauncher, Launcher
from .layout import STATUS_BYTES, Binding
from .memory import Arena, Staging

GRAPHS_KEPT = 8
"""Graphs of one rigid binding."""


class Prepared:
    """`moving` are the inputs and results whose addresses move, `movers` the launches that are told them, `addresses`
    those that the row holds; `aliases`: there are results that copies within the device make. `status`, `inputs` and
    `outputs` are arrays on pinned memory, None for what is not there; `before` and `after` copy them to and fro.
    `kinds` are the shapes and dtypes of the results."""

    def __init__(self, device: Device, program: Program, binding: Binding, launchers: list[Launcher], aliases: bool,
                 results_here: bool) -> None:
        self.binding = binding
        self.launchers = launchers
        dtypes = [np.dtype(spec.dtype) for spec in program.outputs]
        self.kinds = list(zip(binding.shapes, dtypes))
        self.results = Results(tuple(binding.shapes), dtypes)
        self.moving = [("input", index) for index, place in enumerate(binding.inputs) if place is None]
        if not results_here:
            self.moving += [("output", index) for index in range(len(program.outputs))]
        told = {step for group in self.moving for step in binding.steps_of(group)}
        moved = [launcher for launching, launcher in zip(binding.launches, launchers) if launching.step in told]
        self.movers = [launcher for launcher in moved if isinstance(launcher, KernelLauncher)]
        self.rigid = len(moved) > len(self.movers) or (aliases and bool(self.moving))
        self.addresses: tuple[int, ...] = ()
        self.graphs: dict[tuple[int, ...], Graph] = {}
        self.status: Array = np.zeros(0, np.int64)
        self.inputs: list[Array | None] = []
        self.outputs: list[Array | None] = []
        self.before: list[Action] = []
        self.after: list[Action] = []
        self._device = device
        self._checked = bool(program.checks)
        self._generation = (-1, -1)

    def point(self, addresses: tuple[int, ...]) -> None:
        """Put the addresses of what moves into the row."""
        for group, address in zip(self.moving, addresses):
            self.binding.point(group, address)
        self.addresses = addresses

    def settle(self, arena: Arena, staging: Staging) -> None:
        """Point into an arena and pinned memory, which other bindings have used meanwhile."""
        binding = self.binding
        self.status = staging.view(binding.status, (STATUS_SLOTS,), np.dtype(np.int64))
        self.status[:] = 0
        if self._generation == (arena.generation, staging.generation):
            return
        self.graphs.clear()
        binding.settle(arena.address)
        self.inputs, self.outputs = ([None if place is None or not place.staged else
                                      staging.view(place.offset, place.shape, place.dtype) for place in places]
                                     for places in (binding.inputs, binding.outputs))
        self._plan_transfers(arena.address, staging.address)
        self._generation = arena.generation, staging.generation

    def _plan_transfers(self, device: int, host: int) -> None:
        """One copy each way. A program without checks needs no status, only that it is zero on the device."""
        inputs_end = self.binding.status + (STATUS_BYTES if self._checked else 0)
        results_start = self.binding.status + (0 if self._checked else STATUS_BYTES)
        results_bytes, call = self.binding.staged_bytes - results_start, self._device.call

        def bring(stream: int) -> None:
            call("cuMemcpyHtoDAsync_v2", device, host, inputs_end, stream)

        def take(stream: int) -> None:
            call("cuMemcpyDtoHAsync_v2", host + results_start, device + results_start, results_bytes, stream)

        self.before, self.after = [bring] * (inputs_end > 0), [take] * (results_bytes > 0)
