"""What is installed and what the machine has, as plain data that goes into JSON as it is.

Nothing here fails: a fact that cannot be found out is told as ``{"error": why}``. A driver library is looked at without
the runtime too, so that one which the runtime refuses is still described.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import platform
import tempfile
import time
from collections.abc import Callable, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

Facts = dict[str, Any]

INSTALL_CUDA = 'pip install "staticgraph[cuda]"'
COMPILER_PACKAGES = {"numba-cuda": "", "nvidia-nvvm": "libnvvm.so", "nvidia-nvjitlink": "libnvJitLink.so"}
"""Package -> the library file of it that is loaded."""

EXTRAS = {
    "viz": ('pip install "staticgraph[viz]"', ("matplotlib",)),
    "bench": ('pip install "staticgraph[bench]"', ("tqdm",)),
    "examples": ('pip install "staticgraph[examples]"', ("scikit-learn", "tqdm", "matplotlib")),
    "bench's peers": ("pip install numexpr jax torch pytensor", ("numexpr", "jax", "torch", "pytensor")),
}
"""What else is used where it is installed -> the line that installs it, the packages."""

CUBLAS_PACKAGES = ("nvidia-cublas", "nvidia-cublas-cu13", "nvidia-cublas-cu12")
OLDEST_GPU = (8, 0)


def collect(try_out: bool = True) -> Facts:
    """All facts. With `try_out` small programs are compiled and run, which takes about a second each."""
    found: Facts = {
        "versions": guarded(versions), "extras": guarded(extras), "system": guarded(system), "cpu": guarded(cpu),
        "blas": guarded(blas),
        "cache": guarded(cache), "driver": guarded(driver), "devices": guarded(gpus), "compiler": guarded(compiler),
        "cublaslt": guarded(cublaslt),
    }
    if try_out:
        found["cpu_works"] = guarded(lambda: works("cpu"))
        found["compiler_works"] = guarded(lambda: compiles(found))
        found["gpu_works"] = guarded(lambda: works("cuda")) if found["devices"].get("found") else {
            "ok": False, "why": "there is no usable GPU"}
    return found


def guarded(look: Callable[[], Facts]) -> Facts:
    """What `look` finds, or the error that it met."""
    try:
        return look()
    except Exception as error:
        lines = str(error).splitlines()
        return {"error": f"{type(error).__name__}: {lines[0] if lines else ''}".removesuffix(": ")}


def installed(package: str) -> str:
    """The version of a package, or nothing."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""


def versions() -> Facts:
    from ..cli import version

    return {"staticgraph": version(), "python": platform.python_version(),
            **{name: installed(name) for name in ("numpy", "numba", "llvmlite", "networkx")}}


def extras() -> Facts:
    """What is not needed, by what it is for: the line that installs it, and the versions."""
    return {name: {"install": line, "packages": {package: installed(package) for package in packages}}
            for name, (line, packages) in EXTRAS.items()}


def system() -> Facts:
    return {"system": f"{platform.system()} {platform.release()}", "machine": platform.machine(),
            "checkout": str(checkout() or "")}


def checkout() -> Path | None:
    """The folder of the checkout that this runs from, if it has the tests."""
    root = Path(__file__).resolve().parents[2]
    return root if (root / "tests" / "cuda" / "on_device.py").is_file() else None


def cpu() -> Facts:
    from staticgraph.runtime.cpu.host import host_target
    from staticgraph.runtime.devices import SHOWN_FEATURES
    from staticgraph.runtime.threads import limits, thread_count

    from ..bench.machine import describe

    target, machine = host_target(), describe()
    present = set(target.features.split(","))
    bounds = limits()
    return {"name": machine["processor"], "llvm_name": target.name, "cores": machine["cores"],
            "threads": thread_count(), "threads_limited_by": min(bounds, key=lambda name: bounds[name]),
            "thread_limits": {name: count for name, count in bounds.items() if count < 1 << 20},
            "vector_bits": 8 * target.vector_bytes,
            "features": [each for each in SHOWN_FEATURES if f"+{each}" in present]}


def blas() -> Facts:
    """What NumPy multiplies matrices with. Only the interpreter uses it."""
    shown: Any = np.show_config(mode="dicts")     # type: ignore[no-untyped-call,unused-ignore]
    known = shown.get("Build Dependencies", {}).get("blas", {})
    return {"name": known.get("name", "unknown"), "version": known.get("version", "")}


def cache() -> Facts:
    from staticgraph.runtime import cache as kernels

    known = kernels.info()
    folder = str(known.folder or "")
    why = "" if folder and os.access(folder, os.W_OK) else known.remark or _why_not_writable(folder)
    return {"folder": folder, "entries": known.entries, "programs": known.programs, "bytes": known.nbytes,
            "remark": known.remark, "writable": not why, "why_not": why}


def _why_not_writable(folder: str) -> str:
    """The file system's word for it."""
    try:
        handle, name = tempfile.mkstemp(dir=folder)
    except OSError as error:
        return str(error.strerror or error)
    os.close(handle)
    os.unlink(name)
    return ""


def driver() -> Facts:
    """The NVIDIA driver's library: where it is, and the CUDA that it supports."""
    try:
        kernel = Path("/proc/driver/nvidia/version").read_text(encoding="utf-8").splitlines()[0]
    except (OSError, IndexError):
        kernel = ""
    found: Facts = {"kernel_module": kernel, "library": "", "cuda": "", "error": ""}
    substitute = _substitute()
    try:
        library = substitute or ctypes.CDLL("libcuda.so.1")
    except OSError as error:
        return {**found, "error": str(error)}
    number = ctypes.c_int()
    if library.cuDriverGetVersion(ctypes.byref(number)) == 0:
        found["cuda"] = f"{number.value // 1000}.{number.value % 1000 // 10}"
    found["library"] = "a stand-in of the tests" if substitute else mapped("libcuda.so") or "libcuda.so.1"
    return found


def _substitute() -> Any:
    """The library that `set_library` has put in the driver's place, if any."""
    from staticgraph.runtime.cuda import driver as binding

    return binding._substitute


def mapped(name: str) -> str:
    """The file of a library that this process has loaded."""
    try:
        lines = Path("/proc/self/maps").read_text(encoding="utf-8").splitlines()
    except OSError:
        return ""
    return next((line.split(maxsplit=5)[5] for line in lines if f"/{name}" in line), "")


def gpus() -> Facts:
    """The GPUs that programs can be compiled for, or why there are none."""
    from staticgraph.runtime.devices import devices, why_no_cuda

    found = [{"device": each.device, "name": each.name, "compute_capability": list(each.compute_capability),
              "multiprocessors": each.units, "memory": each.total_memory}
             for each in devices() if each.compute_capability is not None]
    return {"found": found, "why_none": "" if found else why_no_cuda()}


def compiler() -> Facts:
    """The packages that make machine code for GPUs, with the file that each brings."""
    found: Facts = {}
    for package, file in COMPILER_PACKAGES.items():
        found[package] = {"version": installed(package), "file": library_file(package, file) if file else ""}
    found["cuda-bindings"] = {"version": installed("cuda-bindings"), "file": ""}
    return found


def library_file(package: str, name: str) -> str:
    """Where the library of an installed package lies, or nothing."""
    try:
        files = metadata.files(package) or []
    except metadata.PackageNotFoundError:
        return ""
    paths = [Path(str(each.locate())) for each in files if each.name.startswith(name)]
    return next((str(path) for path in paths if path.is_file()), "")


def cublaslt() -> Facts:
    """cuBLASLt as the runtime finds it. Without it kernels of our own multiply matrices."""
    from staticgraph.runtime.cuda.cublaslt import find

    package = next((f"{each} {installed(each)}" for each in CUBLAS_PACKAGES if installed(each)), "")
    for name in find():
        if Path(name).is_file():
            return {"version": package or name, "file": name}
        with contextlib.suppress(OSError):
            ctypes.CDLL(name)
            return {"version": package or name, "file": mapped("libcublasLt.so") or name}
    return {"version": "", "file": ""}


def works(device: str) -> Facts:
    """Compile a small program, call it, compare."""
    from .. import compile, placeholder, sqrt

    start = time.perf_counter()
    x = placeholder("x", ("n",))
    given = np.arange(100, dtype="float32")
    result = compile([x], sqrt(x + 1), device=device)(given)
    right = bool(np.array_equal(result, np.sqrt(given + 1)))
    return {"ok": right, "why": "" if right else "a small program gave wrong numbers",
            "seconds": time.perf_counter() - start}


TRIAL = """
from staticgraph.runtime.cuda.language import block, float32, pointer_float32, thread

def trial(a0, stop):
    y = pointer_float32(a0)
    i = block() * 32 + thread()
    if i < stop:
        y[i] = y[i] + float32(1.0)
"""


def compiles(found: Mapping[str, Any]) -> Facts:
    """Make machine code of a small kernel: the surest way to learn whether the compiler packages fit together."""
    missing = [name for name in COMPILER_PACKAGES if not found["compiler"].get(name, {}).get("version")]
    if missing:
        return {"ok": False, "why": f"not installed: {', '.join(missing)}"}
    from staticgraph.runtime.cuda.translate import translate

    capabilities = [tuple(each["compute_capability"]) for each in found["devices"].get("found", ())]
    capability = capabilities[0] if capabilities else (9, 0)
    start = time.perf_counter()
    try:
        translate("trial", TRIAL, capability, 32)
    except Exception as error:
        return {"ok": False, "why": " ".join(str(error).split()), "seconds": time.perf_counter() - start}
    return {"ok": True, "why": "", "capability": list(capability), "seconds": time.perf_counter() - start}
