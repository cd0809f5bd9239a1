"""The CUDA backend, checked without a GPU and without a driver.

What needs the compiler packages (the extra `cuda-compiler`) is marked `needs_compiler`; modules that cannot even be
imported without them call `skip_without_compiler()` first.
"""

import importlib.util
from pathlib import Path

import pytest

CAPABILITIES = ((8, 0), (9, 0))

PARTS = {"numba-cuda": ("numba_cuda", "__init__.py"), "cuda-bindings": ("cuda.bindings", "__init__.py"),
         "nvidia-nvvm": ("nvidia.cu13", "lib/libnvvm.so*"), "nvidia-nvjitlink": ("nvidia.cu13", "lib/libnvJitLink.so*")}
"""Package to install -> module, and a file in the module's folder."""


def _is_there(module: str, pattern: str) -> bool:
    try:
        found = importlib.util.find_spec(module)
    except ModuleNotFoundError:     # its parent is not there
        return False
    folders = found.submodule_search_locations if found else None
    return any(any(Path(folder).glob(pattern)) for folder in folders or ())


MISSING = [package for package, part in PARTS.items() if not _is_there(*part)]
REASON = f"the CUDA compiler packages are not installed (extra cuda-compiler): no {', '.join(MISSING)}"

needs_compiler = pytest.mark.skipif(bool(MISSING), reason=REASON)


def skip_without_compiler() -> None:
    if MISSING:
        pytest.skip(REASON, allow_module_level=True)
