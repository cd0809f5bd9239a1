"""The facts as text for people, and what should be done about them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from .facts import COMPILER_PACKAGES, INSTALL_CUDA, OLDEST_GPU, Facts

DRIVER_FOR = {13: "R580", 12: "R525"}
"""Major version of CUDA -> the first branch of drivers that runs its machine code."""


def problems(facts: Facts) -> list[str]:
    """What keeps a GPU from being used, the first thing to do first; each with what to do."""
    return [*_driver_problems(facts), *_compiler_problems(facts), *_version_problems(facts), *_trial_problems(facts)]


def _driver_problems(facts: Facts) -> Iterator[str]:
    driver, devices = facts["driver"], facts["devices"]
    if not driver.get("library"):
        yield ("no NVIDIA driver: its library libcuda.so.1 is not on this machine. If there is an NVIDIA GPU, install "
               "its driver (nvidia.com/drivers, or your system's package)")
    elif not devices.get("found"):
        yield f"no usable GPU: {devices.get('why_none') or devices.get('error') or 'the driver finds none'}"
    for each in devices.get("found", ()):
        if tuple(each["compute_capability"]) < OLDEST_GPU:
            yield (f"{each['device']} ({each['name']}) is too old: compute capability {dotted(each)}, and the kernels "
                   f"need {OLDEST_GPU[0]}.{OLDEST_GPU[1]} (Ampere) or later")


def _compiler_problems(facts: Facts) -> Iterator[str]:
    compiler = facts["compiler"]
    missing = [name for name in COMPILER_PACKAGES if not compiler.get(name, {}).get("version")]
    if missing:
        yield f"compiler packages are missing: {', '.join(missing)}. To install all of them: {INSTALL_CUDA}"
    for name, file in COMPILER_PACKAGES.items():
        if file and compiler.get(name, {}).get("version") and not compiler[name]["file"]:
            yield f"{name} is installed, but not its {file}. To repair it: pip install --force-reinstall {name}"


def _version_problems(facts: Facts) -> Iterator[str]:
    nvvm, linker = (_version(facts["compiler"].get(name, {}).get("version", ""))
                    for name in ("nvidia-nvvm", "nvidia-nvjitlink"))
    if nvvm and linker and nvvm[:2] > linker[:2]:
        yield (f"nvidia-nvvm is of CUDA {nvvm[0]}.{nvvm[1]} and nvidia-nvjitlink of CUDA {linker[0]}.{linker[1]}: a "
               f"linker refuses what is newer than itself. To get both of one version: {INSTALL_CUDA}")
    supported = _version(facts["driver"].get("cuda", ""))
    if supported and linker and supported[0] < linker[0]:
        branch = f" ({DRIVER_FOR[linker[0]]} or later)" if linker[0] in DRIVER_FOR else ""
        yield (f"the driver supports CUDA {facts['driver']['cuda']}, and machine code is made by CUDA {linker[0]}."
               f"{linker[1]}, which it cannot load. Update the driver{branch}")


def _trial_problems(facts: Facts) -> Iterator[str]:
    compiler, gpu = facts.get("compiler_works", {}), facts.get("gpu_works", {})
    installed = all(facts["compiler"].get(name, {}).get("version") for name in COMPILER_PACKAGES)
    if compiler and not compiler.get("ok") and installed:
        yield f"the compiler packages do not work: {compiler.get('why') or compiler.get('error')}"
    elif gpu and not gpu.get("ok") and facts["devices"].get("found"):
        yield f"a small program fails on the GPU: {gpu.get('why') or gpu.get('error')}"


def _version(text: str) -> tuple[int, ...]:
    numbers = text.split(".")[:2]
    return tuple(int(each) for each in numbers) if len(numbers) == 2 and all(map(str.isdigit, numbers)) else ()


def dotted(device: Mapping[str, Any]) -> str:
    return ".".join(map(str, device["compute_capability"]))


def usable_gpu(facts: Facts) -> bool:
    return bool(facts["devices"].get("found")) and bool(facts.get("gpu_works", {}).get("ok"))


def report(facts: Facts) -> str:
    """All of it, for a terminal."""
    lines: list[str] = []
    for title, rows in (("Software", _software(facts)), ("CPU", _cpu(facts)), ("CUDA", _cuda(facts))):
        lines += [title, *(f"  {name:<16} {value}" for name, value in rows), ""]
    return "\n".join([*lines, *_verdict(facts)]) + "\n"


def _software(facts: Facts) -> Iterator[tuple[str, str]]:
    if "error" in facts["versions"]:
        yield "versions", _unknown(facts["versions"])
    for name, version in facts["versions"].items():
        if name != "error":
            yield name, version or f"not installed: pip install {name}"
    for name, extra in facts.get("extras", {}).items():
        if isinstance(extra, dict):
            found = ", ".join(f"{package} {version or 'missing'}" for package, version in extra["packages"].items())
            yield name, found + ("" if all(extra["packages"].values()) else f": {extra['install']}")
    cache = facts["cache"]
    if "error" in cache:
        yield "kernel cache", _unknown(cache)
    else:
        state = "" if cache["writable"] else f", cannot be written to: {cache.get('why_not') or 'no reason is known'}"
        yield "kernel cache", (f"{cache['folder'] or 'none'} ({cache['entries']} entries, {cache['bytes']:,} bytes"
                               f"{state})")
        if cache["remark"]:
            yield "", cache["remark"]


def _cpu(facts: Facts) -> Iterator[tuple[str, str]]:
    cpu, blas = facts["cpu"], facts["blas"]
    if "error" in cpu:
        yield "processor", _unknown(cpu)
    else:
        yield "processor", cpu["name"] or cpu["llvm_name"]
        yield "vectors", f"{cpu['vector_bits']} bits ({', '.join(cpu['features']) or 'no extensions'})"
        why = f", set by {cpu['threads_limited_by']}" if "threads_limited_by" in cpu else ""
        hint = "" if "NUM_THREADS" in why else "; STATICGRAPH_NUM_THREADS changes it"
        yield "threads", f"{cpu['threads']}{why}{hint} (the machine has {cpu['cores']} cores)"
    yield "BLAS of numpy", _unknown(blas) if "error" in blas else f"{blas['name']} {blas['version']}".strip()


def _cuda(facts: Facts) -> Iterator[tuple[str, str]]:
    driver, devices = facts["driver"], facts["devices"]
    yield "driver", (f"{driver['library']}, supports CUDA {driver['cuda'] or 'of an unknown version'}"
                     if driver.get("library") else f"not found ({driver.get('error')})")
    if driver.get("kernel_module"):
        yield "", driver["kernel_module"]
    for each in devices.get("found", ()):
        yield each["device"], (f"{each['name']}, compute capability {dotted(each)}, {each['multiprocessors']} "
                               f"multiprocessors, {each['memory'] / 2**30:.1f} GiB")
    if not devices.get("found"):
        yield "GPUs", "none"
    for name, entry in facts["compiler"].items():
        if isinstance(entry, dict):
            where = f" ({entry['file']})" if entry["file"] else ""
            yield name, f"{entry['version']}{where}" if entry["version"] else f"not installed: {INSTALL_CUDA}"
    blas = facts["cublaslt"]
    yield "cuBLASLt", (f"{blas['version']} ({blas['file'] or 'file not found'})" if blas.get("version") else
                       f"not installed, kernels of staticgraph's own multiply matrices: {INSTALL_CUDA}")


def _unknown(entry: Mapping[str, Any]) -> str:
    return f"could not be found out ({entry['error']})"


def _verdict(facts: Facts) -> Iterator[str]:
    cpu, gpu = facts.get("cpu_works"), facts.get("gpu_works")
    if cpu is not None:
        seconds = f" (a small program compiled and ran in {cpu['seconds']:.1f} s)" if cpu.get("ok") else ""
        yield f"The CPU works{seconds}." if cpu.get("ok") else (
            f"THE CPU DOES NOT WORK: {cpu.get('why') or cpu.get('error')}")
    found = problems(facts)
    if gpu is not None and gpu.get("ok") and not found:
        yield f"The GPU works (a small program compiled and ran in {gpu['seconds']:.1f} s)."
        return
    yield "device=\"cuda\" can be used, but:" if usable_gpu(facts) else "device=\"cuda\" cannot be used here:"
    for number, problem in enumerate(found or ["it was not tried out"], 1):
        yield f"  {number}. {problem}"
    works = facts.get("compiler_works", {})
    if works.get("ok") and not usable_gpu(facts):
        yield "  (Kernels for GPUs can be compiled here, and tested without one.)"
