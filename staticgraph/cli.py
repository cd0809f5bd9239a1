"""The command line: ``staticgraph graph | bench | cache | doctor``.

Every command imports what it needs when it runs, so that ``staticgraph --help`` is quick. Exit status: 0 done; 2 the
command was wrong (no such file, name, suffix or option); 1 it was right but could not be carried out. Mistakes of the
user are told in one message on stderr, without a traceback.
"""

from __future__ import annotations

import argparse
import os
import sys
import traceback
from collections.abc import Sequence
from importlib import metadata
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from types import ModuleType
from typing import Any

from .errors import StaticGraphError

STAGES = ("tensor", "primitive", "fused")
SUFFIXES = (".svg", ".txt", ".dot", ".json", ".graphml")

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


class CommandError(Exception):
    """A mistake in the command; the text is for the user."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; the exit status."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments[:1] == ["bench"]:
        from .bench.run import main as bench

        return bench(arguments[1:])
    parser = _parser()
    options = parser.parse_args(arguments)
    if not hasattr(options, "run"):
        parser.print_help()
        return 2
    try:
        return int(options.run(options))
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
        description="A static-graph compiler: define a graph, differentiate it, compile it, run it.",
        epilog="staticgraph COMMAND --help explains a command.")
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
    cache = commands.add_parser("cache", help="show or empty the cache of compiled kernels")
    cache.add_argument("action", choices=("info", "clear"), help="what to do")
    cache.set_defaults(run=_cache)
    from .doctor.command import add_parser

    add_parser(commands)
    return parser


def version() -> str:
    """The version of the installed package; in a checkout that is not installed, the one it would have."""
    try:
        return metadata.version("staticgraph")
    except metadata.PackageNotFoundError:
        import tomllib

        project = Path(__file__).resolve().parent.parent / "pyproject.toml"
        return str(tomllib.loads(project.read_text(encoding="utf-8"))["project"]["version"])


# staticgraph graph


def _graph(options: argparse.Namespace) -> int:
    output = Path(options.output)
    if output.suffix.lower() not in SUFFIXES:
        raise CommandError(f"cannot write '{output}': its suffix is not one of {', '.join(SUFFIXES)}")
    if not output.absolute().parent.is_dir():
        raise CommandError(f"cannot write '{output}': there is no folder '{output.parent}'")
    path, name = split_model(options.model)
    subject = _subject(load_model(path), name)

    from .viz import export

    export(subject, output, options.stage)
    return 0


def split_model(text: str) -> tuple[Path, str]:
    """("path/to/model.py", "name") of ``path/to/model.py:name``."""
    path, colon, name = text.rpartition(":")
    if not colon or not name.isidentifier():
        raise CommandError(f"'{text}' does not name a model: needed path/to/model.py:name")
    if not Path(path).is_file():
        raise CommandError(f"there is no file '{path}'")
    return Path(path), name


def load_model(path: Path) -> ModuleType:
    """Run a user's file as a module of its own name, with its folder on the import path, as Python does for scripts."""
    folder = str(path.absolute().parent)
    loader = SourceFileLoader(path.stem, str(path.absolute()))
    spec = spec_from_loader(path.stem, loader)
    assert spec is not None
    module = module_from_spec(spec)
    sys.path.insert(0, folder)
    sys.modules.setdefault(path.stem, module)     # dataclasses look their module up; a taken name stays taken
    try:
        loader.exec_module(module)
    except StaticGraphError:
        raise
    except (Exception, SystemExit) as error:
        raise CommandError(f"'{path}' failed: {_short(error)}") from error
    finally:
        if sys.modules.get(path.stem) is module:
            del sys.modules[path.stem]
        sys.path.remove(folder)
    return module


def _short(error: BaseException) -> str:
    """The error, and the last line of the user's own that led to it."""
    text = f"{type(error).__name__}: {error}".removesuffix(": ")
    if isinstance(error, SyntaxError):
        return text
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if "importlib" not in frame.filename]
    return f"{text} ({os.path.basename(own[-1].filename)}:{own[-1].lineno})" if own else text


def _subject(module: ModuleType, name: str) -> Any:
    """What is to be drawn: the named thing, or the training step of named tensors and the module's `updates`."""
    from .api import compile_only
    from .runtime.executable import Executable
    from .tensor import Tensor, toposort

    subject: Any = getattr(module, name, None)
    if isinstance(subject, Executable):
        return subject
    if not _is_graph(subject):
        found = sorted(key for key, value in vars(module).items()
                       if not key.startswith("_") and (isinstance(value, Executable) or _is_graph(value)))
        problem = f"has no '{name}'" if not hasattr(module, name) else (
            f"has a '{name}', but it is neither tensors nor an executable: {type(subject).__name__}")
        raise CommandError(f"{module.__name__} {problem}; what can be drawn: {', '.join(found) or 'nothing'}")
    updates = getattr(module, "updates", None)
    if not updates:
        return subject
    if name == "updates":
        subject = []
    pairs = list(updates.items()) if isinstance(updates, dict) else list(updates)
    outputs = [subject] if isinstance(subject, Tensor) else list(
        subject.values() if isinstance(subject, dict) else subject)
    inputs = [node for node in toposort([*outputs, *(value for _, value in pairs if isinstance(value, Tensor))])
              if node.op.name == "placeholder"]
    return compile_only(inputs, subject, updates=updates)


def _is_graph(value: Any) -> bool:
    from .tensor import Tensor

    if isinstance(value, list | tuple | dict):
        members = list(value.values()) if isinstance(value, dict) else list(value)
        return bool(members) and all(isinstance(each, Tensor) for each in members)
    return isinstance(value, Tensor)


# staticgraph cache


def _cache(options: argparse.Namespace) -> int:
    from .runtime import cache

    before = cache.info()
    if options.action == "clear":
        removed = cache.clear()
        print(f"removed {removed} {'entry' if removed == 1 else 'entries'} from {before.folder}")
        return 0
    print(f"folder   {before.folder or 'none'}")
    print(f"entries  {before.entries}")
    print(f"bytes    {before.nbytes:,}")
    if before.remark:
        print(f"remark   {before.remark}")
    return 0
