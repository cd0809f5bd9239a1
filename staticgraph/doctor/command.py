"""``staticgraph doctor``: options in, text or JSON out. Exit status: 0 all is well; 1 something is not; 2 the command
was wrong."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from ..cli.exits import CommandError
from ..cli.progress import working

HELP = """\
Say what this installation can do and what is missing: versions, CPU, kernel cache, NVIDIA driver, GPUs, CUDA packages.

  staticgraph doctor                           for people; exit status 0 where the CPU works
  staticgraph doctor --require-cuda            also fails where device="cuda" cannot be used
  staticgraph doctor --gpu-check --json F      checks everything on a GPU and measures it; needs a checkout, no network,
                                               and less than ten minutes
  staticgraph doctor --math exp,tanh --json F  checks these functions (all, if none is named) on every float32 and on
                                               samples of float64; half a minute to two for each"""


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """The command's options."""
    doctor = commands.add_parser("doctor", help="what works here, what is missing; --gpu-check tests a GPU",
                                 description=HELP, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = doctor.add_argument
    add("--json", nargs="?", const="-", metavar="FILE", help="all that was found as JSON, into FILE or instead of text")
    add("--require-cuda", action="store_true", help="fail where no GPU can be used")
    add("--gpu-check", action="store_true", help="the op suite, kernels against the interpreter, determinism, "
        "compute-sanitizer and the benchmark on the first GPU")
    add("--quick", action="store_true", help="with --gpu-check: smaller arrays, for GPUs with little memory")
    add("--only", metavar="A,B", help="with --gpu-check: only these stages (suite, interpreter, products, examples, "
        "determinism, sanitizer, benchmark)")
    add("--rehearse", action="store_true", help="with --gpu-check: without a GPU, on the tests' simulated driver with "
        "tiny sizes; tries the check, says nothing about speed")
    add("--math", nargs="?", const="", metavar="A,B", help="the errors of elementary functions; float64 needs mpmath")
    add("--samples", type=int, metavar="N", help="with --math: N of all float32, evenly spread")
    doctor.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Run the command; the exit status."""
    _refuse_mistakes(options)
    if options.math is not None:
        return _math(options)
    return _gpu_check(options) if options.gpu_check else _report(options)


def _refuse_mistakes(options: argparse.Namespace) -> None:
    """What would be ignored, and, before anything that takes minutes, a file that cannot be written."""
    if options.math is not None and options.gpu_check:
        raise CommandError("--math and --gpu-check are two checks: run one after the other")
    if options.samples is not None and options.math is None:
        raise CommandError("--samples belongs to --math")
    if not options.gpu_check and (options.only is not None or options.quick or options.rehearse):
        raise CommandError("--only, --quick and --rehearse belong to --gpu-check")
    if options.json not in (None, "-"):
        place = Path(options.json)
        if not place.absolute().parent.is_dir():
            raise CommandError(f"cannot write '{place}': there is no folder '{place.parent}'")
        if place.is_dir():
            raise CommandError(f"cannot write '{place}': it is a folder")


def _math(options: argparse.Namespace) -> int:
    import sys

    from .accuracy import BINARY, UNARY
    from .accuracy import run as check

    names = list(filter(None, options.math.split(",")))
    unknown = [name for name in names if name not in (*UNARY, *BINARY)]
    samples = 2**32 if options.samples is None else options.samples
    if unknown or samples < 1:
        what = f"there is no function {', '.join(unknown)}; functions are {', '.join((*UNARY, *BINARY))}"
        print(f"doctor: {what if unknown else '--samples must be positive'}", file=sys.stderr)
        return 2
    stream = sys.stderr if options.json == "-" else sys.stdout
    record = check(names, samples, lambda text: print(text, file=stream, flush=True))
    _write(options.json, record)
    return 0 if record["passed"] else 1


def _report(options: argparse.Namespace) -> int:
    from .facts import collect
    from .text import problems, report, usable_gpu

    with working("trying out this installation"):
        facts = collect()
    gpu = usable_gpu(facts)
    found = {"kind": "doctor", **facts, "problems": problems(facts), "cuda_usable": gpu}
    if options.json != "-":
        print(report(facts), end="")
    _write(options.json, found)
    works = bool(facts["cpu_works"].get("ok"))
    return 0 if works and (gpu or not options.require_cuda) else 1


def _gpu_check(options: argparse.Namespace) -> int:
    import sys

    from .check import STAGES
    from .check import run as check

    only = tuple(filter(None, (options.only or "").split(",")))
    unknown = [name for name in only if name not in STAGES]
    if unknown:
        print(f"doctor: there is no stage {', '.join(unknown)}; stages are {', '.join(STAGES)}", file=sys.stderr)
        return 2
    stream = sys.stderr if options.json == "-" else sys.stdout
    record = check(options.quick, options.rehearse, only, lambda text: print(text, file=stream, flush=True))
    _write(options.json, record)
    return 0 if record["passed"] else 1


def _write(place: str | None, record: object) -> None:
    text = json.dumps(record, indent=1)
    if place == "-":
        print(text)
    elif place:
        Path(place).write_text(text + "\n", encoding="utf-8")
