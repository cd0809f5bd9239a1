"""``staticgraph dump``: a folder with everything that the compiler made of a model, and a README that says what it is.

The folder appears under its name only when it is complete. One that exists is replaced only if it is a dump, and only
when that was asked for; whatever stands in it then is gone.
"""

from __future__ import annotations

import argparse
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .models import CommandError, Model, find_model

HELP = """\
Write what the compiler did with a model into a folder, to be read.

  staticgraph dump model.py:step -o dump
  staticgraph dump model.py:step -o dump --force          once more
  staticgraph dump model.py:step -o dump --device cuda    kernels for a GPU; needs neither a GPU nor a driver

The folder's README.md says what each file is: the graph as it was built and after each pass, the schedule, kernel IR
and sources, the program with its buffers, a picture."""

MARK = "<!-- made by staticgraph dump -->"
DEVICES = ("cpu", "cuda")


def add_parser(commands: Any) -> None:
    """The command's options."""
    parser = commands.add_parser("dump", help="write what the compiler did with a model", description=HELP,
                                 formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("model", metavar="MODEL", help="path/to/model.py:name")
    add("-o", "--output", metavar="FOLDER", required=True, help="the folder to make")
    add("--force", action="store_true", help="replace a dump that is there")
    add("--device", choices=DEVICES, default="cpu", help="what to compile for (default: cpu)")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    target = Path(options.output)
    _check_target(target, options.force)
    model = find_model(options.model)
    if not model.is_known:
        raise CommandError(f"the graph of '{model.name}' is not known: it was not made by sg.compile")
    folder = Path(tempfile.mkdtemp(prefix=f".{target.name[:40]}-", dir=target.absolute().parent))
    try:
        _fill(folder, model, options)
        _put(folder, target)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print(f"wrote {target}: start with {target / 'README.md'}")
    return 0


def _check_target(target: Path, force: bool) -> None:
    if not target.absolute().parent.is_dir():
        raise CommandError(f"cannot write '{target}': there is no folder '{target.parent}'")
    if not os.path.lexists(target):
        return
    if target.is_symlink() or not _is_dump(target):
        raise CommandError(f"'{target}' exists and is no dump: choose another name")
    if not force:
        raise CommandError(f"'{target}' exists: --force replaces it")


def _is_dump(folder: Path) -> bool:
    try:
        return MARK in (folder / "README.md").read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return False


def _put(folder: Path, target: Path) -> None:
    """Give the folder its name; an older dump steps aside first, and comes back if that fails."""
    folder.chmod(0o777 & ~_umask())
    if not target.exists():
        os.rename(folder, target)
        return
    aside = Path(tempfile.mkdtemp(prefix=f".{target.name[:40]}-", dir=target.absolute().parent))
    os.rename(target, aside / "old")
    try:
        os.rename(folder, target)
    except OSError:
        os.rename(aside / "old", target)
        raise
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _fill(folder: Path, model: Model, options: argparse.Namespace) -> None:
    """All files. The compiler's own are those of STATICGRAPH_DUMP."""
    from ..api import compile_only, flatten_outputs
    from ..formatting import format_graph
    from ..runtime.report import source
    from ..viz.export import export

    passes = folder / "passes"
    with _compiler_writes_to(passes):
        compilation = compile_only(model.inputs, model.outputs, updates=model.updates, device=options.device,
                                   options=model.options)
    program = compilation.program
    assert program is not None
    kernels = folder / "kernels"
    kernels.mkdir()
    for path in sorted(passes.glob("k_*.py")):
        path.rename(kernels / path.name)
    files = {"graph.txt": format_graph([*flatten_outputs(model.outputs)[0], *model.updates.values()]),
             "source.py": source(program), "README.md": _readme(model, compilation, options)}
    if options.device == "cpu":
        files["explain.txt"] = model.compile().explain(verbose=True)
    for name, text in files.items():
        (folder / name).write_text(text.rstrip("\n") + "\n", encoding="utf-8")
    export(compilation, folder / "graph.svg")
    export(compilation, folder / "graph.json")


@contextmanager
def _compiler_writes_to(folder: Path) -> Iterator[None]:
    before = os.environ.get("STATICGRAPH_DUMP")
    os.environ["STATICGRAPH_DUMP"] = str(folder)
    try:
        yield
    finally:
        if before is None:
            del os.environ["STATICGRAPH_DUMP"]
        else:
            os.environ["STATICGRAPH_DUMP"] = before


def _readme(model: Model, compilation: Any, options: argparse.Namespace) -> str:
    from . import version

    program = compilation.program
    rows = "\n".join(f"| {each.name} | {each.nodes_before} | {each.nodes_after} | {each.seconds * 1e3:.1f} |"
                     for each in compilation.records)
    kernels = "\n".join(f"| `kernels/k_{kernel.key[:16]}_{kernel.name}.py` | "
                        f"{', '.join(str(number) for number, step in enumerate(program.steps) if step.kernel == at)} | "
                        f"{', '.join(_lines(program, at))} |" for at, kernel in enumerate(program.kernels))
    explain = "\n| `explain.txt` | what was compiled, which buffers there are, and what memory is needed |" * (
        options.device == "cpu")
    return f"""{MARK}
# {model.name}, compiled for {options.device}

Made by staticgraph {version()} from `{options.model}`.
Inputs: {len(program.inputs)}, outputs: {len(program.outputs)}, variables: {len(program.variables)}; steps:
{len(program.steps)}, kernels: {len(program.kernels)}. Bytes of intermediate results: `{program.arena_bytes}`.

| file | what it is |
|---|---|
| `graph.txt` | the graph as it was built, with the lines that it came from |
| `passes/NN_name.txt` | the graph after each pass, and which rules were applied where |
| `passes/schedule.txt` | which nodes became which kernel |
| `passes/kernels.ir.txt` | the kernels in the compiler's own language |
| `kernels/` | the kernels as Numba source, named by the hash of their text |
| `source.py` | all of them in one file, each below the lines of yours that it computes |
| `passes/program.txt` | the steps in order, the buffers and their places |
| `graph.svg`, `graph.json` | a picture of the graph with its fused kernels, and the same as data |{explain}

## Passes

| pass | nodes before | after | ms |
|---|---|---|---|
{rows}

After `fuse` these are steps, after `lower` kernels.

## Kernels

| file | steps | lines |
|---|---|---|
{kernels}
"""


def _lines(program: Any, kernel: int) -> list[str]:
    """The user's lines that a kernel computes, wherever it is used."""
    return list(dict.fromkeys(line for step in program.steps if step.kernel == kernel
                              for line in program.notes[step.note].lines))
