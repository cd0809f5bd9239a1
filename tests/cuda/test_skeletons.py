"""The forms of CUDA kernels: which one a program gets, what it computes at awkward sizes, and how it uses memory.

Memory traffic is counted by the interpreter in sectors of 32 bytes, as the hardware moves it; the ideal is every array
read or written once.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import staticgraph as sg
from staticgraph.compiler.program import Kernel
from tests.cuda import skip_without_compiler

skip_without_compiler()

from tests.cuda.resources import translated  # noqa: E402
from tests.cuda.simulate import Simulated, compile_simulated  # noqa: E402

Array = np.ndarray[Any, Any]
SECTOR = 32


def values(shape: tuple[int, ...], dtype: str = "float32", seed: int = 0) -> Array:
    return np.random.default_rng(seed).normal(size=shape).astype(dtype)


def run(inputs: list[sg.Tensor], output: Any, *arrays: Array, tolerance: float = 2e-6) -> Simulated:
    """Compile, call, compare with the oracle on the scale of the result."""
    compiled = compile_simulated(inputs, output)
    actual = compiled(*arrays)
    expected = sg.evaluate(sg.stabilise(output), dict(zip(inputs, arrays, strict=True)))
    for one, other in zip(*((each if isinstance(each, list) else [each]) for each in (actual, expected)), strict=True):
        assert one.shape == other.shape and one.dtype == other.dtype
        scale = float(np.max(np.abs(other))) if other.size else 1.0
        np.testing.assert_allclose(one, other, rtol=tolerance, atol=tolerance * scale)
    return compiled


def kernels(compiled: Simulated) -> list[Kernel]:
    return [compiled.program.kernels[step.kernel] for step in compiled.program.steps]


def traffic(compiled: Simulated) -> tuple[int, int]:
    """Bytes that moved as sectors: read, written."""
    return (SECTOR * sum(each.counters.load_sectors for each in compiled.runs),
            SECTOR * sum(each.counters.store_sectors for each in compiled.runs))


def vector_accesses(kernel: Kernel) -> tuple[int, int]:
    """Loads and stores of 128 bits in the PTX."""
    lines = translated(kernel).ptx.splitlines()
    wide = [line for line in lines if ".v4.f32" in line or ".v2.f64" in line or ".v4.u32" in line or ".v2.u64" in line
            or ".v4.b32" in line or ".v2.b64" in line]
    return sum("ld.global" in line for line in wide), sum("st.global" in line for line in wide)


x = sg.placeholder("x", ("n", 64))
flat, other = sg.placeholder("flat", ("n",)), sg.placeholder("other", ("n",))


class TestElements:
    def test_vectors_of_128_bits(self) -> None:
        compiled = run([flat, other], flat * other + flat, values((4096,)), values((4096,), seed=1))
        (kernel,) = kernels(compiled)
        assert kernel.text.count("load4(") == 2 and kernel.text.count("store4(") == 1
        assert min(vector_accesses(kernel)) > 0
        assert traffic(compiled) == (2 * 4 * 4096, 4 * 4096)

    @pytest.mark.parametrize("size", [0, 1, 2, 3, 4, 5, 1023, 1024, 1025, 4099])
    def test_rest_of_a_vector(self, size: int) -> None:
        run([flat], sg.exp(flat), values((size,)))

    @pytest.mark.parametrize("dtype", ["float64", "int8", "bool", "int64"])
    def test_widths(self, dtype: str) -> None:
        a = sg.placeholder("a", ("n",), dtype)
        given = (values((1030,), "float32") > 0).astype(dtype)
        run([a], [a == a, a.astype("float32")], given)

    def test_offset_views_are_not_vectors(self) -> None:
        compiled = run([flat], flat[1:] + flat[:-1], values((1000,)))
        assert kernels(compiled)[0].text.count("load4(") == 1     # flat[:-1] begins where the array does

    def test_broadcast_rows(self) -> None:
        bias = sg.placeholder("bias", (64,))
        compiled = run([x, bias], sg.tanh(x + bias), values((37, 64)), values((64,), seed=1))
        assert vector_accesses(kernels(compiled)[0])[1] == 1
        loaded, stored = traffic(compiled)
        assert stored == 4 * 37 * 64 and loaded <= 2 * 4 * 37 * 64 + 256

    def test_rows_of_unknown_length(self) -> None:
        free = sg.placeholder("free", ("n", "m"))
        bias = sg.placeholder("bias", ("m",))
        run([free, bias], free * bias, values((7, 5)), values((5,)))


class TestTiles:
    @pytest.mark.parametrize("shape", [(32, 32), (33, 65), (100, 9), (1, 40)])
    def test_transposes(self, shape: tuple[int, int]) -> None:
        free = sg.placeholder("free", ("n", "m"))
        run([free], sg.exp(free.T) * 2, values(shape))

    def test_batches(self) -> None:
        cube = sg.placeholder("cube", ("b", 40, 50))
        run([cube], sg.sqrt(sg.permute_dims(cube, (0, 2, 1)) ** 2), values((3, 40, 50)))

    def test_both_directions_in_whole_sectors(self) -> None:
        square = sg.placeholder("square", (128, 128))
        compiled = run([square], square.T + square, values((128, 128)))
        assert "_tile" in kernels(compiled)[0].text
        ideal = 4 * 128 * 128
        assert traffic(compiled) == (2 * ideal, ideal)
        assert sum(each.counters.conflicts for each in compiled.runs) == 0


class TestRows:
    @pytest.mark.parametrize("length", [1, 2, 3, 5, 12, 31, 32, 33, 64, 100, 256, 1000, 1024, 4096])
    def test_lengths(self, length: int) -> None:
        a = sg.placeholder("a", ("n", length))
        run([a], [sg.nn.softmax(a), sg.argmax(a, axis=1)], values((5, length)))

    @pytest.mark.parametrize("length", [1, 7, 300, 2000])
    def test_lengths_that_are_not_known(self, length: int) -> None:
        a = sg.placeholder("a", ("n", "m"))
        run([a], [sg.nn.softmax(a), sg.sum(a, axis=1)], values((3, length)))

    @pytest.mark.parametrize("rows", [0, 1, 7, 31, 130])
    def test_teams_without_a_row(self, rows: int) -> None:
        a = sg.placeholder("a", ("n", 12))
        run([a], sg.nn.log_softmax(a), values((rows, 12)))

    def test_one_read_one_write(self) -> None:
        a = sg.placeholder("a", ("n", 4096))
        compiled = run([a], sg.nn.softmax(a), values((4, 4096)))
        (kernel,) = kernels(compiled)
        assert kernel.launch is not None and kernel.launch.threads == 256
        # 4096 / (256 threads x 4): each thread keeps its four vectors in registers for all three loops
        assert vector_accesses(kernel) == (4, 4)
        assert traffic(compiled) == (4 * 4 * 4096, 4 * 4 * 4096)

    def test_layer_norm_and_its_gradient(self) -> None:
        a, g, b = sg.placeholder("a", ("n", 256)), sg.placeholder("g", (256,)), sg.placeholder("b", (256,))
        y = sg.nn.layer_norm(a, weight=g, bias=b)
        loss = sg.sum(sg.sin(y))
        run([a, g, b], [y, *sg.grad(loss, [a, g, b])], values((9, 256)), values((256,)), values((256,), seed=2),
            tolerance=2e-5)

    def test_several_reduced_axes(self) -> None:
        cube = sg.placeholder("cube", (6, 20, 8))
        run([cube], [sg.sum(cube, axis=(0, 2)), sg.max(cube, axis=(0, 2))], values((6, 20, 8)))


class TestColumns:
    @pytest.mark.parametrize("shape", [(1, 1), (5, 3), (100, 33), (7, 64), (300, 70)])
    def test_shapes(self, shape: tuple[int, int]) -> None:
        a = sg.placeholder("a", ("n", shape[1]))
        run([a], [sg.sum(a, axis=0), sg.argmin(a, axis=0), sg.nn.softmax(a, axis=0)], values(shape))

    def test_whole_sectors(self) -> None:
        a = sg.placeholder("a", (64, 128))
        compiled = run([a], sg.sum(a, axis=0), values((64, 128)))
        assert traffic(compiled)[0] == 4 * 64 * 128

    def test_more_results_than_eight_warps_have_shared_memory_for(self) -> None:
        a = sg.placeholder("a", ("n", "m", 3), "float64")
        compiled = run([a], [sg.argmax(a * (k - 7.0), axis=0) for k in range(14)], values((70, 5, 3), "float64"))
        (kernel,) = kernels(compiled)
        assert translated(kernel).shared_bytes == 14 * 16 * 4 * 32 and kernel.launch.threads == 4 * 32


class TestParts:
    """Few and long rows, cut into parts (`compiler.fission`)."""

    @pytest.mark.parametrize("size", [1, 1000, 4096, 20001])
    def test_full_sums(self, size: int) -> None:
        compiled = run([flat], [sg.sum(flat), sg.max(flat), sg.argmax(flat)], values((size,)))
        assert len(compiled.runs) == 2

    def test_extremes_in_several_parts(self) -> None:
        given = np.zeros(20000, "float32")
        given[[4097, 9000]] = 5, 5
        given[12000] = np.nan
        run([flat], [sg.argmax(flat), sg.argmin(flat), sg.max(flat)], given)
        run([flat], [sg.argmax(flat), sg.argmin(flat)], given[:12000])

    def test_values_of_rows_in_several_axes(self) -> None:
        a = sg.permute_dims(cube := sg.placeholder("cube", (3, 2, 17000)), (1, 0, 2))
        most = sg.max(a, axis=2, keepdims=True)
        compiled = run([cube], [most, a - most], values((3, 2, 17000)))
        assert [each.extent for each in compiled.runs][-1] == 3 * 2

    def test_several_reductions_and_what_follows_them(self) -> None:
        whole = sg.placeholder("whole", (40000,))
        compiled = run([whole], [sg.nn.softmax(whole), sg.var(whole)], values((40000,)), tolerance=1e-5)
        assert len(compiled.runs) >= 5

    def test_columns(self) -> None:
        a = sg.placeholder("a", ("n", 8))
        run([a], [sg.mean(a, axis=0), sg.argmax(a, axis=0)], values((3000, 8)))

    def test_same_bits_whatever_the_order_of_warps(self) -> None:
        compiled = compile_simulated([flat], [sg.sum(flat), sg.argmax(flat)])
        given = values((9000,))
        expected = compiled(given)
        for seed in (1, 2):
            compiled.seed = seed
            for one, again in zip(expected, compiled(given), strict=True):
                assert one.tobytes() == again.tobytes()


class TestUpdates:
    def test_many_arrays_one_launch(self) -> None:
        variables = [sg.variable(values((size,), seed=size), name=f"v{size}") for size in (1, 3, 1024, 1025, 2500)]
        scalar = sg.variable(np.float32(2), name="scalar")
        before = [variable.value for variable in variables]
        updates = {variable: variable * 0.5 - 1 for variable in variables} | {scalar: scalar * 3}
        compiled = compile_simulated([], [], updates=updates)
        compiled()
        assert len(compiled.runs) == 1 and scalar.value == 6
        for variable, old in zip(variables, before, strict=True):
            np.testing.assert_array_equal(variable.value, old * np.float32(0.5) - np.float32(1))

    def test_numbers(self) -> None:
        """Arrays of one element, which their own update reads."""
        count, rate = sg.variable(np.int64(3), "count"), sg.variable(np.float32(0.5), "rate")
        compiled = compile_simulated([], [], updates={count: count + 1, rate: rate / count.astype("float32")})
        compiled()
        assert count.value == 4 and rate.value == np.float32(0.5) / np.float32(3)

    def test_more_arguments_than_a_launch_has(self) -> None:
        variables = [sg.variable(values((4,), seed=number), name=f"v{number}") for number in range(250)]
        before = [variable.value for variable in variables]
        compiled = compile_simulated([], [], updates={variable: -variable for variable in variables})
        assert all(len(step.arguments) <= 129 for step in compiled.program.steps) and len(compiled.program.steps) == 4
        compiled()
        for variable, old in zip(variables, before, strict=True):
            np.testing.assert_array_equal(variable.value, -old)

    def test_a_failed_check_changes_nothing(self) -> None:
        table = sg.variable(values((5, 4)), name="table")
        indices = sg.placeholder("indices", ("n",), "int64")
        loss = sg.sum(sg.take(table, indices, axis=0) ** 2)
        step = compile_simulated([indices], loss, updates={table: table - 0.1 * sg.grad(loss, table)})
        before = table.value
        with pytest.raises(sg.StaticGraphError, match="7"):
            step(np.array([1, 7, 2]))
        np.testing.assert_array_equal(table.value, before)
        step(np.array([1, 4, 1, -1]))
        assert not np.array_equal(table.value, before)




def test_gathered_rows_go_by_vectors() -> None:
    i = sg.placeholder("i", ("k",), "int64")
    compiled = run([x, i], sg.take(x, i, axis=0) * 2, values((9, 64)), np.arange(-3, 9))
    assert any(vector_accesses(kernel) == (1, 1) for kernel in kernels(compiled))


def test_scattered_rows_have_one_order() -> None:
    i = sg.placeholder("i", ("k",), "int64")
    source = sg.placeholder("source", ("k", 64))
    run([x, i, source], sg.scatter_add(x, i, source, axis=0), values((5, 64)), np.array([1, 0, 1, 4, 1, 4]),
        values((6, 64), seed=3), tolerance=1e-6)


@pytest.mark.parametrize("shape", [(1, 1, 1), (70, 5, 33), (64, 64, 64), (65, 17, 130)])
@pytest.mark.parametrize("transposed", [False, True])
def test_products(shape: tuple[int, int, int], transposed: bool) -> None:
    m, k, n = shape
    a, b = sg.placeholder("a", ("m", "k")), sg.placeholder("b", ("n", "k") if transposed else ("k", "n"))
    run([a, b], a @ (b.T if transposed else b), values((m, k)), values((n, k) if transposed else (k, n), seed=1),
        tolerance=1e-5)



matrix = sg.placeholder("matrix", (64, 256))
gamma, beta = sg.placeholder("gamma", (256,)), sg.placeholder("beta", (256,))
normed = sg.nn.layer_norm(matrix, weight=gamma, bias=beta)
labels = sg.placeholder("labels", (64,), "int64")
ORDINARY: dict[str, tuple[list[sg.Tensor], Any]] = {
    "gelu": ([matrix], sg.nn.gelu(matrix)),
    "gelu and its gradient": ([matrix], [sg.grad(sg.sum(sg.nn.gelu(matrix)), matrix)]),
    "softmax": ([matrix], sg.nn.softmax(matrix)),
    "layer norm": ([matrix, gamma, beta], normed),
    "layer norm's gradient": ([matrix, gamma, beta], sg.grad(sg.sum(sg.sin(normed)), [matrix, gamma, beta])),
    "cross entropy and its gradient": ([matrix, labels], [
        loss := sg.mean(sg.nn.cross_entropy(matrix, labels)), sg.grad(loss, matrix)]),
    "sums both ways": ([matrix], [sg.sum(matrix, axis=0), sg.sum(matrix, axis=1)]),
    "transpose": ([matrix], sg.exp(matrix.T)),
    "join and pad": ([matrix], sg.pad(sg.concat([matrix, matrix * 2], axis=0), ((0, 0), (0, 64)))),
}


@pytest.mark.parametrize("name", ORDINARY)
def test_ordinary_programs_use_few_registers_and_whole_sectors(name: str) -> None:
    """At most 128 registers, so that two blocks of 256 threads fit; of the sectors that an access moves, at least three
    quarters were asked for; and stores move each result once."""
    inputs, output = ORDINARY[name]
    arrays = [np.arange(64) % 256 if each is labels else values(tuple(map(int, each.shape)), seed=number)
              for number, each in enumerate(inputs)]
    compiled = run(inputs, output, *arrays, tolerance=1e-5)
    program = compiled.program
    stored = 0
    for step in program.steps:
        kernel = program.kernels[step.kernel]
        assert translated(kernel).registers <= 128, kernel.text
        for number in step.writes:
            buffer = program.buffers[number]
            stored += int(np.prod([int(str(size)) for size in buffer.shape])) * np.dtype(buffer.dtype).itemsize
    for each in compiled.runs:
        assert each.counters.load_bytes < 4096 or each.counters.load_efficiency >= 0.75, each.kernel.text
    assert traffic(compiled)[1] <= 1.1 * stored + 4096     # a value for each row is a sector for each row
