"""Kernel text in, address of machine code out.

A kernel is ``name(args, start, stop)`` in the language of `staticgraph.runtime.cpu.language`. What `translate` makes of
it goes into the cache and is then linked like any object that came out of it, so a warm start runs the same bits by the
same path. A warm start imports neither Numba nor the kernel language. Equal kernels are loaded once for all executables
of a process.

The key of a kernel covers everything that its machine code depends on: the text, the sources of this package and of
`mathematics` (the kernel language lives there), the versions of Python, Numba, llvmlite and NumPy, the CPU
with its features, and the NUMBA_* settings of the environment.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import os
import platform
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from staticgraph import locks
from staticgraph.compiler.program import Kernel

from .. import cache as object_cache
from .host import host_target
from .objects import linker
from .translate import Compiled, translate


@dataclass(frozen=True)
class LoadedKernel:
    """Machine code in memory. origin: "compiled" | "cache" | "process" (already loaded for another executable);
    `reason` says why it had to be compiled, or why it could not be kept."""

    address: int
    origin: str
    milliseconds: float
    reason: str = ""


_loaded: dict[str, LoadedKernel] = {}
_lock = locks.rlock()


def load_kernel(kernel: Kernel) -> LoadedKernel:
    """The kernel, ready to be called at its address."""
    return link_cached(kernel.name, kernel.text, lambda key: translate(
        kernel, f"k_{key}", object_cache.current().write_text(key, kernel.text)))


def link_cached(name: str, text: str, make: Callable[[str], Compiled]) -> LoadedKernel:
    """Machine code for `text`: from this process, from the cache, or from `make`, which is told the key."""
    key = hashlib.sha256("\0".join((fingerprint(), name, text)).encode()).hexdigest()[:40]
    with _lock:
        known = _loaded.get(key)
        if known is not None:
            return LoadedKernel(known.address, "process", 0.0)
        start = time.perf_counter()
        store, reason = object_cache.current(), ""
        try:
            address = _from_cache(store, key)
        except object_cache.CacheMiss as miss:
            address, reason = 0, str(miss)
        if not address:     # outside of the handler: the user has no use for a miss in the traceback of an error
            code, symbol, imports, remark = Compiled(*make(key))
            address = linker().link(code, symbol, imports)
            kept = store.write(key, {"kernel": name, "symbol": symbol, "imports": list(imports)}, code)
            reason = "; ".join(dict.fromkeys(filter(None, (reason, remark, kept))))
        origin = "compiled" if reason else "cache"
        _loaded[key] = LoadedKernel(address, origin, (time.perf_counter() - start) * 1e3, reason)
        return _loaded[key]


def _from_cache(store: object_cache.Cache, key: str) -> int:
    entry = store.read(key)
    try:
        imports = [str(name) for name in entry.header["imports"]]
        return linker().link(entry.payload, str(entry.header["symbol"]), imports)
    except (KeyError, RuntimeError, TypeError) as error:
        raise object_cache.CacheMiss(f"entry cannot be linked: {error}") from None


@cache
def fingerprint() -> str:
    """A hash of everything but the text that machine code depends on."""
    import llvmlite

    target = host_target()
    facts = [platform.python_implementation(), platform.python_version(), target.name, target.features,
             str(llvmlite.__version__), np.__version__, _numba_version()]
    facts += [f"{name}={value}" for name, value in sorted(os.environ.items()) if name.startswith("NUMBA_")]
    digest = hashlib.sha256("\0".join(facts).encode())
    here = Path(__file__).parent
    for path in sorted([*here.glob("*.py"), *here.with_name("mathematics").glob("*.py")]):
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
