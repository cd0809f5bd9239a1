"""Narrow rows: a tile of neighbouring rows is turned on its side and worked on as columns are.

A row of ten elements does not fill a vector, and its loops cost more to enter than to run: with an exponential in them
ten times what long rows cost an element. So the elements of some dozen rows are copied into arrays on the stack in
which the same element of all rows lies together, the statements of the row run for all of them at once, the row's
number innermost, and what they store is copied back. Only where a loop over the row calls an elementary function, or
would spend its time on what is left beyond whole vectors: the copies cost more than a sum of the row without them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ..indices import canonical, linear, split_load
from ..kernel_ir import Let, Map, Pointer, Reduce, Section, Statement, Store
from ..statements import WORD, everything, renamed, texts, written
from .cpu_lanes import Lanes, lane_arrays
from .cpu_text import DEAR, Writer

NARROWEST, WIDEST = 4, 120
"""Elements of a row."""

SHORT, MOST_RAGGED = 8, 48

MOST_ROWS, FEWEST_ROWS, VECTOR = 64, 16, 16
TILE_BYTES = 32 * 1024
"""Rows of a tile: as many as half of a first cache holds. Lanes are computed by whole vectors, also the last ones."""

SHUFFLED, TURNED_BYTES = (4, 8), 32
"""Lengths of rows that LLVM loads as they lie and then turns, of no more bytes than that."""

FLAT = "element"

Key = tuple[str, tuple[tuple[str, ...], ...]]
"""A place in memory as a function of row and element: pointer and index."""


@dataclass
class _Tile:
    """The elements of some rows of one place, side by side for each position in the row."""

    name: str
    dtype: str
    index: str
    pointer: str
    comes_in: bool
    goes_out: bool = False


def is_narrow(section: Section) -> bool:
    """Is this a program of short rows of known length, which its loops go through one element after the other?"""
    loops = list(_loops(section.body))
    if len(section.axes) != 1 or not loops or len(set(loops)) != 1:
        return False
    (_, extent), = set(loops)
    if not extent.isdigit() or not NARROWEST <= int(extent) <= WIDEST:
        return False
    inside = [text for loop in section.body if isinstance(loop, Map | Reduce)
              for each in loop.body for text in texts(each)]
    dear = _is_ragged(section, int(extent)) or any(DEAR.search(text) for text in inside)
    return dear and _tiles(section) is not None


def _is_ragged(section: Section, length: int) -> bool:
    """Do loops over so few elements, or over those beyond whole vectors, cost more than the copies?"""
    reductions = [each for each in section.body if isinstance(each, Reduce)]
    itemsize = max(np.dtype(each.dtype).itemsize for each in section.parameters if isinstance(each, Pointer))
    if length <= SHORT and length * itemsize <= TURNED_BYTES:
        return len(reductions) > 1 or (bool(reductions) and any(
            written(each.body) for each in section.body if isinstance(each, Map | Reduce)))
    extremes = any(result.op in ("max", "min") for each in reductions for result in each.results)
    return length % 8 != 0 and ((extremes and length < MOST_RAGGED) or (len(reductions) > 1 and length < VECTOR))


def render_narrow(writer: Writer, section: Section) -> None:
    """The loop over tiles of rows; parameters and prelude are written already."""
    tiles = _tiles(section)
    assert tiles is not None
    (axis,) = section.axes
    index, extent = next(_loops(section.body))
    length = int(extent)
    arrays = lane_arrays(section.body)
    lanes = _row_count([*arrays.values(), *[tile.dtype for tile in tiles.values()] * length,
                        *sorted({tile.dtype for tile in tiles.values()}) * length])
    for name, dtype in arrays.items():
        writer.line(f"{name} = local_{dtype}({lanes})")
    for tile in tiles.values():
        writer.line(f"{tile.name} = local_{tile.dtype}({lanes * length})")
    for dtype in sorted({tile.dtype for tile in tiles.values() if _is_gapless(tile, axis.name, (index, extent))}):
        writer.line(f"flat_{dtype} = local_{dtype}({lanes * length})")
    writer.line(f"for first in range(start, stop, {lanes}):")
    with writer:
        writer.line(f"width = min(stop - first, {lanes})")
        writer.line(f"padded = (width + {VECTOR - 1}) & -{VECTOR}")
        place = f"{index} * {lanes} + lane"
        for tile in tiles.values():
            if tile.comes_in:
                _copy_in(writer, tile, axis.name, (index, extent), place)
        outside = frozenset(each.name for each in section.parameters if isinstance(each, Pointer)) | {axis.name, "fail"}
        _Rows(writer, frozenset(arrays), axis.name, outside).body(_on_tiles(section.body, tiles, place))
        for tile in tiles.values():
            if tile.goes_out:
                _copy_out(writer, tile, axis.name, (index, extent), place)


def _loops(body: Sequence[Statement]) -> Iterator[tuple[str, str]]:
    """Index and extent of every loop over the row, nested ones as something that no row has."""
    for each in body:
        if isinstance(each, Map):
            yield (each.index, each.extent) if each.order == "any" else ("", "")
            yield from _loops(each.body)
        elif isinstance(each, Reduce):
            yield each.loops[0] if len(each.loops) == 1 and each.window is None else ("", "")


def _row_count(dtypes: Sequence[str]) -> int:
    room = TILE_BYTES // sum(np.dtype(dtype).itemsize for dtype in dtypes)
    return max(FEWEST_ROWS, min(MOST_ROWS, 1 << max(0, room.bit_length() - 1)))


def _tiles(section: Section) -> dict[Key, _Tile] | None:
    """The places that the loops go through; None where rows cannot be turned: something is stored that is also
    accessed elsewhere, or in no order of rows and elements."""
    (axis,), (index, _) = section.axes, next(_loops(section.body))
    dtypes = {each.name: each.dtype for each in section.parameters if isinstance(each, Pointer)}
    known = {axis.name, index, *(each.name for each in section.parameters if not isinstance(each, Pointer))}
    stored = written(section.body)
    tiles: dict[Key, _Tile] = {}
    for statement, is_inside in _with_place(section.body):
        access = _access(statement)
        if access is None:
            if any("[" in text for text in texts(statement)):
                return None
            continue
        pointer, where = access
        words = set(WORD.findall(where))
        if not is_inside or not {axis.name, index} <= words <= known:
            if pointer in stored and (is_inside or isinstance(statement, Let) or any(
                    key[0] == pointer for key in tiles)):
                return None
            continue
        key = pointer, canonical(where)
        if pointer in stored and any(other[0] == pointer and other != key for other in tiles):
            return None
        tile = tiles.setdefault(key, _Tile(f"{pointer}_tile{len(tiles)}", dtypes[pointer], where, pointer,
                                           isinstance(statement, Let)))
        tile.goes_out |= isinstance(statement, Store)
    return tiles


def _with_place(body: Sequence[Statement]) -> Iterator[tuple[Statement, bool]]:
    """All statements, with whether they are inside of a loop over the row."""
    for each in body:
        yield each, False
        if isinstance(each, Map | Reduce):
            yield from ((inner, True) for inner in everything(each.body))


def _access(statement: Statement) -> tuple[str, str] | None:
    if isinstance(statement, Store):
        return None if "[" in statement.index + statement.expr else (statement.pointer, statement.index)
    return split_load(statement.expr) if isinstance(statement, Let) else None


def _on_tiles(body: Sequence[Statement], tiles: dict[Key, _Tile], place: str) -> list[Statement]:
    """The statements with tiles in the place of memory."""
    moved: list[Statement] = []
    for each in body:
        access = _access(each)
        tile = tiles.get((access[0], canonical(access[1]))) if access is not None else None
        if isinstance(each, Map | Reduce):
            moved.append(replace(each, body=tuple(_on_tiles(each.body, tiles, place))))
        elif tile is not None and isinstance(each, Let):
            moved.append(replace(each, expr=f"{tile.name}[{place}]"))
        elif tile is not None and isinstance(each, Store):
            moved.append(Store(tile.name, place, each.expr))
        else:
            moved.append(each)
    return moved


def _is_gapless(tile: _Tile, axis: str, loop: tuple[str, str]) -> bool:
    """Does each row follow the one before it in memory, and is it of a length at which vectors would be gathered?"""
    length = int(loop[1])
    if length in SHUFFLED and length * np.dtype(tile.dtype).itemsize <= TURNED_BYTES:
        return False
    steps = linear(tile.index, axis).coefficient, linear(tile.index, loop[0]).coefficient
    return steps == (int(loop[1]), 1)


def _copy_in(writer: Writer, tile: _Tile, axis: str, loop: tuple[str, str], place: str) -> None:
    """Rows without gaps come by way of a flat copy: a processor fetches ahead along a run of memory, not where vectors
    are gathered from here and there."""
    source = f"{tile.pointer}[{tile.index}]"
    if _is_gapless(tile, axis, loop):
        _copy_flat(writer, tile, axis, loop, f"flat_{tile.dtype}[{FLAT}] = {{}}")
        source = f"flat_{tile.dtype}[lane * {loop[1]} + {loop[0]}]"
    _turn(writer, axis, loop, f"{tile.name}[{place}] = {source}")


def _copy_out(writer: Writer, tile: _Tile, axis: str, loop: tuple[str, str], place: str) -> None:
    target, gapless = f"{tile.pointer}[{tile.index}]", _is_gapless(tile, axis, loop)
    if gapless:
        target = f"flat_{tile.dtype}[lane * {loop[1]} + {loop[0]}]"
    _turn(writer, axis, loop, f"{target} = {tile.name}[{place}]")
    if gapless:
        _copy_flat(writer, tile, axis, loop, f"{{}} = flat_{tile.dtype}[{FLAT}]")


def _copy_flat(writer: Writer, tile: _Tile, axis: str, loop: tuple[str, str], move: str) -> None:
    """All elements of the rows, as they lie."""
    index = renamed(tile.index, {axis: "first", loop[0]: FLAT})
    writer.line(f"for {FLAT} in range(width * {loop[1]}):")
    with writer:
        writer.line(move.format(f"{tile.pointer}[{index}]"))


def _turn(writer: Writer, axis: str, loop: tuple[str, str], move: str) -> None:
    writer.line("for lane in range(width):")
    with writer:
        if axis in WORD.findall(move):
            writer.line(f"{axis} = first + lane")
        writer.line(f"for {loop[0]} in range({loop[1]}):")
        with writer:
            writer.line(move)


class _Rows(Lanes):
    """Lanes that no memory depends on are computed up to a whole vector: nothing reads those past the last row."""

    def __init__(self, writer: Writer, arrays: frozenset[str], axis: str, outside: frozenset[str]) -> None:
        super().__init__(writer, arrays, axis)
        self.outside = outside

    def bound(self, inside: Sequence[str]) -> str:
        return "width" if any(word in self.outside for line in inside for word in WORD.findall(line)) else "padded"
