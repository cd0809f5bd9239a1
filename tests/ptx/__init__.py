"""An interpreter of PTX: runs the text that the CUDA compiler emitted, exactly, and refuses what a GPU would let pass.

    memory = DeviceMemory()
    x = memory.allocate(4 * n)
    memory.write(x, values)
    counters = PtxModule(ptx).run(entry, grid, block, [x, n], memory)     # raises PtxError
    memory.read(x, "float32", n)

It takes one-dimensional grids and blocks and integer arguments (addresses and sizes). See faults.py for what it finds.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .decode import Kernel
from .faults import (
    Approximate,
    DivergentBarrier,
    InactiveLane,
    LaunchError,
    LocalMemory,
    Misaligned,
    OutOfBounds,
    PtxError,
    Race,
    ReadOnlyWritten,
    Runaway,
    Trap,
    Undefined,
    Uninitialised,
    Unsupported,
)
from .machine import Access, Counters, Launch
from .memory import BASE, DeviceMemory
from .parse import SIZES, parse
from .races import Races

MOST_THREADS = 1024

__all__ = [
    "Access", "Approximate", "BASE", "Counters", "DeviceMemory", "DivergentBarrier", "InactiveLane", "LaunchError",
    "LocalMemory", "Misaligned", "OutOfBounds", "PtxError", "PtxModule", "Race", "ReadOnlyWritten", "Runaway", "SIZES",
    "Trap", "Undefined", "Uninitialised", "Unsupported"]


class PtxModule:
    """The kernels of one PTX text. With `approximate`, instructions such as ex2.approx are exact, else errors."""

    def __init__(self, text: str, approximate: bool = False) -> None:
        self._module = parse(text)
        self._approximate = approximate
        self._kernels: dict[str, Kernel] = {}
        self.entries: dict[str, tuple[str, ...]] = {
            name: tuple(kind for kind, _ in function.parameters) for name, function in self._module.functions.items()}
        """Kernel -> types of its parameters."""

    def kernel(self, entry: str) -> Kernel:
        if entry not in self._kernels:
            if entry not in self._module.functions:
                raise LaunchError(f"no kernel {entry}; there are {', '.join(self.entries)}")
            self._kernels[entry] = Kernel(self._module, self._module.functions[entry], self._approximate)
        return self._kernels[entry]

    def run(self, entry: str, grid: int, block: int, arguments: Sequence[int], memory: DeviceMemory,
            dynamic_shared: int = 0, seed: int | None = None, most_steps: int = 3_000_000) -> Counters:
        """Launch a kernel and wait for it. With a seed, warps take turns at random. `most_steps` bounds the steps: of
        threads that execute an instruction together, one is counted."""
        kernel = self.kernel(entry)
        function = kernel.function
        if grid < 1 or not 1 <= block <= MOST_THREADS:
            raise LaunchError(f"grid {grid}, block {block}")
        if (function.most_threads and block > function.most_threads) or function.exact_threads not in (0, block):
            bound = function.exact_threads or function.most_threads
            raise LaunchError(f"block {block}, but the kernel is made for {bound}")
        if len(arguments) != len(function.parameters):
            raise LaunchError(f"{len(arguments)} arguments for {len(function.parameters)} parameters")
        parameters = {name: np.array([int(value) % (1 << 64)], np.uint64)
                      for (_, name), value in zip(function.parameters, arguments)}
        symbols = self._load_tables(memory)
        random = None if seed is None else np.random.default_rng(seed)
        launch = Launch(kernel, grid, block, parameters, memory, dynamic_shared, random, most_steps, symbols)
        launch.races = Races(memory.end, kernel.shifts["global"], False, kernel.stores["global"], kernel.atomics)
        try:
            return launch.run()
        finally:
            for address in symbols.values():
                memory.free(address)

    def _load_tables(self, memory: DeviceMemory) -> dict[str, int]:
        addresses = {}
        for table in self._module.tables.values():
            addresses[table.name] = memory.allocate(len(table.data), max(table.alignment, 16))
            memory.write(addresses[table.name], np.frombuffer(table.data, np.uint8))
        return addresses
