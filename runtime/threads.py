"""Threads: how a step is cut into chunks, and the workers that share them.

Only speed depends on chunks: kernels compute an iteration the same way whatever range they are called with.
There is one pool in a process, and one more for each number of threads that an executable asks for itself. They serve
one call at a time, all of them together; a call that finds them busy runs alone. So no more threads are at work than
one call asked for, beside callers that run alone.

A worker sleeps until it is called, then looks for chunks for a while before it sleeps again. Waking
is never waited for: the caller takes chunks from the start, and a worker that comes late finds fewer of them.
"""

from __future__ import annotations

import ctypes
import os
import threading
from functools import cache
from pathlib import Path

import numpy as np

from .driver import CONTROL_SLOTS, CORE_SLOT, load_worker

CHUNK_WORK = 32768
"""Elements moved that make a chunk worth handing to a thread."""

MAXIMUM_CHUNKS = 64

DENSE_CHUNK_WORK = 2**19
"""The same for multiplications of a dense step."""

DENSE_INTENSITY = 2
"""Operations for each byte that make a step dense."""

DENSE_ROWS = 512
"""Iterations of a dense step after which it no longer matters what it prepares for each chunk."""

PATIENCE = 3000
"""Looks in vain before a worker sleeps: some hundred microseconds."""


def chunk_of(extent: int, nbytes: int, flops: int, threads: int) -> int:
    """Iterations to a chunk for a step of this extent that touches so many bytes and does so many operations.

    Most steps move memory: they get many small chunks, so that a thread that loses its core holds up little. A dense
    step (a matmul) does much with each element and packs its operands for each chunk: it gets a few chunks per thread
    where they are large, else one.
    """
    if threads == 1 or extent <= 1:
        return max(extent, 1)
    if flops > DENSE_INTENSITY * nbytes:
        least = -(-extent // max(1, flops // (2 * DENSE_CHUNK_WORK)))
        rows = max(least, -(-extent // (4 * threads)), min(-(-extent // threads), DENSE_ROWS))
        turns = max(1, extent // (rows * threads))     # all threads get the same number of chunks
        return min(extent, max(least, -(-extent // (turns * threads))))
    chunks = min(max(extent, nbytes // 4) // CHUNK_WORK, MAXIMUM_CHUNKS, extent)
    if chunks <= 1:
        return extent
    chunk = -(-extent // chunks)
    grain = 64 if chunk >= 1024 else 8 if chunk >= 64 else 1     # whole vectors and cache lines, where that is cheap
    return -(-chunk // grain) * grain


MOST_THREADS = 256
"""What `compile` accepts as well."""


@cache
def thread_count() -> int:
    """Threads to use: STATICGRAPH_NUM_THREADS, else the processors that this process may run on."""
    return min(limits().items(), key=lambda each: each[1])[1]


MOST = 16
"""Threads that are used unless STATICGRAPH_NUM_THREADS says otherwise: more rarely help a memory."""


def limits() -> dict[str, int]:
    """What bounds the number of threads, by what says so; STATICGRAPH_NUM_THREADS alone where it is a number."""
    wanted = os.environ.get("STATICGRAPH_NUM_THREADS", "").strip()
    if wanted.isascii() and wanted.isdigit() and wanted.strip("0"):
        count = int(wanted) if len(wanted) < 6 else MOST_THREADS
        return {"STATICGRAPH_NUM_THREADS": min(count, MOST_THREADS)}
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return {"processors that this process may run on": max(1, available), "the container's quota (cgroup)": _quota(),
            "staticgraph's own limit": MOST}


def _quota() -> int:
    """Processors that a container grants; a large number where nothing says so."""
    try:
        limit, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        return max(1, int(limit) // int(period))
    except (OSError, ValueError):
        return 1 << 30


STACK_BYTES = 8 * 2**20
"""Kernels keep tiles on the stack, and some systems give threads far less than the main thread has."""


class Pool:
    """Workers 1, 2, ... of a process; number 0 is whoever calls. They are fewer than wanted, or none, where the system
    or an interpreter that is about to end starts no more threads."""

    def __init__(self, threads: int) -> None:
        self.busy = _busy
        self._block = np.zeros(CONTROL_SLOTS + 8, np.int64)
        # a worker may be looking at the block while the interpreter takes itself apart: it is never freed
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(self._block))
        self.control = -(-self._block.ctypes.data // 64) * 64
        self._work = load_worker()
        self._gates: list[threading.Lock] = []
        usual = threading.stack_size(STACK_BYTES)
        try:
            for number in range(1, threads):
                gate = threading.Lock()
                gate.acquire()
                threading.Thread(target=self._serve, args=(number, gate), name=f"staticgraph-{number}",
                                 daemon=True).start()
                self._gates.append(gate)
        except RuntimeError:     # no more threads are to be had; chunks are shared by those that there are
            pass
        finally:
            threading.stack_size(usual)

    def wake(self) -> None:
        """Call the workers; only who holds `busy` may."""
        for gate in self._gates:
            if gate.locked():
                gate.release()

    def _serve(self, number: int, gate: threading.Lock) -> None:
        while True:
            gate.acquire()
            while self._work(self.control, number, PATIENCE) < 0 and _leave(self._callers_core()):
                pass

    def _callers_core(self) -> int:
        return int(self._block[(self.control - self._block.ctypes.data) // 8 + CORE_SLOT])


def _leave(core: int) -> bool:
    """Send the thread that calls this to another core than this one; whether there is one. It may come back: what it
    may run on stays as it was."""
    if not hasattr(os, "sched_setaffinity"):
        return False
    allowed = os.sched_getaffinity(0)
    if not allowed - {core}:
        return False
    try:
        os.sched_setaffinity(0, allowed - {core})
        os.sched_setaffinity(0, allowed)
    except OSError:     # what a container allows may change meanwhile
        return False
    return True


_pool: Pool | None = None
_others: dict[int, Pool] = {}
_lock = threading.Lock()
_busy = threading.Lock()


def pool() -> Pool | None:
    """The pool of this process; None where there is one thread only."""
    global _pool
    if thread_count() == 1:
        return None
    with _lock:
        if _pool is None:
            _pool = Pool(thread_count())
        return _pool


def pool_of(threads: int) -> Pool | None:
    """The pool for calls that ask for a number of threads of their own; None where that is one."""
    if threads == 1:
        return None
    with _lock:
        if threads not in _others:
            _others[threads] = Pool(threads)
        return _others[threads]


def _forget() -> None:
    """A forked child has none of its parent's threads."""
    global _pool, _lock, _busy
    _pool, _lock, _busy = None, threading.Lock(), threading.Lock()
    _others.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
