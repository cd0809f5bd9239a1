"""The arrays that calls return: new ones, or those of the last call that nobody holds any more.

A large new array is fresh memory, and the first touch of each of its pages is a fault: for a kernel that only moves
memory that costs as much as the kernel. So the large results of a call are remembered, and when the next call of the
same sizes finds that ours is the only reference left, the caller has dropped the array, and its memory serves again.
An array that the caller holds, even weakly, or holds a view of, is never touched.
"""

from __future__ import annotations

import sys
import weakref
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]

LARGE = 1 << 17
"""Bytes from which the C library asks the system for memory: smaller arrays cost no page faults."""


def _own_references() -> int:
    """The count for an array that only a list and the variable that looks at it know: Pythons differ in it."""
    kept = [np.empty(1)]
    array = kept[0]
    return sys.getrefcount(array)


OWN_REFERENCES = _own_references()

COUNTED = getattr(sys, "_is_gil_enabled", lambda: True)() and sys.implementation.name == "cpython"
"""Whether reference counts tell who holds an array: not without the interpreter lock, and not in other Pythons."""


class Results:
    """Makes the results of calls of one combination of sizes. Its owner sees to it that calls take turns."""

    def __init__(self, shapes: tuple[tuple[int, ...], ...], dtypes: list[np.dtype[Any]]) -> None:
        self._types = list(zip(shapes, dtypes, strict=True))
        self._large = [COUNTED and int(np.prod(shape)) * dtype.itemsize >= LARGE for shape, dtype in self._types]
        self._any = any(self._large)
        self._kept: list[Array | None] = [None] * len(self._types)

    def take(self) -> list[Array]:
        """One array for each output; what is in them is arbitrary."""
        if not self._any:
            return [np.empty(shape, dtype) for shape, dtype in self._types]
        return [self._reuse(number) if large else np.empty(*self._types[number])
                for number, large in enumerate(self._large)]

    def _reuse(self, number: int) -> Array:
        shape, dtype = self._types[number]
        array = self._kept[number]
        if (array is None or sys.getrefcount(array) > OWN_REFERENCES or weakref.getweakrefcount(array)
                or array.shape != shape or array.dtype is not dtype
                or not array.flags.carray or not array.flags.owndata):
            array = self._kept[number] = np.empty(shape, dtype)
        return array
