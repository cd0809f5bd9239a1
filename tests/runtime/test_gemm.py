"""The matmul kernel: every shape of tile, every stride, and bits that do not depend on how the rows were cut."""

import platform
import re
from functools import cache
from itertools import pairwise
from typing import Any

import llvmlite.binding as llvm
import numpy as np
import pytest

from staticgraph.compiler.render.cpu_matmul import DEPTH, render_matmul, tiles_of
from staticgraph.compiler.target import Target
from staticgraph.runtime.cpu.host import host_target
from tests.kernel_harness import CompiledKernel, compile_kernel

FLOATS = ["float32", "float64"]
DTYPES = ["bool", "int8", "int32", "int64", "uint8", "uint64", *FLOATS]
HOST = host_target()
Matrix = np.ndarray[Any, Any]


@cache
def kernel_of(dtype: str, vector_bytes: int = HOST.vector_bytes) -> CompiledKernel:
    return compile_kernel(render_matmul(dtype, Target(vector_bytes=vector_bytes))[1])


def table(a: Matrix, b: Matrix, c: Matrix) -> list[Any]:
    batch, m, n = c.shape
    strides = [stride // c.itemsize for operand in (a, b, c) for stride in (0, *operand.strides)]
    return [a, b, c, batch, m, n, a.shape[2], *strides[:-1]]


def multiply(a: Matrix, b: Matrix, cuts: tuple[int, ...] = (), vector_bytes: int = HOST.vector_bytes) -> Matrix:
    """a @ b by the kernel, in one call for each range of rows between the cuts; the result is embedded in guards."""
    shape = (a.shape[0], a.shape[1], b.shape[2])
    rows, size = shape[0] * shape[1], int(np.prod(shape))
    guarded = np.full(size + 32, 1 if a.dtype == np.bool_ else 77, a.dtype)
    c = guarded[16: 16 + size].reshape(shape)
    edges = [0, *cuts, rows]
    for start, stop in pairwise(edges):
        kernel_of(a.dtype.name, vector_bytes)(table(a, b, c), stop, start)
    assert (guarded[:16] == guarded[0]).all() and (guarded[-16:] == guarded[0]).all()
    return c


def matrix(shape: tuple[int, ...], dtype: str, layout: str = "rows", seed: int = 0) -> Matrix:
    """Random entries. Layouts: rows, columns (a transposed matrix), apart (no stride is 1), reversed, repeated (the
    stride from row to row is 0)."""
    random = np.random.default_rng([seed, *shape])
    batch, rows, columns = shape
    full = {"columns": (batch, columns, rows), "apart": (batch, 2 * rows, 3 * columns), "repeated": (batch, 1, columns)}
    values = random.standard_normal(full.get(layout, shape))
    if dtype == "bool":
        values = values > 1
    elif dtype not in FLOATS:
        limits = np.iinfo(dtype)
        values = random.integers(limits.min, limits.max, values.shape, dtype=dtype, endpoint=True)
    entries = values.astype(dtype)
    if layout == "columns":
        return entries.swapaxes(1, 2)
    if layout == "apart":
        return entries[:, ::2, ::3]
    if layout == "reversed":
        return entries[:, ::-1, ::-1]
    return np.broadcast_to(entries, shape)


def assert_product(c: Matrix, a: Matrix, b: Matrix) -> None:
    if c.dtype.name not in FLOATS:
        np.testing.assert_array_equal(c, a @ b)
        return
    wide = np.longdouble if c.dtype == np.float64 else np.float64
    bound = np.abs(a).astype(wide) @ np.abs(b).astype(wide)
    error = np.abs(c - a.astype(wide) @ b.astype(wide))
    steps = min(a.shape[2], DEPTH) + a.shape[2] // DEPTH + 1
    assert (error <= steps * np.finfo(c.dtype).eps * bound).all()


SHAPES = [(1, 1, 1, 1), (1, 1, 64, 64), (1, 64, 1, 64), (1, 64, 10, 64), (1, 10, 64, 64), (1, 5, 65, 7), (1, 7, 80, 9),
          (2, 13, 129, 33), (3, 6, 64, 16), (1, 25, 16, 300), (1, 2, 200, 513), (1, 37, 48, 70), (2, 24, 100, 257)]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
def test_shapes(shape: tuple[int, ...], dtype: str) -> None:
    batch, m, n, k = shape
    a, b = matrix((batch, m, k), dtype), matrix((batch, k, n), dtype, seed=1)
    assert_product(multiply(a, b), a, b)


@pytest.mark.parametrize("dtype", ["bool", "int32", *FLOATS])
@pytest.mark.parametrize("right", ["rows", "columns", "apart", "reversed", "repeated"])
@pytest.mark.parametrize("left", ["rows", "columns", "apart", "reversed", "repeated"])
def test_strides(left: str, right: str, dtype: str) -> None:
    for m, n, k in ((3, 5, 4), (30, 70, 45)):
        a, b = matrix((2, m, k), dtype, left), matrix((2, k, n), dtype, right, seed=1)
        assert_product(multiply(a, b), a, b)


@pytest.mark.parametrize("dtype", ["int32", *FLOATS])
def test_a_batch_of_one_matrix(dtype: str) -> None:
    a, b = matrix((1, 9, 20), dtype), matrix((3, 20, 18), dtype, seed=1)
    one = np.broadcast_to(a, (3, 9, 20))
    assert_product(multiply(one, b), one, b)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(1, 3, 5, 0), (2, 40, 70, 0), (0, 3, 5, 2), (2, 0, 5, 2), (2, 3, 0, 2)])
def test_empty(shape: tuple[int, ...], dtype: str) -> None:
    batch, m, n, k = shape
    product = multiply(np.zeros((batch, m, k), dtype), np.zeros((batch, k, n), dtype))
    assert product.shape == (batch, m, n) and not product.any()


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("right", ["rows", "columns"])
def test_bits_do_not_depend_on_the_cuts(right: str, dtype: str) -> None:
    """Chunks that are a row, a tile, or anything; rows that are packed for and rows that are not."""
    k = DEPTH + 88
    a, b = matrix((2, 40, k), dtype), matrix((2, k, 90), dtype, right, seed=1)
    whole = multiply(a, b)
    for cuts in (tuple(range(1, 80)), (6, 12, 50), (1, 79), (41,)):
        assert multiply(a, b, cuts).tobytes() == whole.tobytes()
    for column in (0, 63, 64, 88):  # nor on the other columns, unless there are none
        pair = multiply(a, b[:, :, column:column + 2])
        assert pair.tobytes() == np.ascontiguousarray(whole[:, :, column:column + 2]).tobytes()


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("left", ["rows", "columns", "apart", "reversed", "repeated"])
@pytest.mark.parametrize("right", ["rows", "columns", "apart"])
@pytest.mark.parametrize("shape", [(50, 1, 600), (1, 70, 600), (9, 1, 5), (1, 1, 33), (1, 9000, 20)])
def test_vectors(shape: tuple[int, int, int], right: str, left: str, dtype: str) -> None:
    """One column or one row: dot products where both run along k, runs of memory where the matrix runs across it, and
    the same bits for every cut."""
    m, n, k = shape
    a, b = matrix((2, m, k), dtype, left), matrix((2, k, n), dtype, right, seed=1)
    whole = multiply(a, b)
    assert_product(whole, a, b)
    for cuts in (tuple(range(1, 2 * m)), (m // 2 + 1,)):
        assert multiply(a, b, cuts).tobytes() == whole.tobytes()


@pytest.mark.parametrize("dtype", FLOATS)
def test_runs_of_columns_are_read_together(dtype: str) -> None:
    """A vector times a matrix as a batch of runs of its columns: one product, the same bits for every cut."""
    a, b = matrix((1, 1, 70), dtype)[0], matrix((1, 70, 5 * 40), dtype, seed=1)[0]
    runs = b.reshape(70, 5, 40).transpose(1, 0, 2)
    whole = multiply(np.broadcast_to(a, (5, 1, 70)), runs)
    assert_product(whole.reshape(1, 1, 200), a[None], b[None])
    for cuts in ((1, 2, 3, 4), (2,), (3, 4)):
        assert multiply(np.broadcast_to(a, (5, 1, 70)), runs, cuts).tobytes() == whole.tobytes()


@pytest.mark.parametrize("dtype", FLOATS)
def test_special_values_stay_in_their_row_and_column(dtype: str) -> None:
    a, b = matrix((1, 20, 30), dtype), matrix((1, 30, 50), dtype, seed=1)
    plain = multiply(a, b)
    a, b = a.copy(), b.copy()
    a[0, 3, 4], b[0, 7, 45] = np.nan, np.inf
    with np.errstate(invalid="ignore"):
        want = a @ b
    got = multiply(a, b)
    np.testing.assert_array_equal(np.isnan(got), np.isnan(want))
    np.testing.assert_array_equal(np.isinf(got), np.isinf(want))
    assert (got == plain)[np.isfinite(got)].all()


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("vector_bytes", [16, 32, 64])
def test_every_vector_width(vector_bytes: int, dtype: str) -> None:
    """The text of another target also runs here: LLVM splits vectors that are too wide."""
    for right in ("rows", "columns"):
        for m, n, k in ((1, 9, 5), (30, 70, 45), (7, 33, 290)):
            a, b = matrix((1, m, k), dtype), matrix((1, k, n), dtype, right, seed=1)
            assert_product(multiply(a, b, vector_bytes=vector_bytes), a, b)


def test_tiles_fit_the_registers() -> None:
    for vector_bytes, registers in ((16, 16), (32, 16), (64, 32)):
        for dtype in FLOATS:
            tiles = tiles_of(dtype, Target(vector_bytes=vector_bytes))
            assert tiles.rows * tiles.vectors + tiles.vectors + 1 <= registers
            assert tiles.narrow_rows + 2 <= registers


def loop_of(assembly: str, function: str) -> list[str]:
    """The block of a function with the most products."""
    body = re.split(r"^multiply_\w+:", assembly.split(f"\n{function}:")[1], maxsplit=1, flags=re.MULTILINE)[0]
    blocks = [block.splitlines() for block in re.split(r"^\.?L\w+:", body, flags=re.MULTILINE)]
    return max(blocks, key=lambda block: sum("fmadd" in line for line in block))


@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="the processors are of x86-64")
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("processor, vector_bytes", [("haswell", 32), ("znver3", 32), ("skylake-avx512", 64)])
def test_tiles_stay_in_the_registers_of_other_processors(processor: str, vector_bytes: int, dtype: str) -> None:
    """The code that LLVM makes for them: as many multiply-adds as a tile has vectors, no sum in memory."""
    lanes = vector_bytes // np.dtype(dtype).itemsize
    tiles = tiles_of(dtype, Target(vector_bytes=vector_bytes))
    module = llvm.parse_assembly(kernel_of(dtype, vector_bytes).llvm)
    machine = llvm.Target.from_default_triple().create_target_machine(cpu=processor, opt=3)
    assembly = machine.emit_assembly(module)
    for rows, vectors in ((tiles.rows, tiles.vectors), (tiles.narrow_rows, 1), (1, tiles.vectors)):
        loop = loop_of(assembly, f"multiply_tile_{rows}x{vectors}x{lanes}_{8 * np.dtype(dtype).itemsize}")
        assert sum("fmadd" in line for line in loop) == rows * vectors
        assert not [line for line in loop if re.search(r"[xyz]mm", line) and re.search(r"\(%r[sb]p", line)]


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_text_depends_on_the_target_only(dtype: str) -> None:
    target = Target(vector_bytes=32)
    assert render_matmul(dtype, target) == render_matmul(dtype, target)
    assert render_matmul(dtype, target)[0] == f"matmul_{dtype}"


def test_float32_stays_float32_and_the_tile_has_no_spills() -> None:
    kernel = kernel_of("float32")
    assert "double" not in kernel.llvm
    loop = kernel.assembly.split(f"multiply_tile_6x4x{HOST.vector_bytes // 4}_32:")
    if HOST.vector_bytes == 64:
        assert not any("zmm" in line and "(%rsp)" in line for line in loop[1].split(".cfi_endproc")[0].splitlines())
