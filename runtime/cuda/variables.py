"""Variables on a device: a copy is made at first use and stays for as long as the variable lives (see `residence`)."""

from __future__ import annotations

import weakref
from collections.abc import Sequence

from staticgraph.compiler.program import VariableSpec
from staticgraph.errors import DeviceError

from ..convert import Array
from ..memory import address_of
from ..residence import VariableStorage, mark_written, resident, stamp
from .device import Device
from .memory import Block


class DeviceCopy:
    """A variable's value on a device. `current`: it is up to date."""

    def __init__(self, device: Device, nbytes: int, name: str) -> None:
        self.device = device
        self.nbytes = nbytes
        self.current = False
        self._name = name
        self._block = Block(device, nbytes, f"variable '{name}'")
        self.address = self._block.address
        resident.add(id(self))
        weakref.finalize(self, resident.discard, id(self)).atexit = False

    def upload(self, array: Array) -> None:
        """Take over the value of an array."""
        stream = self.device.transfers()
        self.device.call("cuMemcpyHtoDAsync_v2", self.address, address_of(array), self.nbytes, stream.handle)
        stream.synchronize()
        self.current = True

    def download(self, array: Array) -> None:
        """Copy the value into the array."""
        if self.device.lost:
            raise DeviceError(f"the value of variable '{self._name}' is lost: {self.device.lost}")
        with self.device:
            stream = self.device.transfers()
            self.device.call("cuMemcpyDtoHAsync_v2", address_of(array), self.address, self.nbytes, stream.handle)
            stream.synchronize()
        stamp.change()

    def expire(self) -> None:
        """The value is out of date."""
        self.current = False
        stamp.change()


class Variables:
    """The variables of one program on one device. All methods want the locks of all of them held, and the device
    current."""

    def __init__(self, device: Device, specs: Sequence[VariableSpec], storages: Sequence[VariableStorage]) -> None:
        self._device = device
        self._specs = specs
        self._storages = storages
        self._written = [storage for spec, storage in zip(specs, storages) if spec.written]
        self._settled: object = None
        self._marked: object = None

    def copies(self) -> list[DeviceCopy]:
        """The copy of each, made if need be."""
        for spec, storage in zip(self._specs, self._storages):
            if self._device not in storage.copies:
                storage.copies[self._device] = DeviceCopy(self._device, storage.array.nbytes, spec.name)
        return [storage.copies[self._device] for storage in self._storages]

    def settle(self) -> None:
        """Bring all copies up to date."""
        now = stamp.now
        if self._settled is now:
            return
        for copy, storage in zip(self.copies(), self._storages):
            if not copy.current:
                storage.fetch()
                copy.upload(storage.array)
        self._settled = now

    def wrote(self) -> None:
        """Take note that the program has written what it writes."""
        now = stamp.now
        if self._marked is now:
            return     # nothing has changed since the last call, which did this
        if any([mark_written(storage, storage.copies[self._device]) for storage in self._written]):
            now = stamp.change()
        self._settled = self._marked = now
