"""Files of our own: written whole or not at all, and read as data that may be anything.

Nothing that is read is run. What does not have the promised form raises `FileFormatError`, which names the file.
"""

from __future__ import annotations

import errno
import json
import math
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from .errors import ArgumentError, FileFormatError

PathLike = str | os.PathLike[str]


def check_path(path: object, function: str, call: str) -> None:
    """ArgumentError where something else stands in the place of the path."""
    if not isinstance(path, str | os.PathLike):
        raise ArgumentError(f"{function}: the path comes first, {call}; got {type(path).__name__}")


@contextmanager
def replacing(path: PathLike) -> Iterator[IO[bytes]]:
    """A file to write that takes the place of `path` when all is written; after an error nothing has changed."""
    target = Path(os.path.realpath(path))     # what a link leads to is written, the link stays
    for folder in (Path(path).parent, target.parent):     # else the error would name a file that nobody has heard of
        if not folder.is_dir():
            raise FileNotFoundError(errno.ENOENT, f"there is no folder '{folder}' to write into", os.fspath(path))
    if target.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), os.fspath(path))
    try:
        handle, name = tempfile.mkstemp(prefix=f".{target.name[:40]}-", dir=target.parent)
    except OSError as error:
        raise type(error)(error.errno, error.strerror, os.fspath(path)) from None
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
        os.chmod(name, _mode(target))
        os.replace(name, target)
    except BaseException:
        with suppress(OSError):
            os.unlink(name)
        raise


def _mode(target: Path) -> int:
    """Permissions of the file that is replaced; of a new one what the user's mask leaves."""
    try:
        return target.stat().st_mode & 0o777
    except OSError:
        mask = os.umask(0)
        os.umask(mask)
        return 0o666 & ~mask


def parse_json(text: bytes, what: str) -> Any:
    """Strict JSON: no NaN or Infinity, no key twice, no numbers or nesting beyond reason, text that is text."""
    try:
        return json.loads(text.decode("utf-8"), parse_constant=_refuse_constant, parse_float=_finite,
                          object_pairs_hook=_without_repeats)
    except FileFormatError as error:
        raise FileFormatError(f"{what}: {error}") from None
    except RecursionError:
        raise FileFormatError(f"{what}: nested too deeply") from None
    except ValueError as error:     # JSONDecodeError, UnicodeDecodeError, ints of thousands of digits
        raise FileFormatError(f"{what}: not JSON: {error}") from None


def _refuse_constant(name: str) -> Any:
    raise FileFormatError(f"{name} is no JSON")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise FileFormatError(f"the number {text[:40]} is too large")
    return number


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        keys = [key for key, _ in pairs]
        raise FileFormatError(f"the key {next(key for key in keys if keys.count(key) > 1)[:60]!r} is there twice")
    return found


def is_text(value: Any) -> bool:
    """Whether a value is text that can be written: half a pair of surrogates, which JSON lets pass, is none."""
    if not isinstance(value, str):
        return False
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def shown(name: str) -> str:
    """A name out of a file as it may stand in a message: short, on one line, without control characters."""
    short = name if len(name) <= 100 else f"{name[:97]}..."
    return short if short.isprintable() else repr(short)
