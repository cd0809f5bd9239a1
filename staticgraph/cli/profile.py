"""``staticgraph profile``: where the time of a model's call goes, step by step, against what the machine can do."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .inputs import inputs_of
from .models import find_model

HELP = """\
Call a model some times, timing each of its steps, and say how near each is to what this machine can do.

  staticgraph profile model.py:step
  staticgraph profile model.py:step --size batch=256 --below labels=10
  staticgraph profile model.py:loss --json profile.json

MODEL is path/to/model.py:name, as of `staticgraph graph`. Inputs are made up, or taken from name_inputs in the file:
see `staticgraph bench --help`. Variables are left as they were. One thread runs each step.

`% peak` is the share of the copy bandwidth or of the multiply-adds that were measured, whichever is more; `by` says
which. A step that fits into caches can be above 100% of the copy bandwidth."""


def add_parser(commands: Any) -> None:
    """The command's options."""
    parser = commands.add_parser("profile", help="time each step of a model", description=HELP,
                                 formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("model", metavar="MODEL", help="path/to/model.py:name")
    add_input_options(parser)
    add("--no-peak", action="store_true", help="do not measure the machine first (two seconds)")
    add("--json", nargs="?", const="-", metavar="FILE", help="everything as JSON, into FILE or instead of text")
    parser.set_defaults(run=run)


def add_input_options(parser: argparse.ArgumentParser) -> None:
    """What made-up inputs are like."""
    parser.add_argument("--size", action="append", default=[], type=named_number, metavar="N=64",
                        help="a symbolic size (64 unless it is given); may be repeated")
    parser.add_argument("--below", action="append", default=[], type=named_number, metavar="T=10",
                        help="integers of an input are below this (2 unless it is given); may be repeated")


def named_number(text: str) -> tuple[str, int]:
    """("n", 64) of "n=64"."""
    name, equals, number = text.partition("=")
    if not name or not equals or not number.isdecimal():
        raise argparse.ArgumentTypeError(f"'{text}' is not like name=64")
    return name, int(number)


def run(options: argparse.Namespace) -> int:
    model = find_model(options.model)
    executable = model.compile()
    inputs, sizes = inputs_of(model, executable.program.inputs, dict(options.size), dict(options.below))
    profile = executable.profile(*inputs.values())
    peaks = {} if options.no_peak or executable.program.device != "cpu" else _peaks()
    found = {"kind": "profile", "model": options.model, "sizes": sizes, "rounds": profile.rounds,
             "seconds": profile.seconds, "peaks": peaks, "steps": [_step(step, peaks) for step in profile.steps]}
    if options.json != "-":
        print(_text(found, sum(array.nbytes for array in inputs.values())), end="")
    write_json(options.json, found)
    return 0


def _peaks() -> dict[str, Any]:
    from ..bench.peak import peaks

    return peaks(1, "wall")


def _step(step: Any, peaks: Mapping[str, float]) -> dict[str, Any]:
    """One step as plain data. Rates of what the compiler did not count are 0."""
    moved, done = step.bytes_moved / step.seconds / 1e9, step.flops / step.seconds / 1e9
    found = {"kernel": step.kernel, "computes": step.title, "lines": list(step.lines), "seconds": step.seconds,
             "bytes": step.bytes_moved, "flops": step.flops, "gb_s": moved, "gflop_s": done}
    if peaks:
        # The element type is not said: multiply-adds of float32 are what a step is measured by.
        shares = {"copy": 100 * moved / peaks["copy_gb_s"], "FMA": 100 * done / peaks["float32_gflop_s"]}
        best = max(shares, key=lambda name: shares[name])
        found |= {"percent_of_peak": shares[best], "bound_by": best}
    return found


def _text(found: Mapping[str, Any], nbytes: int) -> str:
    from ..bench.report import align, digits, seconds

    sizes = ", ".join(f"{name}={size}" for name, size in found["sizes"].items())
    lines = [f"{found['model']}{f' with {sizes}' if sizes else ''}: {seconds(found['seconds'])} in "
             f"{len(found['steps'])} steps, medians of {found['rounds']} rounds; {nbytes:,} bytes of inputs"]
    if found["peaks"]:
        lines.append(f"this machine copies {found['peaks']['copy_gb_s']:.1f} GB/s and multiplies and adds "
                     f"{found['peaks']['float32_gflop_s']:.0f} GFlop/s in float32, with one thread")
    rows = [["", "kernel", "time", "%", "bytes", "GB/s", "GFlop/s", "% peak", "by", "lines"]]
    total = found["seconds"] or 1.0
    for number, step in enumerate(found["steps"]):
        rows.append([
            str(number), step["kernel"], seconds(step["seconds"]), f"{100 * step['seconds'] / total:.0f}",
            f"{step['bytes']:,}", *(digits(step[name]) if step[name] else "-" for name in ("gb_s", "gflop_s")),
            f"{step['percent_of_peak']:.0f}" if found["peaks"] else "-", step.get("bound_by", "-"),
            ", ".join(step["lines"])])
    return "\n".join([*lines, "", align(rows, 2)]) + "\n"


def write_json(place: str | None, found: object) -> None:
    """Into a file, to the output for "-", or nowhere."""
    text = json.dumps(found, indent=1) + "\n"
    if place == "-":
        print(text, end="")
    elif place:
        from ..viz.export import write_whole

        write_whole(Path(place), text)
