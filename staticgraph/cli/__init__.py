"""The command line: ``staticgraph graph | bench | profile | dump | cache | doctor``.

Every command imports what it needs when it runs, so that ``staticgraph --help`` is quick. Exit status: 0 done; 2 the
command was wrong (no such file, name, suffix or option); 1 it was right but could not be carried out. Mistakes of the
user are told in one message on stderr, without a traceback.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from ..errors import StaticGraphError
from .models import CommandError, find_model, load_model, split_model

STAGES = ("tensor", "primitive", "fused")
SUFFIXES = (".svg", ".txt", ".dot", ".json", ".graphml")

HELP = """\
A static-graph compiler: define a graph, differentiate it, compile it, run it.

  staticgraph doctor                             does it work here?
  staticgraph graph model.py:loss -o loss.svg    what do I compute, and in which kernels?
  staticgraph bench model.py:step                how fast is it, and is it right?
  staticgraph profile model.py:step              where does the time go?
  staticgraph dump model.py:step -o dump         what did the compiler do?

A model is path/to/model.py:name: a tensor, several of them, or what sg.compile returned."""

GRAPH_HELP = f"""\
Draw what a Python file builds.

  staticgraph graph model.py:loss -o loss.svg
  staticgraph graph model.py:step -o step.txt --stage tensor

MODEL is path/to/model.py:name. The file is run as if imported, so what stands below
`if __name__ == "__main__":` is not. `name` is what the file calls
  a tensor       or a list, tuple or dict of tensors; if the file also has `updates`
                 ({{variable: new value}}), both are drawn: the whole training step
  an executable  what sg.compile returned

The suffix of FILE is the format: {', '.join(SUFFIXES)}."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; the exit status."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments[:1] == ["bench"]:
        from ..bench.run import main as bench

        return bench(arguments[1:])
    parser = _parser()
    options = parser.parse_args(arguments)
    if not hasattr(options, "run"):
        parser.print_help()
        return 2
    return reporting(lambda: options.run(options))


def reporting(work: Callable[[], int]) -> int:
    """Do some work of a command; mistakes and failures become a message and an exit status."""
    try:
        return int(work())
    except CommandError as error:
        print(f"staticgraph: {error}", file=sys.stderr)
        return 2
    except StaticGraphError as error:
        print(f"staticgraph: {type(error).__name__}: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"staticgraph: {error}", file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="staticgraph",
        description=HELP, formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="staticgraph COMMAND --help explains a command. Exit status: 0 done, 1 it could not be carried out,\n"
               "2 the command was wrong (no such file, name or option).")
    parser.add_argument("--version", action="version", version=f"staticgraph {version()}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")
    graph = commands.add_parser("graph", help="draw the graph of a model", description=GRAPH_HELP,
                                formatter_class=argparse.RawDescriptionHelpFormatter)
    graph.add_argument("model", metavar="MODEL", help="path/to/model.py:name")
    graph.add_argument("-o", "--output", metavar="FILE", required=True, help="the file to write")
    graph.add_argument("--stage", choices=STAGES, default="fused",
                       help="the graph as it was built, after all passes, or with its fused kernels (default: fused)")
    graph.set_defaults(run=_graph)
    commands.add_parser("bench", help="time kernels against other libraries (staticgraph bench --help)", add_help=False)
    from ..doctor import command as doctor
    from . import cache, dump, profile

    for command in (profile, dump, cache, doctor):
        command.add_parser(commands)
    return parser


def version() -> str:
    """The version of the installed package; in a checkout that is not installed, the one it would have."""
    try:
        return metadata.version("staticgraph")
    except metadata.PackageNotFoundError:
        import tomllib

        project = Path(__file__).resolve().parent.parent.parent / "pyproject.toml"
        return str(tomllib.loads(project.read_text(encoding="utf-8"))["project"]["version"])


# staticgraph graph


def _graph(options: argparse.Namespace) -> int:
    output = Path(options.output)
    if output.suffix.lower() not in SUFFIXES:
        raise CommandError(f"cannot write '{output}': its suffix is not one of {', '.join(SUFFIXES)}")
    if not output.absolute().parent.is_dir():
        raise CommandError(f"cannot write '{output}': there is no folder '{output.parent}'")
    from ..api import compile_only
    from ..viz import export

    model = find_model(options.model)
    subject: Any = model.executable
    if subject is None:
        subject = model.outputs
        if model.updates:
            subject = compile_only(model.inputs, model.outputs, updates=model.updates)
    export(subject, output, options.stage)
    return 0
