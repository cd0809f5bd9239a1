"""Small programs put together by hand, so that the runtime is tested without the compiler."""

from __future__ import annotations

import hashlib
import itertools
import threading
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from staticgraph.compiler.program import (
    Argument,
    Buffer,
    Check,
    InputSpec,
    Kernel,
    Note,
    OutputSpec,
    Program,
    Step,
    VariableSpec,
)
from staticgraph.types import Dim, product

BATCH = Dim.symbol("batch")

ADD_ONE = """
from staticgraph.runtime.cpu.language import float32, pointer_float32

def add_one(args, start, stop):
    x = pointer_float32(args, 0)
    y = pointer_float32(args, 1)
    for i in range(start, stop):
        y[i] = x[i] + float32(1.0)
"""

PICK = """
from staticgraph.runtime.cpu.language import address, extent, fail, pointer_float32, pointer_int64

def pick(args, start, stop):
    x = pointer_float32(args, 0)
    t = pointer_int64(args, 1)
    y = pointer_float32(args, 2)
    n = extent(args, 3)
    status = address(args, 4)
    for i in range(start, stop):
        j = t[i]
        if j < 0 or j >= n:
            fail(status, 0, j, n)
        else:
            y[i] = x[j]
"""

COPY = """
from staticgraph.runtime.cpu.language import pointer_float32

def copy(args, start, stop):
    x = pointer_float32(args, 0)
    y = pointer_float32(args, 1)
    for i in range(start, stop):
        y[i] = x[i]
"""


THROUGH_WORKSPACE = """
from staticgraph.runtime.cpu.language import pointer_float32

def through_workspace(args, start, stop):
    x = pointer_float32(args, 0)
    y = pointer_float32(args, 1)
    workspace = pointer_float32(args, 2)
    for i in range(start, stop):
        workspace[i - start] = x[i]
    for i in range(start, stop):
        y[i] = workspace[i - start] * workspace[i - start]
"""


def kernel(text: str) -> Kernel:
    return Kernel(text.split("def ")[1].split("(")[0], hashlib.sha256(text.encode()).hexdigest(), text)


def at(*buffers: int) -> tuple[Argument, ...]:
    return tuple(Argument("buffer", buffer) for buffer in buffers)


def buffer(name: str, place: str, shape: tuple[Any, ...], index: int = 0, dtype: str = "float32",
           offset: Any = 0) -> Buffer:
    nbytes = product(shape) * np.dtype(dtype).itemsize
    return Buffer(name, dtype, shape, place, index, offset, nbytes)


@dataclass
class Storage:
    """A variable's storage, as the language hands it over."""

    array: np.ndarray[Any, Any]
    number: int = 0
    lock: Any = field(default_factory=threading.RLock)


def make(**parts: Any) -> Program:
    """A program of the parts given; all others are empty."""
    usual: dict[str, Any] = {
        "device": "cpu", "inputs": (), "outputs": (), "variables": (), "constants": (), "buffers": (), "kernels": (),
        "steps": (), "notes": (Note("something"),), "guards": (), "checks": (), "arena_bytes": 0}
    return Program(**{**usual, **parts})


def add_one_program(shape: tuple[Any, ...] = (BATCH, 3), **parts: Any) -> Program:
    """y = x + 1."""
    return make(**{
        "inputs": (InputSpec("x", "float32", shape, "model.py:3"),),
        "outputs": (OutputSpec("float32", shape, 1, "y"),),
        "buffers": (buffer("x", "input", shape), buffer("y", "output", shape)),
        "kernels": (kernel(ADD_ONE),),
        "steps": (Step(0, at(0, 1), product(shape), reads=(0,), writes=(1,)),),
        "notes": (Note("x + 1", ("add",), ("model.py:4",)),),
        **parts})


def chain_program(length: int, shape: tuple[Any, ...] = (BATCH,)) -> Program:
    """y = x + length, through two arena buffers that take turns."""
    slot = product(shape) * 64     # wasteful, aligned, and easy to read
    arena = (buffer("a", "arena", shape), buffer("b", "arena", shape, offset=slot))
    places = [0, *(2 + step % 2 for step in range(length - 1)), 1]
    return make(
        inputs=(InputSpec("x", "float32", shape, "model.py:3"),),
        outputs=(OutputSpec("float32", shape, 1, "y"),),
        buffers=(buffer("x", "input", shape), buffer("y", "output", shape), *arena),
        kernels=(kernel(ADD_ONE),),
        steps=tuple(Step(0, at(a, b), product(shape), reads=(a,), writes=(b,)) for a, b in itertools.pairwise(places)),
        arena_bytes=2 * slot)


def counter_program(shape: tuple[int, ...] = (4,)) -> Program:
    """returns w, then w = w + 1 through the arena."""
    return make(
        outputs=(OutputSpec("float32", shape, 0, "w"),),
        variables=(VariableSpec("w", "float32", shape, written=True, location="model.py:7"),),
        buffers=(buffer("w", "variable", shape), buffer("new_w", "arena", shape)),
        kernels=(kernel(ADD_ONE), kernel(COPY)),
        steps=(Step(0, at(0, 1), product(shape), reads=(0,), writes=(1,)),
               Step(1, at(1, 0), product(shape), stage="commit", reads=(1,), writes=(0,))),
        arena_bytes=64 * (1 + product(shape) * 4 // 64))


def pick_and_update_program() -> Program:
    """y = x[t], and w = w + 1 of each element; fails where t leaves x."""
    n = Dim.symbol("n")
    return make(
        inputs=(InputSpec("x", "float32", (BATCH,), "model.py:3"), InputSpec("t", "int64", (n,), "model.py:4")),
        outputs=(OutputSpec("float32", (n,), 2, "y"),),
        variables=(VariableSpec("w", "float32", (4,), written=True),),
        buffers=(buffer("x", "input", (BATCH,)), buffer("t", "input", (n,), 1, "int64"),
                 buffer("y", "output", (n,)), buffer("w", "variable", (4,)),
                 buffer("new_w", "arena", (4,))),
        kernels=(kernel(ADD_ONE), kernel(PICK), kernel(COPY)),
        steps=(Step(0, at(3, 4), 4, reads=(3,), writes=(4,)),
               Step(1, (*at(0, 1, 2), Argument("size", BATCH), Argument("status")), n, reads=(0, 1),
                    writes=(2,)),
               Step(2, at(4, 3), 4, stage="commit", reads=(4,), writes=(3,))),
        checks=(Check("take: index {value} is out of range for an axis of size {size}\n  t: int64[n]   model.py:4"),),
        arena_bytes=64)


def workspace_program(shape: tuple[Any, ...] = (BATCH,)) -> Program:
    """y = (x + 1)**2, the square by way of a workspace that every chunk uses from its start."""
    size = product(shape)
    names = (("x", "input", 0), ("y", "output", 0), ("h", "arena", 0), ("workspace", "arena", size * 64))
    return make(
        inputs=(InputSpec("x", "float32", shape, "model.py:3"),),
        outputs=(OutputSpec("float32", shape, 1, "y"),),
        buffers=tuple(buffer(name, place, shape, offset=offset) for name, place, offset in names),
        kernels=(kernel(ADD_ONE), kernel(THROUGH_WORKSPACE)),
        steps=(Step(0, at(0, 2), size, reads=(0,), writes=(2,)),
               Step(1, at(2, 1, 3), size, reads=(2,), writes=(1, 3), note=1)),
        notes=(Note("x + 1"), Note("square", work=size * 100)),
        arena_bytes=size * 128)
