"""The kernel language: the verifier turns down every kind of invalid kernel, and the printed form is stable."""

from __future__ import annotations

import dataclasses

import pytest

import staticgraph as sg
from staticgraph.compiler.kernel_ir import (
    Axis,
    Barrier,
    Carry,
    Check,
    ColumnSums,
    Extent,
    KernelIR,
    Let,
    Local,
    Map,
    Pointer,
    Reduce,
    Result,
    Scan,
    Section,
    Statement,
    Status,
    Store,
    format_kernel,
)
from staticgraph.compiler.kernel_verify import verify

PARAMETERS = (Pointer("x0", "float32"), Pointer("y0", "float32", "write"), Pointer("z0", "float32", "readwrite"),
              Extent("n0"), Status())
LOAD = Let("x0v_1", "float32", "x0[i]")
SUM = Result("sum_1", "float32", "sum", "t_1")
TERM = Let("t_1", "float32", "x0[i * 8 + j]")


def kernel(*body: Statement, prelude: tuple[Statement, ...] = (), axes: tuple[Axis, ...] = (Axis("i", "n0"),),
           count: int = 1) -> KernelIR:
    return KernelIR("k", (Section(PARAMETERS, axes, body, count, prelude),))


def row(*inside: Statement, results: tuple[Result, ...], after: tuple[Statement, ...] = (),
        window: tuple[str, str] | None = None) -> KernelIR:
    return kernel(Reduce((("j", "n0"),), inside, results, window), *after)


def columns(loop: int, term: str) -> KernelIR:
    """A row kernel with a sum over its rows; statement 1 is its loop."""
    sums = ColumnSums(loop, (), (Result("sum_2", "float32", "sum", term),), (Store("y0", "share * 8 + j", "sum_2"),))
    body = (Let("a", "float32", "x0[i]"), Map("j", "n0", (TERM,)))
    return KernelIR("k", (Section(PARAMETERS, (Axis("i", "n0"),), body, columns=(sums,)),))


CARRY = Carry("c", "float32", "0", "c + t_1")

VALID = {
    "empty": kernel(),
    "elements": kernel(LOAD, Let("exp_2", "float32", "exp(x0v_1)"), Store("y0", "i", "exp_2")),
    "prelude": kernel(Store("y0", "i", "p"), prelude=(Let("p", "float32", "x0[0]"),)),
    "columns": columns(1, "t_1"),
    "window": row(TERM, results=(SUM,), window=("i * 4", "4")),
    "row": row(TERM, results=(SUM,), after=(Store("y0", "i", "sum_1"), Map("j", "n0", (Store("y0", "j", "sum_1"),)))),
    "same index twice": kernel(Map("j", "n0", (Store("y0", "j", "0"),)), Map("j", "4", (Store("z0", "j", "z0[j]"),))),
    "argmax": row(TERM, results=(Result("at", "int64", "argmax", "t_1", "float32", "j"),)),
    "scan": kernel(Scan("j", "n0", (TERM,), (CARRY,), (Store("y0", "j", "c_next"),), "backward")),
    "check": kernel(Check("index_1", "x0[i]", "n0", "3"), Store("y0", "index_1", "float32(1)")),
    "local": kernel(Local("spare", "float32", 8), Store("spare", "i", "0"), Let("a", "float32", "spare[i]"), Barrier()),
    "operators": kernel(Let("a", "bool", "not (x0[i] < 1 and n0 % 2 == 0) | False"), Let("b", "int64", "-n0 // 3")),
}

INVALID = {
    "use before definition": (kernel(Let("a", "float32", "b + 1")), "'b' is used before it is defined, in 'b + 1'"),
    "assigned twice": (kernel(LOAD, LOAD), "'x0v_1' is not a fresh name"),
    "a parameter assigned": (kernel(Let("n0", "int64", "1")), "'n0' is not a fresh name"),
    "a function's name": (kernel(Let("exp", "float32", "1")), "'exp' is not a fresh name"),
    "no name": (kernel(Let("a b", "float32", "1")), "'a b' is not a fresh name"),
    "axis named twice": (kernel(axes=(Axis("i", "n0"), Axis("i", "n0"))), "'i' is not a fresh name"),
    "axis of unknown extent": (kernel(axes=(Axis("i", "n1"),)), "'n1' is used before it is defined"),
    "axis used in the prelude": (kernel(prelude=(LOAD,)), "'i' is used before it is defined"),
    "loop index taken": (kernel(Map("i", "n0", ())), "index 'i' is taken"),
    "loop index a function": (row(results=(), after=(Map("max", "n0", ()),)), "index 'max' is taken"),
    "value of a loop used after it": (kernel(Map("j", "n0", (Let("a", "float32", "x0[j]"),)), Store("y0", "i", "a")),
                                      "'a' is used before it is defined"),
    "result inside of its reduction": (row(Let("t_1", "float32", "sum_1"), results=(SUM,)),
                                       "'sum_1' is used before it is defined"),
    "term after its reduction": (row(TERM, results=(SUM,), after=(Store("y0", "i", "t_1"),)),
                                 "'t_1' is used before it is defined"),
    "unknown reduction": (row(TERM, results=(dataclasses.replace(SUM, op="mean"),)), "'mean' is no reduction"),
    "argmax without position": (row(TERM, results=(Result("at", "int64", "argmax", "t_1", "float32"),)),
                                "'' is not an expression"),
    "carry seen too early": (kernel(Scan("j", "n0", (Let("t_1", "float32", "c_next"),), (CARRY,), ())),
                             "'c_next' is used before it is defined"),
    "scan in any order": (kernel(Scan("j", "n0", (TERM,), (CARRY,), (), "any")), "'any' is no order of a scan"),
    "order": (kernel(Map("j", "n0", (), "sideways")), "'sideways' is no order"),
    "store to what is read only": (kernel(Store("x0", "i", "0")), "store to 'x0', which is read only"),
    "store to an extent": (kernel(Store("n0", "i", "0")), "store to unknown pointer 'n0'"),
    "store to nothing": (kernel(Store("y7", "i", "0")), "store to unknown pointer 'y7'"),
    "check of an unknown value": (kernel(Check("a", "b", "n0", "0")), "'b' is used before it is defined"),
    "unknown function": (kernel(Let("a", "float32", "open(i)")), "'open' is used before it is defined"),
    "attribute": (kernel(Let("a", "float32", "x0.real")), "'x0.real' is outside of the kernel language"),
    "text": (kernel(Let("a", "float32", "'x'")), "is outside of the kernel language"),
    "lambda": (kernel(Let("a", "float32", "(lambda: i)()")), "is outside of the kernel language"),
    "comprehension": (kernel(Let("a", "float32", "[i for i in x0]")), "is outside of the kernel language"),
    "walrus": (kernel(Let("a", "float32", "(i := 3)")), "is outside of the kernel language"),
    "choice": (kernel(Let("a", "float32", "1 if i else 2")), "is outside of the kernel language"),
    "complex": (kernel(Let("a", "float32", "1j")), "is outside of the kernel language"),
    "statement": (kernel(Let("a", "float32", "i = 3")), "'i = 3' is not an expression"),
    "half an expression": (kernel(Store("y0", "i +", "0")), "'i +' is not an expression"),
    "dtype": (kernel(Let("a", "float16", "1")), "'float16' is no dtype"),
    "dtype of a pointer": (KernelIR("k", (Section((Pointer("x0", "object"),), (), ()),)), "'object' is no dtype"),
    "access": (KernelIR("k", (Section((Pointer("x0", "int8", "append"),), (), ()),)), "'append' is no kind of access"),
    "local scope": (kernel(Local("a", "int8", 3, "global")), "'global' is no scope of a local array"),
    "window of an unknown size": (row(TERM, results=(SUM,), window=("0", "n9")), "'n9' is used before it is defined"),
    "columns of no loop": (columns(0, "t_1"), "columns of statement 0, which is no loop"),
    "columns of an unknown value": (columns(1, "t_9"), "'t_9' is used before it is defined"),
    "section no times": (kernel(count=0), "a section 0 times"),
    "no section": (KernelIR("k", ()), "or no section"),
    "lanes": (dataclasses.replace(kernel(), lanes="outer"), "lanes 'outer'"),
}


@pytest.mark.parametrize("name", VALID)
def test_valid(name: str) -> None:
    verify(VALID[name])
    assert format_kernel(VALID[name]) == format_kernel(VALID[name])


@pytest.mark.parametrize("name", INVALID)
def test_invalid(name: str) -> None:
    invalid, message = INVALID[name]
    with pytest.raises(sg.VerificationError) as caught:
        verify(invalid)
    assert message in str(caught.value)


def test_the_error_shows_the_kernel() -> None:
    with pytest.raises(sg.VerificationError) as caught:
        verify(kernel(Store("x0", "i", "0")))
    assert str(caught.value) == """kernel k: store to 'x0', which is read only
kernel k (lanes: inner)
  section 0 x 1
    pointer x0 float32 read
    pointer y0 float32 write
    pointer z0 float32 readwrite
    extent n0
    status status
    parallel i < n0
      x0[i] := 0
"""


def test_the_printed_form() -> None:
    body = (Local("spare", "float32", 8), Check("at", "x0[i]", "n0", "2"),
            Reduce((("j0", "n0"), ("j1", "4")), (TERM,), (SUM, Result("max_2", "float32", "max", "t_1"))),
            Map("j", "n0", (Store("y0", "j", "sum_1"),), "backward"),
            Scan("k", "n0", (), (Carry("c", "float32", "0", "c + 1"),), (Store("z0", "k", "c_next"),)), Barrier())
    text = format_kernel(kernel(*body, prelude=(Let("p", "float32", "x0[0]"),)))
    assert text.split("status status\n")[1] == """    p: float32 = x0[0]
    parallel i < n0
      local spare: float32[8] local
      at: int64 = check x0[i] within n0 or report 2
      reduce j0 < n0, j1 < 4
        t_1: float32 = x0[i * 8 + j]
        sum_1: float32 = sum(t_1)
        max_2: float32 = max(t_1)
      map j < n0 backward
        y0[j] := sum_1
      scan k < n0 forward
        carry c: float32 = 0 -> c + 1
        z0[k] := c_next
      barrier block
"""
