"""A folder that appears under its name only when it is complete. One that exists is replaced only if it is a dump, and
only when that was asked for; whatever stands in it then is gone."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from staticgraph.errors import ArgumentError

MARK = "<!-- made by staticgraph dump -->"


@contextmanager
def making(target: Path, overwrite: bool) -> Iterator[Path]:
    """A new folder to be filled, which then gets its name; after an error there is nothing left of it."""
    check(target, overwrite)
    folder = Path(tempfile.mkdtemp(prefix=f".{target.name[:40]}-", dir=target.absolute().parent))
    try:
        yield folder
        _put(folder, target)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def check(target: Path, overwrite: bool) -> None:
    """ArgumentError where a dump of this name cannot be made."""
    if not target.absolute().parent.is_dir():
        raise ArgumentError(f"dump: cannot write '{target}': there is no folder '{target.parent}'")
    if not os.path.lexists(target):
        return
    if target.is_symlink() or not _is_dump(target):
        raise ArgumentError(f"dump: '{target}' exists and is no dump: choose another name")
    if not overwrite:
        raise ArgumentError(f"dump: '{target}' exists: overwrite=True replaces it")


def _is_dump(folder: Path) -> bool:
    try:
        with open(folder / "README.md", encoding="utf-8") as file:
            return file.readline().rstrip("\n") == MARK
    except (OSError, UnicodeDecodeError):
        return False


def _put(folder: Path, target: Path) -> None:
    """Give the folder its name; an older dump steps aside first, and comes back if that fails."""
    folder.chmod(0o777 & ~_umask())
    if not target.exists():
        os.rename(folder, target)
        return
    aside = Path(tempfile.mkdtemp(prefix=f".{target.name[:40]}-", dir=target.absolute().parent))
    os.rename(target, aside / "old")
    try:
        os.rename(folder, target)
    except OSError:
        os.rename(aside / "old", target)
        raise
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
