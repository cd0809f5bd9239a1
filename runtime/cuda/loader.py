"""Kernel text in, machine code for one compute capability out, through the process and the cache on disk.

An entry of the cache holds the cubin and its PTX; the header the symbol and what the kernel uses. The PTX lies beside
it as ``k_<key>.ptx`` once more, for people. A warm start reads the entry and imports neither Numba nor the kernel
language. Equal kernels are translated once for all executables of a process.

The key of a kernel covers everything that its machine code depends on: the text, the compute capability, the threads of
a block, the sources of the kernel language, and the versions of Python and of the packages that compile.
"""

from __future__ import annotations

import hashlib
import os
import platform
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

from staticgraph.compiler.program import Kernel
from staticgraph.errors import VerificationError

from .. import cache as object_cache
from .translate import Capability, Translated, translate


@dataclass(frozen=True)
class LoadedKernel:
    """A kernel's machine code. origin: "compiled" | "cache" | "process" (already there for another executable);
    `reason` says why it had to be compiled, or why it could not be kept."""

    code: Translated
    origin: str
    milliseconds: float
    reason: str = ""


_loaded: dict[str, LoadedKernel] = {}
_lock = threading.RLock()


def load_kernel(kernel: Kernel, capability: Capability) -> LoadedKernel:
    """The kernel for GPUs of a compute capability."""
    if kernel.launch is None:
        raise VerificationError(f"kernel '{kernel.name}' does not say how it is launched")
    threads = kernel.launch.threads
    key = kernel_key(kernel.name, kernel.text, capability, threads)
    with _lock:
        known = _loaded.get(key)
        if known is not None:
            return LoadedKernel(known.code, "process", 0.0)
        start = time.perf_counter()
        store, reason, code = object_cache.current(), "", None
        try:
            code = _from_cache(store, key)
        except object_cache.CacheMiss as miss:
            reason = str(miss)
        if code is None:     # outside of the handler: the user has no use for a miss in the traceback of an error
            code = translate(kernel.name, kernel.text, capability, threads, store.write_text(key, kernel.text))
            kept = _keep(store, key, code)
            reason += f"; {kept}" if kept and kept != reason else ""
        _loaded[key] = LoadedKernel(code, "compiled" if reason else "cache", (time.perf_counter() - start) * 1e3,
                                    reason)
        return _loaded[key]


def kernel_key(name: str, text: str, capability: Capability, threads: int) -> str:
    """What a kernel is called in the cache."""
    parts = (fingerprint(), "cuda {}.{}".format(*capability), str(threads), name, text)
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:40]


def _keep(store: object_cache.Cache, key: str, code: Translated) -> str:
    store.write_text(key, code.ptx, ".ptx")
    header = {"kernel": code.symbol, **asdict(code), "cubin": len(code.cubin)}
    del header["ptx"]
    return store.write(key, header, code.cubin + code.ptx.encode())


def _from_cache(store: object_cache.Cache, key: str) -> Translated:
    entry = store.read(key)
    try:
        size = int(entry.header["cubin"])
        numbers = {name: int(entry.header[name]) for name in
                   ("registers", "spill_bytes", "stack_bytes", "shared_bytes")}
        return Translated(ptx=entry.payload[size:].decode(), cubin=entry.payload[:size],
                          symbol=str(entry.header["symbol"]), **numbers)
    except (KeyError, TypeError, ValueError) as error:
        raise object_cache.CacheMiss(f"entry is no CUDA kernel: {error!r}") from None


@cache
def fingerprint() -> str:
    """A hash of everything that machine code depends on beside the kernel, its capability and its threads."""
    facts = [platform.python_implementation(), platform.python_version(), *sorted(_installed())]
    facts += [f"{name}={value}" for name, value in sorted(os.environ.items()) if name.startswith("NUMBA_")]
    digest = hashlib.sha256("\0".join(facts).encode())
    for path in sources():
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


LANGUAGE = ("arrays", "block", "language", "loops", "operators", "pointers", "translate")
"""The modules of this package that a kernel's machine code depends on."""


def sources() -> list[Path]:
    """The files that say what the words of a kernel mean and how it is compiled."""
    here = Path(__file__).parent
    return [*(here / f"{name}.py" for name in LANGUAGE), *sorted(here.with_name("mathematics").glob("*.py"))]


COMPILERS = ("numba_cuda", "numba", "llvmlite", "numpy", "cuda_bindings", "nvidia_nvvm", "nvidia_nvjitlink")


def _installed() -> Iterator[str]:
    """Name and version of every installed package that compiles, by the folders that their installers leave: to import
    them in order to ask would cost a warm start most of its time."""
    for folder in dict.fromkeys(sys.path):
        try:
            names: list[Any] = os.listdir(folder or ".")
        except OSError:
            continue
        for name in names:
            if name.endswith((".dist-info", ".egg-info")):
                package, _, version = name.rpartition(".")[0].partition("-")
                if package.lower().replace(".", "_") in COMPILERS:
                    yield f"{package}-{version}"
