"""Named arrays and metadata as files: safetensors and .npz.

Comes in, goes out: a mapping of names to arrays, and one of strings to strings. The files are what other programs read
and write: safetensors (https://github.com/huggingface/safetensors, whose format is a JSON header before raw bytes; it
needs no package here) and NumPy's archives, whose comment holds the metadata.

What is read may be anything. Nothing is unpickled, and nothing is allocated that the file does not hold: sizes are held
against the length of the file first. Files with the same contents are the same bytes.
"""

from __future__ import annotations

import json
import math
import os
import struct
import zipfile
import zlib
from collections.abc import Callable, Mapping
from typing import IO, Any, NamedTuple

import numpy as np

from .errors import ArgumentError, FileFormatError
from .files import PathLike, is_text, parse_json, replacing, shown

Array = np.ndarray[Any, Any]
Reader = Callable[[PathLike], "Contents"]
Writer = Callable[[PathLike, Mapping[str, Array], Mapping[str, str]], None]

DTYPES = {"BOOL": "bool", "U8": "uint8", "I8": "int8", "U16": "<u2", "I16": "<i2", "U32": "<u4", "I32": "<i4",
          "U64": "<u8", "I64": "<i8", "F16": "<f2", "F32": "<f4", "F64": "<f8"}
"""Names of dtypes in safetensors; those that NumPy has."""

FOREIGN = ("BF16", "F8_E4M3", "F8_E5M2")
NO_SAFETENSORS = " is no safetensors file"

CODES = {np.dtype(name).newbyteorder("="): code for code, name in DTYPES.items()}
METADATA = "__metadata__"
LONGEST_HEADER = 100_000_000
MOST_DIMENSIONS = 64
LARGEST_COMMENT = 65535
UNPACKED = 2**28
RATIO = 100
"""An archive may unpack to so many bytes, or to so many times its own length, whichever is more."""

BROKEN = (zipfile.BadZipFile, zlib.error, struct.error, ValueError, EOFError, OSError, RuntimeError, OverflowError,
          LookupError, SyntaxError, TypeError)
"""What a damaged archive leads to, in zipfile and in NumPy's reader of headers; places beyond the file are OSErrors."""


class Contents(NamedTuple):
    """What a file holds."""

    arrays: dict[str, Array]
    metadata: dict[str, str]


def code_of(dtype: np.dtype[Any]) -> str | None:
    """What safetensors calls a dtype; None for one that state cannot have."""
    return CODES.get(dtype.newbyteorder("="))


# safetensors


def write_safetensors(path: PathLike, arrays: Mapping[str, Array], metadata: Mapping[str, str]) -> None:
    """Entries lie in the order of their alignment, so that each is aligned."""
    order = sorted(arrays, key=lambda name: (-arrays[name].dtype.itemsize, name))
    header: dict[str, Any] = {METADATA: dict(metadata)} if metadata else {}
    place = 0
    for name in order:
        if name == METADATA:
            raise ArgumentError(f"save: no entry of a .safetensors file may be called '{METADATA}'")
        end = place + arrays[name].nbytes
        header[name] = {"dtype": code_of(arrays[name].dtype), "shape": list(arrays[name].shape),
                        "data_offsets": [place, end]}
        place = end
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    with replacing(path) as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for name in order:
            array = np.ascontiguousarray(arrays[name], arrays[name].dtype.newbyteorder("<"))
            file.write(array.reshape(-1).view(np.uint8).data)     # without a copy


def read_safetensors(path: PathLike) -> Contents:
    """The arrays of a .safetensors file; FileFormatError where it is none."""
    what = f"'{os.fspath(path)}'{NO_SAFETENSORS}"
    with open(path, "rb") as file:
        length = os.fstat(file.fileno()).st_size
        size = int.from_bytes(file.read(8), "little")
        if length < 8 or size > min(LONGEST_HEADER, length - 8):
            raise FileFormatError(f"{what}: its header would be longer than the file")
        header = parse_json(file.read(size), what)
        if not isinstance(header, dict):
            raise FileFormatError(f"{what}: its header is no object")
        metadata = _metadata(header.pop(METADATA, {}), what)
        entries = {name: _entry(name, told, what) for name, told in header.items()}
        _check_places(entries, length - 8 - size, what)
        arrays = {}
        for name, entry in entries.items():
            file.seek(8 + size + entry.start)
            arrays[name] = _array(file.read(entry.end - entry.start), entry.dtype, entry.shape, f"{what}: '{name}'")
    return Contents(arrays, metadata)


class _Entry(NamedTuple):
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    start: int
    end: int


def _entry(name: str, told: Any, what: str) -> _Entry:
    if not is_text(name):
        raise FileFormatError(f"{what}: the name {name[:60]!a} is no text")
    where = f"{what}: '{shown(name)}'"
    if not isinstance(told, dict) or set(told) != {"dtype", "shape", "data_offsets"}:
        raise FileFormatError(f"{where} needs a dtype, a shape and data_offsets")
    code, shape, offsets = told["dtype"], told["shape"], told["data_offsets"]
    if code in FOREIGN:
        raise FileFormatError(f"{what.removesuffix(NO_SAFETENSORS)}: '{shown(name)}' has the dtype {code}, which NumPy "
                              "does not have; convert it to F32 where the file was made")
    if not isinstance(code, str) or code not in DTYPES:
        raise FileFormatError(f"{where} has the dtype {str(code)[:40]!r}; those of NumPy are {', '.join(DTYPES)}")
    if not _are_sizes(shape) or len(shape) > MOST_DIMENSIONS or not _are_sizes(offsets) or len(offsets) != 2:
        raise FileFormatError(f"{where}: its shape and its data_offsets are lists of sizes")
    dtype, (start, end) = np.dtype(DTYPES[code]), offsets
    if end - start != math.prod(shape) * dtype.itemsize:
        raise FileFormatError(f"{where} has {end - start} bytes, its dtype and shape need "
                              f"{math.prod(shape) * dtype.itemsize}")
    return _Entry(dtype, tuple(shape), start, end)


def _are_sizes(value: Any) -> bool:
    return isinstance(value, list) and all(type(each) is int and 0 <= each < 2**63 for each in value)


def _check_places(entries: Mapping[str, _Entry], room: int, what: str) -> None:
    """Entries follow each other without gaps and fill the file."""
    place = 0
    for name, entry in sorted(entries.items(), key=lambda each: (each[1].start, each[1].end)):
        if entry.start != place:
            raise FileFormatError(f"{what}: '{shown(name)}' starts at byte {entry.start}, needed {place}")
        place = entry.end
    if place != room:
        raise FileFormatError(f"{what}: its entries have {place} bytes, the file has {room}")


def _metadata(told: Any, what: str) -> dict[str, str]:
    if not isinstance(told, dict) or not all(is_text(each) for pair in told.items() for each in pair):
        raise FileFormatError(f"{what}: metadata are texts by name")
    return told


def _array(content: bytes, dtype: np.dtype[Any], shape: tuple[int, ...], what: str) -> Array:
    try:
        found: Array = np.frombuffer(content, np.uint8 if dtype.kind == "b" else dtype)
        if dtype.kind == "b":
            if found.size and found.max() > 1:
                raise FileFormatError(f"{what} has bytes that are neither true nor false")
            found = found.view(np.bool_)
        return np.array(found.reshape(shape), dtype.newbyteorder("="))
    except FileFormatError:
        raise
    except ValueError as error:     # the file was cut while it was read; an empty array of absurd sizes
        raise FileFormatError(f"{what}: {error}") from None


# .npz


def write_npz(path: PathLike, arrays: Mapping[str, Array], metadata: Mapping[str, str]) -> None:
    """Members are stored as they are, under a date that does not change."""
    comment = json.dumps(dict(metadata), separators=(",", ":")).encode() if metadata else b""
    if len(comment) > LARGEST_COMMENT:
        raise ArgumentError(f"save: metadata of {len(comment):,} bytes; an .npz file holds {LARGEST_COMMENT:,}, "
                            "a .safetensors file more")
    members = {name: zipfile.ZipInfo(f"{name}.npy") for name in arrays}
    for name, member in members.items():
        if member.filename != f"{name}.npy" or len(member.filename.encode()) > 65535:
            raise ArgumentError(f"save: {shown(name)} cannot be the name of an entry in an .npz file; "
                                "a .safetensors file takes any")
    with replacing(path) as file, zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        archive.comment = comment
        for name, member in members.items():
            with archive.open(member, "w", force_zip64=True) as entry:
                np.lib.format.write_array(entry, arrays[name], allow_pickle=False)


def read_npz(path: PathLike) -> Contents:
    """The arrays of an .npz file; FileFormatError where it is none, or holds objects."""
    what = f"'{os.fspath(path)}' is no .npz file"
    arrays: dict[str, Array] = {}
    with open(path, "rb") as file:
        try:
            with zipfile.ZipFile(file) as archive:
                _check_lengths(archive, os.fstat(file.fileno()).st_size, what)
                for member in archive.infolist():
                    name = member.filename.removesuffix(".npy")
                    if name in arrays or name == member.filename:
                        raise FileFormatError(f"{what}: '{shown(name)}' is there twice, or is no array")
                    with archive.open(member) as entry:
                        arrays[name] = _read_npy(entry, member.file_size, f"{what}: '{shown(name)}'")
                return Contents(arrays, _npz_metadata(archive.comment))
        except FileFormatError:
            raise
        except BROKEN as error:
            raise FileFormatError(f"{what}: {type(error).__name__}: {error}") from None


def _npz_metadata(comment: bytes) -> dict[str, str]:
    """A comment that somebody else wrote is not ours to judge."""
    try:
        return _metadata(parse_json(comment, "comment"), "comment")
    except FileFormatError:
        return {}


def _check_lengths(archive: zipfile.ZipFile, length: int, what: str) -> None:
    total = sum(member.file_size for member in archive.infolist())
    if total > max(UNPACKED, RATIO * length):
        raise FileFormatError(f"{what}: {length:,} bytes would unpack to {total:,}; if that is meant, save it again "
                              "without compression")


def _read_npy(entry: IO[bytes], length: int, what: str) -> Array:
    """One member: what its header claims has to be what there is."""
    version = np.lib.format.read_magic(entry)
    if version == (1, 0):
        shape, fortran, dtype = np.lib.format.read_array_header_1_0(entry)
    elif version == (2, 0):
        shape, fortran, dtype = np.lib.format.read_array_header_2_0(entry)
    else:
        raise FileFormatError(f"{what} is of version {version} of the format")
    if code_of(dtype) is None:
        raise FileFormatError(f"{what} has the dtype {dtype}, which is no dtype of numbers")
    if not all(type(size) is int and 0 <= size < 2**63 for size in shape) or len(shape) > MOST_DIMENSIONS:
        raise FileFormatError(f"{what} has no shape")
    needed = math.prod(shape) * dtype.itemsize
    if needed != length - entry.tell():
        raise FileFormatError(f"{what} has {length - entry.tell()} bytes, its dtype and shape need {needed}")
    content = entry.read()
    array = _array(content, dtype, shape[::-1] if fortran else shape, what)
    return np.ascontiguousarray(array.T).reshape(shape) if fortran else array


FORMATS: dict[str, tuple[Writer, Reader]] = {".safetensors": (write_safetensors, read_safetensors),
                                             ".npz": (write_npz, read_npz)}
"""Suffix -> how to write and how to read it."""
