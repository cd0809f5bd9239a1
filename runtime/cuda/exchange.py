"""Arrays on a device, to and from other libraries without a copy.

Going out: a `DeviceArray` is a result that stays on its device. It offers the CUDA array interface and DLPack, so that
torch, cupy, jax and others use it where it is. What it holds is complete when the call that made it returns.

Coming in: `view_of` makes a `DeviceView` of any object with one of the two protocols whose memory is on the device.
Both say on which of the producer's streams the memory is still being written, and ours waits for that.
"""

from __future__ import annotations

import ctypes
import math
from typing import Any

import numpy as np

from staticgraph.compiler.program import InputSpec
from staticgraph.errors import ArgumentError, DeviceError, DTypeError, ShapeError, message
from staticgraph.types import TensorType

from ..convert import Array, describe_input
from ..memory import address_of
from .device import Device
from .driver import DriverError
from .memory import Lease, pool_of

ALIGNMENT = 16
"""Bytes: kernels read and write as many at once."""

CPU, CUDA, MANAGED = 1, 2, 13
"""Kinds of device in DLPack. Managed memory can be used by every GPU."""

LEGACY_STREAM = 1

DEVICE_ORDINAL = 9
"""The attribute of a pointer that says which device its memory belongs to."""


class DeviceArray:
    """An array on a device: `shape`, `dtype`, `device` ("cuda:0"). `.numpy()` copies it to the host. Its memory is
    used again once it and everything made from it is dropped."""

    def __init__(self, device: Device, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        self.shape = shape
        self.dtype = dtype
        self.nbytes = math.prod(shape) * dtype.itemsize
        self._device = device
        self._memory = Lease(pool_of(device), self.nbytes, "a result")
        self.address = self._memory.address

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def size(self) -> int:
        return self.nbytes // self.dtype.itemsize

    @property
    def device(self) -> str:
        return f"cuda:{self._device.index}"

    def numpy(self) -> Array:
        """A copy as a NumPy array."""
        array = np.empty(self.shape, self.dtype)
        with self._device as device:
            stream = device.transfers()
            if self.nbytes:
                device.call("cuMemcpyDtoHAsync_v2", address_of(array), self.address, self.nbytes, stream.handle)
            stream.synchronize()
        return array

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        self._memory.shared = True
        return {"shape": self.shape, "typestr": self.dtype.str, "data": (self.address if self.nbytes else 0, False),
                "version": 3, "strides": None, "stream": None}

    def __dlpack_device__(self) -> tuple[int, int]:
        return CUDA, self._device.index

    def __dlpack__(self, *, stream: int | None = None, max_version: tuple[int, int] | None = None,
                   dl_device: tuple[int, int] | None = None, copy: bool | None = None) -> Any:
        """A capsule for ``from_dlpack`` of other libraries. There is nothing that their stream would have to wait
        for."""
        if dl_device is not None and tuple(dl_device) != self.__dlpack_device__():
            raise BufferError(f"this array is on {self.device}; use .numpy() to bring it to the host")
        if copy:
            raise BufferError("this array is handed over without a copy")
        self._memory.shared = True
        return make_capsule(self)

    def __len__(self) -> int:
        if not self.shape:
            raise TypeError("len() of an array without dimensions")
        return self.shape[0]

    def __repr__(self) -> str:
        return f"<DeviceArray {TensorType(self.dtype, self.shape)} on {self.device}>"


class DeviceView:
    """Memory on the device that belongs to the caller. `stream` is the one of the producer's to wait for, or None.
    `way` is how it reaches kernels: "device" as it is, "copied" where its alignment does not allow that."""

    __slots__ = ("address", "dtype", "ndim", "owner", "shape", "stream", "way")

    def __init__(self, address: int, shape: tuple[int, ...], dtype: np.dtype[Any], stream: int | None,
                 owner: object) -> None:
        self.address = address
        self.shape = shape
        self.ndim = len(shape)
        self.dtype = dtype
        self.stream = stream
        self.owner = owner
        self.way = "copied" if address % ALIGNMENT else "device"


def view_of(value: object, spec: InputSpec, dtype: np.dtype[Any], device: Device) -> DeviceView | None:
    """The value as memory on the device; None where it is no array of a device. The context is current."""
    if type(value) is DeviceArray and value._device is device:
        view = DeviceView(value.address, value.shape, value.dtype, None, value)
    elif (interface := _interface_of(value, spec)) is not None:
        if interface.get("version", 0) < 3 and hasattr(value, "__dlpack_device__"):
            view = _from_dlpack(value, spec, device)     # which knows of streams, as the older interface does not
        else:
            view = _from_interface(value, interface, spec, device)
    elif hasattr(value, "__dlpack_device__") and value.__dlpack_device__()[0] in (CUDA, MANAGED):
        view = _from_dlpack(value, spec, device)
    else:
        return None
    if view.dtype != dtype:
        raise DTypeError(message(f"input '{spec.name}' is an array of {view.dtype} on the device, needed {dtype}",
                                 [describe_input(spec)], "convert it there first: nothing is copied"))
    return view


def _interface_of(value: object, spec: InputSpec) -> dict[str, Any] | None:
    try:
        return getattr(value, "__cuda_array_interface__", None)
    except Exception as error:     # whatever the producer raises, say torch of a tensor that requires gradients
        raise _refuse_use(spec, "__cuda_array_interface__", error) from error


def _refuse_use(spec: InputSpec, protocol: str, error: Exception) -> ArgumentError:
    return ArgumentError(message(f"input '{spec.name}' cannot be used where it is", [describe_input(spec)],
                                 f"its {protocol} says: {error}"))


def _refuse_device(spec: InputSpec, where: str, device: Device) -> DeviceError:
    return DeviceError(message(f"input '{spec.name}' is on {where}, the program on cuda:{device.index}",
                               [describe_input(spec)], "move it there first, or pass it as a NumPy array"))


def _refuse_strides(spec: InputSpec, strides: object) -> ShapeError:
    return ShapeError(message(f"input '{spec.name}' is an array on the device that is not contiguous",
                              [describe_input(spec)], f"got strides {strides}; make it contiguous there first"))


def _is_contiguous(shape: tuple[int, ...], strides: tuple[int, ...], unit: int) -> bool:
    """Whether the strides, in units of an element's, are those of row-major order; those of a size of 1 are free."""
    if 0 in shape:
        return True
    for size, stride in zip(reversed(shape), reversed(strides)):
        if size != 1 and stride != unit:
            return False
        unit *= size
    return True


def _from_interface(value: object, interface: dict[str, Any], spec: InputSpec, device: Device) -> DeviceView:
    dtype, shape = np.dtype(interface["typestr"]), tuple(int(size) for size in interface["shape"])
    if interface.get("mask") is not None:
        raise ArgumentError(message(f"input '{spec.name}' is a masked array", [describe_input(spec)]))
    strides = interface.get("strides")
    if strides is not None and not _is_contiguous(shape, tuple(strides), dtype.itemsize):
        raise _refuse_strides(spec, tuple(strides))
    address = int(interface["data"][0] or 0)
    if address and 0 not in shape:
        _check_ordinal(address, spec, device)
    stream = interface.get("stream") if interface.get("version", 0) >= 3 else LEGACY_STREAM
    return DeviceView(address, shape, dtype, stream, value)


def _check_ordinal(address: int, spec: InputSpec, device: Device) -> None:
    ordinal = ctypes.c_int(-1)
    try:
        device.call("cuPointerGetAttribute", ctypes.addressof(ordinal), DEVICE_ORDINAL, address)
    except DriverError as error:
        raise ArgumentError(message(f"input '{spec.name}' does not point to memory of a CUDA device",
                                    [describe_input(spec)], str(error))) from None
    if ordinal.value != device.index:
        raise _refuse_device(spec, f"cuda:{ordinal.value}", device)


# DLPack: https://dmlc.github.io/dlpack, the structures of version 0.8, which all libraries give unless asked for more.

class DLTensor(ctypes.Structure):
    """What is where."""

    _fields_ = [("data", ctypes.c_void_p), ("device_kind", ctypes.c_int32), ("device_number", ctypes.c_int32),
                ("ndim", ctypes.c_int32), ("code", ctypes.c_uint8), ("bits", ctypes.c_uint8),
                ("lanes", ctypes.c_uint16), ("shape", ctypes.POINTER(ctypes.c_int64)),
                ("strides", ctypes.POINTER(ctypes.c_int64)), ("byte_offset", ctypes.c_uint64)]


class DLManagedTensor(ctypes.Structure):
    """The same with what the consumer calls when it is done."""


Deleter = ctypes.CFUNCTYPE(None, ctypes.POINTER(DLManagedTensor))
DLManagedTensor._fields_ = [("tensor", DLTensor), ("context", ctypes.c_void_p), ("deleter", Deleter)]

KINDS = {"i": 0, "u": 1, "f": 2, "b": 6}
"""DLPack's type codes by NumPy's kinds."""

CAPSULE = b"dltensor"

_api = ctypes.pythonapi
_get_pointer = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.py_object, ctypes.c_char_p)(("PyCapsule_GetPointer", _api))
_is_valid = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_char_p)(("PyCapsule_IsValid", _api))
_peek_pointer = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p, ctypes.c_char_p)(("PyCapsule_GetPointer", _api))
_new_capsule = ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p)(
    ("PyCapsule_New", _api))


def _from_dlpack(value: Any, spec: InputSpec, device: Device) -> DeviceView:
    kind, number = value.__dlpack_device__()
    if kind not in (CUDA, MANAGED) or (kind == CUDA and number != device.index):
        raise _refuse_device(spec, f"cuda:{number}" if kind == CUDA else f"a device of another kind ({kind})", device)
    stream = device.transfers().handle
    try:
        capsule = value.__dlpack__(stream=stream)
        pointer = _get_pointer(capsule, CAPSULE)
    except Exception as error:     # whatever the producer raises
        raise _refuse_use(spec, "__dlpack__", error) from error
    tensor = DLManagedTensor.from_address(pointer).tensor
    kinds = {code: kind for kind, code in KINDS.items()}
    if tensor.code not in kinds or tensor.lanes != 1 or tensor.bits % 8:
        raise DTypeError(message(f"input '{spec.name}' is of a type without a counterpart here (DLPack's code "
                                 f"{tensor.code} with {tensor.bits} bits)", [describe_input(spec)]))
    dtype = np.dtype(f"{kinds[tensor.code]}{tensor.bits // 8}")
    shape = tuple(tensor.shape[:tensor.ndim])
    if tensor.strides:
        strides = tuple(tensor.strides[:tensor.ndim])
        if not _is_contiguous(shape, strides, 1):
            raise _refuse_strides(spec, strides)
    # The capsule stays what it is, and calls the deleter itself when it is dropped after the call.
    return DeviceView((tensor.data or 0) + tensor.byte_offset, shape, dtype, stream, (capsule, value))


class _Exported:
    """An array in the hands of somebody else, and the structure that describes it to them."""

    def __init__(self, array: DeviceArray) -> None:
        self.array = array
        self.shape = (ctypes.c_int64 * max(array.ndim, 1))(*array.shape)
        self.strides = (ctypes.c_int64 * max(array.ndim, 1))()
        step = 1
        for axis in reversed(range(array.ndim)):
            self.strides[axis] = step
            step *= max(array.shape[axis], 1)
        kind, number = array.__dlpack_device__()
        pointer = ctypes.POINTER(ctypes.c_int64)
        self.managed = DLManagedTensor(DLTensor(
            array.address if array.nbytes else None, kind, number, array.ndim, KINDS[array.dtype.kind],
            8 * array.dtype.itemsize, 1, ctypes.cast(self.shape, pointer), ctypes.cast(self.strides, pointer), 0),
            None, _delete)


_exported: dict[int, _Exported] = {}
"""By address, what others have a capsule of."""


def make_capsule(array: DeviceArray) -> Any:
    """A DLPack capsule, which keeps the array alive until its consumer is done."""
    exported = _Exported(array)
    address = ctypes.addressof(exported.managed)
    _exported[address] = exported
    return _new_capsule(address, CAPSULE, _destroy_pointer)


@Deleter
def _delete(managed: Any) -> None:
    _exported.pop(ctypes.addressof(managed.contents), None)


@ctypes.PYFUNCTYPE(None, ctypes.c_void_p)
def _destroy(capsule: int) -> None:
    """A capsule that goes unused; consumers give theirs another name."""
    if _is_valid(capsule, CAPSULE):
        _exported.pop(_peek_pointer(capsule, CAPSULE), None)


_destroy_pointer = ctypes.cast(_destroy, ctypes.c_void_p)
