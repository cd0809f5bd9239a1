"""Plain data made small: texts are kept once, and rows are lists under named columns.

Pages of thousands of nodes repeat the same types, operations and lines again and again. `Texts` numbers the distinct
ones in order of first use, so the same graph gives the same numbers in every process.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any


class Numbered:
    """Distinct values in the order in which they were first asked for."""

    def __init__(self) -> None:
        self.values: list[Any] = []
        self._number: dict[Hashable, int] = {}

    def __call__(self, value: Hashable) -> int:
        """The number of the value."""
        found = self._number.get(value)
        if found is None:
            found = self._number[value] = len(self.values)
            self.values.append(value)
        return found


class Texts:
    """The texts of one page, and the groups of lines that nodes carry."""

    def __init__(self) -> None:
        self.texts = Numbered()
        self._groups = Numbered()

    def __call__(self, text: str) -> int:
        return self.texts(text)

    def lines(self, lines: tuple[str, ...]) -> int:
        """The number of a group of lines."""
        return self._groups(tuple(map(self.texts, lines)))

    def data(self) -> dict[str, Any]:
        """What the page looks numbers up in."""
        return {"texts": self.texts.values, "lineGroups": [list(group) for group in self._groups.values]}

    def all_lines(self) -> list[str]:
        """Every line that was asked for, once, in order."""
        return list(dict.fromkeys(self.texts.values[number] for group in self._groups.values for number in group))
