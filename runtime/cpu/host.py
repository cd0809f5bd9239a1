"""What this machine is: the Target that the compiler is told, and part of the key of every cached kernel.

Asks LLVM and never numba, whose import costs more than loading a whole program from the cache.
"""

from __future__ import annotations

from functools import cache

from staticgraph.compiler.target import Target

VECTOR_FEATURES = (("avx512f", 64), ("avx2", 32))
"""The widest registers worth using, by the first feature that is present; 16 bytes (SSE, NEON) otherwise."""


@cache
def vector_bytes() -> int:
    """The width of the vector registers of the CPU that this process runs on."""
    import llvmlite.binding as llvm

    present = dict(llvm.get_host_cpu_features())
    return next((width for feature, width in VECTOR_FEATURES if present.get(feature)), 16)


@cache
def host_cpu() -> tuple[str, str]:
    """The name and the features of the CPU that this process runs on, in LLVM's words."""
    import llvmlite.binding as llvm

    present = dict(llvm.get_host_cpu_features())
    return str(llvm.get_host_cpu_name()), ",".join(("+" if present[name] else "-") + name for name in sorted(present))


@cache
def host_target() -> Target:
    """The CPU that this process runs on."""
    return Target("cpu", *host_cpu(), vector_bytes())
