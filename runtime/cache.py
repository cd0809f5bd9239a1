"""The cache: machine code and programs on disk, addressed by what they were made from.

An entry is one file, ``k_<key>.obj`` (a kernel) or ``p_<key>.program``:

    magic (8 bytes) | sha256 of all that follows (32) | length of the header (4, little endian) | header | payload

where the header is JSON and the payload raw object code, or the text and the arrays of a program. What is read is run,
so nothing is taken on trust: the folder and the entry must belong to this user and be writable by nobody else, symbolic
links are refused, the checksum must match and the header must name the key. Whatever fails one of these is a miss, and
the next write replaces it.

The cache is never allowed to hurt: entries appear under their name only when they are complete (os.replace), readers
and writers in other processes need no locks, and a folder that is read-only, full or gone costs nothing but time.
"""

from __future__ import annotations

import atexit
import contextlib
import hashlib
import json
import os
import stat
import struct
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from staticgraph import locks

MAGIC = b"sgkobj1\n"
HEADER_LENGTH = struct.Struct("<I")
ABANDONED_AFTER = 3600.0
"""Seconds: an incomplete file as old as this was left by a process that died."""

LIMIT_BYTES = 512 * 2**20
"""What a folder may hold: room for some hundred thousand kernels. Beyond it the oldest half goes."""

DIGEST_BYTES = hashlib.sha256().digest_size
OTHERS_MAY_WRITE = stat.S_IWGRP | stat.S_IWOTH


class CacheMiss(Exception):
    """Why an entry cannot be had; the text goes into explain()."""


@dataclass(frozen=True)
class Entry:
    """A complete, verified entry."""

    header: Mapping[str, Any]
    payload: bytes


@dataclass(frozen=True)
class Info:
    """What `staticgraph cache` prints. `remark` says why the folder is not the usual one, or why there is none."""

    folder: Path | None
    entries: int
    nbytes: int
    remark: str = ""
    programs: int = 0


OBJECTS, PROGRAMS = ("k_", ".obj"), ("p_", ".program")
OWN_PREFIXES = (OBJECTS[0], PROGRAMS[0])


class Cache:
    """Entries in one folder; without a folder, a cache that misses always."""

    def __init__(self, folder: Path | None, remark: str = "") -> None:
        self.folder = folder
        self.remark = remark
        self._pruned = False

    def read(self, key: str, kind: tuple[str, str] = OBJECTS) -> Entry:
        """The entry of a key; CacheMiss where there is none that can be trusted."""
        if self.folder is None:
            raise CacheMiss(self.remark)
        try:
            return _decode(_read_own_file(self.folder / key.join(kind)), key)
        except FileNotFoundError:
            raise CacheMiss("no entry") from None
        except OSError as error:
            raise CacheMiss(f"entry unreadable: {error.strerror or error}") from None

    def read_program(self, key: str) -> tuple[str, bytes]:
        """Text and arrays of a program; CacheMiss where there is none that can be trusted."""
        entry = self.read(key, PROGRAMS)
        length = entry.header.get("text")
        if not isinstance(length, int) or not 0 <= length <= len(entry.payload):
            raise CacheMiss("entry damaged: its text has no length")
        try:
            return entry.payload[:length].decode(), entry.payload[length:]
        except UnicodeDecodeError:
            raise CacheMiss("entry damaged: its text is unreadable") from None

    def write_program(self, key: str, text: str, content: bytes) -> str:
        """Keep a program. Returns why it could not be kept, or nothing."""
        encoded = text.encode()
        return self.write(key, {"text": len(encoded)}, encoded + content, PROGRAMS)

    def write(self, key: str, header: Mapping[str, Any], payload: bytes, kind: tuple[str, str] = OBJECTS) -> str:
        """Keep an entry. Returns why it could not be kept, or nothing."""
        if not self._pruned:     # once for each process that adds something
            self._pruned = True
            self.prune(LIMIT_BYTES)
        return self._replace(key.join(kind), _encode({**header, "key": key}, payload))

    def write_text(self, key: str, text: str, suffix: str = ".py") -> str:
        """Keep the source of a kernel for tracebacks and `inspect`, or its assembly for people; it is never read back.
        Returns its file name."""
        name = f"k_{key}{suffix}"
        self._replace(name, text.encode())
        return str(self.folder / name) if self.folder is not None else f"<{name}>"

    def _replace(self, name: str, content: bytes) -> str:
        if self.folder is None:
            return self.remark
        import tempfile  # not above: only who writes needs it, and a warm start does not

        temporary = ""
        try:
            descriptor, temporary = tempfile.mkstemp(prefix=".new-", dir=self.folder)
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
            os.replace(temporary, self.folder / name)
        except OSError as error:
            if temporary:
                with contextlib.suppress(OSError):
                    os.unlink(temporary)
            return f"not kept: {error.strerror or error}"
        return ""

    def _files(self) -> Iterator[os.DirEntry[str]]:
        if self.folder is not None:
            with contextlib.suppress(OSError), os.scandir(self.folder) as found:
                yield from (each for each in found if each.name.startswith((*OWN_PREFIXES, ".new-")))

    def info(self) -> Info:
        """How much is kept, and where."""
        entries = programs = nbytes = 0
        for each in self._files():
            with contextlib.suppress(OSError):
                nbytes += each.stat(follow_symlinks=False).st_size
                entries += each.name.endswith(OBJECTS[1])
                programs += each.name.endswith(PROGRAMS[1])
        return Info(self.folder, entries, nbytes, self.remark, programs)

    def prune(self, limit: int) -> None:
        """Where more than `limit` bytes are kept, remove the oldest until half of that is left."""
        found = []
        for each in self._files():
            with contextlib.suppress(OSError):
                status = each.stat(follow_symlinks=False)
                found.append((status.st_mtime, status.st_size, each.path))
        excess = sum(size for _, size, _ in found) - limit
        if excess > 0:
            excess += limit // 2
            for _, size, path in sorted(found):
                if excess <= 0:
                    break
                with contextlib.suppress(OSError):
                    os.unlink(path)
                    excess -= size

    def clear(self) -> int:
        """Remove all that the cache wrote into its folder, and nothing else; returns the number of entries. What
        another process is writing at this moment stays."""
        removed = 0
        for each in list(self._files()):
            with contextlib.suppress(OSError):
                modified = each.stat(follow_symlinks=False).st_mtime
                if each.name.startswith(OWN_PREFIXES) or modified < time.time() - ABANDONED_AFTER:
                    os.unlink(each.path)
                    removed += each.name.endswith((OBJECTS[1], PROGRAMS[1]))
        return removed


def _encode(header: Mapping[str, Any], payload: bytes) -> bytes:
    described = json.dumps(header, sort_keys=True).encode()
    body = HEADER_LENGTH.pack(len(described)) + described + payload
    return MAGIC + hashlib.sha256(body).digest() + body


def _decode(content: bytes, key: str) -> Entry:
    start = len(MAGIC) + DIGEST_BYTES
    if not content.startswith(MAGIC) or len(content) < start + HEADER_LENGTH.size:
        raise CacheMiss("entry damaged: not an entry of this version")
    body = content[start:]
    if hashlib.sha256(body).digest() != content[len(MAGIC):start]:
        raise CacheMiss("entry damaged: checksum differs")
    (length,) = HEADER_LENGTH.unpack_from(body)
    try:
        header = json.loads(body[HEADER_LENGTH.size:HEADER_LENGTH.size + length])
    except ValueError:
        raise CacheMiss("entry damaged: header unreadable") from None
    if not isinstance(header, dict) or header.get("key") != key:
        raise CacheMiss("entry belongs to another kernel")
    return Entry(header, body[HEADER_LENGTH.size + length:])


def _read_own_file(path: Path) -> bytes:
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))
    with os.fdopen(descriptor, "rb") as file:
        objection = _objection(os.fstat(descriptor), stat.S_ISREG, "plain file")
        if objection:
            raise CacheMiss(f"entry refused: {objection}")
        return file.read()


def _objection(status: os.stat_result, is_kind: Any, kind: str) -> str:
    """Why something on disk is not this user's alone to write, or nothing."""
    if not is_kind(status.st_mode):
        return f"not a {kind}"
    if sys.platform != "win32":
        if status.st_uid != os.geteuid():
            return "owned by another user"
        if status.st_mode & OTHERS_MAY_WRITE:
            return "others may write to it"
    return ""


def default_folder(environment: Mapping[str, str]) -> Path:
    """Where the cache is kept unless something forbids it."""
    if environment.get("STATICGRAPH_CACHE_DIR"):
        return Path(environment["STATICGRAPH_CACHE_DIR"]).expanduser()
    if sys.platform == "win32":
        return Path(environment.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local") / "staticgraph"
    if environment.get("XDG_CACHE_HOME"):
        return Path(environment["XDG_CACHE_HOME"]) / "staticgraph"
    return Path.home() / ("Library/Caches" if sys.platform == "darwin" else ".cache") / "staticgraph"


def _claim(folder: Path) -> str:
    """Make the folder if need be; why it cannot be used, or nothing."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileExistsError):
            folder.mkdir(mode=0o700)
        return _objection(os.lstat(folder), stat.S_ISDIR, "folder")
    except OSError as error:
        return error.strerror or str(error)


def _private_folder(remark: str) -> Cache:
    """A folder for this process alone, gone with it."""
    import tempfile

    try:
        folder = tempfile.mkdtemp(prefix="staticgraph-")
    except OSError as error:
        return Cache(None, f"{remark}; no temporary folder either: {error.strerror or error}")
    atexit.register(partial(_remove_private, folder, os.getpid()))
    return Cache(Path(folder), f"{remark}; a private temporary folder is used")


def _remove_private(folder: str, owner: int) -> None:
    if os.getpid() == owner:     # a forked child runs the parent's exit handlers too
        import shutil

        shutil.rmtree(folder, ignore_errors=True)


_opened: dict[tuple[str, ...], Cache] = {}
_lock = locks.lock()


def current() -> Cache:
    """The cache that the environment asks for."""
    if os.environ.get("STATICGRAPH_CACHE", "1") == "0":
        return Cache(None, "the cache is off (STATICGRAPH_CACHE=0)")
    try:
        folder = default_folder(os.environ).absolute()
    except RuntimeError as error:     # no home folder
        folder, remark = Path(), str(error)
    else:
        remark = ""
    with _lock:
        known = _opened.get((str(folder), remark))
        if known is None or (known.folder is not None and not known.folder.is_dir()):
            objection = remark or _claim(folder)
            known = _private_folder(f"{folder} cannot be used: {objection}") if objection else Cache(folder)
            _opened[str(folder), remark] = known
        return known


def info() -> Info:
    """What the current cache holds."""
    return current().info()


def clear() -> int:
    """Empty the current cache; returns the number of entries removed."""
    return current().clear()
