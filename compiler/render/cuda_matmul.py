"""The matmul kernel for CUDA as text: c[batch, m, n] = a[batch, m, k] @ b[batch, k, n], where no library is.

Arguments as on the CPU: a, b, c (addresses), batch, m, n, k, the strides (batch, row, column) of a and those of b, in
elements; c is contiguous. A block of 256 threads makes a tile of 64 x 64, each thread 4 x 4 of it; slices of 16 along k
pass through shared memory, read in the direction in which each operand lies in memory. Parallel iterations are tiles.

Invariant: an element of c is one chain of multiply-adds in the order of k.
"""

from __future__ import annotations

from staticgraph.types import Size, floor_divide

from ..program import Launch
from .cpu_text import Writer, header, typed
from .cuda_text import LANGUAGE

TILE = 64
SLICE = 16
THREADS = 256
EACH = 4
LINE = TILE + 4
"""Elements of a slice's line in shared memory: a few more than a tile, against bank conflicts."""


def tile_count(batch: Size, m: Size, n: Size) -> Size:
    """Parallel iterations of a product."""
    return batch * floor_divide(m + (TILE - 1), TILE) * floor_divide(n + (TILE - 1), TILE)


def render_matmul(dtype: str, epilogue: tuple[str, ...] = ()) -> tuple[str, str, Launch]:
    """Name, text and launch of the kernel. `epilogue` is what becomes of an element before it is stored: "bias" (the
    address of the vector is one more argument), then "relu" or "gelu" (the tanh form)."""
    name = "_".join(("matmul", dtype, *epilogue))
    writer = Writer()
    arguments = 13 + ("bias" in epilogue)
    writer.line(f"def {name}({', '.join(f'a{slot}' for slot in range(arguments))}, stop):")
    with writer:
        _write_setup(writer, dtype)
        writer.line(f"for start in range(0, k, {SLICE}):")
        with writer:
            _write_loads(writer, dtype)
            writer.line("barrier()")
            writer.line(f"for step in range({SLICE}):")
            with writer:
                _write_products(writer, dtype)
            writer.line("barrier()")
        _write_stores(writer, dtype, epilogue)
    return name, header(writer.text(), LANGUAGE) + writer.text(), Launch(THREADS, 1)


def _write_setup(writer: Writer, dtype: str) -> None:
    zero = "False" if dtype == "bool" else f"{dtype}(0)"
    names = "m n k a_batch a_row a_col b_batch b_row b_col".split()
    lines = [f"a, b, c = input_{dtype}(a0), input_{dtype}(a1), pointer_{dtype}(a2)",
             f"{', '.join(names)} = {', '.join(f'a{slot}' for slot in range(4, 13))}",
             f"down = quotient_of(m + {TILE - 1}, {TILE})", f"across = quotient_of(n + {TILE - 1}, {TILE})",
             "tile = quotient_of(block(), across)", "item = quotient_of(tile, down)",
             f"column = remainder_of(block(), across) * {TILE}", f"row = remainder_of(tile, down) * {TILE}",
             "t = thread()", f"x = (t & 15) * {EACH}", f"y = (t >> 4) * {EACH}",
             "# along which axis neighbouring threads read",
             "a_along = a_col == 1", "b_along = b_col == 1",
             f"a_i = (t >> 4) if a_along else (t & {TILE - 1})", "a_p = (t & 15) if a_along else (t >> 6)",
             f"b_j = (t & {TILE - 1}) if b_along else (t >> 4)", "b_p = (t >> 6) if b_along else (t & 15)",
             f"slice_a = shared_{dtype}({SLICE * LINE})", f"slice_b = shared_{dtype}({SLICE * LINE})"]
    for line in lines:
        writer.line(line)
    for i in range(EACH):
        for j in range(EACH):
            writer.line(f"c{i}{j} = {zero}")


def _write_loads(writer: Writer, dtype: str) -> None:
    zero = "False" if dtype == "bool" else f"{dtype}(0)"
    writer.line(f"for turn in range({TILE * SLICE // THREADS}):")
    with writer:
        writer.line("i = a_i + (turn * 16 if a_along else 0)")
        writer.line("p = a_p + (0 if a_along else turn * 4)")
        writer.line(f"left = {zero}")
        writer.line("if row + i < m and start + p < k:")
        with writer:
            writer.line("left = a[item * a_batch + (row + i) * a_row + (start + p) * a_col]")
        writer.line(f"slice_a[p * {LINE} + i] = left")
        writer.line("j = b_j + (0 if b_along else turn * 16)")
        writer.line("q = b_p + (turn * 4 if b_along else 0)")
        writer.line(f"right = {zero}")
        writer.line("if column + j < n and start + q < k:")
        with writer:
            writer.line("right = b[item * b_batch + (start + q) * b_row + (column + j) * b_col]")
        writer.line(f"slice_b[q * {LINE} + j] = right")


def _write_products(writer: Writer, dtype: str) -> None:
    for number in range(EACH):
        writer.line(f"left{number} = slice_a[step * {LINE} + y + {number}]")
    for number in range(EACH):
        writer.line(f"right{number} = slice_b[step * {LINE} + x + {number}]")
    for i in range(EACH):
        for j in range(EACH):
            writer.line(f"c{i}{j} = {multiply_add(dtype, f'left{i}', f'right{j}', f'c{i}{j}')}")


def multiply_add(dtype: str, a: str, b: str, c: str) -> str:
    if dtype.startswith("float"):
        return f"fma({a}, {b}, {c})"
    return f"{c} or ({a} and {b})" if dtype == "bool" else typed(f"{c} + {a} * {b}", dtype)


def _write_stores(writer: Writer, dtype: str, epilogue: tuple[str, ...]) -> None:
    if "bias" in epilogue:
        writer.line(f"bias = input_{dtype}(a13)")
    writer.line("place = (item * m + row + y) * n + column + x")
    for i in range(EACH):
        for j in range(EACH):
            writer.line(f"if row + y + {i} < m and column + x + {j} < n:")
            with writer:
                value = f"c{i}{j} + bias[column + x + {j}]" if "bias" in epilogue else f"c{i}{j}"
                writer.line(f"c[place + {i} * n + {j}] = {activated(dtype, value, epilogue)}")


def activated(dtype: str, value: str, epilogue: tuple[str, ...]) -> str:
    if "relu" in epilogue:
        return f"maximum({value}, {dtype}(0))"
    if "gelu" in epilogue:     # z * sigmoid(2 u) is z * (1 + tanh(u)) / 2
        z = f"({value})"
        inner = f"{z} + {dtype}(0.044715) * {z} * {z} * {z}"
        return f"{z} * sigmoid({dtype}(1.5957691216057308) * ({inner}))"
    return value
