"""What all CUDA kernels are written with: the vector form of a loop body, joins of partial results, parameters.

A body is written for `width` neighbouring elements at once. Names that it assigns get the element's number; a load or
store whose index grows by one with the element, from a multiple of the width on, becomes one vector access. All other
statements are repeated, which is what the compiler would do with a loop of known length.
"""

from __future__ import annotations

import ast
import math
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass

from ..kernel_ir import Check, Extent, Let, Local, Map, Parameter, Pointer, Reduce, Result, Scan, Statement, Store
from ..parameters import VECTOR_BYTES
from .cpu_text import WORD, Writer, combine, start_value, typed

LANGUAGE = "staticgraph.runtime.cuda.language"
WARP = 32
MOST_COPIES = 4
"""Elements that a thread takes at once: 16 bytes of float32."""

SIZES = {"bool": 1, "int8": 1, "uint8": 1, "int16": 2, "uint16": 2, "int32": 4, "uint32": 4, "float32": 4, "int64": 8,
         "uint64": 8, "float64": 8}


def write_parameters(writer: Writer, parameters: Sequence[Parameter], arguments: Sequence[str]) -> None:
    """Names for the arguments, which are all int64."""
    for argument, parameter in zip(arguments, parameters, strict=True):
        match parameter:
            case Pointer(name, dtype, "read", _):
                writer.line(f"{name} = input_{dtype}({argument})")
            case Pointer(name, dtype, _, _):
                writer.line(f"{name} = pointer_{dtype}({argument})")
            case Extent(name):
                writer.line(f"{name} = {argument}")
            case _:
                writer.line(f"{parameter.name} = pointer_int64({argument})")


def write_guard(writer: Writer, together: bool = False) -> None:
    """Nothing is done once something has failed: indices may not have been written, and variables must not be.
    `together`: the kernel may report something itself, and its threads wait for each other; so one of a block looks for
    all."""
    if together:
        writer.line("stopped = shared_bool(1)")
        writer.line("if thread() == 0:")
        with writer:
            writer.line("stopped[0] = reported(status)")
        writer.line("barrier()")
    writer.line("if stopped[0]:" if together else "if reported(status):")
    with writer:
        writer.line("return")


def write_coordinates(writer: Writer, axes: Sequence[tuple[str, str]], point: str) -> None:
    """The indices of nested loops, outermost first, from their running number."""
    rest = point
    for name, extent in reversed(axes[1:]):
        writer.line(f"{name} = remainder_of({rest}, {extent})")
        writer.line(f"{name}_rest = quotient_of({rest}, {extent})")
        rest = f"{name}_rest"
    writer.line(f"{axes[0][0]} = {rest}")


# Indices.

@dataclass(frozen=True)
class Linear:
    """An index as a function of one variable: its coefficient (None if it is not linear or not a known number), and
    what the rest of the index is surely a multiple of (0: there is no rest)."""

    coefficient: int | None
    divisor: int


def linear(index: str, variable: str) -> Linear:
    """How an index depends on a variable."""
    coefficient: int | None = 0
    divisor = 0
    for term in _terms(ast.parse(index, mode="eval").body):
        factors, names = _factors(term)
        if factors is None or names.count(variable) > 1:
            return Linear(None, 1)
        if variable in names:
            known = len(names) == 1
            coefficient = coefficient + factors if known and coefficient is not None else None
        else:
            divisor = math.gcd(divisor, factors)
    return Linear(coefficient, divisor)


def _terms(node: ast.expr) -> Iterator[ast.expr]:
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        yield from _terms(node.left)
        yield from _terms(node.right)
    else:
        yield node


def _factors(node: ast.expr) -> tuple[int | None, list[str]]:
    """The product of the numbers and the names of a term; (None, []) of anything but a product."""
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mult):
        left, right = _factors(node.left), _factors(node.right)
        if left[0] is None or right[0] is None:
            return None, []
        return left[0] * right[0], left[1] + right[1]
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        number, names = _factors(node.operand)
        return (None, []) if number is None else (-number, names)
    if isinstance(node, ast.Constant) and isinstance(node.value, int):
        return node.value, []
    return (1, [node.id]) if isinstance(node, ast.Name) else (None, [])


def split_load(expr: str) -> tuple[str, str] | None:
    """(pointer, index) of an expression that is nothing but a load."""
    node = ast.parse(expr, mode="eval").body
    if isinstance(node, ast.Subscript) and isinstance(node.value, ast.Name):
        return node.value.id, ast.unparse(node.slice)
    return None


# Bodies for several elements.

class Lanes:
    """Writes bodies for `width` neighbouring values of `variable`, which holds the first of them."""

    def __init__(self, writer: Writer, pointers: dict[str, Pointer], variable: str, width: int) -> None:
        self.writer = writer
        self.pointers = pointers
        self.variable = variable
        self.width = width
        self.inside: set[str] = set()

    def name(self, name: str, lane: int) -> str:
        return name if self.width == 1 else f"{name}_{lane}"

    def fix(self, text: str, lane: int) -> str:
        """The text as it reads for one element. The first one's number is a multiple of the width, so `|` adds; in a
        value it shows the compiler which elements share the block that their random bits come from."""
        if self.width == 1:
            return text
        plus = "+" if "[" in text else "|"

        def change(word: str) -> str:
            if word in self.inside:
                return f"{word}_{lane}"
            return f"({word} {plus} {lane})" if word == self.variable and lane else word

        return WORD.sub(lambda match: change(match[0]), text)

    def is_vector(self, pointer: str, index: str) -> bool:
        known = self.pointers.get(pointer)
        if self.width == 1 or known is None or not known.aligned:
            return False
        form = linear(index, self.variable)
        if any(word in self.inside for word in WORD.findall(index)):
            return False
        return form.coefficient == 1 and form.divisor % self.width == 0 and SIZES[known.dtype] * self.width <= 16

    def body(self, body: Sequence[Statement], store_if: str = "") -> None:
        """All statements; those after a check only where the index is good."""
        depth = self.writer.depth
        for statement in body:
            match statement:
                case Let(name, dtype, expr):
                    self.let(name, dtype, expr)
                case Store(pointer, index, expr):
                    if store_if:
                        self.writer.line(f"if {store_if}:")
                        with self.writer:
                            self.store(pointer, index, expr)
                    else:
                        self.store(pointer, index, expr)
                case Check():
                    open_check(self.writer, statement)
                case _:
                    raise AssertionError(f"{type(statement).__name__} inside of a loop over elements")
        self.writer.depth = depth

    def let(self, name: str, dtype: str, expr: str) -> None:
        load = split_load(expr)
        if load is not None and self.is_vector(*load):
            names = ", ".join(f"{name}_{lane}" for lane in range(self.width))
            self.writer.line(f"{names} = load{self.width}({load[0]}, {load[1]})")
        else:
            for lane in range(self.width):
                self.writer.line(f"{self.name(name, lane)} = {typed(self.fix(expr, lane), dtype)}")
        self.inside.add(name)

    def store(self, pointer: str, index: str, expr: str) -> None:
        if self.is_vector(pointer, index):
            values = ", ".join(self.fix(expr, lane) for lane in range(self.width))
            self.writer.line(f"store{self.width}({pointer}, {index}, {values})")
            return
        for lane in range(self.width):
            self.writer.line(f"{pointer}[{self.fix(index, lane)}] = {self.fix(expr, lane)}")


def open_check(writer: Writer, check: Check) -> None:
    """An index counted from the front; one out of range is reported, and what follows is skipped. The caller takes the
    indentation back. (Nothing returns: other threads may wait for this one at a barrier.)"""
    name = check.name
    writer.line(f"{name} = int64({check.value})")
    writer.line(f"if {name} < 0:")
    with writer:
        writer.line(f"{name} += {check.size}")
    writer.line(f"if {name} < 0 or {name} >= {check.size}:")
    with writer:
        writer.line(f"fail(status, {check.number}, int64({check.value}), {check.size})")
    writer.line("else:")
    writer.depth += 1


def has_check(body: Sequence[Statement]) -> bool:
    return any(isinstance(each, Check) for each in body)


def vector_width(body: Sequence[Statement], pointers: dict[str, Pointer], variable: str, extent: str | None) -> int:
    """How many elements a thread takes at once: as many as all vector accesses fit, one where there is none.
    `extent` is the number of values of the variable where that must be a multiple, or None where a rest is handled."""
    width = MOST_COPIES
    if has_check(body):
        return 1
    if extent is not None:
        width = math.gcd(width, int(extent)) if extent.isdigit() and int(extent) else 1
    found = 0
    assigned: set[str] = set()
    for statement in body:
        access = None
        if isinstance(statement, Let):
            access = split_load(statement.expr)
        elif isinstance(statement, Store):
            access = statement.pointer, statement.index
        if access is not None and access[0] in pointers and not assigned & set(WORD.findall(access[1])):
            form = linear(access[1], variable)
            if form.coefficient == 1 and pointers[access[0]].aligned:
                fits = math.gcd(width, form.divisor) if form.divisor else width
                fits = min(fits, VECTOR_BYTES // SIZES[pointers[access[0]].dtype])
                if fits > 1:
                    width, found = min(width, fits), found + 1
        if isinstance(statement, Let):
            assigned.add(statement.name)
    return width if found else 1


# Partial results.

def merge(result: Result, a: str, b: str) -> str:
    """Two partial results of a reduction as one, in this order."""
    if result.op in ("sum", "prod") and result.dtype.startswith("float"):
        return f"{a} {'+' if result.op == 'sum' else '*'} {b}"
    return combine(result, a, b)


def is_position(result: Result) -> bool:
    return result.op in ("argmax", "argmin")


def best_of(result: Result) -> str:
    return f"{result.name}_best"


def write_start(writer: Writer, result: Result, suffix: str = "") -> None:
    if is_position(result):
        writer.line(f"{best_of(result)}{suffix} = {start_value(result)}")
        writer.line(f"{result.name}{suffix} = int64(0)")
    else:
        writer.line(f"{result.name}{suffix} = {start_value(result)}")


def write_term(writer: Writer, result: Result, expr: str, position: str, suffix: str = "") -> None:
    """One more term into a partial result. Terms come in order of their positions."""
    if not is_position(result):
        name = f"{result.name}{suffix}"
        writer.line(f"{name} = {merge(result, name, expr)}")
        return
    best = f"{best_of(result)}{suffix}"
    sign = ">" if result.op == "argmax" else "<"
    # The first nan wins over everything after it, as in NumPy.
    _write_choice(writer, result, suffix, f"(({expr} {sign} {best}) | ({expr} != {expr})) & ({best} == {best})", expr,
                  position)


def _write_choice(writer: Writer, result: Result, suffix: str, condition: str, value: str, place: str) -> None:
    """Without a branch: many of those take Numba seconds."""
    taken, best, name = f"{result.name}{suffix}_taken", f"{best_of(result)}{suffix}", f"{result.name}{suffix}"
    writer.line(f"{taken} = {condition}")
    writer.line(f"{best} = select({taken}, {value}, {best})")
    writer.line(f"{name} = select({taken}, {place}, {name})")


def write_merge(writer: Writer, result: Result, suffix: str, value: str, place: str = "") -> None:
    """Another partial result (`value`, for a position also `place`) into ``name + suffix``; where both have the same
    extreme the lower position stands."""
    if not is_position(result):
        name = f"{result.name}{suffix}"
        writer.line(f"{name} = {merge(result, name, value)}")
        return
    best, name = f"{best_of(result)}{suffix}", f"{result.name}{suffix}"
    sign = ">" if result.op == "argmax" else "<"
    wins = f"(({value} {sign} {best}) | ({value} != {value})) & ({best} == {best})"
    ties = f"(({value} == {best}) | (({value} != {value}) & ({best} != {best}))) & ({place} < {name})"
    _write_choice(writer, result, suffix, f"({wins}) | ({ties})", value, place)


def write_join_lanes(writer: Writer, result: Result, width: int) -> None:
    """The partial results of the lanes as one, by halves."""
    step = width
    while step > 1:
        step //= 2
        for lane in range(step):
            write_merge(writer, result, f"_{lane}", f"{best_of(result) if is_position(result) else result.name}"
                        f"_{lane + step}", f"{result.name}_{lane + step}")
    if width > 1:
        writer.line(f"{result.name} = {result.name}_0")
        if is_position(result):
            writer.line(f"{best_of(result)} = {best_of(result)}_0")


def write_shuffles(writer: Writer, result: Result, threads: int) -> None:
    """The partial results of `threads` neighbouring threads of a warp as one, known to all of them: a butterfly, whose
    two sides add the same numbers, so every thread has the same bits."""
    if not is_position(result):
        writer.line(f"{result.name} = team_{result.op}({result.name}, {threads})")
        return
    step = threads
    while step > 1:
        step //= 2
        writer.line(f"{result.name}_other = shuffle_xor({best_of(result)}, {step})")
        writer.line(f"{result.name}_place = shuffle_xor({result.name}, {step})")
        write_merge(writer, result, "", f"{result.name}_other", f"{result.name}_place")


def partial_names(result: Result) -> list[tuple[str, str]]:
    """(name, dtype) of what a partial result consists of."""
    if is_position(result):
        return [(best_of(result), result.term_dtype), (result.name, result.dtype)]
    return [(result.name, result.dtype)]


# One thread after the other.

class Sequential:
    """Writes any body as one thread executes it."""

    def __init__(self, writer: Writer, store_if: str = "") -> None:
        self.writer = writer
        self.store_if = store_if

    def body(self, body: Sequence[Statement]) -> None:
        depth = self.writer.depth
        for statement in body:
            self.statement(statement)
        self.writer.depth = depth

    def statement(self, statement: Statement) -> None:
        writer = self.writer
        match statement:
            case Let(name, dtype, expr):
                writer.line(f"{name} = {typed(expr, dtype)}")
            case Store(pointer, index, expr):
                writer.line(f"{pointer}[{index}] = {expr}")
            case Map(index, extent, inner, order):
                writer.line(f"for {index} in {count(extent, order)}:")
                with writer:
                    self.body(inner)
            case Reduce():
                self.reduce(statement)
            case Scan():
                self.scan(statement)
            case Check():
                open_check(writer, statement)
            case Local():
                raise AssertionError("a CUDA kernel has no local arrays")
            case _:
                pass

    def reduce(self, statement: Reduce) -> None:
        writer = self.writer
        for result in statement.results:
            write_start(writer, result)
        depth = writer.depth
        for index, extent in statement.loops:
            writer.line(f"for {index} in range({extent}):")
            writer.depth += 1
        for inner in statement.body:
            self.statement(inner)
        for result in statement.results:
            write_term(writer, result, result.expr, result.position)
        writer.depth = depth

    def scan(self, scan: Scan) -> None:
        writer = self.writer
        for carry in scan.carries:
            writer.line(f"{carry.name} = {carry.init}")
        writer.line(f"for {scan.index} in {count(scan.extent, scan.order)}:")
        with writer:
            self.body(scan.body)
            for carry in scan.carries:
                writer.line(f"{carry.name}_next = {typed(carry.next, carry.dtype)}")
            self.body(scan.after)
            for carry in scan.carries:
                writer.line(f"{carry.name} = {carry.name}_next")


def count(extent: str, order: str) -> str:
    return f"range({extent} - 1, -1, -1)" if order == "backward" else f"range({extent})"


def any_statement(body: Sequence[Statement], kinds: type | tuple[type, ...],
                  test: Callable[[Statement], bool] = lambda _: True) -> bool:
    """Is there such a statement, at any depth?"""
    for statement in body:
        if isinstance(statement, kinds) and test(statement):
            return True
        inner: Collection[Statement] = getattr(statement, "body", ())
        if any_statement((*inner, *getattr(statement, "after", ())), kinds, test):
            return True
    return False
