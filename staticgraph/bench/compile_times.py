"""Cold and warm compiles: a new process for each, with an empty cache folder and then with what the first one left.

What is timed is everything from building the graph to the result of the first call. Imports are told apart: `connect`
is imports, and so are import statements that run later, wherever they stand; `ImportClock` sums them up. Processor time
leaves out what a peer's helper processes do.

Run as a module this is the child: ``python -m staticgraph.bench.compile_times PEER CASE THREADS CLOCK`` prints one
line of JSON.
"""

from __future__ import annotations

import builtins
import importlib
import json
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .cases import Case, draw_arrays
from .children import environment, run_module
from .contest import CLOCKS
from .peers import Peer, find_peers, missing_reason
from .suites import case_named


class ImportClock:
    """Seconds spent in import statements and in importlib.import_module, the outermost ones only."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.seconds = 0.0
        self._clock = clock
        self._depth = 0

    def _timed(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*args: Any, **kwargs: Any) -> Any:
            self._depth += 1
            start = self._clock()
            try:
                return function(*args, **kwargs)
            finally:
                self._depth -= 1
                if self._depth == 0:
                    self.seconds += self._clock() - start
        return timed

    @contextmanager
    def running(self) -> Iterator[None]:
        statement, function = builtins.__import__, importlib.import_module
        builtins.__import__, importlib.import_module = self._timed(statement), self._timed(function)
        try:
            yield
        finally:
            builtins.__import__, importlib.import_module = statement, function


def time_first_result(peer: Peer, case: Case, threads: int, clock: Callable[[], float]) -> dict[str, float]:
    """In this process: seconds of imports, and of everything else up to the first result."""
    setting = case.settings[0]
    inputs, state = draw_arrays(case, setting)
    imports = ImportClock(clock)
    start = clock()
    peer.connect(threads)
    connected = clock()
    with imports.running():
        peer.prepare(case, setting, inputs, state).call()
    end = clock()
    return {"imports_s": connected - start + imports.seconds, "compile_s": end - connected - imports.seconds}


def measure(peer: Peer, case: Case, repeats: int, threads: int, clock: str = "wall") -> dict[str, Any]:
    """Medians over repeats of a cold compile and the warm one after it, or the reason why there are none."""
    taken: dict[str, list[dict[str, float]]] = {"cold": [], "warm": []}
    for _ in range(repeats):
        with tempfile.TemporaryDirectory(prefix="staticgraph-bench-") as folder:
            for found in taken.values():     # the second finds what the first has left
                child = run_module(__name__, [peer.name, case.name, str(threads), clock],
                                   environment([peer], Path(folder), threads), capture=True)
                if child.returncode != 0:
                    lines = child.stderr.strip().splitlines() or ["no message"]
                    return {"case": case.name, "peer": peer.name, "failed": lines[-1]}
                found.append(json.loads(child.stdout.strip().splitlines()[-1]))
    record: dict[str, Any] = {"case": case.name, "peer": peer.name, "repeats": repeats, "threads": threads}
    for kind, found in taken.items():
        for name in ("compile_s", "imports_s"):
            values = [each[name] for each in found]
            record[f"{kind}_{name}"] = statistics.median(values)
            record[f"{kind}_{name}_all"] = values
    return record


def main(argv: list[str]) -> int:
    """The child."""
    name, wanted, threads, clock = argv
    peer = next(peer for peer in find_peers() if peer.name == name)
    case = case_named(wanted)
    reason = missing_reason(peer)
    if reason:
        print(reason, file=sys.stderr)
        return 1
    print(json.dumps(time_first_result(peer, case, int(threads), CLOCKS[clock])))
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
