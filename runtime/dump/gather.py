"""What some definitions need, gathered from modules of this package into one text that stands alone.

Comes in: definitions by module and name. Goes out: the import statements of other packages, and sections of source: the
modules' own text with nothing in it that nobody uses.

Names stay what they are where they can. In one text two modules may not define the same name, and what a kernel calls
`exp` is not the formula of that name: the later one is then called ``module_name``, wherever it stands.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from collections.abc import Set as AbstractSet
from typing import NamedTuple

from .sources import Source, Target, Unit, read


class Section(NamedTuple):
    """What comes from one module."""

    module: str
    summary: str
    text: str


class Gathered(NamedTuple):
    """Import statements, sections in an order that can be run, and the final name of each definition."""

    imports: tuple[str, ...]
    sections: tuple[Section, ...]
    names: dict[Target, str]


class Gatherer:
    """Collects definitions; `reserved` are names that the text has other uses for."""

    def __init__(self, reserved: Iterable[str] = ()) -> None:
        self.reserved = set(reserved)
        self.units: dict[str, dict[int, Unit]] = {}     # by module, then by line
        self.imports: dict[str, str] = {}     # what comes from other packages: name -> statement
        self.claimed: dict[Target, str] = {}     # definitions that keep their name, though it is reserved

    def add(self, target: Target) -> None:
        """A definition and everything that it refers to."""
        waiting = [target]
        while waiting:
            module, name = waiting.pop()
            source = read(module)
            if name not in source.by_name:
                if name in source.inside:
                    waiting.append(source.inside[name])
                    continue
                raise LookupError(f"'{name}' is not defined at the top of {module}")
            unit = source.by_name[name]
            if unit.first in self.units.setdefault(module, {}):
                continue
            self.units[module][unit.first] = unit
            waiting += self._needs(source, unit)
            waiting += self._registrations(source)

    def _needs(self, source: Source, unit: Unit) -> list[Target]:
        found = []
        for place in unit.places:
            target = resolve(source, place.name, place.member)
            if target is not None:
                found.append(target)
            elif place.name in source.outside:
                self._import(place.name, source.outside[place.name])
        return found

    def _registrations(self, source: Source) -> list[Target]:
        """Statements for Numba about what is here by now."""
        here = self.units[source.module]
        names = {name for unit in here.values() for name in unit.names}
        found = []
        for unit in source.units:
            if unit.first not in here and unit.about & names:
                here[unit.first] = unit
                found += self._needs(source, unit)
        return found

    def _import(self, name: str, statement: str) -> None:
        if self.imports.setdefault(name, statement) != statement:
            raise LookupError(f"'{name}' is both `{self.imports[name]}` and `{statement}`")

    def import_name(self, module: str, name: str, alias: str = "") -> None:
        """A name that the text imports from another package."""
        alias = alias or name
        self._import(alias, f"from {module} import {name}" + (f" as {alias}" if alias != name else ""))

    def text(self) -> Gathered:
        """Everything that was collected."""
        order = _in_order(self.units)
        names = self._names(order)
        sections = [Section(module, read(module).summary, _render(read(module), self.units[module], names))
                    for module in order]
        return Gathered(tuple(_joined(self.imports)), tuple(sections), names)

    def _names(self, order: Sequence[str]) -> dict[Target, str]:
        taken = self.reserved | set(self.imports) | set(self.claimed.values())
        names: dict[Target, str] = {}
        for module in order:
            for _, unit in sorted(self.units[module].items()):
                for name in unit.names:
                    names[Target(module, name)] = final = self._final_name(module, name, taken)
                    taken.add(final)
        return names

    def _final_name(self, module: str, name: str, taken: AbstractSet[str]) -> str:
        if Target(module, name) in self.claimed:
            return self.claimed[Target(module, name)]
        final = name if name not in taken else f"{module.rpartition('.')[2]}_{name.lstrip('_')}"
        while final in taken:
            final += "_"
        return final


def resolve(source: Source, name: str, member: str = "") -> Target | None:
    """The definition that a name in a module stands for; None if it is not one of this package."""
    if name in source.by_name:
        return Target(source.module, name)
    target = source.inside.get(name)
    if target is None:
        return None
    if not target.name:
        target = Target(target.module, member)
    inner = read(target.module)
    return target if target.name in inner.by_name else resolve(inner, target.name)


def _in_order(modules: Iterable[str]) -> list[str]:
    """Modules after those that they import."""
    wanted, order, open_ = sorted(modules), [], set[str]()

    def visit(module: str) -> None:
        if module in open_ or module in order:
            return
        open_.add(module)
        for target in read(module).inside.values():
            visit(target.module)
        order.append(module)

    for module in wanted:
        visit(module)
    return [module for module in order if module in wanted]


def _render(source: Source, units: dict[int, Unit], names: dict[Target, str]) -> str:
    """The text of some statements of a module, with final names."""
    parts: list[str] = []
    before: Unit | None = None
    for _, unit in sorted(units.items()):
        lines = _unit_lines(source, unit, names)
        if before is not None:
            large = len(lines) > 1 and any(line.startswith(("def ", "class ", "@")) for line in lines)
            was_large = _is_block(source, before)
            gap = 2 if large or was_large else int(unit.first > before.last + 1)
            parts.append("\n" * gap)
        parts.append("\n".join(lines) + "\n")
        before = unit
    return "".join(parts)


def _is_block(source: Source, unit: Unit) -> bool:
    lines = source.lines[unit.first: unit.last + 1]
    return any(line.startswith((b"def ", b"class ", b"@")) for line in lines)


def _unit_lines(source: Source, unit: Unit, names: dict[Target, str]) -> list[str]:
    edits: dict[int, list[tuple[int, int, str]]] = {}
    for place in unit.places:
        target = resolve(source, place.name, place.member)
        if target is None:
            continue
        of_module = place.name in source.inside and not source.inside[place.name].name
        end = place.end if of_module or not place.member else place.start + len(place.name.encode())
        edits.setdefault(place.line, []).append((place.start, end, names[target]))
    lines = []
    for number in range(unit.first, unit.last + 1):
        if number in unit.dropped:
            continue
        line = source.lines[number]
        for start, end, final in sorted(edits.get(number, []), reverse=True):
            line = line[:start] + final.encode() + line[end:]
        lines.append(line.decode().partition("  # type: ignore")[0].rstrip())
    return lines


def _joined(imports: dict[str, str]) -> list[str]:
    """Import statements: the standard library first, names from one module together."""
    plain = sorted({each for each in imports.values() if each.startswith("import ")})
    from_: dict[str, list[str]] = {}
    for each in imports.values():
        if each.startswith("from "):
            module, _, name = each.removeprefix("from ").partition(" import ")
            from_.setdefault(module, []).append(name)
    lines = plain + [f"from {module} import {', '.join(sorted(set(names)))}" for module, names in sorted(from_.items())]

    def is_foreign(line: str) -> bool:
        return line.split()[1].partition(".")[0] not in sys.stdlib_module_names

    standard, foreign = ([line for line in lines if is_foreign(line) == flag] for flag in (False, True))
    return [*standard, *([""] if standard and foreign else []), *foreign]
