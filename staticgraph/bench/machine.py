"""The machine that a run ran on: what it is called, and which of its cores are used."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import Any

from ..runtime.cpu.peak import caches


def describe() -> dict[str, Any]:
    """Names and sizes, as far as the system tells."""
    return {
        "processor": _processor() or platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "caches": caches(),
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return ""
    facts = dict(reversed([(key.strip(), value.strip()) for key, _, value in (line.partition(":") for line in lines)]))
    if "family" in facts.get("model name", "") or "cpu family" not in facts:
        return facts.get("model name", "")
    widest = next((name for name in ("avx512f", "avx2", "avx") if name in facts.get("flags", "").split()), "")
    return f"{facts.get('model name', '')} (family {facts['cpu family']}, model {facts.get('model', '?')}, {widest})"


def use_cores(count: int) -> list[int]:
    """Keep this process on so many cores, where the system can; the cores."""
    if not hasattr(os, "sched_setaffinity"):
        return []
    allowed = sorted(os.sched_getaffinity(0))
    chosen = allowed[-count:] if count < len(allowed) else allowed
    os.sched_setaffinity(0, chosen)
    return chosen


def load_average() -> float | None:
    """Processes that were running or waiting in the last minute, where the system tells."""
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else None
