"""What a picture consists of before anything has a place: marks, arrows between them, and boxes around them."""

from __future__ import annotations

from dataclasses import dataclass, field

from .model import Kernel


@dataclass
class Mark:
    """One thing to draw. `role`: op, input, variable, constant, buffer, output, update or jump; `detail` may be several
    lines; `node` is its node in the model; `kernel` the position of the box that it stands in (its kernel; its chain at
    stage "program") or -1."""

    role: str
    label: str
    detail: str
    tooltip: str
    node: int
    kernel: int = -1
    part: str = ""


@dataclass
class Arrow:
    """From mark to mark. `order` is the operand's number where that matters; `folded` are the views on the way."""

    source: int
    target: int
    order: int = 0
    folded: tuple[str, ...] = ()


@dataclass
class Display:
    """Marks and arrows of a model; `kernels` are titles and `tooltips` texts of the boxes, in the order of the model's
    kernels or chains."""

    stage: str
    marks: list[Mark] = field(default_factory=list)
    arrows: list[Arrow] = field(default_factory=list)
    kernels: tuple[str, ...] = ()
    tooltips: tuple[str, ...] = ()


def kernel_tooltip(kernel: Kernel) -> str:
    """What a kernel is."""
    rows = [f"step {kernel.step}: {kernel.name}", f"parallel iterations: {kernel.extent}"]
    rows += ["writes variables, after everything that can fail"] if kernel.commit else []
    return "\n".join([*rows, *kernel.lines])
