"""Variables that live on devices: who has the newest value.

A variable's storage belongs to the language: one array of the host, and the lock under which all of this happens.
Beside it devices may keep copies. At any time either the array is up to date, or one copy is (`newest`) that a device
has written since; the other copies know whether they are (`current`).

* Who reads the array calls `storage.fetch()` first; it copies the newest value home.
* Who has written the array, or is about to, calls `storage.overwritten()`; all copies are then out of date.
* A device calls `Copy.read` before it reads or writes its copy, and `written` once it has written it.

A program for the CPU looks at `resident` only, which is empty in a process that uses no device. A program for a device
remembers the `stamp` under which it last found its variables in order, and looks again only after it has changed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from .convert import Array


class Copy(Protocol):
    """A variable's copy on a device."""

    current: bool

    def download(self, array: Array) -> None:
        """Copy the value into the array."""

    def expire(self) -> None:
        """Take note that the value is out of date."""


class VariableStorage(Protocol):
    """What the language hands over for each variable. The array is contiguous and never replaced, only written in
    place, and only while the lock is held; `number` orders the locks of different variables."""

    copies: dict[Any, Any]
    newest: Any

    @property
    def array(self) -> Array: ...

    @property
    def lock(self) -> Any: ...

    @property
    def number(self) -> int: ...

    def fetch(self) -> None:
        """Bring the array up to date."""

    def overwritten(self) -> None:
        """Make all copies out of date."""


resident: set[int] = set()
"""One entry for each copy of a variable on a device of this process."""


class Stamp:
    """An object that is another one after each change of what is where."""

    def __init__(self) -> None:
        self.now = object()

    def change(self) -> object:
        """Somebody's copies are no longer as they were."""
        self.now = object()     # never compared with anything but by identity, so that no update can be missed
        return self.now


stamp = Stamp()


def come_home(storages: Sequence[VariableStorage], written: Sequence[bool]) -> None:
    """Make the arrays ready for a program that reads them, and writes some. The locks of all are held."""
    for storage, is_written in zip(storages, written):
        storage.fetch()
        if is_written:
            storage.overwritten()


def mark_written(storage: VariableStorage, copy: Copy) -> bool:
    """The copy has been written by its device; whether that was news."""
    others = [each for each in storage.copies.values() if each is not copy and each.current]
    for each in others:
        each.expire()
    news = storage.newest is not copy or bool(others)
    storage.newest, copy.current = copy, True
    return news
