"""The kernel language: what one kernel does, for every device. Level 4 of the compiler.

A kernel is a *row program*: its body is executed once for each point of the parallel axes, points are independent of
each other and may run in any order, on any thread. Grammar:

    kernel    := name section+
    parameter := Pointer(name, dtype, access) | Extent(name) | Status(name)
    axis      := Axis(name, extent)                          the parallel axes of a section, outermost first
    section   := Section(count, prelude, body, columns)      `count` equal programs, one after the other, with their own
                                                             parameters; most kernels have one section of count 1; the
                                                             prelude holds values that no axis changes
    statement := Let(name, dtype, expr)                      a value; names are assigned once
               | Store(pointer, index, expr)
               | Map(index, extent, body, order)             inner axis; order "any" | "forward" | "backward"
               | Reduce(loops, body, results, window)        inner axes; results are available after it
               | Scan(index, extent, body, carries, order)   a sequential axis that carries values along
               | Check(name, value, size, number)            an index brought into 0 .. size-1, or reported
               | Local(name, dtype, size, scope)             scope "local" (a thread's own) | "shared" (a block's)
               | Barrier(scope)                              all threads of a block reach it before any goes on
    expr      := a Python expression over names, literals, Load(pointer)[index] written as ``pointer[index]``, and the
                 functions of the kernel language; every value has the dtype of its Let

`lanes` says along which axis neighbouring elements lie in memory: "inner" (the last inner axis) or "parallel" (the last
parallel axis: a reduction over leading axes). It is a hint for the renderer: a CPU vectorises along it, a GPU puts
neighbouring threads there. Meaning never depends on it.

Invariants, checked by `kernel_verify`: every name is defined before use and assigned once; expressions are made of
names, numbers, operators, loads and known functions only; dtypes, orders and kinds of access are known ones; stores go
to local arrays and to pointers that may be written; a Reduce's results are not visible inside of it.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache

FUNCTIONS = frozenset("""
    exp exp2 expm1 log log1p log2 log10 sqrt sin cos tan sinh cosh tanh asin acos atan asinh acosh atanh atan2 hypot
    erf erfc sigmoid softplus logaddexp floor ceil trunc round_half_even absolute sign isnan isinf isfinite copysign
    reciprocal square power floor_divide remainder maximum minimum select shift_left shift_right fma philox bool_ int8
    int16 int32 int64 uint8 uint16 uint32 uint64 float32 float64 inf nan min max
""".split())
"""Every function and constant an expression may use."""

DTYPES = frozenset("bool int8 int16 int32 int64 uint8 uint16 uint32 uint64 float32 float64".split())

FORBIDDEN = (ast.Attribute, ast.Lambda, ast.NamedExpr, ast.Await, ast.JoinedStr, ast.ListComp, ast.GeneratorExp,
             ast.SetComp, ast.DictComp, ast.Starred)
"""Python that is outside of the kernel language."""

REDUCTIONS = ("sum", "prod", "max", "min", "any", "all", "argmax", "argmin")


@dataclass(frozen=True)
class Pointer:
    """`aligned`: the address is known to be a multiple of 16 bytes."""

    name: str
    dtype: str
    access: str = "read"
    aligned: bool = True


@dataclass(frozen=True)
class Extent:
    name: str


@dataclass(frozen=True)
class Status:
    name: str = "status"


Parameter = Pointer | Extent | Status


@dataclass(frozen=True)
class Axis:
    """A parallel axis; `extent` is an integer literal or the name of an Extent."""

    name: str
    extent: str


@dataclass(frozen=True)
class Let:
    name: str
    dtype: str
    expr: str


@dataclass(frozen=True)
class Store:
    pointer: str
    index: str
    expr: str


@dataclass(frozen=True)
class Map:
    index: str
    extent: str
    body: tuple[Statement, ...]
    order: str = "any"


@dataclass(frozen=True)
class Result:
    """One accumulator of a Reduce: `op` is one of REDUCTIONS, `expr` the term. For argmax and argmin `position` is the
    index expression and `name` receives the position of the first extreme (nan counts as extreme, as in NumPy)."""

    name: str
    dtype: str
    op: str
    expr: str
    term_dtype: str = ""
    position: str = ""


@dataclass(frozen=True)
class Reduce:
    """`window`, if there is one, is (first, length): only that part of the loops' running number is gone through, as
    far as there are elements. It makes a long reduction one of many parts (see `fission`). `joins`: the terms are such
    parts, or blocks' shares; they are few and large, so where sums are compensated every one of them is."""

    loops: tuple[tuple[str, str], ...]
    body: tuple[Statement, ...]
    results: tuple[Result, ...]
    window: tuple[str, str] | None = None
    joins: bool = False


@dataclass(frozen=True)
class Carry:
    """A value carried along a Scan: starts as `init`, becomes `next` after each element (visible as `name`_next)."""

    name: str
    dtype: str
    init: str
    next: str


@dataclass(frozen=True)
class Scan:
    index: str
    extent: str
    body: tuple[Statement, ...]
    carries: tuple[Carry, ...]
    after: tuple[Statement, ...]
    order: str = "forward"


@dataclass(frozen=True)
class Check:
    name: str
    value: str
    size: str
    number: str


@dataclass(frozen=True)
class Local:
    name: str
    dtype: str
    size: int
    scope: str = "local"


@dataclass(frozen=True)
class Barrier:
    scope: str = "block"


Statement = Let | Store | Map | Reduce | Scan | Check | Local | Barrier


@dataclass(frozen=True)
class ColumnSums:
    """Reductions over the parallel axis, for each element of a row: `body` and the terms of `results` follow the body
    of the section's statement number `loop`, a loop over the row. Some share of the rows goes through one block of
    threads; `stores` keep its results, `share` being the number of the block. See `columns`."""

    loop: int
    body: tuple[Let, ...]
    results: tuple[Result, ...]
    stores: tuple[Store, ...]


@dataclass(frozen=True)
class Section:
    parameters: tuple[Parameter, ...]
    axes: tuple[Axis, ...]
    body: tuple[Statement, ...]
    count: int = 1
    prelude: tuple[Statement, ...] = ()
    columns: tuple[ColumnSums, ...] = ()


@dataclass(frozen=True)
class KernelIR:
    """`guarded`: it does nothing where a step before it has reported something, since an index that was out of range
    has not been stored. (Where steps run one by one and end with the first report, as on a CPU, none needs to be.)
    `merged`: its sections are the updates of many arrays, of one form even where it is a single one."""

    name: str
    sections: tuple[Section, ...]
    lanes: str = "inner"
    guarded: bool = False
    merged: bool = False


@cache
def unknown_in_formula(formula: str) -> str | None:
    """What in an op's scalar formula the kernel language does not have, or None. Formulas may come from users."""
    names = [f"operand{number}" for number in range(formula.count("{"))]
    try:
        tree = ast.parse(formula.format(*names), mode="eval")
    except (SyntaxError, IndexError, KeyError, ValueError):
        return formula
    for node in ast.walk(tree):
        if isinstance(node, FORBIDDEN):
            return formula
        if isinstance(node, ast.Name) and node.id not in FUNCTIONS and node.id not in names:
            return node.id
    return None


def format_kernel(kernel: KernelIR) -> str:
    """The kernel as readable text, one statement a line."""
    lines = [f"kernel {kernel.name} (lanes: {kernel.lanes})" + (" guarded" if kernel.guarded else "")]
    for number, section in enumerate(kernel.sections):
        lines.append(f"  section {number} x {section.count}")
        for parameter in section.parameters:
            detail = ""
            if isinstance(parameter, Pointer):
                detail = f" {parameter.dtype} {parameter.access}" + ("" if parameter.aligned else " unaligned")
            lines.append(f"    {type(parameter).__name__.lower()} {parameter.name}{detail}")
        lines += _format_body(section.prelude, "    ")
        for axis in section.axes:
            lines.append(f"    parallel {axis.name} < {axis.extent}")
        lines += _format_body(section.body, "      ")
        for sums in section.columns:
            lines.append(f"    columns of statement {sums.loop}")
            lines += _format_body(sums.body, "      ")
            lines += [f"      {result.name}: {result.dtype} = {result.op}({result.expr})" for result in sums.results]
            lines += _format_body(sums.stores, "      ")
    return "\n".join(lines) + "\n"


def _format_body(body: Sequence[Statement], indent: str) -> Iterator[str]:
    for statement in body:
        match statement:
            case Let(name, dtype, expr):
                yield f"{indent}{name}: {dtype} = {expr}"
            case Store(pointer, index, expr):
                yield f"{indent}{pointer}[{index}] := {expr}"
            case Map(index, extent, inner, order):
                yield f"{indent}map {index} < {extent}" + ("" if order == "any" else f" {order}")
                yield from _format_body(inner, indent + "  ")
            case Reduce(loops, inner, results, window, joins):
                part = " of parts" if joins else "" if window is None else f" from {window[0]}, at most {window[1]}"
                yield f"{indent}reduce " + ", ".join(f"{index} < {extent}" for index, extent in loops) + part
                yield from _format_body(inner, indent + "  ")
                for result in results:
                    yield f"{indent}  {result.name}: {result.dtype} = {result.op}({result.expr})"
            case Scan(index, extent, inner, carries, after, order):
                yield f"{indent}scan {index} < {extent} {order}"
                yield from _format_body(inner, indent + "  ")
                for carry in carries:
                    yield f"{indent}  carry {carry.name}: {carry.dtype} = {carry.init} -> {carry.next}"
                yield from _format_body(after, indent + "  ")
            case Check(name, value, size, number):
                yield f"{indent}{name}: int64 = check {value} within {size} or report {number}"
            case Local(name, dtype, size, scope):
                yield f"{indent}local {name}: {dtype}[{size}] {scope}"
            case Barrier(scope):
                yield f"{indent}barrier {scope}"
