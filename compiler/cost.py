"""What nodes cost: floating-point operations and bytes, as formulas of the symbolic sizes."""

from __future__ import annotations

from typing import NamedTuple

from staticgraph.types import Size


class Cost(NamedTuple):
    """Of one node or of several: how many they are, their flops, and the bytes that they would read and write if each
    had a kernel of its own."""

    nodes: int = 0
    flops: Size = 0
    bytes_moved: Size = 0
