"""The CUDA kernel language: every function for every dtype compiles to clean PTX, and means what it means on the CPU,
to the bit. The emitted PTX is run by the interpreter of tests/ptx."""

import itertools
import re
from typing import Any

import numpy as np
import pytest

from staticgraph.compiler.kernel_ir import FUNCTIONS
from tests.runtime.test_language import DTYPES, FLOATS, INTEGERS, equal_bits, sample

from . import needs_compiler
from .kernels import Array, Table, compile_cuda, run_cuda

pytestmark = needs_compiler

NUMBERS = [*INTEGERS, *FLOATS]
UNSIGNED = [dtype for dtype in INTEGERS if dtype.startswith("u")]
LARGEST_TABLE = 8
"""Expressions of one kernel: few enough for its registers."""

UNARY_MATH = """exp exp2 expm1 log log1p log2 log10 sqrt sin cos tan sinh cosh tanh asin acos atan asinh acosh atanh
    erf erfc sigmoid softplus reciprocal""".split()
ROUNDING = "floor ceil trunc round round_half_even rint".split()

EXPRESSIONS: dict[str, list[tuple[str, list[str], str]]] = {
    "mathematics": [(f"{name}(a)", FLOATS, "") for name in UNARY_MATH],
    "pairs": [(f"{name}(a, b)", FLOATS, "") for name in "atan2 hypot logaddexp copysign".split()],
    "rounding": [(f"{name}(a)", DTYPES, "") for name in ROUNDING],
    "classes": [(f"{name}(a)", DTYPES, "bool") for name in "isnan isinf isfinite".split()],
    "unary": [("absolute(a)", DTYPES, ""), ("sign(a)", NUMBERS, ""), ("square(a)", NUMBERS, ""), ("-a", NUMBERS, "")],
    "extremes": [("maximum(a, b)", DTYPES, ""), ("minimum(a, b)", DTYPES, "")],
    "arithmetic": [(f"{name}(a, b)", NUMBERS, "") for name in
                   "power floor_divide remainder wrapping_add wrapping_subtract wrapping_multiply".split()],
    "accumulators": [("accumulate(a, b)", NUMBERS, ""), ("accumulate_product(a, b)", NUMBERS, "")],
    "choice": [("select(a > b, b, a)", DTYPES, ""), ("select(a == b, 1, a)", NUMBERS, "")],
    "fused": [("fma(a, b, c)", FLOATS, ""), ("a * b + c", FLOATS, ""), ("a / b", FLOATS, "")],
    "operators": [(f"a {sign} b", NUMBERS, "") for sign in "+-*"],
    "comparisons": [(f"a {sign} b", DTYPES, "bool") for sign in "< <= > >= == !=".split()],
    "bits": [(f"a {sign} b", ["bool", *INTEGERS], "") for sign in "&|^"] + [
        ("shift_left(a, b)", INTEGERS, ""), ("shift_right(a, b)", INTEGERS, ""), ("~a", INTEGERS, "")],
    "logic": [(expression, ["bool"], "") for expression in ("a and b", "a or b", "not a", "a == b")],
    "random": [("philox(a, b, c, 7)", INTEGERS, "uint32")],
    "indices": [(f"{name}(a, b)", UNSIGNED, "") for name in ("quotient_of", "remainder_of")],
}
"""Group -> (expression, its operands' dtypes, the result's dtype where it is another one)."""

ONLY_HERE = ("indices",)


def tables() -> list[tuple[str, Table]]:
    made = []
    for group, rows in EXPRESSIONS.items():
        for dtype in DTYPES:
            mine = [(expression, result or dtype) for expression, dtypes, result in rows if dtype in dtypes]
            made += [(group, Table(dtype, tuple(mine[start:start + LARGEST_TABLE])))
                     for start in range(0, len(mine), LARGEST_TABLE)]
    return made


def operands(dtype: str) -> tuple[Array, Array, Array]:
    """All pairs of the values that are special, and any bits; the third operand is another order of the second."""
    special = sample(dtype)
    random = np.random.default_rng(7)
    if dtype in FLOATS:
        limits = np.finfo(dtype)
        special = np.append(special, np.array([limits.max, -limits.max, limits.tiny, 1.5, -1.5, 88.5, 0.3], dtype))
    a, b = (np.array(each) for each in zip(*itertools.product(special, special)))
    if dtype != "bool":
        size, bits = 300, np.dtype(dtype).itemsize * 8
        wild = random.integers(0, np.iinfo(f"uint{bits}").max, (2, size), f"uint{bits}", endpoint=True).view(dtype)
        tame = random.integers(-9 if np.dtype(dtype).kind != "u" else 0, 9, (2, size)).astype(dtype)
        if dtype in FLOATS:
            tame = (random.standard_normal((2, size)) * 10.0 ** random.integers(-4, 4, (2, size))).astype(dtype)
        a, b = np.concatenate([a, wild[0], tame[0]]), np.concatenate([b, wild[1], tame[1]])
    return a.astype(dtype), b.astype(dtype), random.permutation(b).astype(dtype)


def show(table: Table, number: int, values: tuple[Array, ...], got: Array, want: Array) -> str:
    bad = next(i for i in range(got.size) if not equal_bits(got[i:i + 1], want[i:i + 1]))
    where = ", ".join(f"{name} = {value[bad]!r}" for name, value in zip("abc", values))
    return f"{table.dtype}: {table.expressions[number][0]} is {got[bad]!r}, not {want[bad]!r}, for {where}"


@pytest.mark.parametrize(("group", "table"), tables(), ids=lambda value: getattr(value, "dtype", value))
def test_the_same_bits_as_on_the_cpu(group: str, table: Table) -> None:
    values = operands(table.dtype)
    if group in ONLY_HERE:
        values = values[0], np.maximum(values[1], 1), values[2]
        want: list[Array] = [values[0] // values[1], values[0] % values[1]]
    else:
        want = table.run("cpu", values)
    for number, (got, expected) in enumerate(zip(table.run("cuda", values), want, strict=True)):
        assert equal_bits(got, expected), show(table, number, values, got, expected)


def test_the_comparison_sees_a_contraction() -> None:
    values = operands("float32")
    (got,) = Table("float32", (("a * b + c", "float32"),)).run("cuda", values)
    (fused,) = Table("float32", (("fma(a, b, c)", "float32"),)).run("cpu", values)
    assert not equal_bits(got, fused)


def test_every_word_of_the_compiler_is_in_the_table() -> None:
    from staticgraph.runtime.cuda.language import NAMES

    text = " ".join(expression for rows in EXPRESSIONS.values() for expression, _, _ in rows)
    tried = set(re.findall(r"\w+", text)) | {*DTYPES, "bool_", "inf", "nan"}
    assert set(NAMES) >= FUNCTIONS - {"min", "max"}
    assert FUNCTIONS - {"min", "max"} <= tried
    memory = ("pointer_", "input_", "shared_", "load", "store", "shuffle_", "team_")
    others = {name for name in NAMES if not name.startswith(memory)}
    assert others - tried == {"thread", "block", "blocks", "barrier", "fail", "reported",
                              "array_of", "block_of", "left_of", "pick"}
    assert all(isinstance(value, (float, type)) or (value.__doc__ or "").strip() for value in NAMES.values())


# Casts.

def cast(values: Array, dtype: str) -> Array:
    """astype; floats go by way of a wider integer, whose smallest value stands for all that do not fit."""
    kind = np.dtype(dtype)
    if values.dtype.kind != "f" or kind.kind not in "iu":
        with np.errstate(over="ignore"):
            return values.astype(dtype)
    bits = 64 if kind.itemsize == 8 or dtype == "uint32" else 32
    found = []
    for value in values.tolist():
        if dtype == "uint64" and 2.0**63 <= value < 2.0**64:
            found.append(int(value))
        elif dtype == "uint64" and value >= 2.0**64:
            found.append(2**64 - 1)
        elif -(2.0 ** (bits - 1)) <= value < 2.0 ** (bits - 1):
            found.append(int(value))
        else:
            found.append(-(2 ** (bits - 1)))
    return np.array([value % 2**64 for value in found], np.uint64).astype(dtype)


@pytest.mark.parametrize("source", DTYPES)
def test_casts(source: str) -> None:
    x = operands(source)[0]
    if source in FLOATS:
        x = np.append(x, np.array([2.0**31, -(2.0**31), 2.0**31 - 128, 2.0**63, -(2.0**63), 2.0**64, 1e19, 300.7, -1.9,
                                   -129.5, 65536.5], source))
    table = Table(source, tuple((f"{'bool_' if target == 'bool' else target}(a)", target) for target in DTYPES))
    for target, got in zip(DTYPES, table.run("cuda", (x, x, x))):
        assert equal_bits(got, cast(x, target)), f"{source} to {target}"


def test_literals_have_their_functions_dtype() -> None:
    table = Table("float32", (("a * float32(0.1)", "float32"), ("select(a > 2, float32(inf), a)", "float32"),
                              ("maximum(a, float32(nan))", "float32"), ("int32(7)", "int32"), ("uint64(7)", "uint64")))
    x = np.array([1.0, 3.0], np.float32)
    product, chosen, nothing, small, large = table.run("cuda", (x, x, x))
    assert product.tolist() == (x * np.float32(0.1)).tolist() and chosen.tolist() == [1.0, np.inf]
    assert np.isnan(nothing).all() and small.tolist() == [7, 7] and large.tolist() == [7, 7]


# Rounding and instructions.

def words_of(expression: str, dtype: str) -> list[str]:
    ptx = compile_cuda("table", Table(dtype, ((expression, dtype),)).cuda())[0].ptx
    return re.findall(r"^\s+([a-z][\w.]*)\s", ptx, re.MULTILINE)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize(("expression", "word"), [
    ("a / b", "div.rn"), ("reciprocal(a)", "rcp.rn"), ("sqrt(a)", "sqrt.rn"), ("fma(a, b, c)", "fma.rn"),
    ("a * b", "mul.rn"), ("a + b", "add.rn"), ("rint(a)", "cvt.rni"), ("floor(a)", "cvt.rmi"), ("ceil(a)", "cvt.rpi"),
    ("trunc(a)", "cvt.rzi")])
def test_operations_are_one_correctly_rounded_instruction(expression: str, word: str, dtype: str) -> None:
    short = dtype.replace("float", "f")
    wanted = f"{word}.{short}.{short}" if word.startswith("cvt") else f"{word}.{short}"
    words = [each for each in words_of(expression, dtype) if not each.startswith(("ld", "st"))]
    assert [each for each in words if f".{short}" in each] == [wanted]


def test_only_accumulators_contract() -> None:
    assert "fma.rn.f32" not in words_of("a * b + c", "float32")
    assert "fma.rn.f32" in words_of("accumulate(c, a * b)", "float32")


def test_float_extremes_are_one_instruction() -> None:
    assert "max.NaN.f32" in words_of("maximum(a, b)", "float32")
    assert "min.NaN.f32" in words_of("minimum(a, b)", "float32")


def test_index_arithmetic_of_32_bits_is_possible() -> None:
    text = """
from staticgraph.runtime.cuda.language import input_float32, int32, pointer_float32, thread

def narrow(a0, a1, n):
    i = int32(thread())
    pointer_float32(a1)[i] = input_float32(a0)[i]
"""
    x, y = np.arange(4, dtype=np.float32), np.zeros(4, np.float32)
    run_cuda(compile_cuda("narrow", text)[0].ptx, "narrow", [x, y, 4], 1, 4)
    assert y.tolist() == x.tolist()


# Vector accesses.

SIZES = {dtype: np.dtype(dtype).itemsize for dtype in DTYPES}
VECTORS = [(dtype, count) for dtype in DTYPES for count in (2, 4, 8, 16) if count * SIZES[dtype] <= 16]


def values_of(dtype: str, size: int) -> Array:
    random = np.random.default_rng(3)
    if dtype == "bool":
        return random.integers(0, 2, size).astype(bool)
    raw: Array = random.integers(0, 256, size * SIZES[dtype]).astype(np.uint8).view(dtype)
    return raw


def access_bytes(word: str) -> int:
    """How many bytes an access moves, by its suffixes."""
    vector = re.search(r"\.v(\d)", word)
    return int(vector[1] if vector else 1) * int(re.findall(r"\.[usbf](\d+)", word)[-1]) // 8


@pytest.mark.parametrize("prefix", ["input", "pointer"])
@pytest.mark.parametrize(("dtype", "count"), VECTORS)
def test_vectors_are_one_access(dtype: str, count: int, prefix: str) -> None:
    back = ", ".join(f"v[{lane}]" for lane in reversed(range(count)))
    text = f"""
from staticgraph.runtime.cuda.language import load{count}, pointer_{dtype}, {prefix}_{dtype}, store{count}, thread

def turn(a0, a1, stop):
    x = {prefix}_{dtype}(a0)
    y = pointer_{dtype}(a1)
    i = thread() * {count}
    if i < stop:
        v = load{count}(x, i)
        store{count}(y, i, {back})
"""
    x = values_of(dtype, count * 20)
    y = np.zeros_like(x)
    for each in compile_cuda("turn", text):
        run_cuda(each.ptx, "turn", [x, y, x.size], 1)
        assert equal_bits(y.reshape(-1, count), x.reshape(-1, count)[:, ::-1])
        loads, stores = (re.findall(rf"\b{word}\.global[a-z0-9.]*", each.ptx) for word in ("ld", "st"))
        assert len(loads) == len(stores) == 1, each.ptx
        assert access_bytes(loads[0]) == access_bytes(stores[0]) == count * SIZES[dtype]
        assert (".nc." in loads[0]) == (prefix == "input")


def test_bools_in_memory_are_one_byte_and_normalised() -> None:
    text = """
from staticgraph.runtime.cuda.language import input_bool, load2, pointer_bool, pointer_uint8, store2

def bools(a0, a1, a2):
    x = input_bool(a0)
    y = pointer_bool(a1)
    y[0] = x[0]
    y[1] = x[1]
    v = load2(x, 2)
    store2(y, 2, v[0], v[1])
    z = pointer_uint8(a2)
    z[0] = x[1] + x[2]
"""
    x, y, z = np.array([0, 1, 2, 255], np.uint8), np.full(4, 9, np.uint8), np.zeros(1, np.uint8)
    run_cuda(compile_cuda("bools", text)[0].ptx, "bools", [x, y, z], 1, 1)
    assert y.tolist() == [0, 1, 1, 1] and z.tolist() == [2]


# Blocks.

@pytest.mark.parametrize("dtype", DTYPES)
def test_shared_arrays_and_barriers(dtype: str) -> None:
    count = 16 // SIZES[dtype]
    load, store = (f"load{count}", f"store{count}")
    back = ", ".join(f"v[{lane}]" for lane in range(count))
    text = f"""
from staticgraph.runtime.cuda.language import {load}, {store}, barrier, input_{dtype}, pointer_{dtype}
from staticgraph.runtime.cuda.language import shared_{dtype}, thread

def through(a0, a1):
    x = input_{dtype}(a0)
    y = pointer_{dtype}(a1)
    first = shared_{dtype}(64)
    second = shared_{dtype}({64 * count})
    t = thread()
    first[t] = x[t]
    barrier()
    other = first[63 - t]
    for lane in range({count}):
        second[t * {count} + lane] = other
    barrier()
    v = {load}(second, (63 - t) * {count})
    barrier()
    {store}(second, t * {count}, {back})
    barrier()
    y[t] = second[t * {count} + {count - 1}]
"""
    x = values_of(dtype, 64)
    y = np.zeros_like(x)
    for each in compile_cuda("through", text, 64):
        run_cuda(each.ptx, "through", [x, y], 1, 64)
        assert equal_bits(y, x)
        assert each.shared_bytes == 64 * (count + 1) * SIZES[dtype]
        assert max(map(access_bytes, re.findall(r"\bld\.shared[a-z0-9.]*", each.ptx))) == 16


def test_shared_arrays_are_apart_and_aligned() -> None:
    text = """
from staticgraph.runtime.cuda.language import barrier, float32, pointer_float32, remainder_of, shared_bool
from staticgraph.runtime.cuda.language import shared_float32, store4, thread

def apart(a0):
    flags = shared_bool(3)
    numbers = shared_float32(32)
    t = thread()
    if t < 3:
        flags[t] = True
    store4(numbers, 4 * t, float32(t), float32(8), float32(9), float32(10))
    barrier()
    y = pointer_float32(a0)
    y[t] = numbers[4 * (7 - t)]
    if flags[remainder_of(t, 3)]:
        y[t] = y[t] + float32(100)
"""
    y = np.zeros(8, np.float32)
    run_cuda(compile_cuda("apart", text, 8)[0].ptx, "apart", [y], 1, 8)
    assert y.tolist() == [100.0 + value for value in range(7, -1, -1)]


def test_blocks_are_given_out_to_arrays() -> None:
    """Lengths 5, 0, 8 and 1 by blocks of 4: two blocks, none, two and one; what is left goes to other arrays."""
    text = """
from staticgraph.runtime.cuda.language import array_of, block, block_of, left_of, pick, pointer_int64

def which(a0, a1, a2, a3, a4):
    y = pointer_int64(a4)
    turn = array_of(block(), 4, a0, a1, a2, a3)
    y[4 * block()] = turn
    y[4 * block() + 1] = block_of(block(), 4, a0, a1, a2, a3)
    y[4 * block() + 2] = left_of(block(), 4, a0, a1, a2, a3)
    y[4 * block() + 3] = pick(turn, a0, a1, a2, a3) if turn >= 0 else -1
"""
    y = np.zeros((7, 4), np.int64)
    run_cuda(compile_cuda("which", text, 1)[0].ptx, "which", [5, 0, 8, 1, y], 7, 1)
    assert y.tolist() == [[0, 0, -1, 5], [0, 1, -1, 5], [2, 0, -1, 8], [2, 1, -1, 8], [3, 0, -1, 1], [-1, 0, 0, -1],
                          [-1, 0, 1, -1]]


@pytest.mark.parametrize("word", [0, 1, -1, 1 << 40])
def test_reports_are_seen(word: int) -> None:
    text = """
from staticgraph.runtime.cuda.language import pointer_bool, pointer_int64, reported

def seen(a0, a1):
    pointer_bool(a1)[0] = reported(pointer_int64(a0))
"""
    status, y = np.array([word, 7, 7, 7]), np.zeros(1, bool)
    run_cuda(compile_cuda("seen", text, 1)[0].ptx, "seen", [status, y], 1, 1)
    assert y[0] == (word != 0)


SHUFFLES: dict[str, Any] = {
    "shuffle_xor(v, 5)": lambda lane: lane ^ 5,
    "shuffle_down(v, 3)": lambda lane: lane + 3 if lane + 3 < 32 else lane,
    "shuffle_up(v, 3)": lambda lane: lane - 3 if lane >= 3 else lane,
    "shuffle_index(v, 31 - t)": lambda lane: 31 - lane,
    "shuffle_index(v, 9)": lambda lane: 9,
}


@pytest.mark.parametrize("dtype", DTYPES)
def test_shuffles(dtype: str) -> None:
    names = ", ".join(sorted({call.partition("(")[0] for call in SHUFFLES}))
    lines = [f"    y[{64 * row} + t] = {call}" for row, call in enumerate(SHUFFLES)]
    text = "\n".join([f"from staticgraph.runtime.cuda.language import {names}, input_{dtype}, pointer_{dtype}, thread",
                      "def shuffles(a0, a1):", "    t = thread()", f"    v = input_{dtype}(a0)[t]",
                      f"    y = pointer_{dtype}(a1)", *lines, ""])
    x, y = values_of(dtype, 64), np.zeros(64 * len(SHUFFLES), dtype)
    for each in compile_cuda("shuffles", text, 64):
        run_cuda(each.ptx, "shuffles", [x, y], 1, 64)
        for row, source in zip(y.reshape(-1, 64), SHUFFLES.values()):
            assert equal_bits(row, x[[t & 32 | source(t & 31) for t in range(64)]])
        assert each.ptx.count("shfl.sync") == len(SHUFFLES) * (2 if SIZES[dtype] == 8 else 1)


TEAMS: dict[str, tuple[Any, list[str]]] = {
    "team_sum": (np.add, NUMBERS), "team_prod": (np.multiply, NUMBERS), "team_max": (np.maximum, DTYPES),
    "team_min": (np.minimum, DTYPES), "team_any": (np.logical_or, ["bool"]), "team_all": (np.logical_and, ["bool"]),
}


@pytest.mark.parametrize("dtype", DTYPES)
def test_teams_come_to_one_result(dtype: str) -> None:
    calls = [(name, threads) for name, (_, dtypes) in TEAMS.items() for threads in (1, 2, 8, 32) if dtype in dtypes]
    lines = [f"    y[{64 * row} + t] = {name}(v, {threads})" for row, (name, threads) in enumerate(calls)]
    names = ", ".join(sorted({name for name, _ in calls}))
    text = "\n".join([f"from staticgraph.runtime.cuda.language import {names}, input_{dtype}, pointer_{dtype}, thread",
                      "def teams(a0, a1):", "    t = thread()", f"    v = input_{dtype}(a0)[t]",
                      f"    y = pointer_{dtype}(a1)", *lines, ""])
    x, y = values_of(dtype, 64), np.zeros(64 * len(calls), dtype)
    if dtype in FLOATS:
        x = np.where(np.isfinite(x), np.clip(x, -1e3, 1e3), 1).astype(dtype)
        x[40] = np.nan
    run_cuda(compile_cuda("teams", text, 64)[0].ptx, "teams", [x, y], 1, 64)
    for row, (name, threads) in zip(y.reshape(-1, 64), calls):
        want, distance = x, threads // 2
        while distance:
            want, distance = TEAMS[name][0](want, want[np.arange(64) ^ distance]), distance // 2
        assert equal_bits(row, want), f"{name}(v, {threads})"


def test_threads_and_blocks() -> None:
    text = """
from staticgraph.runtime.cuda.language import block, blocks, pointer_int64, thread

def who(a0):
    y = pointer_int64(a0)
    y[block() * 4 + thread()] = block() * 10000 + blocks() * 100 + thread()
"""
    y = np.zeros(12, np.int64)
    run_cuda(compile_cuda("who", text, 4)[0].ptx, "who", [y], 3, 4)
    assert y.tolist() == [b * 10000 + 300 + t for b in range(3) for t in range(4)]


def test_one_report_of_failure_stays_whole() -> None:
    text = """
from staticgraph.runtime.cuda.language import block, fail, input_int64, pointer_int64, thread

def check(a0, status, size, stop):
    i = block() * 64 + thread()
    if i < stop:
        value = input_int64(a0)[i]
        if value < 0 or value >= size:
            fail(pointer_int64(status), 6, value, size + i)
"""
    ptx = compile_cuda("check", text, 64)[0].ptx
    assert ptx.count("atom.global.cas.b64") == 1
    values, status = np.arange(200), np.zeros(4, np.int64)
    counters = run_cuda(ptx, "check", [values, status, 200, 200], 4, 64)
    assert status.tolist() == [0, 0, 0, 0] and counters.atomics == 0
    values[[77, 140, 3]] = [-5, 1000, 200]
    run_cuda(ptx, "check", [values, status, 200, 200], 4, 64)
    assert status.tolist() in ([7, -5, 277, 0], [7, 1000, 340, 0], [7, 200, 203, 0])
    before = status.copy()
    run_cuda(ptx, "check", [values[::-1].copy(), status, 200, 200], 4, 64)
    assert status.tolist() == before.tolist()
