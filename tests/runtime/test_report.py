"""What executables say about themselves."""

import re
from pathlib import Path

import numpy as np
import pytest

from staticgraph.compiler.program import Note, PassRecord
from staticgraph.runtime import cache
from staticgraph.runtime.cpu import loader
from staticgraph.runtime.executable import load
from staticgraph.runtime.threads import thread_count

from .programs import Storage, add_one_program, chain_program, counter_program, make


def test_source_has_a_header_of_notes() -> None:
    program = add_one_program(notes=(Note("x + 1", ("add", "evil\nname"), ("model.py:4", "model.py:5")),))
    assert load(program).source() == """\
# kernel 0: add_one
#   step 0: x + 1 = add, evil name
#     model.py:4
#     model.py:5
from staticgraph.runtime.cpu.language import float32, pointer_float32

def add_one(args, start, stop):
    x = pointer_float32(args, 0)
    y = pointer_float32(args, 1)
    for i in range(start, stop):
        y[i] = x[i] + float32(1.0)
"""


def test_explain() -> None:
    passes = (PassRecord("stabilise", 12, 10, 0.0015, ("log-softmax: 1",)), PassRecord("fuse", 10, 3, 0.002))
    executable = load(make(**{**vars(chain_program(3)), "passes": passes}))
    executable(np.zeros(5, "float32"))
    text = re.sub(r"\d+\.\d ms", "0.0 ms", executable.explain())
    text = re.sub(r"kernels\n.*\n  0  add_one  .*", "kernels of any origin", text)
    text = re.sub(r", \d of them", ", N of them", text)
    assert text == f"""\
1 input, 1 output and 0 variables on cpu: 3 steps with 1 kernel, N of them compiled, ready after 0.0 ms

passes
  name       nodes     ms   remarks
  stabilise  12 -> 10  1.5  log-softmax: 1
  fuse       10 -> 3   2.0

kernels of any origin

object cache: {cache.info().folder}
threads: {thread_count()}

steps
     kernel   times  reads  writes  computes   lines
  0  add_one  batch  x      a       something
  1  add_one  batch  a      b       something
  2  add_one  batch  b      y       something

buffers
  name  type            place              bytes    alive in steps
  x     float32[batch]  input 0            batch*4  0..0
  y     float32[batch]  output 0           batch*4  2..2
  a     float32[batch]  arena at 0         batch*4  0..1
  b     float32[batch]  arena at batch*64  batch*4  1..2

memory
  arena      batch*128 bytes, 640 at the last call
  inputs     batch*4 bytes, 20 at the last call
  outputs    batch*4 bytes, 20 at the last call
  variables  0 bytes
  constants  0 bytes
  reserved   4096 bytes for the arena
  peak       batch*132 bytes, 660 at the last call for arena and outputs; 4116 allocated"""


def test_memory() -> None:
    storage = Storage(np.zeros(4, "float32"))
    executable = load(counter_program(), [storage])
    assert executable.memory.reserved == 0 and executable.memory.arena.last is None
    executable()
    memory = executable.memory
    assert (memory.arena.formula, memory.arena.last, memory.reserved) == (64, 64, 4096)
    assert (memory.inputs.last, memory.outputs.last, memory.variables.last, memory.constants.last) == (0, 16, 16, 0)
    assert str(memory).splitlines()[0] == "arena      64 bytes"


def test_repr_names_the_inputs() -> None:
    executable = load(add_one_program())
    assert repr(executable) == "<Executable(x) on cpu: 1 steps>"
    assert executable.program.device == "cpu"


def test_explain_says_where_kernels_come_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STATICGRAPH_CACHE_DIR", str(tmp_path / "cache"))
    origins = []
    for fresh in (True, True, False):
        if fresh:
            monkeypatch.setattr(loader, "_loaded", {})
        text = load(add_one_program()).explain()
        origins.append(re.sub(r" +\d+\.\d *", " 0.0 ", text.split("remarks\n")[1].split("\n")[0]).strip())
    assert origins == ["0  add_one  compiled 0.0 no entry", "0  add_one  from the cache 0.0",
                       "0  add_one  already loaded 0.0"]
