"""Memory of a device, and pinned memory of the host: blocks that are given back when their owner drops them.

A `Block` is device memory, a `Pinned` host memory that the device copies from and to by itself. An `Arena` and a
`Staging` area belong to one executable and grow to what its largest call needs. A `Pool` keeps the memory of results
that the caller has dropped, for the next results of that size.
"""

from __future__ import annotations

import ctypes
import gc
import sys
import threading
from collections.abc import Callable
from typing import Any

import numpy as np

from staticgraph.errors import OutOfMemoryError

from ..convert import Array
from .device import Device
from .driver import Shortage

GRAIN = 256
"""Bytes; every place starts at a multiple, which suits all vector accesses and copies."""


WORKSPACE_BYTES = 2**25
"""Bytes; what the vendor advises for cuBLAS on its larger GPUs."""


def rounded(nbytes: int) -> int:
    """Bytes rounded up to the grain."""
    return -(-nbytes // GRAIN) * GRAIN


def allocate(device: Device, nbytes: int, what: str) -> int:
    """The address of so many new bytes on a device whose context is current."""
    address = ctypes.c_uint64()
    try:
        try:
            device.call("cuMemAlloc_v2", ctypes.byref(address), nbytes)
        except Shortage:
            pool_of(device).trim()
            gc.collect()     # what is dropped but in a cycle, the traceback of an earlier error say
            device.call("cuMemAlloc_v2", ctypes.byref(address), nbytes)
    except Shortage:
        shortage = OutOfMemoryError(f"cuda:{device.index} ({device.name}) is out of memory: {nbytes} bytes were wanted "
                                    f"for {what}, {device.free_memory()} of its {device.total_memory} are free")
        raise shortage from None
    return address.value


class Block:
    """Device memory: `address`, `nbytes`."""

    __slots__ = ("__weakref__", "address", "device", "nbytes")

    def __init__(self, device: Device, nbytes: int, what: str) -> None:
        self.device = device
        self.nbytes = nbytes
        self.address = allocate(device, max(nbytes, 1), what)
        device.own(self, "cuMemFree_v2", self.address)


class Pinned:
    """Host memory that the device reads and writes by itself: `address`, `bytes` (an array on it)."""

    def __init__(self, device: Device, nbytes: int) -> None:
        self.address = device.handle("cuMemHostAlloc", nbytes, 0)
        memory = (ctypes.c_ubyte * nbytes).from_address(self.address)
        device.own(memory, "cuMemFreeHost", self.address)     # arrays on it keep it alive
        self.bytes: Array = np.ctypeslib.as_array(memory)
        self.bytes[:] = 0


class Arena:
    """Device memory of an executable. `generation` counts its moves."""

    def __init__(self, device: Device) -> None:
        self.generation = 0
        self.address = 0
        self.nbytes = 0
        self._device = device
        self._block: Block | None = None

    def reserve(self, nbytes: int, describe: Callable[[], str]) -> None:
        """Make room for at least so many bytes; what the arena held is lost when it moves. It grows by a quarter at
        least, so that slowly growing sizes do not move it each time, unless there is too little memory for that."""
        if nbytes <= self.nbytes and self._block is not None:
            return
        roomy, what = max(nbytes, self.nbytes + self.nbytes // 4), describe()
        self._block, self.nbytes, self.address = None, 0, 0     # the old block goes before the new one comes
        self.generation += 1
        try:
            self._block = Block(self._device, roomy, what)
        except OutOfMemoryError:
            if roomy == nbytes:
                raise
            self._block = Block(self._device, nbytes, what)
        self.address, self.nbytes = self._block.address, self._block.nbytes


class Workspace:
    """Device memory that the library routines of an executable, which run one after the other, use for themselves:
    `address`, `nbytes`. There is none before it is first asked for, and it never moves."""

    def __init__(self, device: Device) -> None:
        self.nbytes = 0
        self.address = 0
        self._device = device
        self._block: Block | None = None

    def reserve(self) -> None:
        """Make sure that it is there."""
        if self._block is None:
            self._block = Block(self._device, WORKSPACE_BYTES, "the workspace of library routines")
            self.address, self.nbytes = self._block.address, WORKSPACE_BYTES


class Staging:
    """Pinned memory of an executable. `generation` counts its moves."""

    def __init__(self, device: Device) -> None:
        self.generation = 0
        self.nbytes = 0
        self.address = 0
        self._device = device
        self._memory: Pinned | None = None

    def reserve(self, nbytes: int) -> None:
        """Make room for at least so many bytes; new memory is all zero."""
        if nbytes > self.nbytes:
            room = max(nbytes, 2 * self.nbytes)
            self._memory = Pinned(self._device, room)
            self.address, self.nbytes = self._memory.address, room
            self.generation += 1

    def view(self, offset: int, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
        """An array on a part of it."""
        assert self._memory is not None
        return np.ndarray(shape, dtype, self._memory.bytes.data, offset)


class Lease:
    """Memory from a pool, given back when it is dropped: `address`. `shared`: its address was given to others."""

    __slots__ = ("address", "pool", "shared", "size")

    def __init__(self, pool: Pool, nbytes: int, what: str) -> None:
        self.pool = pool
        self.shared = False
        self.address, self.size = pool.take(nbytes, what)

    def __del__(self, finalizing: Callable[[], bool] = sys.is_finalizing) -> None:
        if not finalizing() and hasattr(self, "address"):     # ten times as quick as a weakref.finalize
            self.pool.give(self.address, self.size, self.shared)


class Pool:
    """Memory of dropped results of one device. It keeps no more than a quarter of the device's memory."""

    def __init__(self, device: Device) -> None:
        self._device = device
        self._limit = device.total_memory // 4
        self._free: dict[int, list[tuple[int, bool]]] = {}
        self._held = 0
        self._lock = threading.RLock()     # a finalizer may run while this thread holds it

    def take(self, nbytes: int, what: str) -> tuple[int, int]:
        """The address of so many bytes, and how many they are really."""
        size = max(rounded(nbytes), GRAIN)
        with self._lock:
            known = self._free.get(size)
            if known:
                address, shared = known.pop()
                self._held -= size
            else:
                return allocate(self._device, size, what), size
        if shared:     # somebody else's stream may still be reading it
            self._device.call("cuCtxSynchronize")
        return address, size

    def give(self, address: int, size: int, shared: bool) -> None:
        """Keep memory that is no longer used; `shared` says that its address was given to others."""
        with self._lock:
            if self._held + size > self._limit:
                self._device.release("cuMemFree_v2", address)
            else:
                self._free.setdefault(size, []).append((address, shared))
                self._held += size

    def trim(self) -> int:
        """Give all that is kept back to the device; how many bytes that was."""
        with self._lock:
            held, self._held = self._held, 0
            free, self._free = self._free, {}
            for each in free.values():
                for address, _ in each:
                    self._device.release("cuMemFree_v2", address)
            return held


def pool_of(device: Device) -> Pool:
    """The pool of a device."""
    pool: Pool | None = device.parts.get("pool")
    return device.parts.setdefault("pool", Pool(device)) if pool is None else pool
