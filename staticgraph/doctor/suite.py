"""Tests of the checkout on a device: pytest in several processes, with the plugin `tests.cuda.on_device`.

A kernel that faults takes its process's context with it, and may take the process. The plugin notes each test as it
starts and ends, so another process goes on after the one that was lost; that test counts as failed.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from .facts import checkout

NO_TESTS = 5
"""pytest's exit code where it found none."""

MOST_RESTARTS = 20


@dataclass(frozen=True)
class Selection:
    """Files or tests, and options of pytest."""

    tests: tuple[str, ...]
    options: tuple[str, ...] = ()


ONLY_ON_CPU = ("tests/compiler/test_random.py::test_a_sample_is_part_of_the_kernel_that_uses_it",)
"""Tests that look at the text of kernels for the CPU."""

SUITE = Selection(
    ("tests/test_random_graphs.py",     # first: its three tests take longer than any other
     "tests/compiler/test_ops.py", "tests/compiler/test_updates.py", "tests/compiler/test_formulas.py",
     "tests/compiler/test_adversarial.py", "tests/compiler/test_column_sums.py", "tests/compiler/test_random.py",
     "tests/test_random.py", "tests/test_contract.py", "tests/nn", "tests/optim",
     "tests/seeds"),
    tuple(f"--deselect={name}" for name in ONLY_ON_CPU))

INTERPRETER = Selection(("tests/cuda/device_checks.py",))

PRODUCTS = Selection(("tests/cuda/device_products.py",))

REHEARSED_PRODUCTS = Selection(PRODUCTS.tests, ("-k", "test_nan_stays_nan and relu and not bias"))
REHEARSED_SUITE = Selection(("tests/compiler/test_updates.py",), ("-k", "swap or failed_call",))
REHEARSED_INTERPRETER = Selection(("tests/cuda/device_checks.py",),
                                  ("-k", "handmade_kernels or exchange or (TestRows and test_lengths and 33)"))


@dataclass
class Outcome:
    """What became of the tests. `failures` and `skipped` hold test and text; `unfinished` says what was not run."""

    passed: int = 0
    failures: list[dict[str, str]] = field(default_factory=list)
    skipped: list[dict[str, str]] = field(default_factory=list)
    unfinished: str = ""

    def text(self) -> str:
        parts = [f"{self.passed} passed", f"{len(self.failures)} failed"]
        if self.skipped:
            parts.append(f"{len(self.skipped)} skipped")
        if self.unfinished:
            parts.append(self.unfinished)
        return ", ".join(parts)


class Share:
    """One process after the other for a share of the tests."""

    def __init__(self, command: list[str], environment: Mapping[str, str], stem: Path) -> None:
        self.notes, self.log = stem.with_suffix(".jsonl"), stem.with_suffix(".txt")
        self._command = command
        self._environment = {**environment, "GPU_CHECK_NOTES": str(self.notes)}
        self._restarts = 0
        self.trouble = ""
        self._process = self._start()

    def _start(self) -> subprocess.Popen[bytes]:
        with self.log.open("ab") as log:
            return subprocess.Popen(self._command, env=self._environment, cwd=checkout(), stdout=log,
                                    stderr=subprocess.STDOUT)

    def done(self) -> bool:
        """Look after it: whether all is run. A process that was lost is followed by another."""
        code = self._process.poll()
        if code is None:
            return False
        if code in (0, 1, NO_TESTS):     # all passed, some failed, none left
            return True
        if code in (2, 3, 4) and not self._began():
            self.trouble = f"pytest ended with code {code}: {self._last_line()}"
            return True
        self._restarts += 1
        if self._restarts > MOST_RESTARTS:
            self.trouble = f"given up after {MOST_RESTARTS} lost processes"
            return True
        self._process = self._start()
        return False

    def _began(self) -> bool:
        return self.notes.exists() and self.notes.stat().st_size > 0

    def _last_line(self) -> str:
        lines = self.log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        return lines[-1][:300] if lines else "no output"

    def stop(self) -> None:
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()

    def read(self) -> Iterator[dict[str, str]]:
        """The notes so far. A line may be half written."""
        if self.notes.exists():
            for line in self.notes.read_text(encoding="utf-8").splitlines():
                try:
                    yield json.loads(line)
                except ValueError:
                    continue


def run(selection: Selection, processes: int, limit: float, environment: Mapping[str, str], folder: Path,
        tell: Callable[[str], None]) -> Outcome:
    """Run the tests, at most `limit` seconds."""
    folder.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "tests.cuda.on_device", "-p", "no:cacheprovider",
               "-p", "no:xdist", "-o", "addopts=", "--import-mode=importlib", "--tb=short",
               "--continue-on-collection-errors", *selection.options,
               *selection.tests]
    shares = [Share([*command, f"--basetemp={folder / f'tmp{number}'}"],
                    {**environment, "GPU_CHECK_SHARE": f"{number}/{processes}"}, folder / f"share{number}")
              for number in range(processes)]
    deadline, told = time.time() + limit, time.time()
    pending = list(shares)
    try:
        while pending and time.time() < deadline:
            pending = [share for share in pending if not share.done()]
            if time.time() > told + 15:
                told = time.time()
                tell(f"  {summed(shares).text()} so far")
            time.sleep(0.1)
    finally:
        for share in shares:
            share.stop()
    outcome = summed(shares)
    if pending:
        outcome.unfinished = f"not finished in {limit:.0f} s"
    return outcome


def summed(shares: list[Share]) -> Outcome:
    """All that the notes say. Who started and never ended has died with its process."""
    outcome = Outcome()
    for share in shares:
        last: dict[str, dict[str, str]] = {}
        for note in share.read():
            before = last.get(note["test"])
            if before is None or before["outcome"] != "failed":     # a failure of the teardown or the call stays one
                last[note["test"]] = note
        running = share._process.poll() is None
        for note in last.values():
            if note["outcome"] == "passed":
                outcome.passed += 1
            elif note["outcome"] == "skipped":
                outcome.skipped.append({"test": note["test"], "text": note["text"]})
            elif note["outcome"] == "failed":
                outcome.failures.append({"test": note["test"], "text": note["text"]})
            elif not running:
                outcome.failures.append({"test": note["test"], "text": "its process died, or was stopped"})
        if share.trouble:
            outcome.failures.append({"test": "pytest", "text": share.trouble})
    return outcome
