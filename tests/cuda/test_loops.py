"""Loops over ranges as while loops: the meaning stays, and NVVM sees a counter."""

import ast
import re

import numpy as np
import pytest

from staticgraph.runtime.cuda.loops import MARKER, plain_loops
from staticgraph.runtime.cuda.translate import translate

from . import needs_compiler
from .kernels import run_cuda

MEANINGS = {
    "stop": "for i in range(n):\n    see(i)",
    "start and stop": "for i in range(2, n):\n    see(i)",
    "steps": "for i in range(1, n, 3):\n    see(i)",
    "backward": "for i in range(n, -1, -2):\n    see(i)",
    "nothing to do": "for i in range(n, 2):\n    see(i)\nsee(n)",
    "the last value stays": "i = -5\nfor i in range(n):\n    pass\nsee(i)\nfor i in range(0):\n    pass\nsee(i)",
    "nested": "for i in range(n):\n    for j in range(i, n):\n        for i in range(2):\n            see(i + 10 * j)",
    "bounds change": "for i in range(n, 2 * n, 1):\n    n = n + 5\n    see(i)",
    "the value changes": "for i in range(n):\n    i = i * 2\n    see(i)",
    "continue": "for i in range(n):\n    if i == 2:\n        continue\n    see(i)",
    "break": "for i in range(n):\n    if i == 2:\n        break\n    see(i)\nelse:\n    see(-1)",
    "else": "for i in range(n):\n    see(i)\nelse:\n    see(-1)",
    "bounds that are seen": "for i in range(see(0), see(n), 2):\n    see(i)",
    "any step": "for i in range(0, n, step):\n    see(i)",
    "no range": "for i in (3, 1, 2):\n    see(i)",
}


def seen(tree: ast.Module, n: int) -> list[int]:
    found: list[int] = []

    def see(value: int) -> int:
        found.append(value)
        return value

    exec(compile(tree, "<loops>", "exec"), {"n": n, "step": 2, "see": see, MARKER: lambda: None})
    return found


@pytest.mark.parametrize("case", MEANINGS)
def test_the_meaning_stays(case: str) -> None:
    text = MEANINGS[case]
    for n in (0, 1, 5):
        assert seen(plain_loops(ast.parse(text)), n) == seen(ast.parse(text), n)
    left = [node for node in ast.walk(plain_loops(ast.parse(text))) if isinstance(node, ast.For)]
    assert bool(left) == (case in ("any step", "no range"))


def test_lines_keep_their_numbers() -> None:
    text = "\n\ndef f(n):\n    for i in range(n):\n        x = i\n\n        y = x\n"
    lines = {node.lineno for node in ast.walk(plain_loops(ast.parse(text))) if isinstance(node, ast.stmt)}
    assert lines == {3, 4, 5, 7}


ROWS = """
from staticgraph.runtime.cuda.language import accumulate, float32, input_float32, load4, pointer_float32, thread

def rows(a0, a1):
    x = input_float32(a0)
    total = float32(0)
    for turn in range(4):
        a, b, c, d = load4(x, thread() * 16 + turn * 4)
        total = total + (a + b) + (c + d)
    mean = total / float32(16)
    square = float32(0)
    for turn in range(4):
        a, b, c, d = load4(x, thread() * 16 + turn * 4)
        square = square + ((a - mean) * (a - mean) + (b - mean) * (b - mean))
        square = square + ((c - mean) * (c - mean) + (d - mean) * (d - mean))
    pointer_float32(a1)[thread()] = square
"""


@needs_compiler
def test_short_rows_are_read_once() -> None:
    """Loops of known length are unrolled, and what an input holds is loaded once for both."""
    ptx = translate("rows", ROWS, (9, 0), 32).ptx
    assert ptx.count("ld.global.nc.v4.f32") == 4 and "bra" not in ptx
    x, y = np.random.default_rng(0).standard_normal((32, 16)).astype(np.float32), np.zeros(32, np.float32)
    run_cuda(ptx, "rows", [x, y], 1, 32)
    np.testing.assert_allclose(y, x.var(axis=1) * 16, rtol=1e-5)


@needs_compiler
def test_a_counter_is_a_counter() -> None:
    text = """
from staticgraph.runtime.cuda.language import float32, input_float32, pointer_float32, thread

def walk(a0, a1, n):
    total = float32(0)
    for i in range(thread(), n, 32):
        total = total + input_float32(a0)[i]
    pointer_float32(a1)[thread()] = total
"""
    ptx = translate("walk", text, (9, 0), 32).ptx
    assert not re.search(r"\bselp|\bdiv|\brem", ptx)
    x, y = np.arange(100, dtype=np.float32), np.zeros(32, np.float32)
    run_cuda(ptx, "walk", [x, y, 100], 1, 32)
    assert y.tolist() == [x[t::32].sum() for t in range(32)]
