"""Operands as closures: `Read` gives an array of one element a thread (or one for all), `Write` takes one.

A register keeps whatever array was written to it; who reads says how to see its bits. That an array may be seen but not
shared is the rule that `writer` and `moves` keep: it copies views, so no two registers ever hold the same bytes.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .faults import Unsupported
from .machine import Group, Read, Wave, Write
from .memory import Array
from .parse import Function, Immediate, Operand, Register, Special, Symbol

DTYPES = {"pred": np.dtype(bool)} | {
    f"{kind}{bits}": np.dtype(f"{letter}{bits // 8}") for kind, letter in zip("busf", "uuif")
    for bits in (8, 16, 32, 64) if (kind, bits) != ("f", 8)}
"""What a value of a type is read as; bits are unsigned integers."""


@dataclass
class Scope:
    """Names of a function: registers by number, shared arrays by offset in the block's shared memory."""

    function: Function
    shared: dict[str, int]
    numbers: dict[str, int] = field(default_factory=dict)

    def number(self, name: str) -> int:
        if name not in self.function.registers:
            raise Unsupported(f"register {name} is not declared")
        return self.numbers.setdefault(name, len(self.numbers))

    def type_of(self, name: str) -> Any:
        return DTYPES[self.function.registers[name]]

    def resolved(self, operand: Operand) -> Operand:
        """Registers need no % in their names."""
        named = isinstance(operand, Symbol) and operand.name in self.function.registers
        return Register(operand.name) if named else operand     # type: ignore[union-attr]  # named says so

    # -- reading ------------------------------------------------------------------------------------------------------

    def reader(self, operand: Operand, kind: str) -> Read:
        if kind not in DTYPES:
            raise Unsupported(f"unknown type .{kind}")
        dtype = DTYPES[kind]
        operand = self.resolved(operand)
        if isinstance(operand, Register):
            return self._register(operand, dtype)
        if isinstance(operand, Special):
            return _special(operand.name, dtype)
        if isinstance(operand, Symbol):
            return self._symbol(operand.name, dtype)
        if isinstance(operand, Immediate):
            constant = immediate(operand, dtype)
            return lambda wave, group: constant
        raise Unsupported(f"operand {operand} cannot be read")

    def _register(self, operand: Register, dtype: Any) -> Read:
        number, own = self.number(operand.name), self.type_of(operand.name)
        if operand.inverted:
            plain = self._register(Register(operand.name), dtype)
            return lambda wave, group: ~plain(wave, group)
        if (own.kind == "b") != (dtype.kind == "b"):
            raise Unsupported(f"{operand.name} is a {own}, not a {dtype}")
        narrower = own.itemsize > dtype.itemsize
        if own.itemsize < dtype.itemsize:
            raise Unsupported(f"{operand.name} is narrower than {dtype}")

        def read(wave: Wave, group: Group) -> Array:
            if wave.known[number] is not True:
                wave.require(number, group)
            value: Array = wave.values[number]
            if group.select is not None and len(value) != 1:
                value = value[group.select]
            return value if value.dtype is dtype else value.view(dtype)

        def read_low(wave: Wave, group: Group) -> Array:
            value = wide(wave, group)
            return value.astype(f"u{dtype.itemsize}").view(dtype)

        if narrower:
            wide = self._register(operand, np.dtype(f"u{own.itemsize}"))
            return read_low
        return read

    def _symbol(self, name: str, dtype: Any) -> Read:
        if name in self.shared:
            offset = np.array([self.shared[name]], np.uint64).astype(dtype)
            return lambda wave, group: offset

        def read(wave: Wave, group: Group) -> Array:
            if name not in wave.launch.symbols:
                raise Unsupported(f"unknown symbol {name}")
            return np.array([wave.launch.symbols[name]], np.uint64)

        return read

    # -- writing ------------------------------------------------------------------------------------------------------

    def writer(self, operand: Operand, result: Any) -> Write:
        """Takes arrays of dtype `result`; a wider register gets them extended."""
        if isinstance(operand, Symbol) and operand.name == "_":
            return lambda wave, group, value: None
        operand = self.resolved(operand)
        if not isinstance(operand, Register):
            raise Unsupported(f"{operand} cannot be written")
        number, own, result = self.number(operand.name), self.type_of(operand.name), np.dtype(result)
        if (own.kind == "b") != (result.kind == "b") or own.itemsize < result.itemsize:
            raise Unsupported(f"a {result} does not fit in {operand.name}")

        def write(wave: Wave, group: Group, value: Array) -> None:
            if group.index is None:
                wave.values[number] = value if value.base is None else value.copy()
                wave.known[number] = True
            else:
                wave.scatter(number, group, value)

        if own.itemsize == result.itemsize:
            return write
        wide = np.dtype(f"{'i' if result.kind == 'i' else 'u'}{own.itemsize}")
        return lambda wave, group, value: write(wave, group, value.astype(wide))

    def mover(self, target: Operand, source: Operand, kind: str) -> Any:
        """A step that copies a register as it is, with threads that never wrote it: their value is still missing."""
        if isinstance(source, Register) and not source.inverted and isinstance(target, Register):
            here, there = self.number(source.name), self.number(target.name)
            if self.type_of(source.name).itemsize == self.type_of(target.name).itemsize:
                return _move(here, there)
        read, write = self.reader(source, kind), self.writer(target, DTYPES[kind])
        return lambda wave, group: write(wave, group, read(wave, group).copy())


def _move(here: int, there: int) -> Any:
    def move(wave: Wave, group: Group) -> None:
        value, known = wave.values[here], wave.known[here]
        if group.index is None:
            wave.values[there] = None if value is None else value.copy()
            wave.known[there] = known if known is None or known is True else known.copy()
            return
        if value is None:
            if wave.known[there] is None:
                return
            value = np.zeros(1, wave.values[there].dtype)
        wave.scatter(there, group, value if len(value) == 1 else value[group.select])
        if known is not True:
            if wave.known[there] is True:
                wave.known[there] = np.ones(wave.size, bool)
            wave.known[there][group.select] = False if known is None else known[group.select]

    return move


def immediate(operand: Immediate, dtype: Any) -> Array:
    if operand.float_bytes and dtype.kind == "f" and operand.float_bytes != dtype.itemsize:
        exact = np.array([operand.bits], f"u{operand.float_bytes}").view(f"f{operand.float_bytes}")
        return exact.astype(dtype)
    if dtype.kind == "f" and not operand.float_bytes:
        return np.array([operand.bits], dtype)
    if dtype.kind == "b":
        return np.array([operand.bits != 0])
    size = dtype.itemsize
    return np.array([operand.bits % (1 << 8 * size)], f"u{size}").view(dtype)


def _special(name: str, dtype: Any) -> Read:
    def read(wave: Wave, group: Group) -> Array:
        if name not in wave.specials:
            raise Unsupported(f"unknown special register {name}")
        value = wave.specials[name]
        if group.select is not None and len(value) != 1:
            value = value[group.select]
        return value.view(dtype) if dtype.itemsize == 4 else value.astype(dtype)

    return read
