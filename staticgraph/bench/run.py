"""``staticgraph bench``: kernels against NumPy and whichever peers are installed, in one run.

The command reads its options, starts the measuring process (`worker`) with one thread everywhere and empty caches,
times compiles in processes of their own (`compile_times`), and prints the report. Nothing here imports a peer. It fails
only where staticgraph computes something else than its interpreter, never for being slow.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .cases import CASES
from .children import environment, run_module
from .compile_times import COMPILED, measure
from .contest import CLOCKS
from .peers import Peer, find_peers, missing_reason, version_of
from .report import OURS, align, report
from .worker import Plan


def main(argv: list[str] | None = None) -> int:
    """Run the command; the exit status."""
    options = _parser().parse_args(argv)
    peers = find_peers()
    if options.list:
        print(listing(peers))
        return 0
    unknown = set(options.peers or ()) - {peer.name for peer in peers}
    cases = tuple(case.name for case in CASES if not options.filter or any(
        text in case.name for text in options.filter))
    if unknown or not cases:
        print(f"bench: there is no peer {', '.join(sorted(unknown))}" if unknown else
              f"bench: no case is called {' or '.join(options.filter)}", file=sys.stderr)
        print("bench: --list shows cases and peers", file=sys.stderr)
        return 2
    chosen = [peer for peer in peers if not options.peers or peer.name == OURS or peer.name in options.peers]
    record = _measure(options, chosen, cases)
    if record is None:
        print("bench: the measuring process failed", file=sys.stderr)
        return 1
    print(report(record, times=options.times), end="")
    if options.json:
        Path(options.json).write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    return 1 if _ours_failed(record) else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="staticgraph bench", description=(
        "Time kernels against NumPy and whichever of numexpr, jax, torch and pytensor are installed: medians of "
        "interleaved runs, each result checked against the interpreter first."))
    add = parser.add_argument
    add("--list", action="store_true", help="show cases and peers, and run nothing")
    add("--filter", action="append", metavar="TEXT", help="only cases whose name contains TEXT; may be repeated")
    add("--peers", type=lambda text: tuple(text.split(",")), metavar="A,B", help="only these peers")
    add("--quick", action="store_true", help="small sizes, fewer rounds, no compiles of peers")
    add("--tiny", action="store_true", help="a few elements, two rounds: tries everything, measures nothing")
    add("--threads", type=int, default=1, metavar="N", help="threads and cores for everybody (default 1)")
    add("--clock", choices=tuple(CLOCKS), default="wall", help="wall time, or processor time for a busy machine")
    add("--times", action="store_true", help="also a table of the times of all contestants")
    add("--json", metavar="FILE", help="write everything that was measured to a file")
    compiles = parser.add_mutually_exclusive_group()
    compiles.add_argument("--no-compile", action="store_true", help="no cold and warm compiles in new processes")
    compiles.add_argument("--compile-only", action="store_true", help="nothing but cold and warm compiles")
    add("--compile-peers", action="store_true", help="with --quick: compiles of peers too")
    return parser


def _measure(options: argparse.Namespace, peers: Sequence[Peer], cases: tuple[str, ...]) -> dict[str, Any] | None:
    names = tuple(peer.name for peer in peers)
    plan = Plan(names, () if options.compile_only else cases, options.quick, options.tiny, options.threads,
                options.clock)
    record = _in_worker(plan, peers)
    if record is None or options.no_compile or options.tiny:
        return record
    wanted = [case for case in CASES if case.name in cases and case.name in COMPILED]
    record["compile"] = []
    for case in wanted:
        for peer in peers:
            if peer.name == OURS or not (options.quick and not options.compile_peers):
                if missing_reason(peer) is None and peer.name not in ("numpy", "numexpr", "torch"):
                    print(f"compile {case.name} {peer.name}", file=sys.stderr, flush=True)
                    repeats = 3 if peer.name == OURS and not options.quick else 1
                    record["compile"].append(measure(peer, case, repeats, options.threads, options.clock))
    return record


def _in_worker(plan: Plan, peers: Sequence[Peer]) -> dict[str, Any] | None:
    with tempfile.TemporaryDirectory(prefix="staticgraph-bench-") as folder:
        told, written = Path(folder, "plan.json"), Path(folder, "record.json")
        told.write_text(json.dumps(dataclasses.asdict(plan)), encoding="utf-8")
        variables = environment(peers, Path(folder, "cache"), plan.threads)
        child = run_module("staticgraph.bench.worker", [str(told), str(written)], variables)
        if child.returncode != 0:
            return None
        record: dict[str, Any] = json.loads(written.read_text(encoding="utf-8"))
        return record


def _ours_failed(record: dict[str, Any]) -> bool:
    cases = any(OURS not in case["contestants"] for case in record["cases"])
    return cases or any("failed" in each for each in record.get("compile", ()) if each["peer"] == OURS)


def listing(peers: Sequence[Peer]) -> str:
    """Cases with their sizes, and peers with their versions or why they are missing."""
    cases = [[case.name, case.title, " ".join(label for label, _ in case.sizes)] for case in CASES]
    rows = [[peer.name, missing_reason(peer) or version_of(peer)] for peer in peers]
    return f"cases\n{align(cases, 3)}\n\npeers\n{align(rows, 2)}"
