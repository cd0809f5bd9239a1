"""Matrix products by cuBLASLt: which products it is given, what comes out, and what happens where it cannot do it.

The library is the fake one, which really computes. Values are small integers, so that products are exact and equal to
NumPy's whatever the order of sums.
"""

from __future__ import annotations

import ctypes
import gc
import itertools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest

import staticgraph as sg
from staticgraph.compiler.program import Argument, InputSpec, Kernel, Launch, OutputSpec, Program, Step
from staticgraph.errors import DeviceError, OutOfMemoryError, VerificationError
from staticgraph.runtime.cuda import cublaslt, matmul
from staticgraph.runtime.cuda.driver import set_library
from staticgraph.runtime.cuda.memory import WORKSPACE_BYTES
from staticgraph.runtime.executable import Executable, load
from staticgraph.types import Dim
from tests.runtime.programs import buffer, make

from . import needs_compiler
from .fake_cublaslt import (
    ALLOC_FAILED,
    ARCH_MISMATCH,
    EXECUTION_FAILED,
    INTERNAL_ERROR,
    INVALID_VALUE,
    NOT_INITIALIZED,
    NOT_SUPPORTED,
    FakeCublasLt,
    rounded_to_tf32,
)
from .fake_driver import OUT_OF_MEMORY, FakeDriver
from .programs import device
from .test_exchange import Interface

Array = np.ndarray[Any, Any]
M, K, N = 3, 4, 5
BATCH = Dim.symbol("batch")


def own_kernel(memory: Any, values: Sequence[int], dtype: str, bias: int | None, function: str) -> None:
    """What the text of the kernel does."""
    a, b, c, batch, m, n, k = values[:7]
    size = np.dtype(dtype).itemsize
    for item, i, j in itertools.product(range(batch), range(m), range(n)):
        total = memory.read(bias + j * size, dtype, ())[()] if bias is not None else np.dtype(dtype).type(0)
        for p in range(k):
            left = memory.read(a + (item * values[7] + i * values[8] + p * values[9]) * size, dtype, ())[()]
            total += left * memory.read(b + (item * values[10] + p * values[11] + j * values[12]) * size, dtype, ())[()]
        if function == "relu":
            total = np.maximum(total, 0)
        memory.write(c + ((item * m + i) * n + j) * size, np.asarray(total, dtype))


def plain_kernel(dtype: str, function: str) -> Any:
    def run(memory: Any, blocks: int, threads: int, a0: int, a1: int, a2: int, a3: int, a4: int, a5: int, a6: int,
            a7: int, a8: int, a9: int, a10: int, a11: int, a12: int, stop: int) -> None:
        own_kernel(memory, (a0, a1, a2, a3, a4, a5, a6, a7, a8, a9, a10, a11, a12), dtype, None, function)

    return run


def bias_kernel(dtype: str, function: str) -> Any:
    def run(memory: Any, blocks: int, threads: int, a0: int, a1: int, a2: int, a3: int, a4: int, a5: int, a6: int,
            a7: int, a8: int, a9: int, a10: int, a11: int, a12: int, a13: int, stop: int) -> None:
        own_kernel(memory, (a0, a1, a2, a3, a4, a5, a6, a7, a8, a9, a10, a11, a12), dtype, a13, function)

    return run


def library_kernel(words: str, dtype: str = "float32") -> Kernel:
    epilogue = [word for word in words.split(":")[1:] if word != "tf32"]
    name = "_".join(("matmul", dtype, *epilogue))
    return Kernel(name, name, f"def {name}(): ...", Launch(256, 1), words)


@pytest.fixture
def blas(gpu: FakeDriver) -> Iterator[FakeCublasLt]:
    """The library on the GPU of the fake driver. What descriptors were made must be destroyed at the end."""
    for dtype, function in itertools.product(("float32", "float64"), ("", "relu", "gelu")):
        tail = f"_{function}" if function else ""
        gpu.kernels[f"matmul_{dtype}{tail}"] = plain_kernel(dtype, function)
        gpu.kernels[f"matmul_{dtype}_bias{tail}"] = bias_kernel(dtype, function)
    fake = FakeCublasLt(gpu)
    cublaslt.set_library(fake)
    try:
        yield fake
        gc.collect()
        assert fake.descriptors == {}
        assert len(fake.handles) <= 1
    finally:
        cublaslt.set_library(None)


@dataclass(frozen=True)
class View:
    """Strides of a matrix in a flat input: of the batch, of rows and of columns, and where it begins."""

    batch: int
    row: int
    column: int
    start: int = 0

    def of(self, flat: Array, shape: tuple[int, int, int]) -> Array:
        strides = [each * flat.itemsize for each in (self.batch, self.row, self.column)]
        return np.lib.stride_tricks.as_strided(flat[self.start:], shape, strides)

    def fits(self, rows: int, columns: int, batch: int) -> bool:
        """Is there a way to say it to the library: one stride is 1, the other is at least the size of that axis? By
        looking at where the elements are."""
        places = self.row * np.arange(rows)[:, None] + self.column * np.arange(columns)
        by_rows = columns * 8 if rows == 1 else int(places[1, 0])
        by_columns = rows * 8 if columns == 1 else int(places[0, 1])
        said = ((by_rows, columns, by_rows * np.arange(rows)[:, None] + np.arange(columns)),
                (by_columns, rows, by_columns * np.arange(columns) + np.arange(rows)[:, None]))
        return (batch == 1 or self.batch >= 0) and any(
            leading >= least and np.array_equal(places, each) for leading, least, each in said)


def views(rows: int, columns: int) -> dict[str, View]:
    """Ways in which a matrix may lie in memory, 100 elements apart within a batch or not at all."""
    return {
        "by rows": View(100, columns, 1), "by columns": View(100, 1, rows),
        "wide rows": View(100, columns + 3, 1, 2), "wide columns": View(100, 1, rows + 2, 1),
        "packed batch": View(rows * columns, columns, 1), "same for all": View(0, columns, 1),
        "same columns for all": View(0, 1, rows), "every second": View(100, 2 * columns, 2),
        "one row": View(100, 0, 1), "one column": View(100, 1, 0), "one element": View(0, 0, 0, 7),
        "overlapping": View(100, 1, 1), "windows": View(100, 2, 1), "reversed rows": View(100, -columns, 1, 60),
        "reversed columns": View(100, columns, -1, 30), "batch reversed": View(-100, columns, 1, 200)}


def product_program(a: View, b: View, words: str = "matmul", dtype: str = "float32", batch: Any = 1, m: Any = M,
                    n: Any = N, k: Any = K, length: int = 400) -> Program:
    """c = a @ b (+ bias) of flat inputs."""
    size = np.dtype(dtype).itemsize
    biased = "bias" in words.split(":")
    inputs = [InputSpec("a", dtype, (length,)), InputSpec("b", dtype, (length,))]
    buffers = [buffer("a", "input", (length,), 0, dtype), buffer("b", "input", (length,), 1, dtype),
               buffer("c", "output", (batch, m, n), 0, dtype)]
    arguments = [Argument("buffer", 0, a.start * size), Argument("buffer", 1, b.start * size), Argument("buffer", 2),
                 *(Argument("size", each) for each in (batch, m, n, k, a.batch, a.row, a.column, b.batch, b.row,
                                                       b.column))]
    if biased:
        inputs.append(InputSpec("bias", dtype, (n,)))
        buffers.append(buffer("bias", "input", (n,), 2, dtype))
        arguments.append(Argument("buffer", 3))
    return make(device="cuda", inputs=tuple(inputs), outputs=(OutputSpec(dtype, (batch, m, n), 2, "c"),),
                buffers=tuple(buffers), kernels=(library_kernel(words, dtype),),
                steps=(Step(0, tuple(arguments), batch * m * n, reads=(0, 1, *(3,) * biased),
                            writes=(2,)),))


def values(length: int = 400, dtype: str = "float32", seed: int = 0) -> Array:
    return np.random.default_rng(seed).integers(-4, 5, length).astype(dtype)


def simple(words: str = "matmul", **more: Any) -> Executable:
    return load(product_program(View(M * K, K, 1), View(K * N, N, 1), words, **more))


def check(executable: Any, a: Array, b: Array) -> None:
    result = executable(a, b)
    assert np.array_equal(result[0], a[:M * K].reshape(M, K) @ b[:K * N].reshape(K, N))


# Which products, and what comes out.

@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("name", views(M, K))
def test_all_strides(blas: FakeCublasLt, gpu: FakeDriver, name: str, batch: int) -> None:
    a, b, left = values(seed=1), values(seed=2), views(M, K)[name]
    for other, right in views(K, N).items():
        executable = load(product_program(left, right, batch=batch))
        blas.ran.clear()
        gpu.launched.clear()
        expected = left.of(a, (batch, M, K)) @ right.of(b, (batch, K, N))
        assert np.array_equal(executable(a, b), expected), other
        by_library = left.fits(M, K, batch) and right.fits(K, N, batch)
        assert bool(blas.ran) == by_library and bool(gpu.launched) != by_library, other
        wrong = "b" if left.fits(M, K, batch) else "a"
        assert ("cuBLASLt 13.10.0: float32, " if by_library else
                f"own kernel: cuBLASLt cannot express the strides of {wrong}, ") in executable.explain()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("m", "k", "n"), [(1, 1, 1), (1, 4, 5), (3, 1, 5), (3, 4, 1), (1, 4, 1), (1, 1, 5), (3, 1, 1)])
def test_axes_of_one_element(blas: FakeCublasLt, gpu: FakeDriver, m: int, k: int, n: int, dtype: str) -> None:
    """Their strides mean nothing, so they are no obstacle."""
    a, b = values(dtype=dtype, seed=1), values(dtype=dtype, seed=2)
    for batch, left, right in itertools.product(
            (1, 3), (View(100, 0 if m == 1 else k, -3 if k == 1 else 1, 9), View(100, 9, 1), View(100, 1, 9),
                    View(100, 2, -3, 9)),
            (View(100, -7 if k == 1 else n, 0 if n == 1 else 1), View(0, 6, 1), View(0, 1, 6))):
        blas.ran.clear()
        executable = load(product_program(left, right, batch=batch, m=m, k=k, n=n, dtype=dtype))
        assert np.array_equal(executable(a, b), left.of(a, (batch, m, k)) @ right.of(b, (batch, k, n)))
        assert bool(blas.ran) == (left.fits(m, k, batch) and right.fits(k, n, batch))
    assert blas.loaded


@pytest.mark.parametrize(("sizes", "launched"), [((0, M, N, K), 0), ((2, 0, N, K), 0), ((2, M, 0, K), 0),
                                                 ((2, M, N, 0), 1)])
def test_nothing_to_multiply(blas: FakeCublasLt, gpu: FakeDriver, sizes: tuple[int, ...], launched: int) -> None:
    batch, m, n, k = sizes
    program = product_program(View(M * K, K, 1), View(K * N, N, 1), "matmul:bias", batch=batch, m=m, n=n, k=k)
    executable, bias = load(program), np.arange(n, dtype="float32")
    assert np.array_equal(executable(values(), values(), bias), np.broadcast_to(bias, (batch, m, n)))
    assert not blas.ran and len(gpu.launched) == launched
    assert ("own kernel: there is nothing to add up" in executable.explain()) == bool(launched)


def test_rows_of_a_batch_are_one_matrix(blas: FakeCublasLt) -> None:
    """Where b is the same for all and a's rows follow each other."""
    a, b = values(seed=1), values(seed=2)
    one = [(View(M * K, K, 1), M), (View(M * 6, 6, 1), M), (View(K, 99, 1), 1), (View(M, 1, 40), M)]
    many = [(View(100, K, 1), M), (View(M, 1, 7), M), (View(0, K, 1), M)]
    for (left, m), count in [*((each, 1) for each in one), *((each, 3) for each in many)]:
        blas.ran.clear()
        result = load(product_program(left, View(0, N, 1), batch=3, m=m))(a, b)
        assert np.array_equal(result, left.of(a, (3, m, K)) @ View(0, N, 1).of(b, (3, K, N)))
        assert {operation.matrices[2].count for operation in blas.ran} == {count}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("function", ["", "relu", "gelu"])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("batch", [1, 2])
def test_epilogues(blas: FakeCublasLt, dtype: str, function: str, bias: bool, batch: int) -> None:
    words = ":".join(["matmul", *["bias"] * bias, *[function] * bool(function)])
    left, right = View(20, K, 1), View(30, 1, K)
    a, b, c = (values(dtype=dtype, seed=seed) / 4 for seed in (1, 2, 3))
    executable = load(product_program(left, right, words, dtype, batch))
    expected = left.of(a, (batch, M, K)) @ right.of(b, (batch, K, N)) + (c[:N] if bias else 0)
    if function == "relu":
        expected = np.maximum(expected, 0)
    elif function == "gelu":
        expected = 0.5 * expected * (1 + np.tanh(np.sqrt(2 / np.pi) * (expected + 0.044715 * expected**3)))
    result = executable(a, b, *[c[:N]] * bias)
    assert result.dtype == dtype and np.allclose(result, expected, rtol=1e-6 if dtype == "float32" else 1e-14)
    assert blas.ran and words.partition(":")[2].replace(":", " ") in executable.explain()


def test_tf32_only_when_asked_for(blas: FakeCublasLt) -> None:
    a, b = (np.random.default_rng(seed).standard_normal(400).astype("float32") for seed in (1, 2))
    left, right = (each[:12].astype("float64") for each in (a, b))
    exact = left.reshape(M, K) @ b[:K * N].astype("float64").reshape(K, N)
    strict, rough = simple()(a, b)[0], simple("matmul:tf32")(a, b)[0]
    assert np.allclose(strict, exact, rtol=1e-5) and not np.allclose(rough, exact, rtol=1e-5)
    rounded = rounded_to_tf32(a[:M * K]).reshape(M, K) @ rounded_to_tf32(b[:K * N]).reshape(K, N)
    assert np.array_equal(rough, rounded)
    assert right.size and {operation.compute for operation in blas.ran} == {68, 77}
    assert [operation.compute for operation in blas.ran][:2] == [68, 68]


def test_tf32_means_nothing_to_float64(blas: FakeCublasLt) -> None:
    simple("matmul:tf32", dtype="float64")(values(dtype="float64"), values(dtype="float64"))
    assert {operation.compute for operation in blas.ran} == {70}


def test_sizes_that_the_library_does_not_take() -> None:
    assert matmul.problem_of([0, 0, 0, 1, 2**31, 2, 3, 0, 3, 1, 0, 2, 1]) == (
        "cuBLASLt cannot express sizes of 2**31 and more")
    assert matmul.problem_of([0, 0, 0, 2**31, 2, 2, 3, 6, 3, 1, 1, 2, 1]) == (
        "cuBLASLt cannot express sizes of 2**31 and more")
    assert isinstance(matmul.problem_of([0, 0, 0, 1, 2**31 - 1, 2, 3, 0, 3, 1, 0, 2, 1]), matmul.Problem)


@pytest.mark.parametrize("words", ["matmul:tanh", "matmul:relu:gelu", "matmul:bias:dtanh"])
def test_unknown_words_are_a_bug(words: str) -> None:
    with pytest.raises(VerificationError, match=f"names the library routine '{words}', which is none"):
        matmul.routine_of(library_kernel(words))


def test_arguments_are_counted(blas: FakeCublasLt) -> None:
    program = product_program(View(0, K, 1), View(0, N, 1))
    wrong = replace(program, kernels=(replace(program.kernels[0], library="matmul:bias"),))
    with pytest.raises(VerificationError, match="has 14 parameters, its library routine 'matmul:bias' has 15"):
        load(wrong)(values(), values())


# Capture, replay, and what is kept.

def test_captured_once_and_replayed(blas: FakeCublasLt, gpu: FakeDriver) -> None:
    executable = simple()
    for seed in range(4):
        check(executable, values(seed=seed), values(seed=seed + 9))
    assert blas.count("cublasLtMatmul") == 2     # once to load the algorithm's code, once into the graph
    assert blas.count("cublasLtMatmulAlgoGetHeuristic") == blas.count("cublasLtCreate") == 1
    assert len(blas.ran) == 5 and gpu.launched == []
    nodes = [node.kind for graph in gpu.executables.values() for node in graph.nodes]
    assert nodes == ["HtoD", "matmul", "DtoH"]


def test_one_handle_for_all_programs(blas: FakeCublasLt) -> None:
    for executable in (simple(), simple("matmul:relu"), simple(dtype="float64")):
        executable(*[values(dtype=executable._program.inputs[0].dtype)] * 2)
    assert blas.count("cublasLtCreate") == 1


def test_each_size_has_a_problem_of_its_own(blas: FakeCublasLt) -> None:
    """Symbolic sizes; one of them is such that the library cannot do it."""
    program = product_program(View(BATCH * 8, 8, 1), View(0, 1, 6), batch=1, m=BATCH, n=2, k=BATCH, length=64)
    program = replace(program, inputs=(*program.inputs, InputSpec("x", "float32", (BATCH,))),
                      buffers=(*program.buffers, buffer("x", "input", (BATCH,), 2)))
    executable, a, b = load(program), values(64, seed=1), values(64, seed=2)
    for size in (3, 5, 3, 8, 7, 5, 3):
        expected = a.reshape(8, 8)[:size, :size] @ np.lib.stride_tricks.as_strided(b, (size, 2), (4, 24))
        assert np.array_equal(executable(a, b, np.zeros(size, "float32"))[0], expected)
        assert ("own kernel" in executable.explain()) == (size > 6)
    assert blas.count("cublasLtMatmulAlgoGetHeuristic") == 2
    assert len(blas.descriptors) == 2 * 4     # two bindings that the library runs: a product, three matrices


def test_descriptors_go_with_the_executable(blas: FakeCublasLt) -> None:
    executable = simple()
    check(executable, values(), values())
    assert sorted(each.kind for each in blas.descriptors.values()) == ["layout"] * 3 + ["operation"]
    del executable
    gc.collect()
    assert blas.descriptors == {}


def test_profile_and_step_by_step(blas: FakeCublasLt, monkeypatch: pytest.MonkeyPatch) -> None:
    executable = simple()
    (step,) = executable.profile(values(), values()).steps
    assert step.kernel == "matmul_float32" and step.seconds > 0 and len(blas.ran) > 2
    monkeypatch.setenv("STATICGRAPH_CUDA_BLOCKING", "1")
    check(simple(), values(seed=3), values(seed=4))


def test_arrays_on_the_device(blas: FakeCublasLt, gpu: FakeDriver) -> None:
    """Their addresses, and with them their alignment, differ from call to call."""
    executable = load(product_program(View(M * K, K, 1), View(K * N, N, 1), "matmul:bias"), results="device")
    for turn, offset in enumerate((0, 16, 0, 32, 48, 16)):
        a, b, c = (values(length, seed=turn + 3 * length) for length in (400, 400, N))
        given = [Interface(gpu, each, offset=shift) for each, shift in zip((a, b, c), (offset, 0, offset))]
        result = np.asarray(executable(*given).numpy())
        assert np.array_equal(result[0], a[:M * K].reshape(M, K) @ b[:K * N].reshape(K, N) + c)
        gpu.free_foreign()
    assert blas.count("cublasLtMatmulAlgoGetHeuristic") == 3     # one for each alignment
    aligned = {operation.addresses[1] & -operation.addresses[1] for operation in blas.ran}
    assert min(aligned) == 16 and max(aligned) >= 256


def test_a_binding_without_an_algorithm_for_one_alignment(blas: FakeCublasLt, gpu: FakeDriver) -> None:
    executable = load(product_program(View(M * K, K, 1), View(K * N, N, 1), "matmul:bias"))
    blas.supports = lambda operation: operation.bias % 64 == 0
    for offset, by_library in ((0, True), (16, False), (0, True), (32, False), (64, True), (48, False)):
        a, b, c = values(seed=1), values(seed=2), values(N, seed=3)
        blas.ran.clear()
        gpu.launched.clear()
        given = Interface(gpu, c, offset=offset)
        result = executable(a, b, given)
        assert np.array_equal(result[0], a[:M * K].reshape(M, K) @ b[:K * N].reshape(K, N) + c)
        assert bool(blas.ran) == by_library and bool(gpu.launched) != by_library


# The workspace.

def test_a_workspace_only_where_one_is_wanted(blas: FakeCublasLt, gpu: FakeDriver) -> None:
    executable = simple()
    check(executable, values(), values())
    assert executable.memory.reserved < 2**20
    blas.workspace = 2**20
    first, second = simple(), simple("matmul:relu")
    check(first, values(seed=1), values(seed=2))
    second(values(), values())
    allocations = list(gpu.gpus[0].memory.allocations.values())
    assert allocations.count(WORKSPACE_BYTES) == 2     # they may run at the same time
    assert first.memory.reserved > WORKSPACE_BYTES and "workspace 1048576" in first.explain()
    check(first, values(seed=3), values(seed=4))
    assert list(gpu.gpus[0].memory.allocations.values()) == allocations


def test_products_of_one_program_share_a_workspace(blas: FakeCublasLt, gpu: FakeDriver) -> None:
    blas.workspace = 4096
    program = product_program(View(M * K, K, 1), View(K * N, N, 1))
    (step,) = program.steps
    executable = load(replace(program, steps=(step, step)))
    executable(values(), values())
    assert list(gpu.gpus[0].memory.allocations.values()).count(WORKSPACE_BYTES) == 1 and len(blas.ran) == 4


def test_no_memory_for_the_workspace(blas: FakeCublasLt, gpu: FakeDriver) -> None:
    blas.workspace = 4096
    executable = simple()
    gpu.gpus[0].total = 2**20
    with pytest.raises(OutOfMemoryError, match=f"{WORKSPACE_BYTES} bytes were wanted for the workspace of library"):
        executable(values(), values())
    gpu.gpus[0].total = 2**30
    check(executable, values(seed=1), values(seed=2))
    assert blas.ran


# Failures.

BEFORE_ADDRESSES = ("cublasLtMatmulDescCreate", "cublasLtMatmulDescSetAttribute", "cublasLtMatrixLayoutCreate")


@pytest.mark.parametrize("name", [
    "cublasLtMatmulDescCreate", "cublasLtMatmulDescSetAttribute", "cublasLtMatrixLayoutCreate",
    "cublasLtMatmulPreferenceCreate", "cublasLtMatmulPreferenceSetAttribute", "cublasLtMatmulAlgoGetHeuristic",
    "cublasLtMatmul"])
@pytest.mark.parametrize(("status", "text"), [
    (ALLOC_FAILED, r"CUBLAS_STATUS_ALLOC_FAILED \(3, the resource allocation failed\)"),
    (INTERNAL_ERROR, r"CUBLAS_STATUS_INTERNAL_ERROR \(14, an internal operation failed\)"),
    (EXECUTION_FAILED, r"CUBLAS_STATUS_EXECUTION_FAILED \(13, the function failed to launch on the GPU\)")])
def test_failures_are_told_and_leave_everything_usable(blas: FakeCublasLt, name: str, status: int, text: str) -> None:
    executable = simple()
    blas.fail(name, status)
    with pytest.raises(DeviceError, match=f"{name} failed: {text}") as caught:
        executable(values(), values())
    assert isinstance(caught.value, OutOfMemoryError) == (status == ALLOC_FAILED)
    notes = getattr(caught.value, "__notes__", [])     # what fails before addresses are known says no step
    assert all(each.startswith("while preparing step 0, kernel 'matmul_float32' (something") for each in notes)
    assert bool(notes) == (name not in BEFORE_ADDRESSES)
    check(executable, values(seed=1), values(seed=2))
    assert blas.ran


def test_a_failure_while_capturing(blas: FakeCublasLt, gpu: FakeDriver) -> None:
    executable = simple()
    blas.fail("cublasLtMatmul", EXECUTION_FAILED, after=1)
    with pytest.raises(DeviceError, match="cublasLtMatmul failed: CUBLAS_STATUS_EXECUTION_FAILED"):
        executable(values(), values())
    assert gpu.graphs == {} and not any(stream.capture for stream in gpu.streams.values())
    check(executable, values(seed=1), values(seed=2))


@pytest.mark.parametrize("status", [NOT_SUPPORTED, ARCH_MISMATCH, INVALID_VALUE])
@pytest.mark.parametrize("name", [*BEFORE_ADDRESSES, "cublasLtMatmulAlgoGetHeuristic", "cublasLtMatmul"])
def test_what_the_library_declines_runs_as_the_own_kernel(blas: FakeCublasLt, gpu: FakeDriver, name: str,
                                                          status: int) -> None:
    executable = simple()
    blas.fail(name, status)
    for seed in range(3):
        check(executable, values(seed=seed), values(seed=seed + 1))
    assert len(gpu.launched) == 3 and blas.ran == []
    assert re.search(rf"own kernel: {name} failed: CUBLAS_STATUS_[A-Z_]+ \({status}, ", executable.explain())


def test_an_algorithm_that_says_nothing_of_itself(blas: FakeCublasLt) -> None:
    blas.fail("cublasLtMatmulAlgoConfigGetAttribute", INVALID_VALUE)
    executable = simple()
    check(executable, values(seed=1), values(seed=2))
    assert "NN 5 x 3 x 4, tile 20, splits 1, workspace 0" in executable.explain()


def test_no_algorithm(blas: FakeCublasLt, gpu: FakeDriver) -> None:
    blas.supports = lambda operation: False
    executable = simple()
    check(executable, values(seed=1), values(seed=2))
    assert gpu.launched and "CUBLAS_STATUS_NOT_SUPPORTED" in executable.explain()


def test_a_library_that_cannot_be_used_on_the_device(blas: FakeCublasLt, gpu: FakeDriver) -> None:
    blas.fail("cublasLtCreate", NOT_INITIALIZED)
    executable = simple()
    check(executable, values(seed=1), values(seed=2))
    check(simple(), values(seed=3), values(seed=4))
    assert blas.count("cublasLtCreate") == 1 and len(gpu.launched) == 2 and not blas.handles
    assert ("own kernel: cuBLASLt cannot be used on this device: cublasLtCreate failed: CUBLAS_STATUS_NOT_INITIALIZED "
            "(1, the library was not initialized)") in executable.explain()


def test_no_memory_for_the_handle(blas: FakeCublasLt) -> None:
    blas.fail("cublasLtCreate", ALLOC_FAILED)
    executable = simple()
    with pytest.raises(OutOfMemoryError, match="cublasLtCreate failed"):
        executable(values(), values())
    check(executable, values(seed=1), values(seed=2))
    assert blas.ran


def test_no_memory_for_the_arena_first(blas: FakeCublasLt, gpu: FakeDriver) -> None:
    executable = simple()
    gpu.fail("cuMemAlloc_v2", OUT_OF_MEMORY)
    gpu.gpus[0].total = 0
    with pytest.raises(OutOfMemoryError):
        executable(values(), values())
    gpu.gpus[0].total = 2**30
    check(executable, values(seed=1), values(seed=2))


# Graphs, through the compiler.

@pytest.fixture
def compiled(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeCublasLt]:
    """The same beside kernels that are compiled and run in the PTX interpreter."""
    driver = FakeDriver()
    fake = FakeCublasLt(driver)
    set_library(driver)
    cublaslt.set_library(fake)
    try:
        yield fake
        gc.collect()
        assert fake.descriptors == {}
    finally:
        set_library(None)
        cublaslt.set_library(None)


@needs_compiler
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_products_in_graphs(compiled: FakeCublasLt, dtype: str) -> None:
    """Views of all kinds reach the library as strides. Those that it cannot express are multiplied all the same."""
    a, b = sg.placeholder("a", ("n", 6), dtype), sg.placeholder("b", (6, 4), dtype)
    c, d = sg.placeholder("c", ("k", "n", 6), dtype), sg.placeholder("d", ("k", 6, 4), dtype)
    v = sg.placeholder("v", (6,), dtype)
    told = {"plain": a @ b, "left": a.T @ a, "right": b.T @ a.T, "one column": a @ sg.reshape(v, (6, 1)),
            "slices": a[:, 1:4] @ b[2:5, 1:], "batch": c @ d, "batch and one": c @ b,
            "turned batch": sg.matrix_transpose(d) @ sg.matrix_transpose(c), "one and batch": a @ d}
    untold = {"reversed": a[:, ::-1] @ b, "every second": a[:, ::2] @ b[::2]}
    feed = {"a": values(30, dtype, 1).reshape(5, 6), "b": values(24, dtype, 2).reshape(6, 4),
            "c": values(60, dtype, 3).reshape(2, 5, 6), "d": values(48, dtype, 4).reshape(2, 6, 4),
            "v": values(6, dtype, 5)}
    expected = sg.evaluate({**told, **untold}, {each: feed[each.name] for each in (a, b, c, d, v)})
    executable = sg.compile([a, b, c, d, v], {**told, **untold}, device="cuda")
    for name, result in executable(**feed).items():
        assert np.array_equal(result, expected[name]), name
    products = re.findall(r"matmul_float\d\d\s+(own kernel|cuBLASLt)", executable.explain())
    assert products.count("cuBLASLt") == len(told) and len(products) <= len(told) + len(untold)


@needs_compiler
def test_a_step_of_training(compiled: FakeCublasLt) -> None:
    random = np.random.default_rng(3)
    x, target = sg.placeholder("x", ("n", 8)), sg.placeholder("target", ("n", 3))
    weights = [sg.variable(random.standard_normal(shape).astype("float32") / 3, name)
               for name, shape in (("w", (8, 16)), ("b", (16,)), ("w2", (16, 3)), ("b2", (3,)))]
    w, b, w2, b2 = weights
    loss = sg.mean((sg.nn.gelu(x @ w + b, approximate="tanh") @ w2 + b2 - target) ** 2)
    updates = {each: each - 0.1 * slope for each, slope in zip(weights, sg.grad(loss, weights))}
    step = sg.compile([x, target], loss, updates=updates, device="cuda")
    for rows in (5, 9, 5):
        feed = {x: random.standard_normal((rows, 8)).astype("float32"), target: np.ones((rows, 3), "float32")}
        expected = sg.evaluate([loss, *updates.values()], feed)
        assert np.allclose(step(feed[x], feed[target]), expected[0], rtol=1e-5)
        for each, value in zip(weights, expected[1:]):
            assert np.allclose(each.value, value, rtol=1e-4, atol=1e-6)
    assert len(compiled.ran) >= 5 * 3 and "own kernel" not in step.explain()


# Where the library is.

def test_without_the_library(gpu: FakeDriver, blas: FakeCublasLt, monkeypatch: pytest.MonkeyPatch) -> None:
    cublaslt.set_library(None)
    monkeypatch.setattr(cublaslt, "find", lambda: ("/nowhere/libcublasLt.so.13",)[:0])
    monkeypatch.setattr(gpu, "takes_ptx", True)
    executable = simple()
    check(executable, values(seed=1), values(seed=2))
    assert len(gpu.launched) == 1
    assert "own kernel: no machine code runs on this device, so no cuBLASLt either" in executable.explain()
    monkeypatch.setattr(device().driver, "takes_ptx", False)
    assert cublaslt.handle_of(device()) == cublaslt.NOT_FOUND == (
        'cuBLASLt not found: pip install "nvidia-cublas>=13,<14"')


def test_the_package_is_looked_at_first(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "nvidia" / cublaslt.FILES[0]
    file.parent.mkdir(parents=True)
    file.write_text("no library")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert cublaslt.find()[0] == str(file) and cublaslt.find()[-2:] == cublaslt.NAMES
    monkeypatch.setattr(cublaslt, "NAMES", ("libsuredoesnotexist.so",))
    monkeypatch.setattr(cublaslt, "find", lambda: (str(file), *cublaslt.NAMES))
    cublaslt.set_library(None)
    reason = cublaslt.find_library()
    assert isinstance(reason, str) and reason.startswith(f"cuBLASLt cannot be loaded: {file}")
    monkeypatch.undo()
    cublaslt.set_library(None)


class Native:
    """A fake library behind C: calls go out as C, with the prototypes that the real one gets, and come back as C
    callbacks. A handle that loses bits or a pointer that is none shows."""

    def __init__(self, fake: FakeCublasLt) -> None:
        self._kept: list[Any] = []
        for name in cublaslt.OTHERS:
            setattr(self, name, getattr(fake, name))
        for name, parameters in cublaslt.SIGNATURES.items():
            prototype = ctypes.CFUNCTYPE(ctypes.c_int, *parameters)
            inside = prototype(self._received(name, getattr(fake, name)))
            self._kept.append(inside)
            setattr(self, name, prototype(ctypes.cast(inside, ctypes.c_void_p).value or 0))

    @staticmethod
    def _received(name: str, function: Any) -> Any:
        def call(*arguments: Any) -> int:
            result: int = function(*[
                ctypes.byref(each.contents) if isinstance(each, ctypes._Pointer) and
                not isinstance(each, ctypes.POINTER(cublaslt.Heuristic)) else each for each in arguments])
            return result

        return call


def test_calls_by_way_of_c(blas: FakeCublasLt) -> None:
    blas.workspace = 2**20
    blas._numbers = itertools.count(0x7F00_1234_5000, 16)     # handles that need more than 32 bits
    cublaslt.set_library(Native(blas))
    executable = load(product_program(View(12, 1, M), View(40, N, 1), "matmul:bias:relu", batch=2))
    for seed in range(3):
        a, b, bias = values(seed=seed), values(seed=seed + 5), values(N, seed=seed + 9)
        expected = np.maximum(View(12, 1, M).of(a, (2, M, K)) @ View(40, N, 1).of(b, (2, K, N)) + bias, 0)
        assert np.array_equal(executable(a, b, bias), expected)
    assert len(blas.ran) == 4 and "algorithm 7, tile 20, splits 1, workspace 1048576" in executable.explain()
    blas.fail("cublasLtMatmulAlgoGetHeuristic", INTERNAL_ERROR)
    with pytest.raises(DeviceError, match=r"GetHeuristic failed: CUBLAS_STATUS_INTERNAL_ERROR \(14"):
        simple("matmul:gelu")(values(), values())


needs_library = pytest.mark.skipif(not any("/" in name for name in cublaslt.find()),
                                   reason="the package nvidia-cublas is not installed")


@needs_library
def test_the_numbers_are_those_of_the_real_library() -> None:
    """Descriptors need no GPU. Sizes of attributes are checked by the library."""
    cublaslt.set_library(None)
    library = cublaslt.find_library()
    assert isinstance(library, cublaslt.Library) and int(library.version.split(".")[0]) in (12, 13)
    operation = cublaslt.Descriptor(library, "cublasLtMatmulDesc", cublaslt.COMPUTE_32F_FAST_TF32, cublaslt.REAL32,
                                    transpose_a=1, transpose_b=0, epilogue=6, bias=256)
    layout = cublaslt.Descriptor(library, "cublasLtMatrixLayout", cublaslt.REAL64, 5, 6, 7, batch_count=3,
                                 batch_stride=2**40)
    preference = cublaslt.Descriptor(library, "cublasLtMatmulPreference", workspace=WORKSPACE_BYTES, reductions=2,
                                     align_a=16, align_b=32, align_c=64, align_d=128)
    expected = [(operation, "Desc", {0: 77, 1: 0, 3: 1, 4: 0, 7: 6, 8: 256}),
                (layout, "Layout", {0: 1, 2: 5, 3: 6, 4: 7, 5: 3, 6: 2**40}),
                (preference, "Preference", {1: WORKSPACE_BYTES, 3: 2, 5: 16, 6: 32, 7: 64, 8: 128})]
    for descriptor, kind, attributes in expected:
        function = getattr(library.functions, f"cublasLt{'Matrix' if kind == 'Layout' else 'Matmul'}{kind}GetAttribute")
        function.argtypes = (ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t,
                             ctypes.POINTER(ctypes.c_size_t))
        for number, value in attributes.items():
            found, written = ctypes.c_uint64(), ctypes.c_size_t()
            assert function(descriptor.handle, number, None, 0, ctypes.byref(written)) == 0
            assert function(descriptor.handle, number, ctypes.addressof(found), written.value,
                            ctypes.byref(written)) == 0
            assert found.value == value, (kind, number)
    assert (ctypes.sizeof(cublaslt.Algorithm), ctypes.sizeof(cublaslt.Heuristic)) == (64, 96)
    for number in (cublaslt.ALGORITHM_ID, cublaslt.ALGORITHM_TILE, cublaslt.ALGORITHM_SPLITS):
        found32, written = ctypes.c_int32(-1), ctypes.c_size_t()
        library.call("cublasLtMatmulAlgoConfigGetAttribute", ctypes.byref(cublaslt.Algorithm()), number,
                     ctypes.addressof(found32), 4, ctypes.byref(written))
        assert found32.value == 0 and written.value == 4
    assert library.describe(15) == "CUBLAS_STATUS_NOT_SUPPORTED (15, the requested functionality is not supported)"
