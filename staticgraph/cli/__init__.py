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

from ..errors import StaticGraphError
from .models import CommandError

HELP = """\
A static-graph compiler: define a graph, differentiate it, compile it, run it.

  staticgraph doctor                             does it work here?
  staticgraph graph model.py:loss -o loss.svg    what do I compute, and in which kernels?
  staticgraph bench model.py:step                how fast is it, and is it right?
  staticgraph profile model.py:step              where does the time go?
  staticgraph dump model.py:step -o dump         what did the compiler do?

A model is path/to/model.py:name: a tensor, several of them, or what sg.compile returned."""

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
    commands.add_parser("bench", help="time kernels against other libraries (staticgraph bench --help)", add_help=False)
    from ..doctor import command as doctor
    from . import cache, dump, graph, profile

    graph.add_parser(commands)
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
