"""What all CPU kernels are written with: indented lines, dtypes made explicit, accumulators.

Sums of floats go by blocks: a block is added up with reassociation allowed (that is what vectorises it), the blocks are
joined with compensated addition. So a float32 sum is at least as accurate as NumPy's pairwise one, whatever the length.
"""

from __future__ import annotations

import ast
import re

from ..kernel_ir import Check, Reduce, Result, Section
from ..statements import WORD

LANGUAGE = "staticgraph.runtime.cpu.language"
NARROW = ("int8", "int16", "int32", "uint8", "uint16", "uint32")
PYTHON = frozenset("""
    def for in range while if else and or not min max True False is return
""".split())
DEAR = re.compile(r"\b(exp2?|expm1|log|log1p|log2|log10|sin|cos|tan|a?sinh|a?cosh|a?tanh|asin|acos|atan|atan2|erfc?|"
                  r"sigmoid|softplus|logaddexp|power|hypot)\(")
"""Calls of elementary functions: much code, and slow enough to hide what moves memory."""

WRAPPING: dict[type[ast.operator], str] = {ast.Add: "wrapping_add", ast.Sub: "wrapping_subtract",
                                           ast.Mult: "wrapping_multiply"}
_LOWEST = {"bool": "False", "int8": "-128", "int16": "-32768", "int32": "-2147483648",
           "int64": "-9223372036854775807 - 1", "uint8": "0", "uint16": "0", "uint32": "0", "uint64": "0",
           "float32": "-inf", "float64": "-inf"}
_HIGHEST = {"bool": "True", "int8": "127", "int16": "32767", "int32": "2147483647", "int64": "9223372036854775807",
            "uint8": "255", "uint16": "65535", "uint32": "4294967295", "uint64": "18446744073709551615",
            "float32": "inf", "float64": "inf"}


def header(text: str, language: str = LANGUAGE) -> str:
    """The import line for the kernel-language names in `text`."""
    defined = set(re.findall(r"for (\w+) in", text))
    for parameters in re.findall(r"def \w+\((.*)\):", text):
        defined.update(WORD.findall(parameters))
    for targets in re.findall(r"^\s*([^\W\d][\w, ]*) =", text, re.M):
        defined.update(WORD.findall(targets))
    names = {word for word in WORD.findall(re.sub(r"#.*", "", text))} - defined - PYTHON
    names -= set(re.findall(r"def (\w+)\(", text))
    names = {name for name in names if not re.fullmatch(r"e\d*", name)}
    return f"from {language} import {', '.join(sorted(names))}\n\n\n" if names else ""


class Writer:
    """Lines with indentation; ``with writer:`` is one level deeper. `unrolled`: loops of so many turns may be written
    with their length, for LLVM to make a line of statements of them."""

    unrolled = 8

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.depth = 0

    def line(self, text: str) -> None:
        self.lines.append("    " * self.depth + text)

    def __enter__(self) -> None:
        self.depth += 1

    def __exit__(self, *_: object) -> None:
        self.depth -= 1

    def text(self) -> str:
        return "\n".join(self.lines) + "\n"


def typed(expr: str, dtype: str) -> str:
    """The expression brought to its dtype where Numba would widen it, and wrapping around where Numba would not."""
    plain = re.fullmatch(rf"\w+(\[[^\]]*\])?|{dtype}\([^()]*\)", expr)
    if plain:
        return expr
    if dtype == "bool":     # to Numba, True + True is 2
        return f"({expr}) != 0" if re.search(r"[+*]", _values(expr)) else expr
    if dtype == "int64":
        return _wrapping(expr)
    return f"{dtype}({expr})" if dtype in NARROW else expr


def _values(expr: str) -> str:
    """The expression without its indices."""
    return re.sub(r"\[[^\]]*\]", "[]", expr)


def _wrapping(expr: str) -> str:
    if not re.search(r"[-+*]", _values(expr)) or re.search(r"\d\.|float", expr):
        return expr
    return ast.unparse(_Wrapping().visit(ast.parse(expr, mode="eval")))


class _Wrapping(ast.NodeTransformer):
    """Operators as functions that wrap around. To Numba's own, an int64 that overflows is undefined: right for indices,
    wrong for values."""

    def visit_Subscript(self, node: ast.Subscript) -> ast.expr:
        return node

    def visit_BinOp(self, node: ast.BinOp) -> ast.expr:
        self.generic_visit(node)
        name = WRAPPING.get(type(node.op))
        return ast.Call(ast.Name(name), [node.left, node.right], []) if name else node

    def visit_UnaryOp(self, node: ast.UnaryOp) -> ast.expr:
        if not isinstance(node.op, ast.USub) or isinstance(node.operand, ast.Constant):
            return node
        self.generic_visit(node)
        return ast.Call(ast.Name("wrapping_subtract"), [ast.Constant(0), node.operand], [])


def is_compensated(result: Result) -> bool:
    return result.op == "sum" and result.dtype.startswith("float")


def start_value(result: Result) -> str:
    """What an accumulator starts from."""
    dtype = result.dtype
    if result.op == "sum":
        return f"{dtype}(0)"
    if result.op == "prod":
        return f"{dtype}(1)"
    if result.op in ("any", "all"):
        return "False" if result.op == "any" else "True"
    table = _LOWEST if result.op in ("max", "argmax") else _HIGHEST
    dtype = result.term_dtype
    return table[dtype] if dtype == "bool" else f"{dtype}({table[dtype]})"


def combine(result: Result, accumulator: str, term: str) -> str:
    """One more term into an accumulator."""
    if result.op == "sum":
        return typed(f"accumulate({accumulator}, {term})", result.dtype)
    if result.op == "prod":
        return typed(f"accumulate_product({accumulator}, {term})", result.dtype)
    if result.op in ("any", "all"):
        return f"{accumulator} | {term}" if result.op == "any" else f"{accumulator} & {term}"
    return f"{'maximum' if result.op == 'max' else 'minimum'}({accumulator}, {term})"


def accumulator(result: Result) -> str:
    return f"{result.name}_best" if result.op in ("argmax", "argmin") else result.name


def accumulate(writer: Writer, result: Result, suffix: str, lane: str = "") -> None:
    if result.op not in ("argmax", "argmin"):
        accumulator = f"{result.name}{suffix}{lane}"
        writer.line(f"{accumulator} = {combine(result, accumulator, result.expr)}")
        return
    best = f"{result.name}_best{lane}"
    sign = ">" if result.op == "argmax" else "<"
    # The first nan wins over everything after it, as in NumPy.
    writer.line(f"if ({result.expr} {sign} {best} or {result.expr} != {result.expr}) and {best} == {best}:")
    with writer:
        writer.line(f"{best} = {result.expr}")
        writer.line(f"{result.name}{lane} = {result.position}")


def join_block(writer: Writer, name: str, lane: str = "") -> None:
    """Add a block's sum to the total and keep what the addition lost (Knuth's TwoSum, TAOCP vol. 2, 4.2.2)."""
    stem = name
    writer.line(f"{stem}_new = {name}{lane} + {name}_part{lane}")
    writer.line(f"{stem}_gain = {stem}_new - {name}{lane}")
    lost = f"({name}{lane} - ({stem}_new - {stem}_gain)) + ({name}_part{lane} - {stem}_gain)"
    writer.line(f"{name}_error{lane} += {lost}")
    writer.line(f"{name}{lane} = {stem}_new")


def finish(writer: Writer, target: str, name: str, dtype: str, lane: str = "") -> None:
    # The lost part is nan once the total is infinite: then the total is right as it is.
    writer.line(f"{target}{lane} = select(isfinite({name}_error{lane}), {name}{lane} + {name}_error{lane}, "
                f"{name}{lane})")


def coordinates(writer: Writer, section: Section, point: str) -> None:
    rest = point
    for axis in reversed(section.axes[1:]):
        writer.line(f"{axis.name} = {rest} % {axis.extent}")
        writer.line(f"{axis.name}_rest = {rest} // {axis.extent}")
        rest = f"{axis.name}_rest"
    writer.line(f"{section.axes[0].name} = {rest}")


def write_window(writer: Writer, reduce: Reduce) -> tuple[str, str]:
    """The names of where the part of a reduction that is done here begins and ends."""
    assert reduce.window is not None and len(reduce.loops) == 1
    (index, extent), (first, length) = reduce.loops[0], reduce.window
    writer.line(f"{index}_begin = {first}")
    writer.line(f"{index}_end = max(min({index}_begin + {length}, {extent}), {index}_begin)")
    return f"{index}_begin", f"{index}_end"


def write_check(writer: Writer, check: Check) -> None:
    """An index counted from the front. One out of range is reported and ends the kernel: there may be nothing that is
    safe to load in its place."""
    name = check.name
    writer.line(f"{name} = int64({check.value})")
    writer.line(f"if {name} < 0:")
    with writer:
        writer.line(f"{name} += {check.size}")
    writer.line(f"if {name} < 0 or {name} >= {check.size}:")
    with writer:
        writer.line(f"fail(status, {check.number}, int64({check.value}), {check.size})")
        writer.line("return")
