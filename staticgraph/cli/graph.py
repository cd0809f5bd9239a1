"""``staticgraph graph``: the graph of a model into files, or as text to the terminal."""

from __future__ import annotations

import argparse
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ..errors import MissingPackageError
from .models import CommandError, find_model
from .progress import working

STAGES = ("tensor", "primitive", "fused", "program")
SUFFIXES = (".svg", ".png", ".txt", ".dot", ".mmd", ".json", ".graphml", ".html")
BINARY = (".png",)
"""Formats that are not for a terminal."""

HELP = """\
Draw what a Python file builds, and what the compiler makes of it.

  staticgraph graph model.py:loss -o loss.svg                 a picture, with the fused kernels
  staticgraph graph model.py:step -o step.html                a page to explore: stages, kernels, history
  staticgraph graph model.py:loss -o built.svg --stage tensor the graph as it was built
  staticgraph graph model.py:step -o step.svg -o step.json    several files at once
  staticgraph graph model.py:step -o run.svg --stage program  steps, buffers and how long they live
  staticgraph graph a.py:step --diff b.py:step -o diff.html what differs between the two
  staticgraph graph model.py:step -o -                        a table in the terminal

MODEL is path/to/model.py:name. The file is run as if imported, so what stands below
`if __name__ == "__main__":` is not. `name` is what the file calls
  a tensor       or a list, tuple or dict of tensors; if the file also has `updates`
                 ({variable: new value}), both are drawn: the whole training step
  an executable  what sg.compile returned

The suffix of FILE is the format:
  .svg .png        a picture; .png needs: pip install "staticgraph[viz]"
  .html            a page to explore
  .dot .mmd        the picture for Graphviz, for Mermaid
  .json .graphml   data for other programs; networkx reads both
  .txt             a table

Stages: tensor (the graph as it was built), primitive (after all passes), fused (the same, with the
kernel that computes each node), program (the steps that are run, and the buffers between them)."""


def add_parser(commands: Any) -> None:
    """The command's options."""
    parser = commands.add_parser("graph", help="draw the graph of a model", description=HELP,
                                 formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("model", metavar="MODEL", help="path/to/model.py:name")
    add("-o", "--output", metavar="FILE", required=True, action="append",
        help="the file to write, - for the terminal; may be repeated")
    add("--stage", choices=STAGES, default="fused", help="what is shown (default: fused)")
    add("--format", choices=[suffix[1:] for suffix in SUFFIXES if suffix not in BINARY], metavar="FORMAT",
        help="the format of -o - (default: txt)")
    add("--theme", choices=("auto", "light", "dark"), default="auto",
        help="colours of pictures (default: auto, which follows the reader's setting)")
    add("--diff", metavar="MODEL", help="what differs between the two models; FILE is an .html")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    for output in options.output:
        _check(output)
    if options.format and "-" not in options.output:
        raise CommandError("--format is the format of -o -; of a file, its suffix is")
    from ..viz import export, export_diff, to_html
    from ..viz.export import rendered, write_whole

    if options.diff:
        _check_diff(options)
        both = _subject(options.model), _subject(options.diff)
        for output in options.output:
            export_diff(*both, output, names=(_title(options.model), _title(options.diff)), theme=options.theme)
        return 0
    subject = _subject(options.model)
    for output in options.output:
        if output == "-":
            text = rendered(subject, f".{options.format or 'txt'}", options.stage, options.theme, "write: the format")
            assert isinstance(text, str)
            _print(text)
            continue
        with working(f"drawing {output}"):
            if Path(output).suffix.lower() == ".html":
                page = to_html(subject, options.stage, theme=options.theme, title=_title(options.model))
                write_whole(Path(output), page)
            else:
                export(subject, output, options.stage, theme=options.theme)
    return 0


def _title(model: str) -> str:
    """What a page calls a model: its file without the folders, and its name."""
    return model.replace("\\", "/").rpartition("/")[2]


def _print(text: str) -> None:
    """What the terminal's encoding does not have is shown as a question mark."""
    encoding = sys.stdout.encoding or "utf-8"
    sys.stdout.write(text.encode(encoding, "replace").decode(encoding))


def _check(output: str) -> None:
    """What can be known before the model is run."""
    if output == "-":
        return
    path = Path(output)
    if path.suffix.lower() not in SUFFIXES:
        raise CommandError(f"cannot write '{path}': its suffix is not one of {', '.join(SUFFIXES)}")
    if not path.absolute().parent.is_dir():
        raise CommandError(f"cannot write '{path}': there is no folder '{path.parent}'")
    if path.suffix.lower() == ".png" and find_spec("matplotlib") is None:     # before other files are written
        raise MissingPackageError('PNG needs matplotlib: pip install "staticgraph[viz]"')


def _check_diff(options: argparse.Namespace) -> None:
    for output in options.output:
        if Path(output).suffix.lower() != ".html":
            raise CommandError(f"cannot write '{output}': --diff makes an .html")


def _subject(text: str) -> Any:
    """What is drawn: the executable, the tensors, or the compiled training step."""
    from ..api import compile_only

    model = find_model(text)
    if model.executable is not None:
        return model.executable
    if model.updates:
        with working(f"compiling {model.name}"):
            return compile_only(model.inputs, model.outputs, updates=model.updates, options=model.options)
    return model.outputs
