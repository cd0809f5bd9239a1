"""The CUDA backend, checked without a GPU and without a driver.

What needs the compiler packages (the extra `cuda-compiler`) is marked `needs_compiler`; modules that cannot even be
imported without them call `skip_without_compiler()` first.
"""

import importlib.util

import pytest

PACKAGES = ("numba_cuda", "cuda.bindings", "nvidia.cu13")
CAPABILITIES = ((8, 0), (9, 0))


def _is_there(package: str) -> bool:
    try:
        return importlib.util.find_spec(package) is not None
    except ModuleNotFoundError:     # its parent is not there
        return False


MISSING = [package for package in PACKAGES if not _is_there(package)]
REASON = f"the CUDA compiler packages are not installed (extra cuda-compiler): no {', '.join(MISSING)}"

needs_compiler = pytest.mark.skipif(bool(MISSING), reason=REASON)


def skip_without_compiler() -> None:
    if MISSING:
        pytest.skip(REASON, allow_module_level=True)
