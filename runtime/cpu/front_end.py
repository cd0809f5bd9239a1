"""Kernel text in, LLVM code out: a compiler for the Python that kernels are written in.

Numba compiles the same text to the same results; but it is made for all of Python, and for a kernel of twenty lines it
takes fifty times as long as LLVM needs for optimising it. What kernels use is little: numbers and pointers, loops over
ranges, branches, and the functions of the kernel language, which are LLVM code already. So the text is walked once,
each node giving its instructions. A text that uses more is `Beyond` this front end, and `translate` leaves it to Numba.

A variable has one type. One that is assigned once is the value itself; others live in stack slots, which LLVM turns
into registers. Operators are those of `arithmetic`; functions are Numba's intrinsics, whose typing and code are called.
"""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core.errors import NumbaError

from .arithmetic import INT32, INT64, Beyond, Typed, binary, cast, compare, constant, convert, invert, negate, smallest
from .language import NAMES
from .pointers import load_element, store_element

SCALARS = {np.float32: types.float32, np.float64: types.float64, np.int32: types.int32, np.int64: types.int64,
           np.bool_: types.boolean}
LANGUAGE = "staticgraph.runtime.cpu.language"


def emit(text: str, name: str, symbol: str) -> str:
    """The text of an LLVM module in which the kernel is ``i32 symbol(i64 args, i64 start, i64 stop)``; `Beyond` where
    the kernel's text is."""
    tree = ast.parse(text)
    names = _imports(tree)
    return emit_function(_function(tree, name), names, symbol)


def emit_function(function: ast.FunctionDef, names: Mapping[str, Any], symbol: str) -> str:
    """The same for a kernel that has been read; `names` are what it may use."""
    in_memory: set[str] = set()
    while True:
        try:
            return str(_Kernel(function, names, symbol, in_memory).module)
        except _NeedsSlot as missing:     # used where its only assignment does not reach
            in_memory.add(missing.args[0])


class _NeedsSlot(Exception):
    """A variable that was taken for a plain value has to live in a stack slot."""


class _Context:
    """What code generators of the kernel language ask their compiler for."""

    @staticmethod
    def cast(builder: Any, value: Any, source: Any, kind: Any) -> Any:
        return convert(builder, value, types.unliteral(source), types.unliteral(kind))

    @staticmethod
    def get_dummy_value() -> Any:
        return None


class _Kernel:
    """One kernel in the making."""

    def __init__(self, function: ast.FunctionDef, names: Mapping[str, Any], symbol: str, in_memory: set[str]) -> None:
        self.module = ir.Module(symbol)
        self.names = names
        self.function = ir.Function(self.module, ir.FunctionType(INT32, [INT64] * 3), symbol)
        self.function.attributes.add("nounwind")
        entry = self.function.append_basic_block("entry")
        self.builder = ir.IRBuilder(entry)
        self.values: dict[str, Typed] = {}
        self.slots: dict[str, tuple[Any, Any]] = {}
        self.in_memory = in_memory
        self.assignments = _count_assignments(function)
        self.loops: list[tuple[Any, Any]] = []     # where `continue` and `break` go
        body = self.function.append_basic_block("body")
        self.builder.position_at_end(body)
        for argument, raw in zip(function.args.args, self.function.args):
            self.assignments[argument.arg] += 1
            self.assign(argument.arg, Typed(types.int64, raw))
        self.statements(function.body)
        if not self.builder.block.is_terminated:
            self.builder.ret(ir.Constant(INT32, 0))
        self.builder.position_at_end(entry)
        self.builder.branch(body)

    # Variables.

    def assign(self, name: str, value: Typed) -> None:
        if self.assignments[name] == 1 and name not in self.in_memory:
            self.values[name] = value
            return
        if name not in self.slots:
            with self.builder.goto_entry_block():
                self.slots[name] = (value.kind, self.builder.alloca(value.raw.type))
        kind, slot = self.slots[name]
        if kind != value.kind:
            raise Beyond(f"'{name}' is {kind} and {value.kind}")
        self.builder.store(value.raw, slot)

    def name(self, name: str) -> Typed:
        if name in self.values:
            return self.values[name]
        if name in self.slots:
            kind, slot = self.slots[name]
            return Typed(kind, self.builder.load(slot))
        if self.assignments[name] == 1 and name not in self.in_memory:
            raise _NeedsSlot(name)
        value = self.names.get(name)
        if isinstance(value, float):
            return constant(value)
        raise Beyond(f"the name '{name}'")

    @contextmanager
    def scope(self) -> Iterator[None]:
        """Code that may not be run: what is assigned in it does not reach what follows."""
        before = set(self.values)
        yield
        for name in self.values.keys() - before:
            del self.values[name]

    # Statements.

    def statements(self, body: Sequence[ast.stmt]) -> None:
        for statement in body:
            if self.builder.block.is_terminated:
                return
            method = getattr(self, f"visit_{type(statement).__name__}", None)
            if method is None:
                raise Beyond(f"the statement {type(statement).__name__}")
            method(statement)

    def visit_Pass(self, _: ast.Pass) -> None:
        pass

    def visit_Expr(self, node: ast.Expr) -> None:
        if not isinstance(node.value, ast.Constant):     # a docstring
            self.value(node.value, statement=True)

    def visit_Return(self, node: ast.Return) -> None:
        if node.value is not None:
            raise Beyond("a kernel that returns a value")
        self.builder.ret(ir.Constant(INT32, 0))

    def visit_Assign(self, node: ast.Assign) -> None:
        if len(node.targets) != 1:
            raise Beyond("an assignment to several targets")
        target = node.targets[0]
        if isinstance(target, ast.Tuple):
            if not isinstance(node.value, ast.Tuple) or len(node.value.elts) != len(target.elts):
                raise Beyond("a tuple")
            values = [self.value(each) for each in node.value.elts]
            for each, value in zip(target.elts, values):
                self.store(each, value)
        else:
            self.store(target, self.value(node.value))

    def visit_AugAssign(self, node: ast.AugAssign) -> None:
        if isinstance(node.target, ast.Name):
            before = self.name(node.target.id)
            self.assign(node.target.id, binary(self.builder, type(node.op).__name__, before, self.value(node.value)))
        elif isinstance(node.target, ast.Subscript):
            pointer, index = self.element(node.target)
            before = self.load(pointer, index)
            self.store_at(pointer, index, binary(self.builder, type(node.op).__name__, before, self.value(node.value)))
        else:
            raise Beyond("this assignment")

    def store(self, target: ast.expr, value: Typed) -> None:
        if isinstance(target, ast.Name):
            self.assign(target.id, Typed(value.kind, value.raw))
        elif isinstance(target, ast.Subscript):
            self.store_at(*self.element(target), value)
        else:
            raise Beyond("this assignment")

    def visit_If(self, node: ast.If) -> None:
        condition = self.truth(node.test)
        then, after = self.block("then"), self.block("after")
        other = self.block("else") if node.orelse else after
        self.builder.cbranch(condition, then, other)
        for block, body in ((then, node.body), (other, node.orelse)):
            if block is not after:
                self.builder.position_at_end(block)
                with self.scope():
                    self.statements(body)
                if not self.builder.block.is_terminated:
                    self.builder.branch(after)
        self.builder.position_at_end(after)

    def visit_While(self, node: ast.While) -> None:
        if node.orelse:
            raise Beyond("an else of a loop")
        test, body, after = self.block("test"), self.block("loop"), self.block("after")
        self.builder.branch(test)
        self.builder.position_at_end(test)
        self.builder.cbranch(self.truth(node.test), body, after)
        self.loop_body(node.body, body, test, after)
        if not self.builder.block.is_terminated:
            self.builder.branch(test)
        self.builder.position_at_end(after)

    def loop_body(self, statements: Sequence[ast.stmt], body: Any, onward: Any, after: Any) -> None:
        self.builder.position_at_end(body)
        self.loops.append((onward, after))
        with self.scope():
            self.statements(statements)
        self.loops.pop()

    def visit_Break(self, _: ast.Break) -> None:
        self.builder.branch(self.loops[-1][1])

    def visit_Continue(self, _: ast.Continue) -> None:
        self.builder.branch(self.loops[-1][0])

    def visit_For(self, node: ast.For) -> None:
        """The running number is apart from the variable, which the body may change."""
        start, stop, step = self.range(node)
        builder = self.builder
        before, test, body, onward, after = builder.block, *map(self.block, ("test", "loop", "next", "after"))
        builder.branch(test)
        builder.position_at_end(test)
        number = builder.phi(INT64)
        number.add_incoming(start, before)
        builder.cbranch(builder.icmp_signed("<" if step > 0 else ">", number, stop), body, after)
        builder.position_at_end(body)
        with self.scope():
            assert isinstance(node.target, ast.Name)
            self.assign(node.target.id, Typed(types.int64, number))
            self.loop_body(node.body, builder.block, onward, after)
        if not builder.block.is_terminated:
            builder.branch(onward)
        builder.position_at_end(onward)
        number.add_incoming(builder.add(number, ir.Constant(INT64, step), flags=["nsw"]), onward)
        builder.branch(test)
        builder.position_at_end(after)

    def range(self, node: ast.For) -> tuple[Any, Any, int]:
        call = node.iter
        if (not isinstance(call, ast.Call) or not isinstance(call.func, ast.Name) or call.func.id != "range"
                or call.keywords or node.orelse or not isinstance(node.target, ast.Name)):
            raise Beyond("a loop over anything but a range")
        parts = [self.value(each) for each in call.args]
        if len(parts) == 1:
            parts.insert(0, constant(0))
        step = parts[2].literal if len(parts) == 3 else 1
        if any(part.kind != types.int64 for part in parts) or not isinstance(step, int) or not step:
            raise Beyond("a range of such numbers")
        return parts[0].raw, parts[1].raw, step

    def block(self, name: str) -> Any:
        return self.function.append_basic_block(name)

    # Expressions.

    def value(self, node: ast.expr, statement: bool = False) -> Typed:
        match node:
            case ast.Name(id=name):
                return self.name(name)
            case ast.Constant(value=bool() | int() | float() as number):
                return constant(number)
            case ast.BinOp(left=left, op=op, right=right):
                return binary(self.builder, type(op).__name__, self.value(left), self.value(right))
            case ast.UnaryOp(op=ast.USub(), operand=operand):
                return negate(self.builder, self.value(operand))
            case ast.UnaryOp(op=ast.UAdd(), operand=operand):
                return self.value(operand)
            case ast.UnaryOp(op=ast.Not(), operand=operand):
                return Typed(types.boolean, self.builder.not_(self.truth(operand)))
            case ast.UnaryOp(op=ast.Invert(), operand=operand):
                return invert(self.builder, self.value(operand))
            case ast.Compare():
                return self.comparison(node)
            case ast.BoolOp(op=op, values=values):
                return self.logical(values, isinstance(op, ast.And))
            case ast.IfExp():
                return self.choice(node)
            case ast.Subscript():
                return self.load(*self.element(node))
            case ast.Call(func=ast.Name(id=name), args=arguments, keywords=[]):
                return self.call(name, [self.value(each) for each in arguments], statement)
        raise Beyond(f"the expression {ast.unparse(node)}")

    def truth(self, node: ast.expr) -> Any:
        return cast(self.builder, self.value(node), types.boolean).raw

    def comparison(self, node: ast.Compare) -> Typed:
        operands = [self.value(each) for each in (node.left, *node.comparators)]
        results = [compare(self.builder, type(op).__name__, left, right).raw
                   for op, left, right in zip(node.ops, operands, operands[1:])]
        total = results[0]
        for each in results[1:]:
            total = self.builder.and_(total, each)
        return Typed(types.boolean, total)

    def logical(self, nodes: Sequence[ast.expr], both: bool) -> Typed:
        """`and`, `or` of bools: what follows is looked at only if it decides."""
        builder, after = self.builder, self.block("decided")
        incoming = []
        for node in nodes[:-1]:
            value, rest = self.boolean(node), self.block("undecided")
            incoming.append((ir.Constant(value.type, int(not both)), builder.block))
            builder.cbranch(value, rest, after) if both else builder.cbranch(value, after, rest)
            builder.position_at_end(rest)
        incoming.append((self.boolean(nodes[-1]), builder.block))
        builder.branch(after)
        return self.joined(after, types.boolean, incoming)

    def boolean(self, node: ast.expr) -> Any:
        value = self.value(node)
        if value.kind != types.boolean:
            raise Beyond(f"`and` or `or` of {value.kind}")
        return value.raw

    def choice(self, node: ast.IfExp) -> Typed:
        condition, after = self.truth(node.test), self.block("chosen")
        blocks, incoming, kinds = (self.block("one"), self.block("other")), [], []
        self.builder.cbranch(condition, *blocks)
        for block, branch in zip(blocks, (node.body, node.orelse)):
            self.builder.position_at_end(block)
            value = self.value(branch)
            incoming.append((value.raw, self.builder.block))
            kinds.append(value.kind)
            self.builder.branch(after)
        if kinds[0] != kinds[1]:
            raise Beyond(f"a choice of {kinds[0]} or {kinds[1]}")
        return self.joined(after, kinds[0], incoming)

    def joined(self, block: Any, kind: Any, incoming: Sequence[tuple[Any, Any]]) -> Typed:
        self.builder.position_at_end(block)
        phi = self.builder.phi(incoming[0][0].type)
        for value, origin in incoming:
            phi.add_incoming(value, origin)
        return Typed(kind, phi)

    # Memory and functions.

    def element(self, node: ast.Subscript) -> tuple[Typed, Typed]:
        pointer, index = self.value(node.value), self.value(node.slice)
        if not isinstance(pointer.kind, types.CPointer) or index.kind != types.int64:
            raise Beyond(f"an element {index.kind} of {pointer.kind}")
        return pointer, index

    def load(self, pointer: Typed, index: Typed) -> Typed:
        signature = pointer.kind.dtype(pointer.kind, index.kind)
        return Typed(pointer.kind.dtype, load_element(_Context, self.builder, signature, (pointer.raw, index.raw)))

    def store_at(self, pointer: Typed, index: Typed, value: Typed) -> None:
        signature = types.void(pointer.kind, index.kind, value.kind)
        store_element(_Context, self.builder, signature, (pointer.raw, index.raw, value.raw))

    def call(self, name: str, arguments: list[Typed], statement: bool) -> Typed:
        if name in ("min", "max") and len(arguments) > 1:
            return smallest(self.builder, arguments, "<" if name == "min" else ">")
        function = self.names.get(name)
        if isinstance(function, type) and function in SCALARS and len(arguments) == 1:
            return cast(self.builder, arguments[0], SCALARS[function])
        if not hasattr(function, "_defn"):
            raise Beyond(f"the function '{name}'")
        signature, generate = self.resolve(function, arguments)
        if isinstance(signature.return_type, types.NoneType) and not statement:
            raise Beyond(f"the value of '{name}'")
        raw = [self.operand(value, kind) for value, kind in zip(arguments, signature.args, strict=True)]
        return Typed(signature.return_type, generate(_Context, self.builder, signature, raw))

    def resolve(self, function: Any, arguments: Sequence[Typed]) -> tuple[Any, Any]:
        """Signature and code generator: as Numba does, literals first where the function prefers them."""
        literal, plain = [each.argument_kind for each in arguments], [each.kind for each in arguments]
        tries = [literal, plain] if function._prefer_literal else [plain, literal]
        for kinds in tries:
            try:
                found = function._defn(None, *kinds)
            except (NumbaError, TypeError):
                continue
            if found is not None:
                return found     # type: ignore[no-any-return]
        raise Beyond(f"{function._name} of {', '.join(map(str, plain))}")

    def operand(self, value: Typed, kind: Any) -> Any:
        kind = types.unliteral(kind)
        if kind == value.kind or isinstance(kind, types.CPointer):
            return value.raw
        return cast(self.builder, value, kind).raw


def _imports(tree: ast.Module) -> dict[str, Any]:
    """The names that the text imports from the kernel language."""
    names: dict[str, Any] = {}
    for node in tree.body:
        if isinstance(node, ast.ImportFrom) and node.module == LANGUAGE and not node.level:
            for alias in node.names:
                if alias.name not in NAMES:
                    raise Beyond(f"the name '{alias.name}'")
                names[alias.asname or alias.name] = NAMES[alias.name]
        elif not isinstance(node, ast.FunctionDef):
            raise Beyond("a text that is more than imports and functions")
    return names


def _function(tree: ast.Module, name: str) -> ast.FunctionDef:
    functions = [node for node in tree.body if isinstance(node, ast.FunctionDef)]
    if len(functions) != 1 or functions[0].name != name or len(functions[0].args.args) != 3:
        raise Beyond("a text that is more than one kernel")
    return functions[0]


def _count_assignments(function: ast.FunctionDef) -> Counter[str]:
    """How often each name is assigned in the text."""
    counts: Counter[str] = Counter()
    for node in ast.walk(function):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            counts[node.id] += 1
        if isinstance(node, ast.AugAssign) and isinstance(node.target, ast.Name):
            counts[node.target.id] += 1
    return counts
