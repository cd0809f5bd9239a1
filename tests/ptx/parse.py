"""PTX text in, `Function` and `Instruction` records out: names, types and operands, nothing executed.

One instruction a record; labels become indices into the list. Operands stay close to the text:

    operand = Register(%r1) | Immediate(bits) | Symbol(name) | Special(%tid.x) | Vector(operands)
            | Address(base, offset) | Pair(first, second)     # a pair is %p1|%p2
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass, field
from functools import cached_property

from .faults import LocalMemory, Unsupported

SIZES = {f"{kind}{bits}": bits // 8 for kind in "bus" for bits in (8, 16, 32, 64)} | {
    "f16": 2, "f32": 4, "f64": 8, "b128": 16, "f16x2": 4}
"""Bytes of each type that has a size."""

SPECIAL = re.compile(r"%(?:tid|ntid|ctaid|nctaid)\.[xyz]|%laneid|%warpid|%nwarpid|%lanemask_\w+|%clock\w*|%smid|"
                     r"%globaltimer\w*|%envreg\d+|%gridid")


@dataclass(frozen=True)
class Register:
    name: str
    inverted: bool = False     # !%p1


@dataclass(frozen=True)
class Immediate:
    """`bits` of a float literal, or the value of an integer literal."""

    bits: int
    float_bytes: int = 0     # 4 or 8 for a float literal


@dataclass(frozen=True)
class Symbol:
    name: str


@dataclass(frozen=True)
class Special:
    name: str


@dataclass(frozen=True)
class Vector:
    parts: tuple[Operand, ...]


@dataclass(frozen=True)
class Address:
    base: Register | Symbol | Immediate
    offset: int


@dataclass(frozen=True)
class Pair:
    first: Operand
    second: Operand


Operand = Register | Immediate | Symbol | Special | Vector | Address | Pair


@dataclass(frozen=True)
class Instruction:
    """opcode "ld.global.nc.v4.f32" is parts ("ld", "global", "nc", "v4", "f32")."""

    parts: tuple[str, ...]
    operands: tuple[Operand, ...]
    guard: Register | None
    text: str
    line: int

    @property
    def opcode(self) -> str:
        return ".".join(self.parts)


@dataclass(frozen=True)
class Shared:
    """An array in shared memory."""

    name: str
    nbytes: int
    alignment: int


@dataclass(frozen=True)
class Table:
    """An array of constants in global or constant memory."""

    name: str
    data: bytes
    alignment: int


@dataclass
class Function:
    name: str
    parameters: tuple[tuple[str, str], ...]     # (type, name)
    registers: dict[str, str]     # name -> type, for ranges too: %r<5> declares %r0 .. %r4
    instructions: list[Instruction]
    labels: dict[str, int]
    shared: list[Shared]
    most_threads: int
    exact_threads: int

    @cached_property
    def targets(self) -> frozenset[int]:
        return frozenset(self.labels.values())


@dataclass
class Module:
    functions: dict[str, Function] = field(default_factory=dict)
    shared: list[Shared] = field(default_factory=list)
    tables: dict[str, Table] = field(default_factory=dict)


VARIABLE = re.compile(r"^\s*(?:\.visible |\.extern |\.weak |\.common |\.internal )*\.(?P<space>shared|global|const)\s+"
                      r"(?:\.align\s+(?P<align>\d+)\s+)?\.(?P<type>\w+)\s+(?P<name>[\w$]+)(?P<dims>(?:\[\d*\])*)\s*"
                      r"(?:=\s*(?P<value>[^;]*))?;", re.M | re.S)
ENTRY = re.compile(r"^(?:\.visible |\.weak )*\.(?P<kind>entry|func)\s*(?P<result>\([^)]*\)\s*)?(?P<name>[\w$]+)\s*"
                   r"\((?P<parameters>[^)]*)\)(?P<directives>[^{;]*)(?P<end>[{;])", re.M)
PARAMETER = re.compile(r"\.param\s+(?:\.align\s+\d+\s+)?\.(\w+)\s+(?:\.ptr(?:\s+\.(?:global|const|shared|local))?"
                       r"(?:\s+\.align\s+\d+)?\s+)?([\w$]+)")
GUARD = re.compile(r"@(!?)(%[\w$]+)\s+(.*)", re.S)
PREFIX = re.compile(r"(?:([\w$]+):|[{}])\s*")     # a label, or a brace around a scope


def parse(text: str) -> Module:
    text = re.sub(r"//[^\n]*", "", text)
    text = re.sub(r"/\*.*?\*/", lambda comment: "\n" * comment[0].count("\n"), text, flags=re.S)
    module, spans = Module(), []
    for head in ENTRY.finditer(text):
        if head["end"] == ";" or head["kind"] == "func":
            continue     # a call of it is an unsupported instruction
        close = text.index("\n}", head.end())
        spans.append((head.start(), close))
        module.functions[head["name"]] = _function(head, text[head.end():close], text.count("\n", 0, head.end()) + 1)
    outside, end = [], 0
    for start, close in spans:
        outside.append(text[end:start])
        end = close
    for found in VARIABLE.finditer("\n".join([*outside, text[end:]])):
        variable = _variable(found)
        if isinstance(variable, Shared):
            module.shared.append(variable)
        elif variable is not None:
            module.tables[variable.name] = variable
    return module


def _variable(found: re.Match[str]) -> Shared | Table | None:
    size = SIZES[found["type"]]
    count = 1
    for dimension in re.findall(r"\[(\d*)\]", found["dims"]):
        count *= int(dimension or 0)
    alignment = int(found["align"] or size)
    if found["space"] == "shared":
        return Shared(found["name"], count * size, alignment)
    if found["value"] is None:
        return None     # numba's environment: a kernel that names it fails on the unknown symbol
    values = [value.strip() for value in found["value"].strip(" {}\n\t").split(",")]
    data = b"".join(_immediate(value).bits.to_bytes(size, "little") if value.startswith("0") and value[1:2] in "fd"
                    and len(value) > 2 else (int(value.rstrip("U"), 0) % (1 << 8 * size)).to_bytes(size, "little")
                    for value in values)
    return Table(found["name"], data.ljust(count * size, b"\0"), alignment)


def _function(head: re.Match[str], body: str, first_line: int) -> Function:
    directives = dict(re.findall(r"\.(maxntid|reqntid|minnctapersm)\s+(\d+)", head["directives"]))
    function = Function(head["name"], tuple(PARAMETER.findall(head["parameters"])), {}, [], {}, [],
                        int(directives.get("maxntid", 0)), int(directives.get("reqntid", 0)))
    line, blank = first_line, re.compile(r"\s*")
    for statement in body.split(";"):
        before = blank.match(statement).end()     # type: ignore[union-attr]  # matches always
        start = line + statement.count("\n", 0, before)
        line += statement.count("\n")
        words = statement.strip()
        while (prefix := PREFIX.match(words)) is not None:
            if prefix[1]:
                function.labels[prefix[1]] = len(function.instructions)
            start += words.count("\n", 0, prefix.end())
            words = words[prefix.end():]
        if words.startswith("."):
            _declare(function, words)
        elif words:
            function.instructions.append(_instruction(words, start))
    return function


def _declare(function: Function, words: str) -> None:
    if words.startswith(".reg"):
        kind, names = re.match(r"\.reg\s+\.(\w+)\s+(.*)", words, re.S).groups()     # type: ignore[union-attr]
        for name in names.split(","):
            ranged = re.match(r"\s*(%?[\w$]+)<(\d+)>", name)
            if ranged:
                function.registers.update((f"{ranged[1]}{k}", kind) for k in range(int(ranged[2])))
            else:
                function.registers[name.strip()] = kind
    elif words.startswith(".local"):
        raise LocalMemory(f"local memory used: {words}")
    elif found := VARIABLE.match(f"{words};"):
        variable = _variable(found)
        if isinstance(variable, Shared):
            function.shared.append(variable)
    elif not words.startswith((".pragma", ".loc", ".file")):
        raise Unsupported(f"unknown declaration: {words}")


def _instruction(words: str, line: int) -> Instruction:
    text, guard = " ".join(words.split()) + ";", None
    found = GUARD.match(words)
    if found:
        guard, words = Register(found[2], bool(found[1])), found[3]
    opcode, _, rest = words.replace("\t", " ").replace("\n", " ").partition(" ")
    return Instruction(tuple(opcode.split(".")), tuple(_operand(part) for part in _split(rest)), guard, text, line)


def _split(text: str, separator: str = ",") -> list[str]:
    """At separators outside of brackets."""
    if "{" not in text and "(" not in text:
        return [part for part in map(str.strip, text.split(separator)) if part]
    parts, depth, current = [], 0, ""
    for letter in text:
        depth += (letter in "{[(") - (letter in "}])")
        if letter == separator and depth == 0:
            parts.append(current.strip())
            current = ""
        else:
            current += letter
    return [part for part in [*parts, current.strip()] if part]


def _operand(text: str) -> Operand:
    if text[0] == "{":
        return Vector(tuple(_operand(part) for part in _split(text[1:-1])))
    if text[0] == "[":
        base, offset = re.fullmatch(r"\[\s*([%\w$.]+)\s*(?:\+\s*(-?\s*\w+))?\s*\]", text).groups()  # type: ignore[union-attr]
        operand = _operand(base)
        assert isinstance(operand, (Register, Symbol, Immediate))
        return Address(operand, int(offset or "0", 0))
    if "|" in text:
        first, second = text.split("|")
        return Pair(_operand(first.strip()), _operand(second.strip()))
    if SPECIAL.fullmatch(text) or text == "WARP_SZ":
        return Special(text)
    if text[0] == "!":
        return Register(text[1:].strip(), True)
    if text[0] == "%":
        return Register(text)
    if text[0].isdigit() or text[0] == "-":
        return _immediate(text)
    return Symbol(text)


def _immediate(text: str) -> Immediate:
    kind = text[:2].lower()
    if kind == "0f":
        return Immediate(int(text[2:], 16), 4)
    if kind == "0d":
        return Immediate(int(text[2:], 16), 8)
    if re.fullmatch(r"-?\d+\.\d*(?:[eE][-+]?\d+)?", text):
        return Immediate(struct.unpack("<Q", struct.pack("<d", float(text)))[0], 8)
    return Immediate(int(text.rstrip("U"), 0))
