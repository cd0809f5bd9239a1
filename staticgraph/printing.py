"""What `debug_print` writes: one text for each value, the same whoever computed it.

It stands here, apart from graph and runtime, because the interpreter and executables both print.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

Sink = Any
"""Where texts go: None is the standard output of the moment, else something with `write`, or a function of a text."""


def printed(label: str, line: str, value: np.ndarray[Any, Any], edgeitems: int) -> str:
    """A headline with type and line, then the value as NumPy prints it, long axes shortened to so many items an end."""
    shape = ", ".join(map(str, value.shape))
    body = np.array2string(value, edgeitems=edgeitems, threshold=max(1000, (2 * edgeitems) ** max(value.ndim, 1)))
    return f"{label}: {value.dtype}[{shape}]   {line}\n{body}"


def emit(text: str, sink: Sink) -> None:
    """The text and the end of its line go to where they are wanted."""
    if sink is None:
        print(text)
    elif hasattr(sink, "write"):
        sink.write(text + "\n")
    else:
        tell: Callable[[str], object] = sink
        tell(text)


def is_sink(value: Any) -> bool:
    """Can texts be given to this?"""
    return value is None or callable(value) or callable(getattr(value, "write", None))
