"""Telling what a command is at, when it takes a while and somebody is looking."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

PATIENCE = 1.0
"""Seconds until something is said."""


@contextmanager
def working(text: str) -> Iterator[None]:
    """While this takes longer than a second, its text stands on the terminal's last line; it is gone afterwards.

    Standard error only, and only where that is a terminal: nothing of it ever gets into a file or a pipe.
    """
    if not sys.stderr.isatty():
        yield
        return
    said = threading.Event()

    def say() -> None:
        said.set()
        print(f"{text} ...", end="", file=sys.stderr, flush=True)

    timer = threading.Timer(PATIENCE, say)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        timer.join()
        if said.is_set():
            print(f"\r{' ' * (len(text) + 4)}\r", end="", file=sys.stderr, flush=True)
