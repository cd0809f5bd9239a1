"""Kernel text in, address of machine code out.

A kernel is ``name(args, start, stop)`` in the language of `staticgraph.runtime.cpu.language`. Its text is executed
here, in memory, and compiled by Numba into object code; the object code goes into the cache and is then linked like
any that came out of it, so a warm start runs the same bits through the same path. A warm start imports neither Numba
nor the kernel language. Equal kernels are loaded once for all executables of a process.

The key of a kernel covers everything that its machine code depends on: the text, the sources of this package (the
kernel language lives here), the versions of Python, Numba, llvmlite and NumPy, the CPU with its features, and the
NUMBA_* settings of the environment.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import linecache
import os
import platform
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from staticgraph.compiler.program import Kernel
from staticgraph.errors import VerificationError

from .. import cache as object_cache
from .host import host_target
from .objects import linker

Compiled = tuple[bytes, str, tuple[str, ...]]
"""Object code, the symbol to call, and the names of outside functions that it calls."""


@dataclass(frozen=True)
class LoadedKernel:
    """Machine code in memory. origin: "compiled" | "cache" | "process" (already loaded for another executable);
    `reason` says why it had to be compiled, or why it could not be kept."""

    address: int
    origin: str
    milliseconds: float
    reason: str = ""


_loaded: dict[str, LoadedKernel] = {}
_lock = threading.RLock()


def load_kernel(kernel: Kernel) -> LoadedKernel:
    """The kernel, ready to be called at its address."""
    return link_cached(kernel.name, kernel.text, lambda key: _compile(kernel, key))


def link_cached(name: str, text: str, make: Callable[[str], Compiled]) -> LoadedKernel:
    """Machine code for `text`: from this process, from the cache, or from `make`, which is told the key."""
    key = hashlib.sha256("\0".join((fingerprint(), name, text)).encode()).hexdigest()[:40]
    with _lock:
        known = _loaded.get(key)
        if known is not None:
            return LoadedKernel(known.address, "process", 0.0)
        start = time.perf_counter()
        store = object_cache.current()
        try:
            address, origin, reason = _from_cache(store, key), "cache", ""
        except object_cache.CacheMiss as miss:
            code, symbol, imports = make(key)
            address, origin = linker().link(code, symbol, imports), "compiled"
            kept = store.write(key, {"kernel": name, "symbol": symbol, "imports": list(imports)}, code)
            reason = str(miss) + (f"; {kept}" if kept and kept != str(miss) else "")
        loaded = LoadedKernel(address, origin, (time.perf_counter() - start) * 1e3, reason)
        _loaded[key] = loaded
        return loaded


def _from_cache(store: object_cache.Cache, key: str) -> int:
    entry = store.read(key)
    try:
        imports = [str(name) for name in entry.header["imports"]]
        return linker().link(entry.payload, str(entry.header["symbol"]), imports)
    except (KeyError, RuntimeError, TypeError) as error:
        raise object_cache.CacheMiss(f"entry cannot be linked: {error}") from None


def _compile(kernel: Kernel, key: str) -> Compiled:
    """Object code of a kernel, made by Numba."""
    from numba import cfunc, types
    from numba.core.errors import NumbaError

    filename = object_cache.current().write_text(key, kernel.text)
    # without a file behind the name, tracebacks find the text here; no modification time: never looked up on disk
    linecache.cache[filename] = (len(kernel.text), None, kernel.text.splitlines(keepends=True), filename)
    namespace: dict[str, Any] = {"__name__": f"k_{key}", "__file__": filename}
    try:
        exec(compile(kernel.text, filename, "exec"), namespace)
        signature = types.void(types.int64, types.int64, types.int64)
        compiled = cfunc(signature, error_model="numpy", _nrt=False)(namespace[kernel.name])
    except (NumbaError, SyntaxError, ImportError, LookupError, TypeError) as error:
        raise VerificationError(f"kernel '{kernel.name}' ({filename}) does not compile: {error}") from error
    library = compiled._library
    _, _, (code, _) = library.serialize_using_object_code()
    outside = (each.name for each in library._final_module.functions if each.is_declaration)
    return bytes(code), str(compiled.native_name), tuple(sorted(n for n in outside if not n.startswith("llvm.")))


@cache
def fingerprint() -> str:
    """A hash of everything but the text that machine code depends on."""
    import llvmlite

    target = host_target()
    facts = [platform.python_implementation(), platform.python_version(), target.name, target.features,
             str(llvmlite.__version__), np.__version__, _numba_version()]
    facts += [f"{name}={value}" for name, value in sorted(os.environ.items()) if name.startswith("NUMBA_")]
    digest = hashlib.sha256("\0".join(facts).encode())
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def _numba_version() -> str:
    """Numba's version, or the text of the file that states it: importing Numba to ask would cost a warm start most of
    its time, and the package's metadata ten times as much as all else here."""
    found = importlib.util.find_spec("numba")
    stated = Path(found.origin).with_name("_version.py") if found is not None and found.origin else None
    if stated is not None and stated.is_file():
        return stated.read_text(encoding="utf-8")
    return importlib.import_module("numba").__version__     # type: ignore[no-any-return]
