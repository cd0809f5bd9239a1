"""``staticgraph profile``: where the time of a model's call goes, step by step, against what the machine can do."""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path
from typing import Any

from .inputs import inputs_of
from .models import CommandError, find_model
from .progress import working

HELP = """\
Call a model some times and say where the time of a call goes: in which of its steps, for which lines, how near each is
to what this machine can do, and in what else.

  staticgraph profile model.py:step
  staticgraph profile model.py:step --size batch=256 --below labels=10
  staticgraph profile model.py:step --html profile.html --trace step.trace.json

MODEL is path/to/model.py:name, as of `staticgraph graph`. Inputs are made up, or taken from name_inputs in the file:
see `staticgraph bench --help`. Variables are left as they were.

Calls are real ones. Every second one is looked at: each kernel is timed in each thread, and each stage of the call. The
calls in between say what looking costs. `% peak` is the share of the copy bandwidth or of the multiply-adds (of the
step's own float type) that were measured, whichever is more. A step whose arrays fit into a cache, named under `fits`,
can be faster than memory is copied: it is held against the multiply-adds, if it does any.

--html is one page with the table, the roofline, the plan of memory and the kernels; --trace is for ui.perfetto.dev."""

FILES = {"html": (".html", "everything as one page"), "trace": (".json", "one call and the compile, as a Chrome trace"),
         "roofline": (".svg", "the roofline as a picture"), "memory": (".svg", "the plan of memory as a picture")}
"""Options that name a file: its suffix, and what is in it."""

NARROWEST, WIDEST = 80, 160


def add_parser(commands: Any) -> None:
    """The command's options."""
    parser = commands.add_parser("profile", help="where the time of a model's call goes", description=HELP,
                                 formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("model", metavar="MODEL", help="path/to/model.py:name")
    add_input_options(parser)
    add("--seconds", type=_positive, metavar="S", help="how long to go on calling (half a second, and five calls)")
    add("--no-peak", action="store_true", help="do not measure the machine first (half a second)")
    add("--verbose", action="store_true", help="every step, not only the longest of many")
    add("--json", nargs="?", const="-", metavar="FILE", help="everything as JSON, into FILE or instead of text")
    for name, (suffix, what) in FILES.items():
        add(f"--{name}", metavar="FILE", help=f"{what} ({suffix})")
    parser.set_defaults(run=run)


def _positive(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < 1e6:
        raise argparse.ArgumentTypeError(f"'{text}' is not a number of seconds")
    return value


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
    if options.roofline and options.no_peak:
        raise CommandError("the roofline needs what the machine can do: --roofline goes without --no-peak")
    files = {name: _target(name, getattr(options, name)) for name in FILES if getattr(options, name) is not None}
    model = find_model(options.model)
    executable = model.compile()
    inputs, sizes = inputs_of(model, executable.program.inputs, dict(options.size), dict(options.below))
    with working(f"calling {options.model}"):
        profile = _profile(executable, tuple(inputs.values()), options)
    if options.json != "-":
        nbytes = sum(array.nbytes for array in inputs.values())
        print(_text(options.model, sizes, nbytes, profile, options.verbose))
    write_json(options.json, {**profile.to_json(), "model": options.model, "sizes": sizes})
    _write(files, options.model, executable, profile)
    return 0


def _target(name: str, place: str) -> Path:
    """The file of an option, if it can be written: that is found out before anything takes time."""
    suffix, target = FILES[name][0], Path(place)
    if target.suffix.lower() != suffix:
        raise CommandError(f"cannot write '{target}': the suffix for --{name} is {suffix}")
    if not target.absolute().parent.is_dir():
        raise CommandError(f"cannot write '{target}': there is no folder '{target.parent}'")
    return target


def _profile(executable: Any, inputs: tuple[Any, ...], options: argparse.Namespace) -> Any:
    if executable.program.device != "cpu":
        return executable.profile(*inputs)
    from ..runtime.cpu.profiled import profile_calls

    return profile_calls(executable, inputs, {}, options.seconds, peaks=not options.no_peak)


def _text(model: str, sizes: dict[str, int], nbytes: int, profile: Any, verbose: bool) -> str:
    from ..runtime.profile_text import profile_text

    given = f" with {', '.join(f'{name}={size}' for name, size in sizes.items())}" if sizes else ""
    width = max(NARROWEST, min(shutil.get_terminal_size((NARROWEST + 20, 24)).columns, WIDEST))
    return f"{model}{given}: {nbytes:,} bytes of inputs\n{profile_text(profile, width, verbose)}"


def _write(files: dict[str, Path], model: str, executable: Any, profile: Any) -> None:
    from ..viz.export import write_whole
    from ..viz.memory import export_memory
    from ..viz.profile import profile_page, roofline_picture

    if "html" in files:
        write_whole(files["html"], profile_page(profile, model))
    if "trace" in files:
        write_whole(files["trace"], json.dumps(profile.trace()) + "\n")
    if "roofline" in files:
        write_whole(files["roofline"], roofline_picture(profile))
    if "memory" in files:
        export_memory(executable, files["memory"], sizes=profile.sizes)


def write_json(place: str | None, found: object) -> None:
    """Into a file, to the output for "-", or nowhere."""
    text = json.dumps(found, indent=1) + "\n"
    if place == "-":
        print(text, end="")
    elif place:
        from ..viz.export import write_whole

        write_whole(Path(place), text)
