"""What there is to run programs on: the CPU, and the GPUs that CUDA can use."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass

from staticgraph.errors import DeviceError

from .cpu.host import host_target
from .cuda import device as cuda
from .cuda.driver import dotted
from .threads import thread_count

SHOWN_FEATURES = ("avx2", "avx512f", "avx512bf16", "amx-tile", "fma", "neon", "sve")


@dataclass(frozen=True)
class DeviceInfo:
    """A device. `device` is what `compile(device=...)` takes: "cpu", "cuda:0", ... `units` are threads of a CPU,
    multiprocessors of a GPU; `features` are a CPU's instruction sets, `compute_capability` and `cuda_version` (what its
    driver supports) belong to a GPU."""

    device: str
    name: str
    units: int
    total_memory: int
    features: tuple[str, ...] = ()
    compute_capability: tuple[int, int] | None = None
    cuda_version: str = ""

    @property
    def free_memory(self) -> int:
        """Bytes that are free at this moment. Asking a GPU makes a context on it, which takes some memory itself."""
        kind, _, index = self.device.partition(":")
        if kind == "cuda":
            return cuda.find_device(int(index)).free_memory()
        return _host_memory("SC_AVPHYS_PAGES")

    def __str__(self) -> str:
        if self.compute_capability is None:
            facts = [f"{self.units} thread{'s' * (self.units != 1)}", *self.features]
        else:
            facts = ["compute capability {}.{}".format(*self.compute_capability), f"{self.units} multiprocessors",
                     f"driver for CUDA {self.cuda_version}"]
        return f"{self.device}: {', '.join([self.name, *facts, f'{self.total_memory / 2**30:.1f} GiB'])}"


def devices() -> list[DeviceInfo]:
    """All devices, the CPU first. Never fails: where CUDA cannot be used, there is only the CPU (`why_no_cuda` says
    why)."""
    found = [_cpu()]
    with suppress(DeviceError):
        found += [_gpu(cuda.find_device(index)) for index in range(cuda.device_count())]
    return found


def why_no_cuda() -> str:
    """Why no GPU can be used, or nothing where one can."""
    try:
        return "" if cuda.device_count() else "the driver finds no GPU"
    except DeviceError as error:
        return str(error)


def _cpu() -> DeviceInfo:
    target = host_target()
    present = set(target.features.split(","))
    return DeviceInfo("cpu", target.name, thread_count(), _host_memory("SC_PHYS_PAGES"),
                      tuple(each for each in SHOWN_FEATURES if f"+{each}" in present))


def _gpu(device: cuda.Device) -> DeviceInfo:
    return DeviceInfo(f"cuda:{device.index}", device.name, device.multiprocessors, device.total_memory,
                      compute_capability=device.compute_capability,
                      cuda_version=dotted(device.driver.version))


def _host_memory(pages: str) -> int:
    """Bytes of the host's memory; 0 on systems that do not tell in this way."""
    names = getattr(os, "sysconf_names", {})
    return os.sysconf(pages) * os.sysconf("SC_PAGE_SIZE") if pages in names and "SC_PAGE_SIZE" in names else 0
