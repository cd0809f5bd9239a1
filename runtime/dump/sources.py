"""The text of modules, cut into what they define, and who needs what.

Comes in: the name of a module of this package. Goes out: its `Unit`s, which are the statements at its top, each with
the names that it binds and the places where it refers to names of the top level. Found by reading, never by running.

A comment right above a statement belongs to it, and so does a string right below an assignment, which documents it.
"""

from __future__ import annotations

import ast
import importlib.util
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cache
from typing import Any, NamedTuple

PACKAGE = "staticgraph"

REGISTERING = frozenset({"register_model", "lower_builtin", "lower_cast"})
"""What Numba is told by statements that nobody refers to: they go with the class that they are about."""

DROPPED = frozenset({"recorded"})
"""Decorators that mean something to this package only."""


class Target(NamedTuple):
    """What a name stands for: a definition of a module of this package, or a module as such (then `name` is empty)."""

    module: str
    name: str


class Place(NamedTuple):
    """Where a name stands in a unit: line, and the bytes of that line. `member` is what is asked of it, if that is a
    module."""

    line: int
    start: int
    end: int
    name: str
    member: str = ""


@dataclass(frozen=True)
class Unit:
    """One statement: its lines, counted from 0, the names it binds and those it refers to. `dropped` are lines that are
    left out; `about`: the names that a statement for Numba's registries is about."""

    module: str
    first: int
    last: int
    names: tuple[str, ...]
    places: tuple[Place, ...]
    dropped: frozenset[int] = frozenset()
    about: frozenset[str] = frozenset()


@dataclass
class Source:
    """A module: its lines, the statements by name, and what it imports."""

    module: str
    lines: list[bytes]
    summary: str
    units: list[Unit] = field(default_factory=list)
    by_name: dict[str, Unit] = field(default_factory=dict)
    inside: dict[str, Target] = field(default_factory=dict)
    outside: dict[str, str] = field(default_factory=dict)
    """What comes from other packages: names, and the statements that import them."""


@cache
def read(module: str) -> Source:
    """The source of a module of this package."""
    spec = importlib.util.find_spec(module)
    loader: Any = getattr(spec, "loader", None)
    text = loader.get_source(module) if hasattr(loader, "get_source") else None
    if text is None:
        raise ImportError(f"the source of '{module}' is not there, so its functions cannot be written out")
    tree = ast.parse(text)
    found = Source(module, [line.encode() for line in text.splitlines()], _summary(tree))
    is_package = bool(spec and spec.submodule_search_locations is not None)
    for statement in tree.body:
        if isinstance(statement, ast.Import | ast.ImportFrom):
            _note_import(found, statement, is_package)
        elif _is_text(statement) and found.units:
            found.units[-1] = _extended(found.units[-1], statement)
        elif not _is_text(statement):
            found.units.append(_unit(found, statement))
    for unit in found.units:
        found.by_name.update(dict.fromkeys(unit.names, unit))
    return found


def _summary(tree: ast.Module) -> str:
    return (ast.get_docstring(tree) or "").partition("\n\n")[0].replace("\n", " ")


def _is_text(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)


def _extended(unit: Unit, text: ast.stmt) -> Unit:
    return Unit(unit.module, unit.first, (text.end_lineno or text.lineno) - 1, unit.names, unit.places, unit.dropped,
                unit.about)


def _note_import(found: Source, statement: ast.Import | ast.ImportFrom, is_package: bool) -> None:
    if isinstance(statement, ast.Import):
        for alias in statement.names:
            bound = alias.asname or alias.name.partition(".")[0]
            found.outside[bound] = f"import {alias.name}" + (f" as {alias.asname}" if alias.asname else "")
        return
    origin = statement.module or ""
    if statement.level:
        parts = found.module.split(".")
        parts = parts[:len(parts) - statement.level + is_package]
        origin = ".".join([*parts, *filter(None, [origin])])
    for alias in statement.names:
        bound = alias.asname or alias.name
        if origin.partition(".")[0] != PACKAGE:
            found.outside[bound] = f"from {origin} import {alias.name}" + (f" as {bound}" if alias.asname else "")
        elif _is_module(f"{origin}.{alias.name}"):
            found.inside[bound] = Target(f"{origin}.{alias.name}", "")
        else:
            found.inside[bound] = Target(origin, alias.name)


@cache
def _is_module(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:     # what is asked about is no package
        return False


def _unit(found: Source, statement: ast.stmt) -> Unit:
    decorators = getattr(statement, "decorator_list", [])
    first = min([statement.lineno, *(each.lineno for each in decorators)]) - 1
    dropped = frozenset(each.lineno - 1 for each in decorators
                        if isinstance(each, ast.Name) and each.id in DROPPED)
    while first and found.lines[first - 1].startswith(b"#"):
        first -= 1
    told = [each for each in (*decorators, statement) if _registers(each)]
    about = frozenset(node.id for each in told for node in ast.walk(each) if isinstance(node, ast.Name))
    bindings = tuple(_bindings(statement))
    walker = _References(skipped=dropped)
    walker.visit(statement)
    places = (*(place for place, _ in bindings), *walker.found)
    return Unit(found.module, first, (statement.end_lineno or statement.lineno) - 1,
                tuple(name for _, name in bindings), places, dropped, about)


def _registers(node: ast.AST) -> bool:
    """Is it a call that tells Numba's registries something?"""
    value = node.value if isinstance(node, ast.Expr) else node
    while isinstance(value, ast.Call):
        value = value.func
    return isinstance(value, ast.Name) and value.id in REGISTERING


def _bindings(statement: ast.stmt) -> Iterator[tuple[Place, str]]:
    """The names that a statement of the top level binds, and where they stand in it."""
    if isinstance(statement, ast.FunctionDef | ast.ClassDef):
        start = statement.col_offset + len("def " if isinstance(statement, ast.FunctionDef) else "class ")
        name = statement.name
        yield Place(statement.lineno - 1, start, start + len(name.encode()), name), name
    targets = statement.targets if isinstance(statement, ast.Assign) else (
        [statement.target] if isinstance(statement, ast.AnnAssign) else [])
    for target in targets:
        for node in ast.walk(target):
            if isinstance(node, ast.Name):
                yield _place(node, node.id), node.id


def _place(node: ast.expr, name: str, member: str = "") -> Place:
    assert node.end_col_offset is not None
    return Place(node.lineno - 1, node.col_offset, node.end_col_offset, name, member)


class _References(ast.NodeVisitor):
    """Collects the places of names that no function around them binds."""

    def __init__(self, skipped: Iterable[int] = ()) -> None:
        self.found: list[Place] = []
        self.bound: list[frozenset[str]] = []
        self.skipped = frozenset(skipped)

    def visit_Name(self, node: ast.Name) -> None:
        if isinstance(node.ctx, ast.Load) and self.is_free(node.id) and node.lineno - 1 not in self.skipped:
            self.found.append(_place(node, node.id))

    def visit_Attribute(self, node: ast.Attribute) -> None:
        if isinstance(node.value, ast.Name) and self.is_free(node.value.id):
            self.found.append(_place(node, node.value.id, node.attr))
        else:
            self.generic_visit(node)

    def is_free(self, name: str) -> bool:
        return not any(name in names for names in self.bound)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        for each in (*node.decorator_list, node.args, node.returns):
            if each is not None:
                self.visit(each)
        self.inside(_parameters(node.args) | frozenset(_assigned(node.body)), node.body)

    def visit_Lambda(self, node: ast.Lambda) -> None:
        self.visit(node.args)
        self.inside(_parameters(node.args), [node.body])

    def visit_comprehension_of(self, node: ast.ListComp | ast.SetComp | ast.GeneratorExp | ast.DictComp) -> None:
        names = frozenset(name.id for each in node.generators for name in ast.walk(each.target)
                          if isinstance(name, ast.Name))
        self.visit(node.generators[0].iter)
        self.bound.append(names)
        values = [node.key, node.value] if isinstance(node, ast.DictComp) else [node.elt]
        for number, each in enumerate(node.generators):
            values += [*([each.iter] if number else []), *each.ifs]
        for value in values:
            self.visit(value)
        self.bound.pop()

    visit_ListComp = visit_SetComp = visit_GeneratorExp = visit_DictComp = visit_comprehension_of

    def inside(self, names: frozenset[str], body: Iterable[ast.AST]) -> None:
        self.bound.append(names)
        for each in body:
            self.visit(each)
        self.bound.pop()


def _parameters(arguments: ast.arguments) -> frozenset[str]:
    every = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs, arguments.vararg, arguments.kwarg]
    return frozenset(each.arg for each in every if each is not None)


def _assigned(body: Iterable[ast.AST]) -> Iterator[str]:
    """The names that statements bind, but for those bound in functions and comprehensions within them."""
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield node.name
            continue
        if isinstance(node, ast.Lambda | ast.ListComp | ast.SetComp | ast.GeneratorExp | ast.DictComp):
            continue
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id
        elif isinstance(node, ast.Import | ast.ImportFrom):
            yield from (alias.asname or alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ExceptHandler | ast.MatchAs | ast.MatchStar) and node.name:
            yield node.name
        yield from _assigned(ast.iter_child_nodes(node))
