"""``staticgraph bench``: suites of kernels and models against NumPy and whichever peers are installed, in one run.

The command reads its options, starts a measuring process (`worker`) for each number of threads with empty caches,
times compiles in processes of their own (`compile_times`), and prints the report. Nothing here imports a peer.

Exit status: 0 done; 1 staticgraph computed something else than its interpreter, or a process failed; 2 the command was
wrong; 3 with ``--compare``, something became slower. It never fails for missing a figure.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ..cli.exits import meant
from ..cli.profile import named_number
from ..runtime.figures import align
from .children import environment, run_module
from .compare import comparison
from .compile_times import measure
from .contest import CLOCKS
from .figures import OURS
from .peers import Peer, find_peers, missing_reason, version_of
from .report import report
from .suites import COMPILE, COMPILED, NAMES, SUITES, case_named, chosen
from .worker import Plan

VERSION = 2
"""Of the form of records."""

SLOWER = 3

HELP = """\
Time the kernels and models of the named suites beside NumPy and whichever of numexpr, jax, torch and pytensor are
installed: medians of interleaved runs, each result checked against the interpreter first.

  staticgraph bench                                  everything; some minutes with all peers
  staticgraph bench elementwise rows                 two suites
  staticgraph bench --quick --html report.html       smallest sizes, and a page with plots
  staticgraph bench matmul --peers numpy,jax --threads 1,2
  staticgraph bench --json new.json --compare old.json
  staticgraph bench path/to/model.py:step --size batch=64

A model is a graph that sg.save_graph wrote, path/to/graph.json, or path/to/model.py:name, where `name` is what the file
calls an executable, or one tensor or several; if the file also has `updates` ({variable: new value}), the training step
is timed. Inputs are made up: normally distributed
floats, integers below 2 (--below t=10 for others), sizes of 64 (--size n=100 for others); name_inputs in the file
({placeholder: array}) says better ones. name_peers in it ({label: function of the inputs}) are timed beside it."""

EPILOG = """\
exit status: 0 done; 1 staticgraph is wrong somewhere, or could not run; 2 the command was wrong; 3 with --compare,
something became slower than the spread of both runs explains. Missing a figure is no failure."""


def main(argv: list[str] | None = None) -> int:
    """Run the command; the exit status."""
    options = _parser().parse_args(argv)
    peers = find_peers()
    if options.list:
        print(listing(peers))
        return 0
    try:
        cases, old = _settle(options, peers)
    except _Wrong as mistake:
        print(f"bench: {mistake}", file=sys.stderr)
        return 2
    wanted = [peer for peer in peers if not options.peers or peer.name == OURS or peer.name in options.peers]
    record = _measure(options, wanted, cases)
    if isinstance(record, int):
        if not options.model:
            print("bench: the measuring process failed", file=sys.stderr)
        return record
    return _tell(options, record, old)


class _Wrong(Exception):
    """A mistake in the command; the text is for the user."""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="staticgraph bench", description=HELP, epilog=EPILOG,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("what", nargs="*", metavar="SUITE|MODEL",
        help=f"suites ({', '.join(NAMES)}; default: all), or one path/to/model.py:name")
    add("--list", action="store_true", help="show suites, cases and peers, and run nothing")
    add("--filter", action="append", metavar="TEXT", help="only cases whose name contains TEXT; may be repeated")
    add("--peers", type=lambda text: tuple(text.split(",")), metavar="A,B", help="only these peers")
    add("--quick", action="store_true", help="first size of each case, fewer rounds, no compiles of peers")
    add("--tiny", action="store_true", help="a few elements, two rounds: tries everything, measures nothing")
    add("--threads", type=_counts, default=(1,), metavar="N[,M]",
        help="threads and cores for everybody (default 1); several are measured one after the other")
    add("--clock", choices=tuple(CLOCKS), default="wall", help="wall time, or processor time for a busy machine")
    add("--rounds", type=_count, default=0, metavar="N", help="samples of each contestant (default 25; less when slow)")
    add("--times", action="store_true", help="also a table of the times of all contestants")
    add("--json", metavar="FILE", help="write everything that was measured to a file, - for standard output")
    add("--html", metavar="FILE", help="write the report as one page with plots, which needs nothing else")
    add("--compare", metavar="OLD", help="say what became faster or slower since the record OLD (from --json)")
    add("--size", action="append", default=[], type=named_number, metavar="N=64", help="of a model: a symbolic size")
    add("--below", action="append", default=[], type=named_number, metavar="T=10",
        help="of a model: the integers of an input are below this")
    compiles = parser.add_mutually_exclusive_group()
    compiles.add_argument("--no-compile", action="store_true", help="no cold and warm compiles in new processes")
    compiles.add_argument("--compile-only", action="store_true", help="the same as the suite `compile`")
    add("--compile-peers", action="store_true", help="with --quick: compiles of peers too")
    return parser


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"'{text}' is no number above 0")
    return int(text)


def _counts(text: str) -> tuple[int, ...]:
    return tuple(map(_count, text.split(",")))


def _settle(options: argparse.Namespace, peers: Sequence[Peer]) -> tuple[tuple[str, ...], Any]:
    """The names of the cases to run (`options.model` and `.suites` say more), and the record to compare with."""
    models = [each for each in options.what if ":" in each or each.endswith((".py", ".json"))]
    options.model = models[0] if models else ""
    options.suites = (COMPILE,) if options.compile_only else tuple(options.what)
    if models and len(options.what) > 1:
        raise _Wrong("a model is timed alone: give one path/to/model.py:name, or suites")
    if models and (options.peers or options.filter):
        raise _Wrong("--peers and --filter are for suites: a model is timed beside the name_peers of its file")
    if not models and (options.size or options.below):
        raise _Wrong("--size and --below are for a model: path/to/model.py:name")
    unknown = [] if models else [name for name in options.what if name not in NAMES]
    if unknown:
        raise _Wrong(f"there is no suite {', '.join(unknown)}{meant(unknown[0], NAMES)}; suites are {', '.join(NAMES)}")
    strangers = sorted(set(options.peers or ()) - {peer.name for peer in peers})
    if strangers:
        raise _Wrong(f"there is no peer {', '.join(strangers)}\nbench: --list shows suites, cases and peers")
    if options.clock == "cpu" and max(options.threads) > 1:
        raise _Wrong("--clock cpu adds up the time of all threads, so it says nothing about several: use wall time")
    cases = () if models else tuple(case.name for case in chosen(options.suites, options.filter or ()))
    if not models and not cases and not _compiled(options):
        raise _Wrong(f"no case is called {' or '.join(options.filter)}\nbench: --list shows suites, cases and peers"
                     if options.filter else f"--tiny and --no-compile leave nothing of the suite {COMPILE}")
    for option in ("json", "html"):
        place = getattr(options, option)
        if place and not Path(place).absolute().parent.is_dir():
            raise _Wrong(f"cannot write '{place}': there is no folder '{Path(place).parent}'")
        if place and Path(place).is_dir():
            raise _Wrong(f"cannot write '{place}': it is a folder")
    return cases, _old_record(options.compare) if options.compare else None


def _old_record(place: str) -> dict[str, Any]:
    try:
        old: dict[str, Any] = json.loads(Path(place).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise _Wrong(f"cannot read '{place}': {error}") from None
    if not isinstance(old, dict) or old.get("version") != VERSION or not {"runs", "compile"} <= set(old):
        raise _Wrong(f"'{place}' is not a record of this version of the benchmark: measure it again with --json")
    return old


def _compiled(options: argparse.Namespace) -> list[str]:
    """The cases whose compiles are timed."""
    if options.model or options.no_compile or options.tiny or (options.suites and COMPILE not in options.suites):
        return []
    return [name for name in COMPILED if not options.filter or any(part in name for part in options.filter)]


def _measure(options: argparse.Namespace, peers: Sequence[Peer], cases: tuple[str, ...]) -> dict[str, Any] | int:
    """The record; or the exit status of a process that failed."""
    record: dict[str, Any] = {"version": VERSION, "model": options.model, "runs": [], "compile": []}
    names = tuple(peer.name for peer in peers)
    for threads in options.threads:
        plan = Plan(names, cases, options.quick, options.tiny, threads, options.clock, options.rounds, options.model,
                    dict(options.size), dict(options.below))
        run = _in_worker(plan, peers)
        if isinstance(run, int):
            return run
        record["runs"].append(run)
    record["compile"] = list(_compiles(options, peers))
    return record


def _compiles(options: argparse.Namespace, peers: Sequence[Peer]) -> Iterator[dict[str, Any]]:
    for name in _compiled(options):
        for peer in peers:
            if peer.name == OURS or not (options.quick and not options.compile_peers):
                if missing_reason(peer) is None and peer.name not in ("numpy", "numexpr", "torch"):
                    print(f"compile {name} {peer.name}", file=sys.stderr, flush=True)
                    repeats = 1 if options.quick or peer.name in ("pytensor", "torch.compile") else 3
                    yield measure(peer, case_named(name), repeats, options.threads[0], options.clock)


def _in_worker(plan: Plan, peers: Sequence[Peer]) -> dict[str, Any] | int:
    with tempfile.TemporaryDirectory(prefix="staticgraph-bench-") as folder:
        told, written = Path(folder, "plan.json"), Path(folder, "record.json")
        told.write_text(json.dumps(dataclasses.asdict(plan)), encoding="utf-8")
        variables = environment(peers, Path(folder, "cache"), plan.threads)
        child = run_module("staticgraph.bench.worker", [str(told), str(written)], variables)
        if child.returncode != 0:
            return child.returncode if child.returncode == 2 else 1
        record: dict[str, Any] = json.loads(written.read_text(encoding="utf-8"))
        return record


def _tell(options: argparse.Namespace, record: dict[str, Any], old: dict[str, Any] | None) -> int:
    """Print and write everything; the exit status."""
    readers = sys.stderr if options.json == "-" else sys.stdout
    print(report(record, times=options.times), end="", file=readers)
    written = _write(options, record)
    status = 1 if _ours_failed(record) or not written else 0
    if old is not None:
        text, slower = comparison(old, record)
        print("\n" + text, end="", file=readers)
        status = status or (SLOWER if slower else 0)
    return status


def _write(options: argparse.Namespace, record: dict[str, Any]) -> bool:
    """The files that were asked for; whether all of them could be written. One that cannot does not stop the others."""
    from ..viz.export import write_whole
    from .page import page

    wanted = {options.json: json.dumps(record, indent=1) + "\n"} if options.json else {}
    if options.html:
        wanted[options.html] = page(record)
    done = True
    for place, text in wanted.items():
        try:
            if place == "-" and place == options.json:
                sys.stdout.write(text)
                continue
            write_whole(Path(place), text)
        except OSError as error:
            print(f"bench: cannot write '{place}': {error.strerror}", file=sys.stderr)
            done = False
    return done


def _ours_failed(record: dict[str, Any]) -> bool:
    cases = any(OURS not in case["contestants"] for run in record["runs"] for case in run["cases"])
    return cases or any("failed" in each for each in record["compile"] if each["peer"] == OURS)


def listing(peers: Sequence[Peer]) -> str:
    """Suites and cases with their sizes, and peers with their versions or why they are missing."""
    cases = [[suite, case.name, case.title, ", ".join(setting.label for setting in case.settings)]
             for suite, listed in SUITES.items() for case in listed]
    cases += [[COMPILE, name, "first result in new processes, cold and warm", ""] for name in COMPILED]
    rows = [[peer.name, missing_reason(peer) or version_of(peer)] for peer in peers]
    return f"suites and cases\n{align(cases, 4)}\n\npeers\n{align(rows, 2)}"
