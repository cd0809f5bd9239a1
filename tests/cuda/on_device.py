"""The suite on a device: what ``staticgraph doctor --gpu-check`` gives to pytest.

A plugin (``-p tests.cuda.on_device``): `sg.compile` means device="cuda" where the test does not name a device. Of the
tests collected it takes a share, leaves out those that an earlier process has run, and notes each outcome in a file, so
that a process that dies (a kernel that faults takes its whole context with it) is followed by one that goes on after
it. All of that is told through the environment:

    GPU_CHECK_NOTES     the file: a line of JSON for each test
    GPU_CHECK_SHARE     "1/4": every fourth test, from the second on
    GPU_CHECK_REHEARSE  "1": with the simulated driver instead of a GPU, for trying the check itself

A program (``python -m tests.cuda.on_device MODULE ARGUMENTS...``, or a path to a file): runs it so.
"""

from __future__ import annotations

import functools
import json
import os
import runpy
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

import staticgraph as sg
from staticgraph import api
from staticgraph.runtime.cuda.device import find_device
from staticgraph.runtime.cuda.driver import set_library

ON_CPU = api.compile
LOST = 77
"""The exit code of a process that has lost its device."""


def on_cuda(compile: Callable[..., Any]) -> Callable[..., Any]:
    """The same with another default."""
    @functools.wraps(compile)
    def compile_on_cuda(inputs: Any, outputs: Any = (), *, updates: Any = None, device: str = "cuda",
                        options: Any = None) -> Any:
        return compile(inputs, outputs, updates=updates, device=device, options=options)

    return compile_on_cuda


def rehearse() -> None:
    """Put the simulated driver in the place of the real one."""
    from tests.cuda.fake_driver import FakeDriver

    set_library(FakeDriver())


def prepare() -> None:
    """Make the device the default of this process."""
    if os.environ.get("GPU_CHECK_REHEARSE") == "1":
        rehearse()
    sg.compile = api.compile = on_cuda(ON_CPU)


# As a plugin.


def pytest_configure(config: pytest.Config) -> None:
    prepare()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    number, _, count = os.environ.get("GPU_CHECK_SHARE", "0/1").partition("/")
    done = set(finished())
    items[:] = [item for place, item in enumerate(items)
                if place % int(count) == int(number) and item.nodeid not in done]


def notes() -> Path | None:
    name = os.environ.get("GPU_CHECK_NOTES")
    return Path(name) if name else None


def finished() -> list[str]:
    """The tests that the notes tell of."""
    path = notes()
    if path is None or not path.exists():
        return []
    return [json.loads(line)["test"] for line in path.read_text(encoding="utf-8").splitlines()]


def note(test: str, outcome: str, text: str = "") -> None:
    path = notes()
    if path is not None:
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"test": test, "outcome": outcome, "text": text}) + "\n")


def pytest_runtest_logstart(nodeid: str, location: Any) -> None:
    note(nodeid, "started")


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if report.skipped:
        text = report.longrepr[2] if isinstance(report.longrepr, tuple) else ""
        note(report.nodeid, "skipped", text)
    elif report.failed:
        note(report.nodeid, "failed", report.longreprtext[-3000:])
    elif report.when == "call":
        note(report.nodeid, "passed")


def pytest_collectreport(report: pytest.CollectReport) -> None:
    if report.skipped:
        note(report.nodeid, "skipped", report.longrepr[2] if isinstance(report.longrepr, tuple) else "")
    elif report.failed:
        note(report.nodeid, "failed", report.longreprtext[-3000:])


def pytest_runtest_logfinish(nodeid: str, location: Any) -> None:
    """A lost context cannot be had back in this process: let another one go on."""
    if find_device(0).lost:
        pytest.exit("the device is lost", LOST)


# As a program.


def main(argv: Sequence[str]) -> None:
    prepare()
    module, *arguments = argv
    sys.argv = [module, *arguments]
    if module.endswith(".py"):
        sys.path.insert(0, str(Path(module).resolve().parent))
        runpy.run_path(module, run_name="__main__")
    else:
        runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main(sys.argv[1:])
