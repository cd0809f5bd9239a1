"""The verifier of the kernel language: what `kernel_ir` promises, checked on every kernel before it is rendered.

Names come before their use and are assigned once; expressions are of the language; stores go where they may.
"""

from __future__ import annotations

import ast
from collections.abc import Collection, Sequence

from staticgraph.errors import VerificationError

from .kernel_ir import (
    DTYPES,
    FUNCTIONS,
    REDUCTIONS,
    Check,
    ColumnSums,
    KernelIR,
    Let,
    Local,
    Map,
    Pointer,
    Reduce,
    Scan,
    Section,
    Statement,
    Store,
    format_kernel,
)

SYNTAX = (ast.Expression, ast.Name, ast.Load, ast.Constant, ast.BinOp, ast.UnaryOp, ast.BoolOp, ast.Compare, ast.Call,
          ast.Subscript, ast.operator, ast.unaryop, ast.boolop, ast.cmpop)
"""What an expression consists of, as Python's parser names it."""

NUMBER = (bool, int, float)


def verify(kernel: KernelIR) -> None:
    """Raise VerificationError unless the kernel keeps the invariants of the module docstring."""
    if kernel.lanes not in ("inner", "parallel") or not kernel.sections:
        raise VerificationError(f"kernel {kernel.name}: lanes '{kernel.lanes}' or no section")
    for section in kernel.sections:
        _Verifier(kernel, section).run()


class _Verifier:
    def __init__(self, kernel: KernelIR, section: Section) -> None:
        self.kernel = kernel
        self.section = section
        self.pointers = {each.name: each for each in section.parameters if isinstance(each, Pointer)}
        self.locals: set[str] = set()
        self.assigned: set[str] = set()

    def run(self) -> None:
        scope: set[str] = set()
        if self.section.count < 1:
            self.fail(f"a section {self.section.count} times")
        for parameter in self.section.parameters:
            self.define(parameter.name, scope)
            if isinstance(parameter, Pointer):
                self.known(parameter.dtype, DTYPES, "dtype")
                self.known(parameter.access, ("read", "write", "readwrite"), "kind of access")
        self.body(self.section.prelude, scope)
        for axis in self.section.axes:
            self.expression(axis.extent, scope)
            self.define(axis.name, scope)
        self.body(self.section.body, scope)
        for sums in self.section.columns:
            self.columns(sums, scope)

    def columns(self, sums: ColumnSums, scope: set[str]) -> None:
        loop = self.section.body[sums.loop] if sums.loop < len(self.section.body) else None
        if not isinstance(loop, Map | Reduce):
            self.fail(f"columns of statement {sums.loop}, which is no loop")
        assert isinstance(loop, Map | Reduce)
        inside = scope | self.assigned | {loop.index if isinstance(loop, Map) else loop.loops[0][0]}
        self.body(sums.body, inside)
        for result in sums.results:
            self.known(result.op, REDUCTIONS, "reduction")
            self.expression(result.expr, inside)
        for result in sums.results:
            self.define(result.name, inside)
        self.body(sums.stores, inside | {"share"})

    def fail(self, what: str) -> None:
        raise VerificationError(f"kernel {self.kernel.name}: {what}\n{format_kernel(self.kernel)}")

    def known(self, word: str, words: Collection[str], what: str) -> None:
        if word not in words:
            self.fail(f"'{word}' is no {what}")

    def define(self, name: str, scope: set[str]) -> None:
        if not name.isidentifier() or name in self.assigned or name in FUNCTIONS:
            self.fail(f"'{name}' is not a fresh name")
        self.assigned.add(name)
        scope.add(name)

    def index(self, name: str, scope: set[str]) -> None:
        """A loop's index: loops that follow each other may share it."""
        if not name.isidentifier() or name in scope or name in FUNCTIONS:
            self.fail(f"index '{name}' is taken")
        scope.add(name)

    def expression(self, text: str, scope: set[str]) -> None:
        try:
            tree = ast.parse(text, mode="eval")
        except SyntaxError:
            self.fail(f"'{text}' is not an expression")
        for node in ast.walk(tree):
            if isinstance(node, ast.Name) and node.id not in scope and node.id not in FUNCTIONS:
                self.fail(f"'{node.id}' is used before it is defined, in '{text}'")
            if not isinstance(node, SYNTAX) or (isinstance(node, ast.Constant) and not isinstance(node.value, NUMBER)):
                self.fail(f"'{text}' is outside of the kernel language")

    def body(self, body: Sequence[Statement], scope: set[str]) -> None:
        for statement in body:
            self.statement(statement, scope)

    def statement(self, statement: Statement, scope: set[str]) -> None:
        match statement:
            case Let(name, dtype, expr):
                self.known(dtype, DTYPES, "dtype")
                self.expression(expr, scope)
                self.define(name, scope)
            case Store(pointer, index, expr):
                target = self.pointers.get(pointer)
                if target is None and pointer not in self.locals:
                    self.fail(f"store to unknown pointer '{pointer}'")
                if target is not None and target.access == "read":
                    self.fail(f"store to '{pointer}', which is read only")
                self.expression(index, scope)
                self.expression(expr, scope)
            case Map(index, extent, inner, order):
                self.known(order, ("any", "forward", "backward"), "order")
                self.expression(extent, scope)
                inside = set(scope)
                self.index(index, inside)
                self.body(inner, inside)
            case Reduce(loops, inner, results, window):
                inside = set(scope)
                for text in window or ():
                    self.expression(text, scope)
                for index, extent in loops:
                    self.expression(extent, inside)
                    self.index(index, inside)
                self.body(inner, inside)
                for result in results:
                    self.known(result.op, REDUCTIONS, "reduction")
                    self.known(result.dtype, DTYPES, "dtype")
                    self.expression(result.expr, inside)
                    if result.op in ("argmax", "argmin"):
                        self.known(result.term_dtype, DTYPES, "dtype")
                        self.expression(result.position, inside)
                for result in results:
                    self.define(result.name, scope)
            case Scan(index, extent, inner, carries, after, order):
                self.known(order, ("forward", "backward"), "order of a scan")
                self.expression(extent, scope)
                inside = set(scope)
                self.index(index, inside)
                for carry in carries:
                    self.expression(carry.init, scope)
                    self.define(carry.name, inside)
                self.body(inner, inside)
                for carry in carries:
                    self.expression(carry.next, inside)
                    self.define(f"{carry.name}_next", inside)
                self.body(after, inside)
            case Check(name, value, size, number):
                for text in (value, size, number):
                    self.expression(text, scope)
                self.define(name, scope)
            case Local(name, dtype, _, kind):
                self.known(dtype, DTYPES, "dtype")
                self.known(kind, ("local", "shared"), "scope of a local array")
                self.define(name, scope)
                self.locals.add(name)
