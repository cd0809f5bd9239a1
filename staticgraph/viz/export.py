"""export(): a graph into a file, in the format that its name asks for."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..errors import ArgumentError
from .data import render_graphml, render_json
from .display import display
from .dot import render_dot
from .listing import render_text
from .model import Model, collect
from .scene import arrange
from .svg import render_svg

FORMATS: dict[str, Callable[[Model], str]] = {
    ".txt": render_text,
    ".dot": lambda model: render_dot(display(model)),
    ".svg": lambda model: render_svg(model, arrange(display(model))),
    ".json": render_json,
    ".graphml": render_graphml,
}


def export(obj: Any, path: str | os.PathLike[str], stage: str | None = None) -> None:
    """Write the graph of `obj` to `path`; the suffix says how: .txt, .dot, .svg, .json or .graphml.

    obj: a tensor, a list, tuple or dict of tensors, an Executable, or a Compilation.
    stage: "tensor" shows the graph as it was built, "primitive" after all passes, "fused" with the kernel that computes
    each node. Without it: "fused" for what has been compiled, "tensor" for tensors.

    The file appears under its name only when it is complete. Raises ArgumentError for anything else than a graph, for
    an unknown suffix or an unknown stage; OSError where the file cannot be written.
    """
    target = Path(path)
    render = FORMATS.get(target.suffix.lower())
    if render is None:
        raise ArgumentError(f"cannot export to '{target.name}': its suffix is not one of {', '.join(FORMATS)}")
    write_whole(target, render(collect(obj, stage)))


def write_whole(target: Path, text: str) -> None:
    """Write to a temporary name beside the target, then rename."""
    folder = target.parent
    descriptor, temporary = tempfile.mkstemp(prefix=f".{target.name[:40]}.", dir=folder)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8", errors="replace", newline="\n") as file:
            file.write(text)
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, target)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise


def _umask() -> int:
    """The mask for new files; asking for it means setting it."""
    mask = os.umask(0)
    os.umask(mask)
    return mask
