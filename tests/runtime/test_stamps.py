"""Stamps: the clock of any machine ticks, and a stamped kernel does what the kernel does."""

from __future__ import annotations

import ctypes
import subprocess
import sys
import time

import pytest

from staticgraph.runtime.cpu.loader import link_cached
from staticgraph.runtime.cpu.objects import linker
from staticgraph.runtime.cpu.translate import Compiled
from staticgraph.runtime.stamps import COUNTERS, NOW, Scale, assembly, load_now, look, stamp_seconds


def test_the_clock_keeps_time() -> None:
    now = load_now()
    first = look(time.perf_counter, now)
    time.sleep(0.02)
    middle = look(time.perf_counter, now)
    time.sleep(0.02)
    last = look(time.perf_counter, now)
    scale = Scale.between(first, last)
    assert scale.seconds(middle.ticks) == pytest.approx(middle.seconds, abs=1e-3)


def test_the_systems_clock_serves_where_the_processors_is_not_known() -> None:
    text = assembly("an unknown machine")
    assert "clock_gettime" in text and COUNTERS["aarch64"].strip() in assembly("arm64")
    assert "readcyclecounter" in assembly("AMD64")
    code = link_cached(NOW, text, lambda key: Compiled(linker().assemble(text), NOW))
    now = ctypes.CFUNCTYPE(ctypes.c_int64)(code.address)
    start = now()
    time.sleep(0.01)
    assert 0.005e9 < now() - start < 5e9


CROSS = """
import sys
import llvmlite.binding as llvm
from staticgraph.runtime.stamps import assembly
llvm.initialize_all_targets()
llvm.initialize_all_asmprinters()
try:
    target = llvm.Target.from_triple(sys.argv[1])
except RuntimeError:
    sys.exit("no such target")
module = llvm.parse_assembly(assembly(sys.argv[2]))
module.triple = sys.argv[1]
module.verify()
machine = target.create_target_machine(opt=2)
assert machine.emit_object(module)
print(machine.emit_assembly(module).lower())
"""


@pytest.mark.parametrize(("triple", "machine", "instruction"), [
    ("aarch64-unknown-linux-gnu", "aarch64", "cntvct_el0"), ("x86_64-unknown-linux-gnu", "x86_64", "rdtsc")])
def test_the_clock_is_one_instruction(triple: str, machine: str, instruction: str) -> None:
    """Compiled for each machine, in a process of its own, for LLVM ends the process where it cannot."""
    done = subprocess.run([sys.executable, "-c", CROSS, triple, machine], capture_output=True, text=True, check=False)
    if "no such target" in done.stderr:
        pytest.skip(f"this LLVM does not know {machine}")
    assert done.returncode == 0, done.stderr
    assert instruction in done.stdout


def test_a_stamp_costs_little() -> None:
    assert 0 <= stamp_seconds(time.perf_counter, rows=64, rounds=5) < 1e-5
