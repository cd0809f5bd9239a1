"""What the hardware is, as a value: the compiler never asks the machine, it is told."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Target:
    """A device to compile for.

    `vector_bytes` is the width of the widest vector register that is worth using (64 for AVX-512, 32 for AVX2,
    16 for NEON and SSE); `name` and `features` identify the instruction set for the kernel cache.
    """

    device: str = "cpu"
    name: str = "generic"
    features: str = ""
    vector_bytes: int = 32
    threads: int = 1
