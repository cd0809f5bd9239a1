"""Arrays on the device, in and out without a copy, by both protocols."""

from __future__ import annotations

import ctypes
import gc
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from staticgraph.errors import ArgumentError, DeviceError, DTypeError, OutOfRangeError, ShapeError, StaticGraphError
from staticgraph.runtime.cuda import exchange
from staticgraph.runtime.cuda.exchange import DeviceArray, DLManagedTensor
from staticgraph.runtime.cuda.memory import pool_of
from staticgraph.runtime.executable import Executable, load
from tests.runtime.programs import BATCH, add_one_program, chain_program, pick_and_update_program

from .fake_driver import FakeDriver
from .programs import device, on_cuda, state
from .test_executable import Library, library, many_results, ramp  # noqa: F401  (a fixture)


def upload(gpu: FakeDriver, values: Any, index: int = 0, offset: int = 0) -> tuple[int, np.ndarray[Any, Any]]:
    """Foreign memory on a device, its address shifted by some bytes."""
    array = np.ascontiguousarray(values)
    start = gpu.gpus[index].memory.allocate(array.nbytes + 64)
    address = start + offset
    gpu.gpus[index].memory.write(address, array)
    gpu.owners[address] = index
    gpu.foreign.append((index, start))
    return address, array


class Interface:
    """Somebody's array with the CUDA array interface."""

    def __init__(self, gpu: FakeDriver, values: Any, index: int = 0, offset: int = 0, **changes: Any) -> None:
        self.address, array = upload(gpu, values, index, offset)
        self.__cuda_array_interface__ = {
            "shape": array.shape, "typestr": array.dtype.str, "data": (self.address, False), "version": 3,
            "strides": None, "stream": None, **changes}


class Exporter:
    """Somebody's array with DLPack and nothing else."""

    def __init__(self, gpu: FakeDriver, values: Any, index: int = 0, offset: int = 0,
                 strides: tuple[int, ...] | None = None, kind: int = 2, code: int | None = None) -> None:
        self.address, self.array = upload(gpu, values, index, offset)
        self.kind, self.index, self.strides, self.code = kind, index, strides, code
        self.streams: list[int | None] = []
        self.deleted = 0
        self._kept: list[Any] = []

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.kind, self.index

    def __dlpack__(self, *, stream: int | None = None) -> Any:
        self.streams.append(stream)
        array = self.array
        shape = (ctypes.c_int64 * max(array.ndim, 1))(*array.shape)
        strides = None if self.strides is None else (ctypes.c_int64 * len(self.strides))(*self.strides)
        code = exchange.KINDS[array.dtype.kind] if self.code is None else self.code

        def delete(pointer: Any) -> None:
            self.deleted += 1

        managed = DLManagedTensor(exchange.DLTensor(
            self.address - 8, self.kind, self.index, array.ndim, code, 8 * array.dtype.itemsize, 1,
            ctypes.cast(shape, ctypes.POINTER(ctypes.c_int64)), ctypes.cast(strides, ctypes.POINTER(ctypes.c_int64)),
            8), None, exchange.Deleter(delete))
        destroy = ctypes.PYFUNCTYPE(None, ctypes.c_void_p)(lambda capsule: managed.deleter(ctypes.byref(managed)))
        self._kept.append((shape, strides, managed, destroy))
        return exchange._new_capsule(ctypes.addressof(managed), b"dltensor", ctypes.cast(destroy, ctypes.c_void_p))


FORMS = [Interface, Exporter]


def adder() -> Executable:
    return load(on_cuda(add_one_program((BATCH, 3))))


def table(rows: int) -> np.ndarray[Any, Any]:
    return np.arange(rows * 3, dtype="float32").reshape(rows, 3)


@pytest.mark.parametrize("form", FORMS)
def test_an_array_of_the_device_is_read_where_it_is(gpu: FakeDriver, form: Any) -> None:
    add_one = adder()
    given = form(gpu, table(4))
    assert np.array_equal(add_one(given), table(4) + 1)
    assert gpu.launched[-1][3][0] == given.address and gpu.count("cuMemcpyHtoDAsync_v2") == 0
    gpu.calls.clear()
    assert np.array_equal(add_one(x=given), table(4) + 1)
    assert not {"cuMemcpyHtoDAsync_v2", "cuMemcpyDtoDAsync_v2", "cuStreamBeginCapture_v2",
                "cuGraphExecKernelNodeSetParams"} & set(gpu.names())


@pytest.mark.parametrize("form", FORMS)
def test_another_address_moves_the_graph(gpu: FakeDriver, form: Any) -> None:
    add_one = adder()
    arrays = [form(gpu, table(4) * number) for number in range(3)]
    add_one(arrays[0])
    gpu.calls.clear()
    for number in (1, 2, 0, 0):
        assert np.array_equal(add_one(arrays[number]), table(4) * number + 1)
        assert gpu.launched[-1][3][0] == arrays[number].address
    assert gpu.count("cuGraphExecKernelNodeSetParams") == 3 and gpu.count("cuStreamBeginCapture_v2") == 0


def test_only_launches_that_read_the_array_are_moved(gpu: FakeDriver) -> None:
    executable = load(on_cuda(chain_program(5)))
    for number in range(3):
        assert np.array_equal(executable(Interface(gpu, ramp(7) * number)), ramp(7) * number + 5)
    assert gpu.count("cuGraphExecKernelNodeSetParams") == 2 and gpu.count("cuStreamBeginCapture_v2") == 1


def test_a_move_that_fails_is_made_good(gpu: FakeDriver) -> None:
    add_one = adder()
    arrays = [Interface(gpu, table(4) * number) for number in range(3)]
    add_one(arrays[0])
    gpu.fail("cuGraphExecKernelNodeSetParams", 999)
    with pytest.raises(DeviceError, match="cuGraphExecKernelNodeSetParams failed"):
        add_one(arrays[1])
    for number in (0, 1, 2):
        assert np.array_equal(add_one(arrays[number]), table(4) * number + 1)


def test_host_and_device_arrays_take_turns(gpu: FakeDriver) -> None:
    add_one = adder()
    given = Interface(gpu, table(4))
    for turn in range(3):
        assert np.array_equal(add_one(given), table(4) + 1)
        assert np.array_equal(add_one(table(4) * turn), table(4) * turn + 1)
    assert gpu.count("cuStreamBeginCapture_v2") == 3     # that for the device twice: the arena moved once


@pytest.mark.parametrize("form", FORMS)
def test_a_misaligned_array_is_copied_on_the_device(gpu: FakeDriver, form: Any) -> None:
    add_one = adder()
    for number in range(3):
        given = form(gpu, table(4) * number, offset=4)
        assert np.array_equal(add_one(given), table(4) * number + 1)
        assert gpu.launched[-1][3][0] % 256 == 0
    assert gpu.count("cuMemcpyDtoDAsync_v2") == 3 and gpu.count("cuStreamBeginCapture_v2") == 1


@pytest.mark.parametrize(("form", "strides"), [(Interface, (4, 16)), (Exporter, (1, 4))])
def test_a_strided_array_is_refused(gpu: FakeDriver, form: Any, strides: tuple[int, ...]) -> None:
    add_one = adder()
    with pytest.raises(ShapeError) as caught:
        add_one(form(gpu, table(4), strides=strides))
    assert str(caught.value) == (
        "input 'x' is an array on the device that is not contiguous\n  x: float32[batch, 3]   model.py:3\n"
        f"  got strides {strides}; make it contiguous there first")


@pytest.mark.parametrize(("form", "strides"), [(Interface, (12, 4)), (Interface, (99, 4)), (Exporter, (3, 1)),
                                               (Exporter, (99, 1))])
def test_contiguous_strides_are_fine(gpu: FakeDriver, form: Any, strides: tuple[int, ...]) -> None:
    add_one = adder()
    rows = 1 if 99 in strides else 4     # the stride of a single row does not matter
    assert np.array_equal(add_one(form(gpu, table(rows), strides=strides)), table(rows) + 1)


@pytest.mark.parametrize("form", FORMS)
def test_dtypes_and_shapes_must_fit(gpu: FakeDriver, form: Any) -> None:
    add_one = adder()
    with pytest.raises(DTypeError) as caught:
        add_one(form(gpu, table(4).astype("float64")))
    assert str(caught.value) == (
        "input 'x' is an array of float64 on the device, needed float32\n  x: float32[batch, 3]   model.py:3\n"
        "  convert it there first: nothing is copied")
    with pytest.raises(ShapeError, match=r"dimension 1 is 4, expected 3\n.*\n  got float32\[3, 4\]"):
        add_one(form(gpu, table(4).reshape(3, 4)))
    with pytest.raises(ShapeError, match="rank is 1, expected 2"):
        add_one(form(gpu, ramp(3)))
    assert np.array_equal(add_one(form(gpu, table(2))), table(2) + 1)


@pytest.mark.parametrize("form", FORMS)
def test_arrays_of_another_device_are_refused(gpus: FakeDriver, form: Any) -> None:
    executable = load(on_cuda(add_one_program((BATCH, 3))), (), 1)
    assert np.array_equal(executable(form(gpus, table(2), index=1)), table(2) + 1)
    with pytest.raises(DeviceError, match="input 'x' is on cuda:0, the program on cuda:1"):
        executable(form(gpus, table(2), index=0))


def test_memory_that_is_no_device_memory_is_refused(gpu: FakeDriver) -> None:
    add_one = adder()
    given = Interface(gpu, table(2))
    given.__cuda_array_interface__["data"] = (12345 * 16, False)
    with pytest.raises(ArgumentError, match="does not point to memory of a CUDA device"):
        add_one(given)


@pytest.mark.parametrize("form", FORMS)
def test_empty_arrays_of_the_device(gpu: FakeDriver, form: Any) -> None:
    add_one = adder()
    assert add_one(form(gpu, table(0))).shape == (0, 3)


@pytest.mark.parametrize("dtype", ["bool", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64",
                                   "float32", "float64"])
@pytest.mark.parametrize("form", FORMS)
def test_every_dtype_is_understood(gpu: FakeDriver, form: Any, dtype: str) -> None:
    program = on_cuda(add_one_program((BATCH,)))
    program = replace(program, inputs=(replace(program.inputs[0], dtype=dtype),), steps=())
    load(program)(form(gpu, np.ones(3, dtype)))


def test_types_without_a_counterpart_are_refused(gpu: FakeDriver) -> None:
    add_one = adder()
    with pytest.raises(DTypeError, match=r"a type without a counterpart here .DLPack's code 4 with 32 bits"):
        add_one(Exporter(gpu, table(2), code=4))     # bfloat16 is 4


def test_the_stream_of_the_producer_is_waited_for(gpu: FakeDriver) -> None:
    add_one = adder()
    add_one(Interface(gpu, table(2)))
    for stream, version, waited in ((None, 3, None), (1, 3, 1), (2, 3, 2), (1, 2, 1)):
        gpu.calls.clear()
        add_one(Interface(gpu, table(2), stream=stream, version=version))
        recorded = [arguments[1] for name, arguments in gpu.calls if name == "cuEventRecord"]
        assert recorded == ([] if waited is None else [waited])
        if waited:
            names = gpu.names()
            assert names.index("cuEventRecord") < names.index("cuStreamWaitEvent") < names.index("cuGraphLaunch")


def test_work_that_the_producer_has_not_done_yet_is_seen(gpu: FakeDriver) -> None:
    add_one = adder()
    given = Interface(gpu, table(2), stream=1)
    gpu.streams[1].queue.append(lambda: gpu.gpus[0].memory.write(given.address, table(2) * 9))
    assert np.array_equal(add_one(given), table(2) * 9 + 1)


def test_dlpack_is_told_a_stream_of_ours(gpu: FakeDriver) -> None:
    add_one = adder()
    given = Exporter(gpu, table(2))
    add_one(given)
    stream = given.streams[0]
    assert stream in gpu.streams and stream == device().transfers().handle
    assert ("cuEventRecord", stream) in [(name, arguments[-1]) for name, arguments in gpu.calls]
    gpu.streams[stream].queue.append(lambda: gpu.gpus[0].memory.write(given.address, table(2) * 9))
    assert np.array_equal(add_one(given), table(2) * 9 + 1)
    gc.collect()
    assert given.deleted == 2     # each capsule is done with when its call is


def test_dlpack_is_asked_where_the_interface_knows_no_streams(gpu: FakeDriver) -> None:
    add_one = adder()
    class Both(Exporter):
        @property
        def __cuda_array_interface__(self) -> dict[str, Any]:
            return {"shape": (2, 3), "typestr": "<f4", "data": (self.address, False), "version": 2}

    given = Both(gpu, table(2))
    assert np.array_equal(add_one(given), table(2) + 1) and len(given.streams) == 1


def test_an_exporter_that_refuses_is_quoted(gpu: FakeDriver) -> None:
    add_one = adder()
    class Refusing(Exporter):
        def __dlpack__(self, *, stream: int | None = None) -> Any:
            raise BufferError("I require gradients")

    with pytest.raises(ArgumentError, match=r"cannot be used where it is\n.*\n  its __dlpack__ says: I require grad"):
        add_one(Refusing(gpu, table(2)))


def test_arrays_of_the_host_with_dlpack_are_taken_as_such(gpu: FakeDriver) -> None:
    add_one = adder()
    class Host:
        def __dlpack_device__(self) -> tuple[int, int]:
            return 1, 0

        def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray[Any, Any]:
            return table(2)

    assert np.array_equal(add_one(Host()), table(2) + 1)


def test_a_program_that_hands_an_input_through(gpu: FakeDriver) -> None:
    """The address of the array is in copies of the graph: each address has a graph, some of which are kept."""
    program = on_cuda(add_one_program((BATCH,)))
    program = replace(program, outputs=(replace(program.outputs[0], buffer=0), program.outputs[0]),
                      structure=("list", 2),
                      buffers=(program.buffers[0], replace(program.buffers[1], index=1)))
    executable = load(program)
    arrays = [Interface(gpu, ramp(5) * number) for number in range(12)]
    for _ in range(2):
        for number, given in enumerate(arrays):
            same, more = executable(given)
            assert np.array_equal(same, ramp(5) * number) and np.array_equal(more, same + 1)
    assert len(gpu.executables) == 8
    captured = gpu.count("cuStreamBeginCapture_v2")
    executable(arrays[-1])
    executable(arrays[-2])
    assert gpu.count("cuStreamBeginCapture_v2") == captured


def test_launches_of_a_library_are_captured_for_each_address(gpu: FakeDriver, library: Any) -> None:     # noqa: F811
    executable = library()
    arrays = [Interface(gpu, ramp(5) * number) for number in range(3)]
    for number in (0, 1, 2, 0, 1, 2):
        assert np.array_equal(executable(arrays[number]), ramp(5) * number)
    assert gpu.count("cuStreamBeginCapture_v2") == 3
    Library.made.clear()


# Results that stay on the device.

def staying() -> Executable:
    return load(on_cuda(chain_program(2)), results="device")


def test_results_may_stay_on_the_device(gpu: FakeDriver) -> None:
    stays = staying()
    result = stays(ramp(5))
    assert isinstance(result, DeviceArray)
    assert (result.shape, result.dtype, result.ndim, result.size, result.nbytes, len(result), result.device) == (
        (5,), np.dtype("float32"), 1, 5, 20, 5, "cuda:0")
    assert repr(result) == "<DeviceArray float32[5] on cuda:0>"
    assert gpu.count("cuMemcpyDtoHAsync_v2") == 0
    assert np.array_equal(result.numpy(), ramp(5) + 2)
    kept = result.numpy()
    stays(ramp(5) * 2)
    assert np.array_equal(result.numpy(), kept) and result.numpy().flags.owndata


def test_results_go_back_in_without_a_copy(gpu: FakeDriver) -> None:
    stays = staying()
    value = stays(ramp(5))
    for turn in range(4):
        address = value.address
        value = stays(value)
        assert gpu.launched[-2][3][0] == address and gpu.launched[-1][3][1] == value.address
        assert np.array_equal(value.numpy(), ramp(5) + 4 + 2 * turn)
    assert gpu.count("cuStreamBeginCapture_v2") == 2     # one for arrays of the host, one for those of the device


def test_dropped_results_serve_again(gpu: FakeDriver) -> None:
    stays = staying()
    first = stays(ramp(5)).address
    gpu.calls.clear()
    for _ in range(5):
        assert stays(ramp(5)).address == first
    assert gpu.count("cuMemAlloc_v2") == gpu.count("cuCtxSynchronize") == 0
    kept = stays(ramp(5))
    assert stays(ramp(5)).address != kept.address
    assert stays(ramp(500)).address != first


def test_memory_that_others_have_seen_is_not_reused_before_they_are_done(gpu: FakeDriver) -> None:
    stays = staying()
    result = stays(ramp(5))
    result.__cuda_array_interface__
    del result
    gpu.calls.clear()
    stays(ramp(5))
    assert gpu.names().index("cuCtxSynchronize") < gpu.names().index("cuGraphLaunch")


def test_the_pool_gives_way_when_memory_runs_out(gpu: FakeDriver) -> None:
    stays = staying()
    executable = load(on_cuda(add_one_program((BATCH,))), results="device")
    x = Interface(gpu, ramp(50_000))
    stays(ramp(5)), executable(Interface(gpu, ramp(40_000)))
    gpu.gpus[0].total -= gpu.gpus[0].free() - 100_000
    assert np.array_equal(executable(x).numpy(), ramp(50_000) + 1)


def test_the_pool_keeps_no_more_than_its_share(gpu: FakeDriver) -> None:
    pool = pool_of(device())
    pool._limit = 1000
    with device():
        places = [pool.take(300, "a result") for _ in range(3)]
    for address, size in places:
        assert size == 512
        pool.give(address, size, False)
    assert pool.trim() == 512


def test_all_kinds_of_results_on_the_device(gpu: FakeDriver) -> None:
    executable, storage = many_results("device")
    for start in (1, 5, 6):
        old, x = storage.read(), ramp(3) + start
        results = executable(x)
        for result, wanted in zip(results, [x, ramp(3) * 2 + 1, old, x + 1, x + 2, x + 2], strict=True):
            assert np.array_equal(result.numpy(), wanted)
        assert len({each.address for each in results}) == 6
        assert np.array_equal(storage.read(), x + 1)


def test_a_failed_check_with_results_on_the_device(gpu: FakeDriver) -> None:
    storage = state(np.zeros(4))
    executable = load(on_cuda(pick_and_update_program()), [storage], results="device")
    assert np.array_equal(executable([5, 6, 7], [2, 0]).numpy(), [7, 5])
    with pytest.raises(OutOfRangeError):
        executable([5, 6, 7], [3])
    assert np.array_equal(storage.read(), np.ones(4))


def test_a_result_as_cuda_array_interface(gpu: FakeDriver) -> None:
    stays = staying()
    result = stays(ramp(5))
    assert result.__cuda_array_interface__ == {
        "shape": (5,), "typestr": "<f4", "data": (result.address, False), "version": 3, "strides": None,
        "stream": None}
    assert stays(ramp(0)).__cuda_array_interface__["data"] == (0, False)
    assert stays(ramp(0)).numpy().shape == (0,)


class Rewrapped:
    """A DLPack consumer that hands on what it got, under no other protocol."""

    def __init__(self, array: DeviceArray) -> None:
        self.array = array

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.array.__dlpack_device__()

    def __dlpack__(self, *, stream: int | None = None) -> Any:
        return self.array.__dlpack__(stream=stream)


def test_a_result_by_dlpack(gpu: FakeDriver) -> None:
    stays = staying()
    result = stays(ramp(5))
    assert result.__dlpack_device__() == (2, 0)
    assert np.array_equal(stays(Rewrapped(result)).numpy(), ramp(5) + 4)
    assert gpu.launched[-2][3][0] == result.address
    with pytest.raises(BufferError, match=r"is on cuda:0; use .numpy"):
        result.__dlpack__(dl_device=(1, 0))
    with pytest.raises(BufferError, match="handed over without a copy"):
        result.__dlpack__(copy=True)


def test_a_capsule_keeps_its_array_until_it_is_done_with(gpu: FakeDriver) -> None:
    stays = staying()
    known = len(exchange._exported)
    for consumed in (False, True):
        result = stays(ramp(5))
        capsule = result.__dlpack__()
        address = result.address
        del result
        gc.collect()
        assert len(exchange._exported) == known + 1 and stays(ramp(5)).address != address
        if consumed:     # as numpy, torch and others do: another name, and the deleter when they are done
            pointer = exchange._get_pointer(capsule, b"dltensor")
            rename = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.py_object, ctypes.c_char_p)(
                ("PyCapsule_SetName", ctypes.pythonapi))
            name = b"used_dltensor"
            assert rename(capsule, name) == 0
            del capsule
            assert len(exchange._exported) == known + 1
            managed = DLManagedTensor.from_address(pointer)
            managed.deleter(ctypes.byref(managed))
        else:
            del capsule
        assert len(exchange._exported) == known


def test_the_cpu_says_what_to_do_with_an_array_of_the_device(gpu: FakeDriver) -> None:
    stays = staying()
    here = load(add_one_program((BATCH,)))
    result = stays(ramp(3))
    with pytest.raises(StaticGraphError, match=r"input 'x' is on a GPU.*\n.*\n  needed an array of the host"):
        here(result)
    assert np.array_equal(here(result.numpy()), ramp(3) + 3)
