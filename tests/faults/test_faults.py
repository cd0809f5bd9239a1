"""Injected faults: small scripts with one mistake each, and whether the error names exactly the line of it.

The scripts are in the text files beside this one. A case begins with

    ## title | error class | what the message says

and its lines become a file of their own. `# HERE` marks a line that the message has to name with file and number; of
`# CALL` the innermost frame of the user's in the traceback has to be that line. What a script gives to `run(outputs,
feed, updates)` is run by the interpreter, compiled, and compiled once more, when its program comes from the cache; an
option that only compiled programs have is given by name, and then the interpreter is left out.
"""

from __future__ import annotations

import re
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

import staticgraph as sg

FOLDER = Path(__file__).parent
MODES = ("interpreted", "compiled", "recalled")


class Fault(NamedTuple):
    file: str
    title: str
    error: str
    says: str
    script: str

    def marked(self, mark: str) -> list[int]:
        return [number for number, line in enumerate(self.script.splitlines(), 1) if line.rstrip().endswith(mark)]

    @property
    def modes(self) -> tuple[str, ...]:
        if "run(" not in self.script:
            return ("",)
        return MODES[1:] if "options=" in self.script else MODES


def faults() -> Iterator[Fault]:
    for path in sorted(FOLDER.glob("*.txt")):
        for number, part in enumerate(path.read_text(encoding="utf-8").split("\n## ")[1:]):
            head, script = part.split("\n", 1)
            title, error, says = (each.strip() for each in head.split("|"))
            yield Fault(f"{path.stem}_{number}", title, error, says, script.strip("\n") + "\n")


FAULTS = list(faults())


class Unlike(Exception):
    """The script's own complaint: something has changed that a failing call must leave alone."""


def runner(mode: str) -> Any:
    def run(outputs: Any, feed: dict[Any, Any], updates: Any = None, **options: Any) -> None:
        """Runs it, and sees to it that a failing call leaves all variables as they were."""
        before = {variable: variable.value for variable in updates or {}}
        try:
            if mode == "interpreted":
                sg.evaluate([outputs, *(updates or {}).values()], feed)
            else:
                if mode == "recalled":
                    sg.compile(list(feed), outputs, updates=updates, **options)
                step = sg.compile(list(feed), outputs, updates=updates, **options)
                if mode == "recalled" and "own" not in step.account and "from the cache" not in step.account:
                    raise Unlike(step.account)
                step(*feed.values())
        finally:
            for variable, value in before.items():
                if variable.value.tobytes() != value.tobytes():
                    raise Unlike(f"{variable} has changed")

    return run


def complaint(fault: Fault, mode: str, folder: Path) -> str:
    """What is wrong with the error of a fault; nothing where it is as it should be."""
    path = folder / f"{fault.file}.py"
    path.write_text(fault.script, encoding="utf-8")
    names = {"sg": sg, "np": np, "run": runner(mode), "__name__": "script", "folder": folder}
    try:
        exec(compile(fault.script, str(path), "exec"), names)
    except Exception as error:
        said = f"{type(error).__name__}: {error}"
        if type(error).__name__ != fault.error or not isinstance(error, sg.StaticGraphError):
            return f"another error\n{said}"
        missing = [line for line in fault.marked("# HERE")
                   if not re.search(rf"{re.escape(path.name)}:{line}(?!\d)", str(error))]
        if missing or fault.says not in str(error):
            return f"without line {missing} or '{fault.says}'\n{said}"
        frames = [each.lineno for each in traceback.extract_tb(error.__traceback__) if each.filename == str(path)]
        if fault.marked("# CALL") and frames[-1:] != fault.marked("# CALL"):
            return f"raised at line {frames[-1:]}\n{said}"
        return ""
    return "no error"


def test_faults_are_told_apart() -> None:
    titles = [fault.title for fault in FAULTS]
    assert len(titles) >= 200 and len(set(titles)) == len(titles)
    assert all(fault.marked("# HERE") or fault.marked("# CALL") for fault in FAULTS)


def test_errors_name_the_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("STATICGRAPH_VERIFY", raising=False)     # a program from the cache is what is to be looked at
    tried, wrong = 0, []
    for fault in FAULTS:
        for mode in fault.modes:
            tried += 1
            problem = complaint(fault, mode, tmp_path)
            if problem:
                wrong.append(f"{fault.file}: {fault.title} ({mode or 'as it is'}): {problem}")
    print(f"{tried - len(wrong)} of {tried} errors are as they should be", *wrong, sep="\n\n")
    assert not wrong, "\n\n".join(wrong)


@pytest.mark.parametrize("name", ["{value}{size}", "it's \"a\" <b> & {0} %s", "ümläut\u202e"])
def test_files_may_be_called_anything(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("STATICGRAPH_VERIFY", raising=False)
    titles = ("labels of a cross entropy", "logarithm of a negative number", "an assertion about an index",
              "symbolic sizes that differ at the call", "a missing input")
    for fault in FAULTS:
        if fault.title in titles:
            for mode in fault.modes:
                assert complaint(fault._replace(file=name), mode, tmp_path) == ""
