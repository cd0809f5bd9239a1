"""The front end of kernel texts: what it makes of Python is what Numba makes of it, bit by bit."""

from __future__ import annotations

from ctypes import CFUNCTYPE, c_int32, c_int64
from typing import Any

import numpy as np
import pytest

import staticgraph as sg
from staticgraph.api import compile_only
from staticgraph.compiler.program import Kernel
from staticgraph.runtime.cpu import translate as translating
from staticgraph.runtime.cpu.arithmetic import Beyond
from staticgraph.runtime.cpu.front_end import emit
from staticgraph.runtime.cpu.loader import load_kernel
from staticgraph.runtime.cpu.objects import linker

from ..kernel_harness import CompiledKernel

OPERATORS = '''
from staticgraph.runtime.cpu.language import bool_, float32, float64, int32, int64, inf, nan
from staticgraph.runtime.cpu.language import pointer_float64, {pointers}


def operators(args, start, stop):
    """Every operator, cast and comparison of two numbers."""
    x, y = pointer_{dtype}(args, 0), pointer_{dtype}(args, 1)
    out = pointer_float64(args, 2)
    for i in range(start, stop):
        a = x[i]
        b = y[i]
        place = i * {count}
{lines}
'''

INTEGER = ("a + b", "a - b", "a * b", "a / b", "a // b", "a % b", "a & b", "a | b", "a ^ b", "a << 3", "a >> 2", "~a",
           "-a", "+a", "a // 7", "a % -5", "a + 0.5", "min(a, b, 3)", "max(a, b)", "int32(a)", "bool_(a)", "float32(a)")
FLOAT = ("a + b", "a - b", "a * b", "a / b", "-a", "a + 1", "2 * b", "a + 0.5", "int64(a * 3)", "float32(a)",
         "float64(b)", "bool_(a)", "a + inf", "a - nan")
EITHER = ("a < b", "a <= b", "a > b", "a >= b", "a == b", "a != b", "a < b < 3", "not a < b", "a < b and b < 2",
          "a < b or b == a or a > 5", "a if a > b else b", "not (a < 2 or not b > 1)")
TYPES = {"int64": INTEGER + EITHER, "float32": FLOAT + EITHER, "float64": FLOAT + EITHER, "int8": INTEGER + EITHER,
         "uint64": ("a + b", "a * b", "a & b", "a > 3", "a == b", "~a", "-a", "uint64(a)"),
         "uint8": ("a + b", "a * b", "-a", "-a > 3", "~a")}
VALUES = {"int64": [0, 1, -1, 2, -7, 7, 13, -100, 2**40],
          "float32": [0.0, -0.0, 1.5, -2.25, 3.0, np.nan, np.inf, 1e-40],
          "float64": [0.0, -0.0, 1.5, -2.25, 3.0, np.nan, -np.inf, 5e-324], "int8": [0, 1, -1, 5, -128, 127],
          "uint64": [0, 1, 3, 2**63, 2**64 - 1], "uint8": [0, 1, 3, 128, 255]}


def run(name: str, text: str, arrays: list[Any], stop: int) -> None:
    """By the front end alone."""
    emitted = emit(text, name, f"tried_{name}")
    code, outside = linker().compile(emitted)
    entry = CFUNCTYPE(c_int32, c_int64, c_int64, c_int64)(linker().link(code, f"tried_{name}", outside))
    table = np.array([each.ctypes.data for each in arrays], np.int64)
    assert entry(table.ctypes.data, 0, stop) == 0


def both(name: str, text: str, arrays: list[Any], out: Any, stop: int) -> None:
    """The same text by Numba and by the front end, compared as bits."""
    expected = out.copy()
    CompiledKernel(text)([*arrays, expected], stop)
    run(name, text, [*arrays, out], stop)
    np.testing.assert_array_equal(out.view(np.uint64), expected.view(np.uint64))


@pytest.mark.parametrize("dtype", TYPES)
def test_operators(dtype: str) -> None:
    expressions = TYPES[dtype]
    lines = "\n".join(f"        out[place + {number}] = {each}" for number, each in enumerate(expressions))
    names = sorted({f"pointer_{dtype}"} - {"pointer_float64"} | ({"uint64"} if dtype == "uint64" else set())) or ["exp"]
    text = OPERATORS.format(dtype=dtype, pointers=", ".join(names), count=len(expressions), lines=lines)
    values = np.array(VALUES[dtype], dtype)
    x, y = (np.ascontiguousarray(each.ravel()) for each in np.meshgrid(values, values))
    both("operators", text, [x, y], np.zeros((x.size, len(expressions))), x.size)


CONTROL = '''
from staticgraph.runtime.cpu.language import float64, local_float64, pointer_float64, pointer_int64


def control(args, start, stop):
    x, out = pointer_int64(args, 0), pointer_float64(args, 1)
    kept = local_float64(4)
    while start < stop:
        n = x[start]
        for k in range(4):
            kept[k] = 0.0
        total = 0
        last = -1
        for i in range(n):
            i_before = i
            i += 10
            if i_before % 3 == 0:
                continue
            elif i_before > 40:
                break
            else:
                total += i
                last = i_before
            kept[i_before & 3] += 0.5
        for j in range(n - 1, -1, -2):
            total -= j
        for j in range(3, n, 4):
            total += j * 1000
        chosen = n if n > 5 else total
        if n < 0:
            start += 1
            if n < -50:
                return
        else:
            start += 1
        late = start * 2
        out[start - 1] = float64(total + last * 7 + chosen + late) + kept[0] - kept[1] * kept[2] + kept[3]
'''


def test_control_flow() -> None:
    x = np.array([0, 1, 2, 3, 10, 57, -4, 4, -60, 8], np.int64)
    both("control", CONTROL, [x], np.zeros(x.size), x.size)


AFTER_A_LOOP = '''
from staticgraph.runtime.cpu.language import pointer_float64


def after(args, start, stop):
    out = pointer_float64(args, 0)
    for i in range(start, stop):
        for j in range(i + 1):
            seen = j * 2
        out[i] = seen
'''


def test_a_variable_that_outlives_its_loop() -> None:
    out = np.zeros(5)
    run("after", AFTER_A_LOOP, [out], 5)
    assert out.tolist() == [0, 2, 4, 6, 8]


@pytest.mark.parametrize(("line", "words"), [
    ("x = 1\n    x = 0.5", "'x' is int64 and float64"),
    ("x = args ** 2", "operator Pow"),
    ("for k in (1, 2):\n        pass", "anything but a range"),
    ("x = [1]", "expression"),
    ("with x:\n        pass", "statement With"),
    ("x = unknown", "name 'unknown'"),
])
def test_what_is_beyond_it(line: str, words: str) -> None:
    with pytest.raises(Beyond, match=words):
        emit(f"def f(args, start, stop):\n    {line}\n", "f", "f")


def test_numba_takes_what_is_beyond_it_and_explain_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STATICGRAPH_CACHE", "0")
    loaded = load_kernel(Kernel("power", "", "from staticgraph.runtime.cpu.language import pointer_int64\n\n\n"
                                "def power(args, start, stop):\n    out = pointer_int64(args, 0)\n"
                                "    for i in range(start, stop):\n        out[i] = i ** 2\n"))
    assert loaded.origin == "compiled" and "by Numba: the operator Pow" in loaded.reason
    out = np.zeros(4, np.int64)
    table = np.array([out.ctypes.data], np.int64)
    CFUNCTYPE(c_int32, c_int64, c_int64, c_int64)(loaded.address)(table.ctypes.data, 0, 4)
    assert out.tolist() == [0, 1, 4, 9]


def test_models_are_within_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """What people compile never waits for Numba: a model with its gradients, dropout, sorting and integers."""
    x, t = sg.placeholder("x", ("n", 6), "float32"), sg.placeholder("t", ("n",), "int64")
    w = sg.variable(np.ones((6, 5), "float32"), name="w")
    generator = sg.random.generator(1)
    hidden = sg.nn.layer_norm(sg.nn.gelu(x @ w)) * (generator.uniform((5,)) < 0.5)
    loss = sg.mean(sg.nn.cross_entropy(hidden, t))
    image = sg.reshape(x, (-1, 1, 2, 3))
    pooled = sg.max_pool2d(sg.conv2d(image, sg.reshape(w[:4, 0], (1, 1, 2, 2)), padding=1), 2)
    outputs = [loss, pooled, *sg.vjp([pooled], [image], [pooled]),
               sg.argsort(x), sg.cumulative_sum(t), sg.take(w, t, axis=0), sg.any(x > 0), sg.var(x, axis=0)]
    program = compile_only([x, t], outputs, updates={w: w - sg.grad(loss, w)}).program
    assert program is not None and len(program.kernels) > 5
    for kernel in program.kernels:
        assert "define i32" in emit(kernel.text, kernel.name, "symbol")


def test_assembly_can_be_listed() -> None:
    assert "ret" in linker().list_code(emit(AFTER_A_LOOP, "after", "listed"))


def test_a_syntax_error_names_the_kernel() -> None:
    with pytest.raises(sg.errors.VerificationError, match="'broken'"):
        translating.translate(Kernel("broken", "", "def broken(args, start, stop)\n"), "broken", "<broken>")
