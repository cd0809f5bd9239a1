"""A profile as a Chrome trace: one call, thread by thread, and the compile as another process.

The format is that of chrome://tracing and ui.perfetto.dev: a list of events with "ph" "X" (a slice: start and duration
in microseconds) or "M" (the name of a process or thread), and "pid" and "tid" to say where it belongs.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from .profile import PHASES, Profile

CALL, COMPILE = 1, 2
"""Process numbers."""


def chrome_trace(profile: Profile) -> dict[str, Any]:
    """The trace, to be written as JSON."""
    return {"traceEvents": [*_names(profile), *_call(profile), *_compiling(profile)], "displayTimeUnit": "ns",
            "otherData": {"made by": "staticgraph", "device": profile.device,
                          "call": f"{profile.seconds * 1e6:.3f} us, {profile.accounted:.1%} accounted for",
                          "events left out": str(profile.left_out)}}


def _names(profile: Profile) -> Iterator[dict[str, Any]]:
    yield _name("process_name", CALL, 0, f"one call ({profile.device})")
    for thread in sorted({event.thread for event in profile.events}):
        yield _name("thread_name", CALL, thread, "calling thread" if thread == 0 else f"worker {thread}")
    if profile.compiling:
        yield _name("process_name", COMPILE, 0, "compile, one after the other")
        yield _name("thread_name", COMPILE, 0, "passes")
        yield _name("thread_name", COMPILE, 1, "kernels")


def _name(kind: str, process: int, thread: int, name: str) -> dict[str, Any]:
    return {"name": kind, "ph": "M", "pid": process, "tid": thread, "args": {"name": name}}


def _slice(name: str, category: str, process: int, thread: int, start: float, seconds: float,
           **args: Any) -> dict[str, Any]:
    return {"name": name, "cat": category, "ph": "X", "pid": process, "tid": thread, "ts": round(1e6 * start, 4),
            "dur": round(1e6 * max(seconds, 0.0), 4), "args": args}


def _call(profile: Profile) -> Iterator[dict[str, Any]]:
    for event in profile.events:
        if event.step < 0:
            yield _slice(event.name, "phase", CALL, event.thread, event.start, event.seconds,
                         what=PHASES.get(event.name, "checks and addresses, then all kernels"))
            continue
        step = profile.steps[event.step]
        yield _slice(event.name, "kernel", CALL, event.thread, event.start, event.seconds, step=step.number,
                     computes=step.title, lines=list(step.lines), bytes=step.bytes_moved, flops=step.flops,
                     **{"step takes us": round(1e6 * step.seconds, 4)})


def _compiling(profile: Profile) -> Iterator[dict[str, Any]]:
    """Passes, then kernels: what each took, one after the other."""
    start = 0.0
    for each in profile.compiling:
        yield _slice(each.name, each.kind, COMPILE, int(each.kind == "kernel"), start, each.seconds,
                     remark=each.remark)
        start += each.seconds
