"""Memory as bytes with a shadow. `Space` is any memory; `DeviceMemory` is global memory with its allocations.

Each byte has a state: `FREE` (part of no allocation), `ALLOCATED` (but nothing was written) or `WRITTEN`. An access of
w bytes at a multiple of w looks at w states at once, so bounds and initialisation are checked exactly, byte by byte.
Allocations lie apart, so an index that leaves one array does not arrive in another.
"""

from __future__ import annotations

from bisect import bisect_right, insort
from typing import Any

import numpy as np

from .faults import Misaligned, OutOfBounds, Uninitialised

FREE, ALLOCATED, WRITTEN = 0, 1, 3
BASE = 0x7F00_0000_0000
"""Address of the first byte of device memory."""
GAP = 1024
"""Bytes at least between two allocations."""
UNWRITTEN_BYTE = 0xA5

Array = np.ndarray[Any, Any]
count_nonzero = np.count_nonzero


def alignment_shift(nbytes: int) -> int:
    return nbytes.bit_length() - 1


class Space:
    """Bytes and their states. Offsets are int64 arrays; `nbytes` a power of two up to 16."""

    def __init__(self, nbytes: int) -> None:
        self.data = np.zeros(nbytes, np.uint8)
        self.state = np.zeros(nbytes, np.uint8)
        self._views: dict[Any, Array] = {}

    @property
    def size(self) -> int:
        return len(self.data)

    def grow(self, nbytes: int) -> None:
        for name in ("data", "state"):
            old = getattr(self, name)
            new = np.zeros(nbytes, np.uint8)
            new[: len(old)] = old
            setattr(self, name, new)
        self._views.clear()

    def view(self, dtype: Any, lanes: int) -> Array:
        """The bytes as elements, or as rows of `lanes` elements."""
        key = (dtype, lanes)
        found = self._views.get(key)
        if found is None:
            flat = self.data.view(dtype)
            found = self._views[key] = flat if lanes == 1 else flat.reshape(-1, lanes)
        return found

    def states(self, nbytes: int) -> Array:
        found = self._views.get(nbytes)
        if found is None:
            flat = self.state.view(f"u{min(nbytes, 8)}")
            found = self._views[nbytes] = flat if nbytes <= 8 else flat.reshape(-1, nbytes // 8)
        return found

    def locate(self, offsets: Array, nbytes: int, threads: Array, what: str) -> Array:
        """Indices of the cells of `nbytes` at `offsets`, once all of them are aligned and within the space."""
        if nbytes > 1 and np.bitwise_or.reduce(offsets) & (nbytes - 1):
            bad = int(np.flatnonzero(offsets & (nbytes - 1))[0])
            raise Misaligned(f"misaligned {what} of {nbytes} bytes at {self.describe(int(offsets[bad]))}",
                             _thread(threads, bad))
        if np.maximum.reduce(offsets.view(np.uint64)) >= self.size:
            bad = int(np.flatnonzero(offsets.view(np.uint64) >= self.size)[0])
            raise OutOfBounds(f"out-of-bounds {what} of {nbytes} bytes at {self.describe(int(offsets[bad]))}",
                              _thread(threads, bad))
        return offsets >> alignment_shift(nbytes)

    def load(self, cells: Array, dtype: Any, lanes: int, nbytes: int, threads: Array) -> Array:
        states = self.states(nbytes)[cells]
        if count_nonzero(states != _PATTERN[nbytes, WRITTEN]):
            self._refuse(cells, nbytes, threads, "load", WRITTEN)
        return self.view(dtype, lanes)[cells]

    def store(self, cells: Array, values: Array, lanes: int, nbytes: int, threads: Array) -> None:
        shadow = self.states(nbytes)
        states = shadow[cells]
        if count_nonzero(states & _PATTERN[nbytes, ALLOCATED] != _PATTERN[nbytes, ALLOCATED]):
            self._refuse(cells, nbytes, threads, "store", ALLOCATED)
        self.view(values.dtype, lanes)[cells] = values
        shadow[cells] = _PATTERN[nbytes, WRITTEN]

    def _refuse(self, cells: Array, nbytes: int, threads: Array, what: str, wanted: int) -> None:
        states = self.state.reshape(-1, nbytes)[cells]
        free = (states == FREE).any(axis=1)
        bad = int(np.flatnonzero(free if free.any() else (states & wanted != wanted).any(axis=1))[0])
        where = self.describe(int(cells[bad]) * nbytes)
        if free.any():
            raise OutOfBounds(f"out-of-bounds {what} of {nbytes} bytes at {where}", _thread(threads, bad))
        raise Uninitialised(f"{what} of {nbytes} uninitialised bytes at {where}", _thread(threads, bad))

    def describe(self, offset: int) -> str:
        return f"{offset:#x}"


def _thread(threads: Array, position: int) -> int:
    return int(threads[position] if position < len(threads) else threads[0])


_PATTERN = {(nbytes, state): np.frombuffer(bytes([state] * min(nbytes, 8)), f"u{min(nbytes, 8)}")[0]
            for nbytes in (1, 2, 4, 8, 16) for state in (ALLOCATED, WRITTEN)}


SHARED_START = 256
"""Offset of the first array in the shared memory of a block: an address made of nothing is not one of them."""


class SharedMemory(Space):
    """The shared memories of several blocks, `stride` bytes apart."""

    def __init__(self, blocks: int, stride: int) -> None:
        super().__init__(blocks * stride)
        self.stride = stride

    def describe(self, offset: int) -> str:
        return f"byte {offset % self.stride - SHARED_START} of shared memory"


class DeviceMemory(Space):
    """Global memory. Allocations lie apart, and an address that was freed is not handed out again before 64 MiB of
    others were, so that accesses past an end or after a `free` are found."""

    REUSE_FROM = 64 << 20

    def __init__(self) -> None:
        super().__init__(1 << 20)
        self.allocations: dict[int, int] = {}
        """Address -> bytes of everything that was not freed."""
        self._starts: list[int] = []     # offsets of live allocations, sorted
        self._freed: dict[int, int] = {}
        self.end = GAP

    def allocate(self, nbytes: int, alignment: int = 256) -> int:
        """The address of `nbytes` new, uninitialised bytes."""
        if nbytes < 0 or alignment <= 0 or alignment & (alignment - 1):
            raise ValueError(f"cannot allocate {nbytes} bytes with alignment {alignment}")
        offset = -(-self.end // alignment) * alignment
        if offset + nbytes + GAP > self.REUSE_FROM:
            offset = self._first_fit(nbytes, alignment)
        needed = offset + nbytes + GAP
        if needed > self.size:
            self.grow(1 << (needed - 1).bit_length())
        self.end = max(self.end, offset + nbytes + GAP)
        self.state[offset: offset + nbytes] = ALLOCATED
        self.data[offset: offset + nbytes] = UNWRITTEN_BYTE
        self.allocations[BASE + offset] = nbytes
        self._freed.pop(BASE + offset, None)
        insort(self._starts, offset)
        return BASE + offset

    def _first_fit(self, nbytes: int, alignment: int) -> int:
        offset = GAP
        for start in self._starts:
            if offset + nbytes + GAP <= start:
                break
            offset = -(-(start + self.allocations[BASE + start] + GAP) // alignment) * alignment
        return -(-offset // alignment) * alignment

    def free(self, address: int) -> None:
        nbytes = self.allocations.pop(address, None)
        if nbytes is None:
            known = "free already" if address in self._freed else "no allocation"
            raise OutOfBounds(f"free of {address:#x}, which is {known}")
        offset = address - BASE
        self.state[offset: offset + nbytes] = FREE
        self._freed[address] = nbytes
        self._starts.remove(offset)

    def write(self, address: int, array: Any) -> None:
        """Copy an array to device memory, as the host does."""
        data = np.frombuffer(np.ascontiguousarray(array).tobytes(), np.uint8)
        offset = self._span(address, len(data), "copy to the device")
        self.data[offset: offset + len(data)] = data
        self.state[offset: offset + len(data)] = WRITTEN

    def read(self, address: int, dtype: Any, shape: Any) -> Array:
        """Copy an array from device memory."""
        dtype = np.dtype(dtype)
        nbytes = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
        offset = self._span(address, nbytes, "copy from the device")
        if (self.state[offset: offset + nbytes] != WRITTEN).any():
            first = int(np.flatnonzero(self.state[offset: offset + nbytes] != WRITTEN)[0])
            raise Uninitialised(f"copy from the device of uninitialised bytes at {self.describe(offset + first)}")
        return self.data[offset: offset + nbytes].view(dtype).reshape(shape).copy()

    def is_written(self, address: int, nbytes: int) -> bool:
        offset = self._span(address, nbytes, "look at")
        return bool((self.state[offset: offset + nbytes] == WRITTEN).all())

    def mark_unwritten(self, address: int, nbytes: int) -> None:
        """Forget what the bytes held, as if they were allocated afresh."""
        offset = self._span(address, nbytes, "look at")
        self.state[offset: offset + nbytes] = ALLOCATED
        self.data[offset: offset + nbytes] = UNWRITTEN_BYTE

    def _span(self, address: int, nbytes: int, what: str) -> int:
        offset = address - BASE
        inside = 0 <= offset and offset + nbytes <= self.size
        if not inside or (self.state[offset: offset + nbytes] == FREE).any():
            raise OutOfBounds(f"{what} of {nbytes} bytes at {self.describe(offset)}")
        return offset

    def describe(self, offset: int) -> str:
        address = BASE + offset
        index = bisect_right(self._starts, offset) - 1
        text = f"{address % (1 << 64):#x}"
        if index >= 0:
            start = self._starts[index]
            nbytes = self.allocations[BASE + start]
            text += f", byte {offset - start} of the allocation of {nbytes} bytes at {BASE + start:#x}"
        for freed, nbytes in self._freed.items():
            if freed <= address < freed + nbytes:
                text += f" (byte {address - freed} of {nbytes} bytes at {freed:#x}, which were freed)"
        return text
