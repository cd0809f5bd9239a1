"""What kernels rely on without looking: that indices lie within their axis, and slices within their operand.

The functions that users call make sure of it, by `check_index` or by the formulas of a slice; a file may say anything.
So for each gather and scatter there must be a bound of the indices, for each slice its ends, that lies within. What can
be shown is fine, what depends on the sizes at the call becomes a guard, and what nothing bounds is refused.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ..errors import FileFormatError
from ..tensor import UNPROVEN, Guard, Tensor
from ..types import Dim, Size, minimum_size, product, provably_different, sign_of
from .sizes import LIMIT, MOST_ATOMS, atom_count

INDEXED = ("gather", "gather_along", "scatter_add", "scatter_add_along")


class Bounds:
    """Follows a graph from its inputs on."""

    def __init__(self) -> None:
        self.above: dict[int, Size | None] = {}
        self.alive: list[Tensor] = []     # whose ids are keys

    def guards(self, node: Tensor) -> list[Guard]:
        """What has to be checked at the call; FileFormatError where that would not be enough."""
        self.alive.append(node)
        if node.dtype.kind in "iu":
            self.above[id(node)] = _within_reason(self._above(node))
        if node.op.name in ("max_pool_place", "max_pool_pick"):
            _check_position(node)
        found = (self._indexed(node) if node.op.name in INDEXED else
                 _sliced(node) if node.op.name == "slice" else iter(()))
        open_ = [guard for guard in found if guard[0] != guard[1]]
        for left, right, what in open_:
            if provably_different(left, right):
                raise FileFormatError(what.removeprefix(UNPROVEN))
        return open_

    def _above(self, node: Tensor) -> Size | None:
        """A size that no element reaches, if all of them are at least 0; None if none is known."""
        name = node.op.name
        below = [known for each in node.inputs if (known := self.above.get(id(each))) is not None]
        if name in ("check_index", "size_of"):
            size: Size = node.attrs["size"]
            return size + 1 if name == "size_of" else size
        if name == "constant":
            value = node.attrs["value"]
            return 0 if not value.size else int(value.max()) + 1 if value.min() >= 0 else None
        if name == "argsort":
            return node.shape[-1]
        if name == "iota":
            axis = node.attrs["axis"]
            return product(node.shape) if axis is None else node.shape[axis]
        if node.op.kind == "view":
            return below[0] if below else None
        if name in ("add", "multiply") and len(below) == 2:
            first, second = below
            total: Size = first + second - 1 if name == "add" else (first - 1) * (second - 1) + 1
            return total
        return None

    def _indexed(self, node: Tensor) -> Iterator[Guard]:
        x, indices = node.inputs[:2]
        size, above = x.shape[node.attrs["axis"]], self.above.get(id(indices))
        if above is None:
            raise FileFormatError("nothing keeps its indices within the axis")
        if sign_of(size - above) != 1:
            yield minimum_size(size - above, 0) * product(indices.shape), 0, f"{UNPROVEN}indices beyond the axis"


def _within_reason(size: Size | None) -> Size | None:
    """Sums and products of bounds may grow without end."""
    large = isinstance(size, int) and abs(size) >= LIMIT
    return None if large or (isinstance(size, Dim) and atom_count(size) > MOST_ATOMS) else size


def _check_position(node: Tensor) -> None:
    position = node.inputs[0]
    if position.op.name != "max_pool_position" or any(position.attrs[key] != node.attrs[key]
                                                      for key in ("kernel", "stride")):
        raise FileFormatError("its positions are not those of a max_pool_position of the same windows")


def _sliced(node: Tensor) -> Iterator[Guard]:
    attrs = node.attrs
    rows: Sequence[tuple[Size, Size, int, Size]] = list(zip(node.inputs[0].shape, attrs["starts"], attrs["steps"],
                                                            attrs["shape"], strict=True))
    for axis, (old, start, step, size) in enumerate(rows):
        if isinstance(size, int):
            continue     # the op's own rule looks at these
        last = start + (size - 1) * step
        low, high = (start, last) if step > 0 else (last, start)
        if sign_of(size) != 1:
            yield minimum_size(size, 0), 0, f"{UNPROVEN}the size of axis {axis} is negative"
        for room in (low, old - high - 1):
            if sign_of(room) != 1:
                yield minimum_size(room, 0) * size, 0, f"{UNPROVEN}axis {axis}, of size {old}, is too short"
