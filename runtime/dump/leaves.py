"""The functions of the CPU's kernel language that a kernel uses, as definitions to be gathered.

A function of the language is defined at the top of a module, or made by a maker that has left its `recipe`; then a
script makes it once more, by the same call.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping
from typing import Any

from staticgraph.errors import VerificationError

from .formulas import literal
from .gather import Gathered, Gatherer
from .sources import Target

LANGUAGE = "staticgraph.runtime.cpu.language"


def split_text(text: str) -> tuple[dict[str, str], str]:
    """A kernel's text as what it imports from the language, {name in the text: name in the language}, and the rest."""
    tree, names, lines = ast.parse(text), {}, text.splitlines()
    for node in tree.body:
        if isinstance(node, ast.ImportFrom) and node.module == LANGUAGE:
            names.update({alias.asname or alias.name: alias.name for alias in node.names})
            for number in range(node.lineno - 1, node.end_lineno or node.lineno):
                lines[number] = ""
        elif not isinstance(node, ast.FunctionDef):
            raise VerificationError(f"a kernel's text is more than imports and functions: {ast.unparse(node)[:60]}")
    return names, "\n".join(lines).strip("\n") + "\n"


class Leaves:
    """Adds functions of the language to a gatherer, and writes the calls that make them."""

    def __init__(self, gatherer: Gatherer, names: Mapping[str, str]) -> None:
        from ..cpu.language import NAMES

        self.gatherer = gatherer
        self.recipes: dict[str, Any] = {}
        for name, original in sorted(names.items()):
            if original not in NAMES:
                raise VerificationError(f"the kernel language has no '{original}'")
            self._add(name, original, NAMES[original])

    def _add(self, name: str, original: str, value: Any) -> None:
        if isinstance(value, float):
            self.gatherer.import_name("math", original, name)
        elif isinstance(value, type):
            self.gatherer.import_name("numpy", original, name)
        elif hasattr(value, "recipe"):
            self.recipes[name] = value.recipe
            for each in (value.recipe.maker, *value.recipe.arguments, *value.recipe.options.values()):
                self._add_part(each)
        else:
            target = Target(value._defn.__module__, value._defn.__name__)
            self.gatherer.claimed[target] = name
            self.gatherer.add(target)

    def _add_part(self, value: Any) -> None:
        if _is_function(value):
            self.gatherer.add(Target(value.__module__, value.__name__))
        elif _is_type(value):
            self.gatherer.import_name("numba", "types")

    def lines(self, gathered: Gathered) -> list[str]:
        """The calls, for text that was gathered."""
        def part(value: Any) -> str:
            if _is_function(value):
                return gathered.names[Target(value.__module__, value.__name__)]
            return f"types.{_type_name(value)}" if _is_type(value) else literal(value)

        lines = []
        for name, (maker, arguments, options) in sorted(self.recipes.items()):
            parts = [*map(part, arguments), *(f"{key}={part(value)}" for key, value in options.items())]
            lines.append(f"{name} = {part(maker)}({', '.join(parts)})")
        return lines


def _is_type(value: Any) -> bool:
    from numba import types

    return isinstance(value, types.Type)


def _is_function(value: Any) -> bool:
    return callable(value) and not _is_type(value)


def _type_name(kind: Any) -> str:
    from numba import types

    return next(name for name in (str(kind), "boolean") if getattr(types, name, None) is kind)
