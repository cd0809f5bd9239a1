"""``staticgraph doctor --gpu-check``: the one command that decides everything on a machine with a GPU.

It runs its stages one after the other, each in processes of its own, so that a kernel which takes its process with it
ends nothing else. Every stage has a share of the time; what it has not done by then is told and counts as a failure.
Nothing needs the network. The stages that compare with the oracle and with the interpreter are tests of the checkout.

With `rehearse` the simulated driver of the tests takes the place of the GPU, and sizes are tiny: for trying the check
itself where there is no GPU. Its times mean nothing.
"""

from __future__ import annotations

import datetime
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from . import suite
from .facts import checkout, collect
from .programs import PROGRAMS
from .table import bench_table
from .text import problems

TOTAL = 570.0
"""Seconds for everything."""

SHARES = {"suite": 140.0, "interpreter": 70.0, "products": 30.0, "examples": 30.0, "determinism": 30.0,
          "sanitizer": 60.0, "benchmark": 210.0}
"""Seconds of it that are kept for each stage, in order; what one leaves the next may use."""

MOST_PROCESSES = 12
"""Each of them has a context on the GPU, which takes half a gigabyte."""

SANITIZER_TOOLS = ("memcheck", "racecheck", "synccheck", "initcheck")
SANITIZER_FOUND = 66
"""The exit code by which compute-sanitizer tells that it has found something."""

TIMED_OUT = 124
"""The exit code of what took too long."""


@dataclass
class Verdict:
    """What a stage found. status: "passed" | "failed" | "skipped"; `text` says it in a line."""

    stage: str
    status: str
    text: str
    seconds: float = 0.0
    details: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Check:
    """How the check runs. `deadline` is when all of it must be done; `only` are the stages wanted."""

    quick: bool = False
    rehearse: bool = False
    only: tuple[str, ...] = ()
    folder: Path = Path()
    deadline: float = 0.0

    def limit(self, stage: str) -> float:
        """Seconds that the stage may take: all that is left but what later ones need."""
        order = [each for each in SHARES if not self.only or each in self.only]
        later = sum(SHARES[each] for each in order[order.index(stage) + 1:])
        return max(1.0, self.deadline - time.time() - later)

    def environment(self) -> dict[str, str]:
        """Of each child: a cache that starts empty, our packages first, no settings that change what is run."""
        root = checkout()
        kept = {name: value for name, value in os.environ.items()
                if name not in ("STATICGRAPH_DEBUG", "STATICGRAPH_DUMP", "STATICGRAPH_CUDA_BLOCKING",
                                "STATICGRAPH_CACHE", "PYTEST_ADDOPTS")}
        path = [str(root), *filter(None, [kept.get("PYTHONPATH")])]
        return {**kept, "PYTHONPATH": os.pathsep.join(path), "PYTHONUNBUFFERED": "1",
                "STATICGRAPH_CACHE_DIR": str(self.folder / "cache"), "GPU_CHECK_REHEARSE": str(int(self.rehearse))}

    def command(self, module: str, *arguments: str) -> list[str]:
        """Python that runs a module or a file of ours with device="cuda" as the default."""
        return [sys.executable, "-m", "tests.cuda.on_device", module, *arguments]


def run(quick: bool = False, rehearse: bool = False, only: Sequence[str] = (),
        tell: Callable[[str], None] = print) -> dict[str, Any]:
    """Run the stages; what they found, ready for JSON. `passed` says whether all is well."""
    begun = time.time()
    date = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    record: dict[str, Any] = {"kind": "gpu-check", "date": date, "quick": quick, "rehearsal": rehearse}
    if rehearse:
        tell("REHEARSAL: the simulated driver of the tests, tiny sizes; nothing here says anything about a GPU\n")
    refusal = _refusal(rehearse, record, tell)
    if refusal:
        tell(refusal)
        return {**record, "passed": False, "stages": [], "refused": refusal}
    for each in record["facts"]["devices"].get("found", ())[:1]:
        tell(f"{each['name']}, driver for CUDA {record['facts']['driver']['cuda']}\n")
    verdicts = []
    with tempfile.TemporaryDirectory(prefix="staticgraph-gpu-check-") as name:
        check = Check(quick, rehearse, tuple(only), Path(name), begun + TOTAL)
        for stage, function in STAGES.items():
            if not only or stage in only:
                verdicts.append(_stage(stage, function, check, tell))
    record.update(stages=[asdict(each) for each in verdicts], seconds=time.time() - begun,
                  passed=all(each.status != "failed" for each in verdicts))
    tell(summary(verdicts, record["seconds"]))
    return record


def _refusal(rehearse: bool, record: dict[str, Any], tell: Callable[[str], None]) -> str:
    """Why the check cannot start, or nothing."""
    if checkout() is None:
        return ("The check needs the tests, which are not part of an installed package. Run it from a checkout:\n"
                "  git clone <the repository> && cd staticgraph && python -m staticgraph doctor --gpu-check")
    missing = [name for name in ("pytest", "hypothesis") if importlib.util.find_spec(name) is None]
    if missing:
        return f'The check needs {" and ".join(missing)}: pip install "staticgraph[test]"'
    record["facts"] = collect(try_out=not rehearse)
    if rehearse:
        return ""
    found = "\n".join(f"  {each}" for each in problems(record["facts"]))
    if not record["facts"]["devices"].get("found"):
        return f"There is no usable GPU:\n{found}"
    if found:
        tell(f"There are problems; the stages may tell more:\n{found}\n")
    return ""


def _stage(name: str, function: Callable[[Check, Callable[[str], None]], Verdict], check: Check,
           tell: Callable[[str], None]) -> Verdict:
    tell(f"[{name}] {(function.__doc__ or '').splitlines()[0]}")
    begun = time.time()
    try:
        verdict = function(check, tell)
    except Exception as error:     # a stage that breaks must not stop the others
        verdict = Verdict(name, "failed", f"broke off: {type(error).__name__}: {error}")
    verdict.seconds = time.time() - begun
    tell(f"[{name}] {verdict.status.upper()} in {verdict.seconds:.0f} s: {verdict.text}\n")
    return verdict


def summary(verdicts: Sequence[Verdict], seconds: float) -> str:
    lines = [f"{each.status:<8} {each.stage:<12} {each.text}" for each in verdicts]
    passed = all(each.status != "failed" for each in verdicts)
    return "\n".join(["Summary", *(f"  {line}" for line in lines),
                      f"{'ALL PASSED' if passed else 'SOMETHING FAILED'} in {seconds:.0f} s"])


# The stages.


def _suite(check: Check, tell: Callable[[str], None]) -> Verdict:
    """the op suite, updates, random graphs, layers and optimizers on the device, against the oracle"""
    return _tests("suite", suite.REHEARSED_SUITE if check.rehearse else suite.SUITE, check, tell)


def _interpreter(check: Check, tell: Callable[[str], None]) -> Verdict:
    """the kernels' PTX in the interpreter and on the device: the same bits"""
    return _tests("interpreter", suite.REHEARSED_INTERPRETER if check.rehearse else suite.INTERPRETER, check, tell)


def _products(check: Check, tell: Callable[[str], None]) -> Verdict:
    """matrix products by cuBLASLt where it is installed, of all strides and epilogues, against NumPy"""
    return _tests("products", suite.REHEARSED_PRODUCTS if check.rehearse else suite.PRODUCTS, check, tell)


def _tests(stage: str, selection: suite.Selection, check: Check, tell: Callable[[str], None]) -> Verdict:
    processes = 1 if check.rehearse else max(1, min(MOST_PROCESSES, 3 * (os.cpu_count() or 1) // 4))
    outcome = suite.run(selection, processes, check.limit(stage), check.environment(), check.folder / stage, tell)
    for failure in outcome.failures[:10]:
        lines = failure["text"].strip().splitlines()
        tell(f"  FAILED {failure['test']}\n    {lines[-1][:200] if lines else ''}")
    status = "failed" if outcome.failures or outcome.unfinished or not outcome.passed else "passed"
    return Verdict(stage, status, outcome.text(), details=asdict(outcome))


def _examples(check: Check, tell: Callable[[str], None]) -> Verdict:
    """the example programs on the device"""
    missing = [name for name, module in (("scikit-learn", "sklearn"), ("tqdm", "tqdm"))
               if importlib.util.find_spec(module) is None]
    if missing and not check.rehearse:
        return Verdict("examples", "skipped",
                       f'{" and ".join(missing)} not installed: pip install "staticgraph[examples]"')
    root = checkout()
    assert root is not None
    arguments = ["--device", "cuda", *(["--first-step"] if check.rehearse else
                                       ["--svg", str(check.folder / "digits.svg")])]
    done = _call(check, "examples", str(root / "examples" / "digits_mlp.py"), *arguments)
    lines = done.stdout.strip().splitlines()
    if done.returncode:
        return Verdict("examples", "failed", f"digits_mlp.py: {_last_line(done)}",
                       details={"output": done.stdout[-3000:]})
    said = next((line for line in reversed(lines) if line.startswith("accuracy")), lines[-1] if lines else "")
    return Verdict("examples", "passed", f"digits_mlp.py: {' '.join(said.split())}", details={"output": done.stdout})


def _determinism(check: Check, tell: Callable[[str], None]) -> Verdict:
    """ten runs, a second executable and launches without graphs: the same bits"""
    arguments = ["2", "small", "sums", "randomness"] if check.rehearse else ["10"]
    done = _call(check, "determinism", "staticgraph.doctor.programs", *arguments)
    failed = [line for line in done.stdout.splitlines() if line.startswith("FAILED")]
    ok = sum(line.startswith("ok ") for line in done.stdout.splitlines())
    wanted = 2 if check.rehearse else len(PROGRAMS)
    for line in failed:
        tell(f"  {line}")
    if done.returncode or ok != wanted:
        why = failed[0] if failed else _last_line(done)
        return Verdict("determinism", "failed", f"{ok} of {wanted} programs; {why}",
                       details={"output": done.stdout + done.stderr[-3000:]})
    return Verdict("determinism", "passed", f"{ok} programs have the same bits in every run and without graphs")


def find_sanitizer() -> str:
    """The program compute-sanitizer, or nothing."""
    places = [os.environ.get("CUDA_HOME", ""), os.environ.get("CUDA_PATH", ""), "/usr/local/cuda", "/opt/cuda"]
    path = os.pathsep.join([os.environ.get("PATH", ""), *(f"{place}/bin" for place in places if place)])
    return shutil.which("compute-sanitizer", path=path) or ""


def _sanitizer(check: Check, tell: Callable[[str], None]) -> Verdict:
    """compute-sanitizer: memory, races, barriers, uninitialised reads"""
    program = find_sanitizer()
    if not program:
        return Verdict("sanitizer", "skipped", "compute-sanitizer is not installed (it comes with the CUDA toolkit)")
    until = time.time() + check.limit("sanitizer")
    arguments = check.command("staticgraph.doctor.programs", "1", "small", *(["sums"] if check.rehearse else []))
    alone = _run(arguments, until - time.time(), check)     # fills the cache: under the tool, compiling takes too long
    if alone.returncode:
        return Verdict("sanitizer", "failed", f"the programs fail by themselves: {_last_line(alone)}")
    found, told = {}, []
    for number, tool in enumerate(SANITIZER_TOOLS):
        share = max(1.0, (until - time.time()) / (len(SANITIZER_TOOLS) - number))
        done = _run([program, "--tool", tool, "--error-exitcode", str(SANITIZER_FOUND), *arguments], share, check)
        found[tool] = _sanitized(done)
        told.append(f"{tool} {found[tool]}")
        tell(f"  {told[-1]}")
    status = ("failed" if any(each.startswith("found") for each in found.values()) else
              "passed" if "clean" in found.values() else "skipped")
    return Verdict("sanitizer", status, "; ".join(told), details=found)


def _sanitized(done: subprocess.CompletedProcess[str]) -> str:
    """A run under compute-sanitizer in a word or two. On some virtual machines it cannot work at all."""
    text = done.stdout + done.stderr
    if done.returncode == SANITIZER_FOUND:
        errors = [line.strip("= ") for line in text.splitlines() if line.startswith("=========") and line.strip("= ")]
        return f"found: {errors[1] if len(errors) > 1 else errors[-1] if errors else 'errors'}"
    if done.returncode == TIMED_OUT:
        return "did not finish in time"
    if done.returncode:
        return f"could not run: {_last_line(done)}"
    return "clean"


def _benchmark(check: Check, tell: Callable[[str], None]) -> Verdict:
    """times on the device, of data that is there, beside torch.compile, cupy and jax where installed"""
    from .contest import measure_all

    size = "tiny" if check.rehearse else "quick" if check.quick else "full"
    record = measure_all(size, check.limit("benchmark"), check.environment(), check.folder,
                         lambda module, *arguments: check.command(module, *arguments), tell)
    tell(bench_table(record))
    failed = record["failed"]
    cases = len(record["cases"])
    text = f"{cases - len(failed)} of {cases} cases measured"
    if failed:
        text += f"; not measured: {', '.join(f'{name} ({why})' for name, why in failed.items())}"
    goals = [each for each in record["cases"] if each.get("goal_met") is not None]
    if goals:
        text += f"; {sum(each['goal_met'] for each in goals)} of {len(goals)} goals reached"
    return Verdict("benchmark", "failed" if failed else "passed", text, details=record)


STAGES: dict[str, Callable[[Check, Callable[[str], None]], Verdict]] = {
    "suite": _suite, "interpreter": _interpreter, "products": _products, "examples": _examples,
    "determinism": _determinism, "sanitizer": _sanitizer, "benchmark": _benchmark}


def _call(check: Check, stage: str, module: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return _run(check.command(module, *arguments), check.limit(stage), check)


def _run(command: Sequence[str], limit: float, check: Check) -> subprocess.CompletedProcess[str]:
    """Run a command; with the exit code `TIMED_OUT` where it took too long."""
    try:
        return subprocess.run(command, env=check.environment(), cwd=checkout(), text=True, check=False,
                              capture_output=True, timeout=limit)
    except subprocess.TimeoutExpired as error:
        parts = [part.decode(errors="replace") if isinstance(part, bytes) else part or ""
                 for part in (error.stdout, error.stderr)]
        return subprocess.CompletedProcess(list(command), TIMED_OUT, parts[0],
                                           f"{parts[1]}\nstopped after {limit:.0f} s")


def _last_line(done: subprocess.CompletedProcess[str]) -> str:
    lines = re.sub(r"\x1b\[[0-9;]*m", "", done.stderr + done.stdout if done.stderr.strip() else done.stdout).strip()
    return f"exit code {done.returncode}: {lines.splitlines()[-1][:300] if lines else 'no output'}"
