"""The dump of a program: scripts and their data, a README, and what others have to say about the program."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from staticgraph.compiler.program import Program
from staticgraph.errors import ArgumentError

from ..convert import Array
from ..report import source
from .folder import MARK, check, making
from .formulas import comment
from .kernel_files import header, kernel_file_name, kernel_script
from .made_up import made_up
from .main_file import arrays_by_number, main_script
from .record import Recording

Companion = Callable[[Path], Mapping[str, str]]
"""Writes more files into a dump; gives what each of them is."""


def dump_executable(executable: Any, place: object, args: tuple[Any, ...], kwargs: dict[str, Any],
                    overwrite: bool) -> None:
    """Record a call of an executable and write it all down."""
    if not isinstance(place, str | os.PathLike):
        raise ArgumentError(f"dump: the path comes first, dump(folder, *inputs); got {type(place).__name__}")
    target = Path(place)
    check(target, overwrite)
    program = executable.program
    if not args and not kwargs:
        args = tuple(made_up(program))
    recording = executable.record(args, kwargs)

    def companion(folder: Path) -> dict[str, str]:
        _write(folder / "explain.txt", executable.explain(verbose=True) + "\n")
        rows = {"explain.txt": "what was rewritten, fused and not fused and why; kernels, steps, buffers, memory"}
        return rows if executable.definition is None else {**rows, **executable.definition.write(folder)}

    write_dump(program, target, recording, companion, overwrite)


def write_dump(program: Program, target: Path, recording: Recording | None, companion: Companion | None,
               overwrite: bool) -> None:
    """Write the folder. Without a recording (programs for a GPU) there are the kernels' texts and no scripts."""
    with making(target, overwrite) as folder:
        (folder / "kernels").mkdir()
        for number, kernel in enumerate(program.kernels):
            path = folder / "kernels" / kernel_file_name(program, number)
            if recording is None:
                _write(path.with_suffix(".py"), "\n".join(header(program, number, None, _version())) + kernel.text)
                continue
            text, arrays = kernel_script(program, number, recording, _version())
            _write(path.with_suffix(".py"), text)
            _save(path.with_suffix(".npz"), arrays)
        if recording is not None:
            _write(folder / "main.py", main_script(program, _version()))
            for name, values in (("inputs", recording.inputs), ("state", recording.state),
                                 ("constants", program.constants), ("outputs", recording.outputs),
                                 ("new_state", recording.new_state)):
                _save(folder / f"{name}.npz", arrays_by_number(values))
        _write(folder / "source.py", f"{_READ_ONLY}\n\n{source(program)}")
        rows = companion(folder) if companion is not None else {}
        _write(folder / "README.md", _readme(program, target.name, recording, rows))


def _write(path: Path, text: str) -> None:
    with open(path, "w", encoding="utf-8", errors="backslashreplace", newline="\n") as file:
        file.write(text)


def _save(path: Path, arrays: Mapping[str, Array]) -> None:
    np.savez(path, **arrays)     # type: ignore[arg-type]


def _version() -> str:
    try:
        return metadata.version("staticgraph")
    except metadata.PackageNotFoundError:
        return "(a checkout)"


def _readme(program: Program, title: str, recording: Recording | None, rows: Mapping[str, str]) -> str:
    run = _RUNS if recording is not None else _NO_RUNS
    sizes = ", ".join(f"{comment(name)} = {size}" for name, size in recording.sizes.items()) if recording else ""
    described = {**(_FILES if recording else {}), **_SOURCE, **rows}
    files = "\n".join(f"| `{name}` | {what} |" for name, what in described.items())
    kernels = "\n".join(_kernel_row(program, number) for number in range(len(program.kernels)))
    return f"""{MARK}
# {_cell(title)}, compiled for {program.device}

Made by staticgraph {_version()}. Inputs: {len(program.inputs)}, outputs: {len(program.outputs)}, variables:
{len(program.variables)}; steps: {len(program.steps)}, kernels: {len(program.kernels)}. Bytes of intermediate results:
{_cell(str(program.arena_bytes))}.{f" Recorded with {_cell(sizes)}." if sizes else ""}

{run}
| file | what it is |
|---|---|
{files}

## Kernels

| file | steps | lines |
|---|---|---|
{kernels}
"""


def _kernel_row(program: Program, number: int) -> str:
    steps = [(position, step) for position, step in enumerate(program.steps) if step.kernel == number]
    lines = dict.fromkeys(line for _, step in steps for line in program.notes[step.note].lines)
    return (f"| `kernels/{kernel_file_name(program, number)}.py` | "
            f"{', '.join(str(position) for position, _ in steps)} | {', '.join(map(_cell, lines))} |")


def _cell(text: str) -> str:
    """Text of a user's in Markdown: nothing of it is markup. Code, which can be read as it stands, where that holds
    it."""
    if "`" not in text and "|" not in text and text == comment(text).strip() and text:
        return f"`{text}`"
    return "".join(f"&#{ord(each)};" if each in "\\`*_{}[]<>()#+!|~&$" else each for each in comment(text))


_READ_ONLY = "# To be read: this file imports from staticgraph. The scripts in kernels/ run without."

_RUNS = """These scripts run without staticgraph, with NumPy and Numba alone:

    python -I main.py               the whole program: results and new state against the recorded ones, and its time
    python -I kernels/00_....py     one kernel: the same, for each step that uses it

A script ends with 0 if all bits are those that were recorded, and with 1 if any is not; it says by how much results
differ. Another kind of CPU may add up sums in another order, and so may Numba's own passes, which compile a kernel's
script that is given `--numba`. `main.py` is also a module: `run(...)` calls the program, with inputs of any fitting
sizes, and keeps its state; `state()` gives that.
"""

_NO_RUNS = """The kernels are for a GPU. Their texts are written in staticgraph's kernel language for CUDA, whose loops
are unrolled before Numba sees them: they need staticgraph and numba-cuda to be compiled, and there is no main.py.
"""

_SOURCE = {"source.py": "to be read: the texts of all kernels in one file, each below its lines of yours"}

_FILES = {
    "main.py": "the whole program as a script and a module",
    "kernels/*.py": "each kernel as a script: its text, the functions it uses, a check and a timing",
    "kernels/*.npz": "what the kernel found in memory in a call of the program, and what it left",
    "inputs.npz, state.npz, constants.npz": "what the recorded call was given, in order",
    "outputs.npz, new_state.npz": "what came out of it",
}
