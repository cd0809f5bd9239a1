"""The command line: ``staticgraph graph | bench | profile | dump | cache | doctor``.

Every command imports what it needs when it runs, so that ``staticgraph --help`` is quick. How commands end is said in
`exits`: each exit status, and the one message for a mistake.
"""

from __future__ import annotations

import argparse
import io
import sys
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

from .exits import WRONG, CommandError, meant, reporting

HELP = """\
A static-graph compiler: define a graph, differentiate it, compile it, run it.

  staticgraph doctor                             does it work here?
  staticgraph graph model.py:loss -o loss.svg    what do I compute, and in which kernels?
  staticgraph bench model.py:step                how fast is it, and is it right?
  staticgraph profile model.py:step              where does the time go?
  staticgraph dump model.py:step -o dump         how do I run it without staticgraph, and read its kernels?

A model is path/to/model.py:name: a tensor, several of them, or what sg.compile returned; or a file that sg.save_graph
wrote, path/to/graph.json."""


COMMANDS = ("graph", "bench", "profile", "dump", "cache", "doctor")


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; the exit status."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")     # what a terminal's encoding does not have is a question mark
    return reporting(lambda: _run(arguments))


def _run(arguments: list[str]) -> int:
    if arguments and arguments[0] not in COMMANDS and not arguments[0].startswith("-"):
        raise CommandError(f"there is no command '{arguments[0]}'{meant(arguments[0], COMMANDS)}\n"
                           f"  commands: {', '.join(COMMANDS)}; `staticgraph --help` says what they do")
    if arguments[:1] == ["bench"]:
        from ..bench.run import main as bench

        return bench(arguments[1:])
    parser = _parser()
    options = parser.parse_args(arguments)
    if not hasattr(options, "run"):
        parser.print_help()
        return WRONG
    return int(options.run(options))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="staticgraph",
        description=HELP, formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="staticgraph COMMAND --help explains a command. Exit status: 0 done; 1 it could not be carried out, or "
               "found\nsomething wrong; 2 the command was wrong (no such file, name or option); 3 `bench --compare` "
               "found something\nslower; 130 interrupted; 141 the reader of its output went away.")
    parser.add_argument("--version", action="version", version=f"staticgraph {version()}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")
    from ..doctor import command as doctor
    from . import cache, dump, graph, profile

    graph.add_parser(commands)
    commands.add_parser("bench", help="time kernels, or a model, against other libraries", add_help=False)
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
