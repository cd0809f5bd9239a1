"""What must hold before a program runs: its arguments are complete, their ranks and dimensions fit, its guards agree.

Comes in: the arguments of a call. Goes out: one value for each input, in order (`Guards.order`), and the value of each
symbolic dimension (`Guards.sizes`). Nothing has been written when one of these raises.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from staticgraph.compiler.program import OutputSpec, Program
from staticgraph.errors import ArgumentError, ShapeError, message
from staticgraph.types import Dim, Size, evaluate_size, is_anonymous, learn_sizes, open_symbol

from .convert import Array, describe_input

FIELD = re.compile(r"\{(\w+)\}")


def fill(text: str, values: Mapping[str, int]) -> str:
    """The text with ``{name}`` replaced in its headline and in what it says was needed. Its other lines show what users
    have named, files too, and all braces in them are theirs."""
    lines = text.split("\n")
    for number, line in enumerate(lines):
        if number == 0 or line.startswith("  needed "):
            lines[number] = FIELD.sub(lambda match: str(values.get(match[1], match[0])), line)
    return "\n".join(lines)


class Guards:
    """The checks of one program."""

    def __init__(self, program: Program) -> None:
        self._program = program
        self._inputs = program.inputs
        self._positions = {spec.name: position for position, spec in enumerate(program.inputs)}

    def order(self, args: Sequence[object], kwargs: Mapping[str, object]) -> list[object]:
        """One value for each input, in the order of the inputs."""
        if len(args) > len(self._inputs):
            raise ArgumentError(f"got {len(args)} inputs by position; {self._signature()}")
        values = dict(zip(self._positions, args))
        for name, value in kwargs.items():
            if name not in self._positions:
                raise ArgumentError(f"unknown input '{name}'; {self._signature()}")
            if name in values:
                raise ArgumentError(f"input '{name}' is given twice, by position and by name; {self._signature()}")
            values[name] = value
        missing = [spec for spec in self._inputs if spec.name not in values]
        if missing:
            names = ", ".join(f"'{spec.name}'" for spec in missing)
            raise ArgumentError(message(f"missing input{'s' * (len(missing) > 1)} {names}; {self._signature()}",
                                        [describe_input(spec) for spec in missing]))
        return [values[name] for name in self._positions]

    def _signature(self) -> str:
        names = ", ".join(spec.name for spec in self._inputs)
        return f"inputs are ({names})" if names else "there are no inputs"

    def sizes(self, arrays: Sequence[Array], dtypes: Sequence[str]) -> dict[str, int]:
        """The value of each symbol; ShapeError where ranks, dimensions or guards disagree. `dtypes` are those that the
        caller gave, for the messages."""
        sizes: dict[str, int] = {}
        origin: dict[str, int] = {}
        for position, (spec, array) in enumerate(zip(self._inputs, arrays)):
            if array.ndim != len(spec.shape):
                raise self._shape_error(f"input '{spec.name}': rank is {array.ndim}, expected {len(spec.shape)}",
                                        [position], arrays, dtypes)
            for axis, (expected, actual) in enumerate(zip(spec.shape, array.shape)):
                if not isinstance(expected, Dim):
                    if expected != actual:
                        raise self._shape_error(
                            f"input '{spec.name}': dimension {axis} is {actual}, expected {expected}",
                            [position], arrays, dtypes)
                    continue
                if not expected.is_symbol:
                    continue
                first = origin.setdefault(str(expected), position)
                if sizes.setdefault(str(expected), actual) != actual:
                    raise self._two_sizes(expected, sizes[str(expected)], actual, first, position, arrays, dtypes)
        self._check_formulas(sizes, arrays, dtypes)
        self._check_guards(sizes)
        return sizes

    def _check_formulas(self, sizes: dict[str, int], arrays: Sequence[Array], dtypes: Sequence[str]) -> None:
        """Learn what is still open from dimensions such as ``batch*2``, and check them."""
        formulas = [(position, axis, size, arrays[position].shape[axis]) for position, spec in enumerate(self._inputs)
                    for axis, size in enumerate(spec.shape) if isinstance(size, Dim) and not size.is_symbol]
        learn_sizes([(size, actual) for _, _, size, actual in formulas], sizes)
        for position, axis, size, actual in formulas:
            known = size.symbols() <= sizes.keys()
            if not known and open_symbol(size, sizes) is None:
                continue     # several symbols that nothing tells: the compiler made sure that nothing needs them
            if not known or size.evaluate(sizes) != actual:
                value = f" = {size.evaluate(sizes)}" if known else ""
                raise self._shape_error(
                    f"input '{self._inputs[position].name}': dimension {axis} is {actual}, expected {size}{value}",
                    [position], arrays, dtypes)

    def _two_sizes(self, dimension: Dim, one: int, other: int, first: int, second: int, arrays: Sequence[Array],
                   dtypes: Sequence[str]) -> ShapeError:
        a, b = self._inputs[first].name, self._inputs[second].name
        label = "one dimension" if is_anonymous(dimension) else f"dimension '{dimension}'"
        if first == second:
            return self._shape_error(f"{label} is {one} and {other} in input '{a}'", [first], arrays, dtypes)
        return self._shape_error(f"{label} is {one} in input '{a}' and {other} in input '{b}'", [first, second],
                                 arrays, dtypes)

    def _shape_error(self, headline: str, positions: Sequence[int], arrays: Sequence[Array],
                     dtypes: Sequence[str]) -> ShapeError:
        got = (f"{dtypes[each]}[{', '.join(map(str, arrays[each].shape))}]" for each in positions)
        return ShapeError(message(headline, [describe_input(self._inputs[each]) for each in positions],
                                  "got " + " and ".join(got)))

    def _check_guards(self, sizes: Mapping[str, int]) -> None:
        for guard in self._program.guards:
            left, right = evaluate_size(guard.left, sizes), evaluate_size(guard.right, sizes)
            if left != right:
                text = fill(guard.message, {"left": left, "right": right})
                raise ShapeError(text if text != guard.message else f"{text}\n  got {left} and {right}")
        for spec in self._program.outputs:
            for axis, size in enumerate(spec.shape):
                value = evaluate_size(size, sizes)
                if value < 0:
                    raise ShapeError(_negative(spec, axis, size, value, sizes))


def _negative(spec: OutputSpec, axis: int, size: Size, value: int, sizes: Mapping[str, int]) -> str:
    """The text for an output whose size formula came out below zero."""
    symbols = ", ".join(f"{name} = {sizes[name]}" for name in sorted(size.symbols())) if isinstance(size, Dim) else ""
    shape = ", ".join(map(str, spec.shape))
    return message(f"output '{spec.name}': dimension {axis} would be {value}", [],
                   f"{spec.name or 'output'}: {spec.dtype}[{shape}]", f"got {symbols}")
