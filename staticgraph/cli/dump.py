"""``staticgraph dump``: a model as scripts that need no staticgraph, and what the compiler did with it.

The work is `Executable.dump`'s; here are the options and the inputs.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from ..errors import ArgumentError
from .inputs import inputs_of
from .models import CommandError, Model, find_model
from .profile import add_input_options
from .progress import working

HELP = """\
Write a model into a folder: scripts that run it without staticgraph, and what the compiler did, to be read.

  staticgraph dump model.py:step -o dump
  staticgraph dump model.py:step -o dump --size batch=256 --below labels=10 --force
  staticgraph dump model.py:step -o dump --device cuda    kernels for a GPU; needs neither a GPU nor a driver
  python -I dump/main.py                                  runs it: Python with NumPy and Numba is enough

The model is called once, and its scripts are checked against that call. Inputs are made up, or taken from name_inputs
in the file: see `staticgraph bench --help`. Variables are left as they were. The folder's README.md says what each file
is: main.py, a script for each kernel with its data, the graph after each pass, schedule, kernel IR, a picture.

Exit status: 0 done, 1 it could not be carried out, 2 the command was wrong."""

DEVICES = ("cpu", "cuda")


def add_parser(commands: Any) -> None:
    """The command's options."""
    parser = commands.add_parser("dump", help="write a model as scripts that need no staticgraph", description=HELP,
                                 formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("model", metavar="MODEL", help="path/to/model.py:name")
    add("-o", "--output", metavar="FOLDER", required=True, help="the folder to make")
    add("--force", action="store_true", help="replace a dump that is there")
    add("--device", choices=DEVICES, default="cpu", help="what to compile for (default: cpu)")
    add_input_options(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    from ..runtime.dump.folder import check

    target = Path(options.output)
    try:
        check(target, options.force)
    except ArgumentError as error:
        text = str(error).removeprefix("dump: ").replace("overwrite=True replaces", "--force replaces")
        raise CommandError(text) from None
    model = find_model(options.model)
    if options.device == "cpu":
        _dump_executable(model, target, options)
    else:
        _dump_compiled(model, target, options)
    print(f"wrote {target}: start with {target / 'README.md'}")
    return 0


def _dump_executable(model: Model, target: Path, options: argparse.Namespace) -> None:
    from ..runtime.dump.write import dump_executable

    executable = model.compile()
    inputs, _ = inputs_of(model, executable.program.inputs, dict(options.size), dict(options.below))
    with working(f"calling {model.name} and writing {target}"):
        dump_executable(executable, target, tuple(inputs.values()), {}, options.force)


def _dump_compiled(model: Model, target: Path, options: argparse.Namespace) -> None:
    """For a device that need not be here: nothing is run."""
    from ..api import Definition
    from ..runtime.dump.write import write_dump

    if not model.is_known:
        raise CommandError(f"the graph of '{model.name}' is not known: it was not made by sg.compile")
    definition = Definition(tuple(model.inputs), model.outputs, model.updates, options.device, model.options)
    with working(f"compiling {model.name} and writing {target}"):
        program = definition.compilation().program
        assert program is not None
        write_dump(program, target, None, definition.write, options.force)
