"""What an opcode computes: a `Form`, a function of arrays with its types.

A builder takes the opcode's parts behind the name and returns the form, or refuses a modifier it does not know: a
modifier that is skipped would be a different instruction.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np

from . import arithmetic as exact
from .faults import Approximate, Unsupported
from .memory import Array
from .operands import DTYPES

INTEGERS = frozenset("u16 s16 u32 s32 u64 s64".split())
FLOATS = frozenset("f32 f64".split())
BITS = frozenset("pred b16 b32 b64".split())


@dataclass(frozen=True)
class Form:
    function: Callable[..., Array]
    sources: tuple[str, ...]
    result: str


BUILDERS: dict[str, Callable[..., Form]] = {}


def form(*names: str) -> Callable[[Callable[..., Form]], Callable[..., Form]]:
    def register(builder: Callable[..., Form]) -> Callable[..., Form]:
        BUILDERS.update((name, builder) for name in names)
        return builder

    return register


@cache
def build(parts: tuple[str, ...], approximate: bool = False) -> Form:
    """The form of an opcode; `approximate` lets approximations pass as correctly rounded results."""
    name, *modifiers = parts
    if ("approx" in modifiers or "full" in modifiers):
        if not approximate:
            raise Approximate(f"approximate instruction {'.'.join(parts)}")
        return _approximation(name, modifiers)
    if name not in BUILDERS:
        raise Unsupported(f"unknown instruction {'.'.join(parts)}")
    try:
        return BUILDERS[name](name, modifiers)
    except (KeyError, ValueError, IndexError) as error:
        raise Unsupported(f"unknown instruction {'.'.join(parts)}") from error


def take(modifiers: list[str], *known: str) -> str:
    """Remove the modifier that is one of `known`, and return it, or nothing."""
    found = [part for part in modifiers if part in known]
    if len(found) > 1:
        raise ValueError(found)
    if found:
        modifiers.remove(found[0])
    return found[0] if found else ""


def only(modifiers: list[str], kinds: frozenset[str]) -> str:
    """The type, which is all that is left."""
    kind, = modifiers
    if kind not in kinds:
        raise ValueError(kind)
    return kind


def flushing(function: Callable[..., Array], flushes: str) -> Callable[..., Array]:
    if not flushes:
        return function
    return lambda *values: exact.flush(function(*(exact.flush(value) for value in values)))


def canonical(function: Callable[..., Array]) -> Callable[..., Array]:
    return lambda *values: exact.canonical(function(*values))


def _approximation(name: str, modifiers: list[str]) -> Form:
    """The exact function, rounded once: a stand-in, which says nothing about the error of the hardware."""
    for part in ("approx", "full", "ftz"):
        take(modifiers, part)
    kind = only(modifiers, FLOATS)
    functions: dict[str, Callable[..., Array]] = {
        "ex2": np.exp2, "lg2": np.log2, "sin": np.sin, "cos": np.cos, "tanh": np.tanh, "sqrt": np.sqrt,
        "rcp": lambda a: 1 / a, "rsqrt": lambda a: 1 / np.sqrt(a), "div": lambda a, b: a / b}
    function = functions[name]
    rounded = lambda *values: function(*(value.astype(np.float64) for value in values)).astype(DTYPES[kind])
    return Form(rounded, (kind, kind) if name == "div" else (kind,), kind)
